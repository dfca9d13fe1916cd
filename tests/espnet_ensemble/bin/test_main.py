import pkgutil

import pytest

from espnet_ensemble import bin
from espnet_ensemble.bin import main as espnet_ensemble
from espnet_ensemble.upstream.checkpoints import CHECKPOINTS

VERBS = {**espnet_ensemble.VERBS, **espnet_ensemble.RECIPE_VERBS}


def test_upstreams_prints_the_table(capsys):
    espnet_ensemble.main(["upstreams"])
    out = capsys.readouterr().out
    for checkpoint in CHECKPOINTS:
        (row,) = [line for line in out.splitlines() if checkpoint.huggingface in line]
        assert str(checkpoint.feature_size) in row
        assert checkpoint.data in row
        assert checkpoint.note in out
        assert checkpoint.s3prl is None or f" {checkpoint.s3prl} " in row


def test_help_lists_the_verbs(capsys):
    with pytest.raises(SystemExit, match="0"):
        espnet_ensemble.main(["--help"])
    out = capsys.readouterr().out
    assert all(f"  {verb} " in out for verb in VERBS)


def test_every_command_is_a_verb():
    modules = {module.name for module in pkgutil.iter_modules(bin.__path__)}
    names = {verb: verb.replace("-", "_") for verb in VERBS}
    called = {*{**names, **espnet_ensemble.MODULES}.values()}
    # The command itself, the other one, and what commands share.
    shared = {"audio_options", "beam_options", "command", "decoding_options"}
    shared |= {"scoring_options", "stage_options", "systems_options", "worker_options"}
    assert modules - called == {"main", "python", *shared}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_its_help(verb, capsys):
    with pytest.raises(SystemExit, match="0"):
        espnet_ensemble.main([verb, "--help"])
    assert "usage" in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["new-recipe", "new_recipe", "data-dir"])
def test_a_dash_and_an_underscore_are_the_same(verb, capsys):
    with pytest.raises(SystemExit, match="0"):
        espnet_ensemble.main([verb, "--help"])
    assert f"usage: espnet-ensemble {verb[:3]}" in capsys.readouterr().out


def test_unknown_verb(capsys):
    with pytest.raises(SystemExit, match="2"):
        espnet_ensemble.main(["fly"])
    assert "invalid choice: 'fly'" in capsys.readouterr().err
