"""Stage 1 of the recipe on small corpora, as its users run it."""

import os

import pytest
from repository import REPOSITORY

from espnet_ensemble.data.datadir import validate
from espnet_ensemble.testing.librispeech import make_librilight, make_librispeech
from espnet_ensemble.testing.recipes import clone_recipe, run_script

RECIPE = REPOSITORY / "egs2" / "librilight_10h" / "asr1"
EVALUATION = ("dev-clean", "dev-other", "test-clean", "test-other")


@pytest.mark.slow
def test_stage_1(tmp_path):
    recipe = clone_recipe(REPOSITORY, tmp_path, "librilight_10h")
    train = make_librilight(tmp_path / "librispeech_finetuning")
    evaluation = make_librispeech(tmp_path / "LibriSpeech", EVALUATION)
    options = f"--librilight {tmp_path}/librispeech_finetuning --partial --nj 2"
    options += f" --librispeech {tmp_path}/LibriSpeech"
    options = ("--stop_stage", "1", "--local_data_opts", options)
    done = run_script(recipe, "./run.sh", *options)
    assert done.returncode == 0, done.stdout
    data = recipe / "data"
    assert validate(data / "train_10h")["text"] == train
    for part in EVALUATION:
        assert validate(data / part.replace("-", "_"))["text"] == evaluation[part]
    assert len(validate(data / "dev")["text"]) == 14


def test_configurations_are_the_shared_ones():
    conf = REPOSITORY / "conf"
    name = "train_asr_ctc.yaml"
    assert (RECIPE / "conf" / name).samefile(conf / "tuning" / name)
    for name in ("frontends", "decode_asr_ctc.yaml"):
        assert (RECIPE / "conf" / name).samefile(conf / name)
    for path in RECIPE.rglob("*"):
        assert not path.is_symlink() or not os.path.isabs(os.readlink(path))
