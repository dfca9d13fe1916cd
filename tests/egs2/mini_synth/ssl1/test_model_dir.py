"""The folder of a finished model."""

from pathlib import Path

import pytest

from espnet_ensemble.errors import EnsembleError


def fail(work_dir, final):
    final.mkdir()
    (final / "half").touch()
    raise ZeroDivisionError


def write(work_dir, final):
    final.mkdir()
    (final / "model").touch()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_folder_is_there_when_it_is_complete(local, tmp_path, capsys):
    make_model, options = local("model_dir").make_model, {"lr": 0.1}
    with pytest.raises(ZeroDivisionError):
        make_model(tmp_path / "m", options, fail)
    assert names(tmp_path) == ["m.work"]
    make_model(tmp_path / "m", options, write)
    assert names(tmp_path) == ["m"] and names(tmp_path / "m") == ["model"]
    make_model(tmp_path / "m", {"lr": 0.2}, fail)
    assert "nothing to do" in capsys.readouterr().out


def test_unfinished_run_of_other_options_is_refused(local, tmp_path):
    claim = local("model_dir").claim
    claim(tmp_path, {"data_dir": Path("data"), "lr": 0.1, "device": "cpu"})
    claim(tmp_path, {"data_dir": Path("data"), "lr": 0.1, "device": "cuda"})
    with pytest.raises(EnsembleError, match=r"options.json: .*had {'lr': 0.1}; give"):
        claim(tmp_path, {"data_dir": Path("data"), "lr": 0.2, "device": "cpu"})


def test_card_shows_ten_rows_and_the_last(local):
    rows = [{"step": n, "loss": 9 / n, "lr": 0.1, "seconds": 1} for n in range(1, 26)]
    ending = local("model_dir").card_ending("python x.py", "cpu", rows)
    assert (
        "- Command, in `egs2/mini_synth/ssl1`: `python x.py`\n" in ending
        and ", on cpu\n" in ending
    )
    lines = [line for line in ending.splitlines() if line.startswith("|")]
    assert lines[:3] == ["| step | loss |", "| ---: | ---: |", "| 1 | 9 |"]
    assert len(lines) == 2 + 13 and lines[-1] == "| 25 | 0.36 |"
