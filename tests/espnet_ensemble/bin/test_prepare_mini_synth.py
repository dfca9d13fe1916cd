import shutil

import pytest

from espnet_ensemble.bin import prepare_mini_synth
from espnet_ensemble.bin.prepare_mini_synth import main
from espnet_ensemble.data.datadir import validate

SMALL = "--train_minutes 0.1 --dev_minutes 0.1 --test_minutes 0.1 --nj 1".split()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data"


def test_three_sets(folder):
    main([*SMALL, "--stop_stage", "1"])
    assert {path.name for path in folder.iterdir()} == {"train", "dev", "test"}
    main([*SMALL, "--stage", "2"])
    fewer = validate(folder / "train_7min")["text"].items()
    assert fewer <= validate(folder / "train")["text"].items()
    dev = validate(folder / "dev")["text"]
    assert validate(folder / "valid")["text"] == dev
    wavs = validate(folder / "dev")["wav.scp"].values()
    assert all(wav.startswith("downloads/mini_synth/dev/") for wav in wavs)


@pytest.mark.parametrize("name", ["unlabelled", "finetune"])
def test_another_set_alone(folder, name):
    main([f"--{name}", "--hours", "0.002", *SMALL])
    assert [path.name for path in folder.iterdir()] == [name]
    assert (folder / name / "text").exists() == (name == "finetune")


def test_says_what_is_wrong(capsys):
    main(SMALL)
    with pytest.raises(SystemExit, match="1"):
        main([*SMALL, "--seed", "1"])
    message = capsys.readouterr().err
    assert "prepare_mini_synth: downloads/mini_synth/settings.json: the rec" in message


def test_valid_is_the_beginning_of_dev(folder, monkeypatch):
    """What a shorter dev of all speakers in turn would be."""
    monkeypatch.setattr(prepare_mini_synth, "VALID_MINUTES", 0.1)
    main([*SMALL, "--dev_minutes", "0.4"])
    valid = validate(folder / "valid")["text"]
    shutil.rmtree(folder)
    main(SMALL)
    assert valid == validate(folder / "dev")["text"]
