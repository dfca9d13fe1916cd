import pytest

from espnet_ensemble.bin.filter_lengths import main
from espnet_ensemble.data.datadir import validate, write


@pytest.fixture
def data(tmp_path):
    """Utterances of 1 s and 30 s at 8 kHz, and one without text."""
    tables = {
        "utt2spk": {utt: "alice" for utt in "abc"},
        "text": {"a": "X", "b": "Y", "c": ""},
        "utt2num_samples": {"a": "8000", "b": "240000", "c": "8000"},
        "wav.scp": {utt: f"{utt}.wav" for utt in "abc"},
    }
    write(tmp_path / "data", tables)
    return str(tmp_path / "data")


def test_defaults_are_espnet_s(data, tmp_path, capsys):
    dest = str(tmp_path / "dest")
    main(["--fs", "8k", data, dest])
    assert capsys.readouterr().out == (
        "b: too long\nc: empty text\n"
        f"{dest}: left out 0 too short, 1 too long, 1 empty text\n"
    )
    assert list(validate(dest)["wav.scp"]) == ["a"]


def test_options(data, tmp_path, capsys):
    durations = ["--min_wav_duration", "1.5", "--max_wav_duration", "31"]
    main(["--fs", "8000", *durations, data, f"{tmp_path}/dest"])
    assert list(validate(tmp_path / "dest")["wav.scp"]) == ["b"]


def test_nothing_is_left(data, tmp_path, capsys):
    with pytest.raises(SystemExit, match="1"):
        main(["--fs", "8k", "--max_wav_duration", "0.2", data, f"{tmp_path}/dest"])
    expected = "no utterance is left (too_short 0, too_long 3, empty_text 0)"
    assert capsys.readouterr().err == f"filter_lengths: {data}: {expected}\n"
