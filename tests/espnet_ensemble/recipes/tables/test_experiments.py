import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from repository import REPOSITORY

from espnet_ensemble.bin import asr_names
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.recipes.tables.experiments import ENCODERS, Experiment, Variant

PAPER = Variant()
VARIANT = Variant(layer=8, fusion="sum", encoder="conformer")


def pick(table, name):
    (system,) = [s for s in table.systems if str(s) == name]
    return system


@pytest.fixture
def pair(tables):
    return pick(tables[2], "librispeech_100 base wavlm+hubert transformer2_ctc")


@pytest.fixture
def ten_hours(tables):
    return pick(tables[1], "wsj_10h finetuned_large wav2vec2+hubert ctc")


def test_command(pair, experiment):
    assert shlex.join(experiment(pair).command(["--ngpu", "4"])) == (
        "egs2/librispeech_100/asr1/run.sh --train_set train_clean_100 "
        "--test_sets 'dev_clean test_clean dev_other test_other' "
        "--asr_config conf/train_asr_transformer2_ctc.yaml "
        "--upstreams 'microsoft/wavlm-base facebook/hubert-base-ls960' "
        "--inference_config conf/decode_asr_ctc.yaml --ngpu 4"
    )


def test_command_with_another_budget(ten_hours, experiment):
    words = shlex.join(experiment(ten_hours).command([]))
    assert words.startswith("egs2/wsj/asr1/run.sh --train_set train_10h ")
    assert "--asr_args '--max_epoch 8' --lang 10h " in words


def test_command_of_a_variant(pair, experiment):
    changed = experiment(pair, VARIANT)
    changed.write_frontend_config()
    words = changed.command([])
    assert "--upstreams" not in words
    assert words[words.index("--asr_config") + 1] == "conf/train_asr_conformer_ctc.yaml"
    path = words[words.index("--frontend_config") + 1]
    config = yaml.safe_load((changed.recipe_dir / path).read_text())
    assert config == {
        "frontend": "ensemble",
        "frontend_conf": {
            "upstreams": [
                {"name": "microsoft/wavlm-base", "layer": 8},
                {"name": "facebook/hubert-base-ls960", "layer": 8},
            ],
            "fusion": "sum",
            "fs": "16k",
        },
    }


def test_a_variant_changes_no_more_than_it_can(tables, experiment):
    """One upstream is not fused, and a CTC layer alone has no encoder."""
    single = pick(tables[2], "librispeech_100 base wavlm ctc")
    changed = experiment(single, Variant(fusion="sum", encoder="conformer"))
    assert changed.command([]) == experiment(single).command([])
    changed.write_frontend_config()
    assert not (changed.recipe_dir / "exp").exists()


@pytest.mark.parametrize("option", ["--asr_tag", "--asr-config", "--expdir"])
def test_options_that_the_table_sets_are_refused(option, pair, experiment):
    with pytest.raises(EnsembleError, match=f"--run_args: {option} is for the table"):
        experiment(pair).command(["--ngpu", "1", option, "x"])


@pytest.mark.parametrize("layer", [13, "first"])
def test_layers_that_an_upstream_has_not_are_refused(layer, pair, experiment):
    with pytest.raises(EnsembleError, match="^microsoft/wavlm-base: layer: "):
        experiment(pair, Variant(layer=layer)).command([])


def test_recipe_without_the_configuration(pair, experiment):
    system = experiment(pair)
    config = system.recipe_dir / system.asr_config
    config.unlink()
    with pytest.raises(EnsembleError, match=f"{config}: expected a file"):
        _ = system.exp_dir


@pytest.mark.parametrize("variant", [PAPER, VARIANT], ids=["paper", "variant"])
@pytest.mark.parametrize("which", ["pair", "ten_hours"])
def test_derived_configuration_is_the_one_that_asr_sh_makes(
    which, variant, request, experiment, capsys, monkeypatch
):
    system = experiment(request.getfixturevalue(which), variant)
    system.write_frontend_config()
    words = system.command([])
    options = dict(zip(words[1::2], words[2::2], strict=True))
    monkeypatch.chdir(system.recipe_dir)
    names = ("--asr_config", "--frontend_config", "--upstreams")
    asr_names.main([word for n in names for word in (n, options.get(n, ""))])
    path = capsys.readouterr().out.splitlines()[0].removeprefix("asr_config=")
    assert yaml.safe_load(Path(path).read_text()) == system.training_config.content


def test_the_paper_s_epochs_take_the_place_of_the_configuration_s(
    pair, ten_hours, experiment
):
    config = yaml.safe_load((REPOSITORY / "conf/tuning/train_asr_ctc.yaml").read_text())
    assert experiment(ten_hours).max_epoch == 8 != config["max_epoch"]
    assert experiment(ten_hours).training_config.content["max_epoch"] != 8
    pair_config = experiment(pair).training_config.content
    assert experiment(pair).max_epoch == pair_config["max_epoch"]


@pytest.mark.parametrize(
    ("which", "variant"), [("pair", VARIANT), ("ten_hours", PAPER)]
)
def test_asr_sh_names_the_experiment_so(which, variant, request, experiment):
    system = experiment(request.getfixturevalue(which), variant)
    system.write_frontend_config()
    words = system.command(["--valid_set", "dev", "--stage", "12"])
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["./asr.sh", *words[1:]],
        cwd=system.recipe_dir,
        env={**os.environ, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
    exp = system.exp_dir.relative_to(system.recipe_dir)
    assert f": {exp}/{system.names.inference_tag}\n" in done.stdout
    assert f"{exp}/config.yaml is missing: stage 11 makes it" in done.stdout


def test_experiments_of_all_systems_differ(tables, experiment):
    folders = {
        experiment(system).exp_dir
        for table in tables.values()
        for system in table.systems
    }
    assert len(folders) == 62


def test_the_recipes_have_what_the_commands_name(tables, mini_synth):
    for table in (*tables.values(), mini_synth):
        # The miniature has no conformer.
        encoders = ENCODERS if table.is_published else ENCODERS[:1]
        for system in table.systems:
            variants = [Variant(encoder=encoder) for encoder in encoders]
            experiments = [Experiment(REPOSITORY, system, v) for v in variants]
            recipe = experiments[0].recipe_dir
            assert os.access(recipe / "run.sh", os.X_OK)
            configs = [e.asr_config for e in experiments]
            for config in (*configs, system.inference_config):
                assert (recipe / config).is_file(), recipe / config


def test_the_miniature_s_experiments_are_called_as_before(mini_synth):
    """Results of the stage script itself count, such as those of a plain run.sh."""
    names = [Experiment(REPOSITORY, s, PAPER).names.asr_exp for s in mini_synth.systems]
    assert names[0] == "exp/asr_train_asr_ctc_wav2vec2_raw_char"
    assert "exp/asr_train_asr_transformer2_ctc_wavlm_ctc_hubert_ctc_raw_char" in names
    for system in mini_synth.systems:
        recipe = Experiment(REPOSITORY, system, PAPER).recipe_dir
        assert all(
            (recipe / name / "config.json").is_file() for name in system.upstreams
        )
