"""The recipe's script, in a copy of what is committed."""

import shutil
from pathlib import Path

import pytest
from repository import REPOSITORY

from espnet_ensemble.testing.recipes import run_script

MADE = ("data", "downloads", "dump", "exp", "*.safetensors", "__pycache__")
TINY = "--hours 0.02 --hours_first 0.01 --local_data_opts".split()
TINY += ["--nj 1 --train_minutes 0.1 --dev_minutes 0.1 --test_minutes 0.1"]


@pytest.fixture
def recipe(tmp_path):
    """The recipe's folder as it is in a clone, without models."""
    for folder in ("TEMPLATE", "mini_synth"):
        shutil.copytree(
            REPOSITORY / "egs2" / folder,
            tmp_path / "egs2" / folder,
            symlinks=True,
            ignore=shutil.ignore_patterns(*MADE),
        )
    (tmp_path / "local").symlink_to(REPOSITORY / "local")
    return tmp_path / "egs2" / "mini_synth" / "ssl1"


def commands(output, script):
    """The options of each call of a script of the recipe, as ``echo`` shows them."""
    lines = [line.split() for line in output.splitlines()]
    return [line[1:] for line in lines if line[:1] == [f"local/{script}"]]


def test_stages_of_pretraining_and_finetuning(recipe, local):
    options = ["--pretrain_args", "--num_steps 3", "--finetune_args", "--lr 0.5"]
    done = run_script(recipe, "./run.sh", "--stage", "2", "--python", "echo", *options)
    assert done.returncode == 0, done.stdout
    get_parser = local("pretrain").get_parser
    runs = [get_parser().parse_args(c) for c in commands(done.stdout, "pretrain.py")]
    assert [(run.family, run.output_dir.name, run.units_from) for run in runs] == [
        ("hubert", "hubert_first", None),
        ("hubert", "hubert", Path("exp/upstreams/hubert_first")),
        ("wavlm", "wavlm", Path("exp/upstreams/hubert_first")),
        ("wav2vec2", "wav2vec2", None),
    ]
    assert {(run.num_steps, run.init_from) for run in runs} == {(3, None)}
    get_parser = local("finetune").get_parser
    runs = [get_parser().parse_args(c) for c in commands(done.stdout, "finetune.py")]
    families, exp = ("hubert", "wavlm", "wav2vec2"), Path("exp/upstreams")
    assert [(run.upstream, run.output_dir) for run in runs] == [
        *((exp / family, exp / f"{family}_ctc_first") for family in families),
        *((exp / f"{family}_ctc_first", exp / f"{family}_ctc") for family in families),
    ]
    assert {run.lr for run in runs} == {0.5}


def test_stages_from_models_that_are_there(recipe, local):
    shipped = Path("../asr1/upstreams")
    options = ["--init_from", str(shipped), "--upstreams", str(shipped)]
    done = run_script(recipe, "./run.sh", "--stage", "2", "--python", "echo", *options)
    assert done.returncode == 0, done.stdout
    get_parser = local("pretrain").get_parser
    runs = [get_parser().parse_args(c) for c in commands(done.stdout, "pretrain.py")]
    assert [(run.init_from, run.units_from) for run in runs] == [
        (shipped / "hubert", shipped / "hubert"),
        (shipped / "wavlm", shipped / "hubert"),
        (shipped / "wav2vec2", None),
    ]
    get_parser = local("finetune").get_parser
    runs = [get_parser().parse_args(c) for c in commands(done.stdout, "finetune.py")]
    assert runs[0].upstream == shipped / "hubert"


@pytest.mark.slow
def test_stage_of_data_makes_what_the_others_read(recipe, local, monkeypatch):
    done = run_script(recipe, "./run.sh", "--stop_stage", "1", *TINY)
    assert done.returncode == 0, done.stdout
    monkeypatch.chdir(recipe)
    speech = local("pretrain_data").read_speech(Path("data/unlabelled"))
    assert len(speech) == pytest.approx(72 * 16000, rel=0.3)
    read_labelled = local("finetune_data").read_labelled
    first, all_, valid = (
        {utterance.text for utterance in read_labelled(Path("data", name), 16000)}
        for name in ("first/finetune", "finetune", "valid")
    )
    assert first < all_ and valid and not valid & all_


def test_unknown_option_is_refused(recipe):
    done = run_script(recipe, "./run.sh", "--stages", "2")
    assert done.returncode == 2
    assert "unknown option '--stages'; see --help" in done.stdout
