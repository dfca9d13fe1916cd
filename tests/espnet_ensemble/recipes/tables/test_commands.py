import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from repository import REPOSITORY

from espnet_ensemble.bin import train_config
from espnet_ensemble.bin.train_config import ConfigError
from espnet_ensemble.recipes.tables.commands import (
    ENCODERS,
    Variant,
    asr_config,
    command,
    experiment_dir,
    inference_tag,
    recipe_dir,
    training_config,
    write_frontend_config,
)
from espnet_ensemble.recipes.tables.systems import TableError

PAPER = Variant()
VARIANT = Variant(layer=8, fusion="sum", encoder="conformer")


def pick(tables, number, name):
    (system,) = [s for s in tables[number].systems if str(s) == name]
    return system


@pytest.fixture
def pair(tables):
    return pick(tables, 2, "librispeech_100 base wavlm+hubert transformer2_ctc")


@pytest.fixture
def ten_hours(tables):
    return pick(tables, 1, "wsj_10h finetuned_large wav2vec2+hubert ctc")


def test_command(pair, checkout):
    assert shlex.join(command(checkout, pair, PAPER, ["--ngpu", "4"])) == (
        "egs2/librispeech_100/asr1/run.sh --train_set train_clean_100 "
        "--test_sets 'dev_clean test_clean dev_other test_other' "
        "--asr_config conf/train_asr_transformer2_ctc.yaml "
        "--upstreams 'microsoft/wavlm-base facebook/hubert-base-ls960' "
        "--inference_config conf/decode_asr_ctc.yaml --ngpu 4"
    )


def test_command_with_another_budget(ten_hours, checkout):
    words = shlex.join(command(checkout, ten_hours, PAPER, []))
    assert words.startswith("egs2/wsj/asr1/run.sh --train_set train_10h ")
    assert "--asr_args '--max_epoch 8' --lang 10h " in words


def test_command_of_a_variant(pair, checkout):
    write_frontend_config(checkout, pair, VARIANT)
    words = command(checkout, pair, VARIANT, [])
    assert "--upstreams" not in words
    assert words[words.index("--asr_config") + 1] == "conf/train_asr_conformer_ctc.yaml"
    path = words[words.index("--frontend_config") + 1]
    config = yaml.safe_load((recipe_dir(checkout, pair) / path).read_text())
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


def test_a_variant_changes_no_more_than_it_can(tables, checkout):
    """One upstream is not fused, and a CTC layer alone has no encoder."""
    single = pick(tables, 2, "librispeech_100 base wavlm ctc")
    variant = Variant(fusion="sum", encoder="conformer")
    assert command(checkout, single, variant, []) == command(
        checkout, single, PAPER, []
    )
    write_frontend_config(checkout, single, variant)
    assert not (recipe_dir(checkout, single) / "exp").exists()


@pytest.mark.parametrize("option", ["--asr_tag", "--asr-config", "--expdir"])
def test_options_that_the_table_sets_are_refused(option, pair, checkout):
    with pytest.raises(TableError, match=f"--run_args: {option} is for the table"):
        command(checkout, pair, PAPER, ["--ngpu", "1", option, "x"])


@pytest.mark.parametrize("layer", [13, "first"])
def test_layers_that_an_upstream_has_not_are_refused(layer, pair, checkout):
    with pytest.raises(TableError, match="^microsoft/wavlm-base: layer: "):
        command(checkout, pair, Variant(layer=layer), [])


def test_recipe_without_the_configuration(pair, checkout):
    config = recipe_dir(checkout, pair) / asr_config(pair, PAPER)
    config.unlink()
    with pytest.raises(ConfigError, match=str(config)):
        experiment_dir(checkout, pair, PAPER)


@pytest.mark.parametrize("variant", [PAPER, VARIANT], ids=["paper", "variant"])
@pytest.mark.parametrize("which", ["pair", "ten_hours"])
def test_derived_configuration_is_the_one_that_asr_sh_makes(
    which, variant, request, checkout, capsys, monkeypatch
):
    system = request.getfixturevalue(which)
    write_frontend_config(checkout, system, variant)
    words = command(checkout, system, variant, [])
    options = dict(zip(words[1::2], words[2::2]))
    monkeypatch.chdir(recipe_dir(checkout, system))
    names = ("--asr_config", "--frontend_config", "--upstreams")
    given = [word for name in names for word in (name, options.get(name, ""))]
    train_config.main([*given, "--output_dir", "exp/conf"])
    made = yaml.safe_load(Path(capsys.readouterr().out.strip()).read_text())
    budget = re.findall(r"--max_epoch (\d+)", options.get("--asr_args", ""))
    made.update({"max_epoch": int(epochs) for epochs in budget})
    assert made == training_config(checkout, system, variant)


@pytest.mark.parametrize(
    ("which", "variant"), [("pair", VARIANT), ("ten_hours", PAPER)]
)
def test_asr_sh_names_the_experiment_so(which, variant, request, checkout):
    system = request.getfixturevalue(which)
    write_frontend_config(checkout, system, variant)
    words = command(checkout, system, variant, ["--valid_set", "dev", "--stage", "12"])
    done = subprocess.run(
        ["./asr.sh", *words[1:]],
        cwd=recipe_dir(checkout, system),
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )
    exp = experiment_dir(checkout, system, variant)
    exp = exp.relative_to(recipe_dir(checkout, system))
    assert f": {exp}/{inference_tag(system)}\n" in done.stdout
    assert f"{exp}/config.yaml is missing: stage 11 makes it" in done.stdout


def test_experiments_of_all_systems_differ(tables, checkout):
    folders = {
        experiment_dir(checkout, system, PAPER)
        for table in tables.values()
        for system in table.systems
    }
    assert len(folders) == 62


def test_the_recipes_have_what_the_commands_name(tables):
    for table in tables.values():
        for system in table.systems:
            recipe = recipe_dir(REPOSITORY, system)
            assert os.access(recipe / "run.sh", os.X_OK)
            configs = [asr_config(system, Variant(encoder=name)) for name in ENCODERS]
            for config in (*configs, system.inference_config):
                assert (recipe / config).is_file(), recipe / config
