"""ESPnet3's tasks know what the plugin offers."""

import importlib

import pytest

import espnet_ensemble
from espnet_ensemble import EnsembleFrontend, IdentityEncoder
from espnet_ensemble.integrations.espnet3 import HOOKS

pytest.importorskip("espnet3", reason="ESPnet3 comes with ESPnet 202611")

ASR = "espnet3.systems.esp2_asr.task"
TRANSDUCER = "espnet3.systems.esp2_asr.src.transducer_task"


@pytest.mark.parametrize("task", [ASR, TRANSDUCER])
def test_the_frontend_is_there(task):
    choices = importlib.import_module(task).frontend_choices
    assert choices.get_class("ensemble") is EnsembleFrontend


def test_asr_has_the_encoder_and_the_model():
    from espnet_ensemble.integrations.espnet2.asr_model import EnsembleASRModel

    task = importlib.import_module(ASR)
    assert task.encoder_choices.get_class("identity") is IdentityEncoder
    assert task.model_choices.get_class("ensemble") is EnsembleASRModel


def test_no_other_module_of_espnet3_chooses_frontends():
    """A task that a new ESPnet brings makes this test fail."""
    import pkgutil

    import espnet3

    defines = set()
    for module in pkgutil.walk_packages(espnet3.__path__, "espnet3."):
        path = getattr(module.module_finder, "path", "") + "/"
        path += module.name.rpartition(".")[2] + ".py"
        if not module.ispkg:
            with open(path, encoding="utf-8") as f:
                if "\nfrontend_choices = ClassChoices(" in f.read():
                    defines.add(module.name)
    assert defines == {ASR, TRANSDUCER}


@pytest.mark.parametrize(("hook", "module"), HOOKS)
def test_every_hook_is_a_function(hook, module):
    name, _, function = hook.partition(":")
    found = importlib.import_module(f"espnet_ensemble.integrations.espnet3.{name}")
    assert callable(getattr(found, function)), module


def test_registering_again_changes_nothing():
    choices = importlib.import_module(ASR).frontend_choices
    before = dict(choices.classes)
    espnet_ensemble.register()
    assert choices.classes == before
