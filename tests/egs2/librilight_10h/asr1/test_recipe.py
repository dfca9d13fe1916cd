"""Stage 1 of the recipe on small corpora, as its users run it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from local.librispeech_corpus import make_librilight, make_librispeech

from espnet_ensemble.data.datadir import validate

REPOSITORY = Path(__file__).parents[4]
RECIPE = REPOSITORY / "egs2" / "librilight_10h" / "asr1"
EVALUATION = ("dev-clean", "dev-other", "test-clean", "test-other")


@pytest.fixture
def recipe(tmp_path):
    """A clone with only this recipe."""
    (tmp_path / "local").symlink_to(REPOSITORY / "local")
    (tmp_path / "egs2").mkdir()
    (tmp_path / "egs2" / "TEMPLATE").symlink_to(REPOSITORY / "egs2" / "TEMPLATE")
    recipe = tmp_path / "egs2" / "librilight_10h" / "asr1"
    recipe.mkdir(parents=True)
    for path in RECIPE.iterdir():
        if path.name not in ("data", "downloads", "dump", "exp"):
            (recipe / path.name).symlink_to(path)
    return recipe


def test_stage_1(recipe, tmp_path):
    train = make_librilight(tmp_path / "librispeech_finetuning")
    evaluation = make_librispeech(tmp_path / "LibriSpeech", EVALUATION)
    options = f"--librilight {tmp_path}/librispeech_finetuning --partial --nj 2"
    options += f" --librispeech {tmp_path}/LibriSpeech"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["./run.sh", "--stop_stage", "1", "--local_data_opts", options],
        cwd=recipe,
        env={**os.environ, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stdout
    data = recipe / "data"
    texts = {key: text for key, (text, _) in train.items()}
    assert validate(data / "train_10h")["text"] == texts
    for part in EVALUATION:
        texts = {key: text for key, (text, _) in evaluation[part].items()}
        assert validate(data / part.replace("-", "_"))["text"] == texts
    assert len(validate(data / "dev")["text"]) == 14


def test_configurations_are_the_shared_ones():
    conf = REPOSITORY / "conf"
    name = "train_asr_ctc.yaml"
    assert (RECIPE / "conf" / name).samefile(conf / "tuning" / name)
    for name in ("frontends", "decode_asr_ctc.yaml"):
        assert (RECIPE / "conf" / name).samefile(conf / name)
    for name in ("download.py", "prepare_librispeech.py"):
        assert (RECIPE / "local" / name).samefile(REPOSITORY / "local" / name)
    for path in RECIPE.rglob("*"):
        assert not path.is_symlink() or not os.path.isabs(os.readlink(path))
