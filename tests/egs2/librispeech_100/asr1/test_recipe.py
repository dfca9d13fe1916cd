"""Stage 1 of the recipe on a small corpus, as its users run it."""

import os
from functools import partial

import pytest
import yaml
from repository import REPOSITORY

from espnet_ensemble.data.datadir import validate
from espnet_ensemble.testing.librispeech import make_librispeech
from espnet_ensemble.testing.recipes import clone_recipe, run_script

RECIPE = REPOSITORY / "egs2" / "librispeech_100" / "asr1"
SETS = {
    "train_clean_100": ["train-clean-100"],
    "dev": ["dev-clean", "dev-other"],
    "dev_clean": ["dev-clean"],
    "dev_other": ["dev-other"],
    "test_clean": ["test-clean"],
    "test_other": ["test-other"],
}


@pytest.fixture
def run(tmp_path):
    """Run a script of the recipe in a clone: run(script, option, ...) -> its process."""
    recipe = clone_recipe(REPOSITORY, tmp_path, "librispeech_100")
    return partial(run_script, recipe)


@pytest.mark.slow
def test_stage_1(run, tmp_path):
    corpus = make_librispeech(tmp_path / "LibriSpeech")
    options = f"--librispeech {tmp_path}/LibriSpeech --partial --nj 2"
    done = run("./run.sh", "--stop_stage", "1", "--local_data_opts", options)
    assert done.returncode == 0, done.stdout
    data = tmp_path / "egs2/librispeech_100/asr1/data"
    assert {path.name for path in data.iterdir()} == set(SETS)
    for name, parts in SETS.items():
        texts = {key: text for part in parts for key, text in corpus[part].items()}
        assert validate(data / name)["text"] == texts


def test_wrong_folder_stops_the_recipe(run, tmp_path):
    make_librispeech(tmp_path / "LibriSpeech")
    done = run("local/data.sh", "--librispeech", str(tmp_path))
    assert done.returncode == 1
    hint = f"it is in {tmp_path}/LibriSpeech: give that folder"
    assert f"prepare_librispeech: {tmp_path}/train-clean-100: expected" in done.stdout
    assert hint in done.stdout and "data directories are in" not in done.stdout


def test_configurations_are_the_shared_ones():
    conf = REPOSITORY / "conf"
    for head in ("ctc", "transformer2_ctc", "conformer_ctc"):
        name = f"train_asr_{head}.yaml"
        assert (RECIPE / "conf" / name).samefile(conf / "tuning" / name)
    for name in ("frontends", "decode_asr_ctc.yaml"):
        assert (RECIPE / "conf" / name).samefile(conf / name)
    default = yaml.safe_load(
        (conf / "tuning/train_asr_transformer2_ctc.yaml").read_text()
    )
    frontend = yaml.safe_load((conf / "frontends/base_wavlm_hubert.yaml").read_text())
    assert default["frontend_conf"] == frontend["frontend_conf"]
    for path in RECIPE.rglob("*"):
        assert not path.is_symlink() or not os.path.isabs(os.readlink(path))
