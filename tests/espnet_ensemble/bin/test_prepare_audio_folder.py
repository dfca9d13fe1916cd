import numpy as np
import pytest
import soundfile

from espnet_ensemble.bin.prepare_audio_folder import main
from espnet_ensemble.data.datadir import validate


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in range(4):
        soundfile.write(tmp_path / f"{number}.wav", np.zeros(8000), 8000)
        (tmp_path / f"{number}.txt").write_text("yes")
    return tmp_path


def test_prints_what_each_set_has(capsys):
    main(["--audio_dir", ".", "--transcripts", "", "--dev_share", "0.5"])
    out = capsys.readouterr().out
    assert "data/dev: 2 utt, 2 speakers, 0.0 min\n" in out
    assert len(validate("data/train")["text"]) == 1


def test_names_of_columns(folder):
    rows = ["path,said,who,part", "0,a,x,train", "1,b,y,dev", "2,c,z,test"]
    (folder / "table.csv").write_text("\n".join(rows))
    columns = ["--file_column", "path", "--text_column", "said"]
    columns += ["--spk_column", "who", "--set_column", "part"]
    main(["--audio_dir", ".", "--transcripts", "table.csv", *columns])
    assert validate("data/test")["utt2spk"] == {"z-2": "z"}


def test_says_what_is_wrong(capsys):
    with pytest.raises(SystemExit, match="1"):
        main(["--audio_dir", "none"])
    assert "prepare_audio_folder: none: expected a folder" in capsys.readouterr().err
