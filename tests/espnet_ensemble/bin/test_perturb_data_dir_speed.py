import numpy as np
import pytest
import soundfile

from espnet_ensemble.bin.perturb_data_dir_speed import main
from espnet_ensemble.data.datadir import validate, write


@pytest.fixture
def data(tmp_path):
    """An utterance of 0.5 s."""
    soundfile.write(tmp_path / "a.wav", np.sin(np.arange(8000)) / 2, 16000)
    tables = {
        "utt2spk": {"a": "alice"},
        "text": {"a": "X"},
        "wav.scp": {"a": f"{tmp_path}/a.wav"},
    }
    write(tmp_path / "data", tables)
    return str(tmp_path / "data")


def test_default_factors(data, tmp_path):
    main([data, f"{tmp_path}/sp"])
    expected = {"a": "8000", "sp0.9-a": "8889", "sp1.1-a": "7273"}
    assert validate(tmp_path / "sp")["utt2num_samples"] == expected


def test_factors_are_spelled_as_given(data, tmp_path):
    main(["--speed_perturb_factors", "0.90 2", data, f"{tmp_path}/sp"])
    assert list(validate(tmp_path / "sp")["text"]) == ["sp0.90-a", "sp2-a"]


@pytest.mark.parametrize("factors", ["", "0", "x", "1 1.0"])
def test_wrong_factors(factors, data, tmp_path, capsys):
    with pytest.raises(SystemExit, match="1"):
        main(["--speed_perturb_factors", factors, data, f"{tmp_path}/sp"])
    message = "perturb_data_dir_speed: speed_perturb_factors: expected "
    assert capsys.readouterr().err.startswith(message)
