import importlib
import subprocess
import sys
import types

import pytest
from espnet2.asr.frontend.abs_frontend import AbsFrontend
from espnet2.train.class_choices import ClassChoices

import espnet_ensemble
from espnet_ensemble import EnsembleFrontend, IdentityEncoder
from espnet_ensemble.integrations.espnet2 import registration


def run(code):
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("task", registration.TASKS)
def test_every_task_has_the_frontend(task):
    if task == "aqa":
        pytest.importorskip("espnet2.tasks.aqa", reason="from ESPnet 202611 on")
    module = importlib.import_module(f"espnet2.tasks.{task}")
    assert module.frontend_choices.get_class("ensemble") is EnsembleFrontend


def test_no_other_task_chooses_frontends_of_speech():
    """A task that a new ESPnet brings makes this test fail."""
    import pkgutil

    import espnet2.tasks

    for module in pkgutil.iter_modules(espnet2.tasks.__path__):
        source = importlib.util.find_spec(f"espnet2.tasks.{module.name}").origin
        with open(source, encoding="utf-8") as f:
            defines = "\nfrontend_choices = ClassChoices(" in f.read()
        assert defines == (module.name in (*registration.TASKS, "mt")), module.name


@pytest.mark.parametrize("task", ["asr", "s2t", "st", "slu", "uasr", "diar", "enh_s2t"])
def test_parser_offers_the_names(task):
    module = importlib.import_module(f"espnet2.tasks.{task}")
    parser = next(
        getattr(module, name)
        for name in vars(module)
        if name.endswith("Task")
        and name.lower()
        .replace("_", "")
        .startswith({"enh_s2t": "enhs2t", "diar": "diarization"}.get(task, task))
    ).get_parser()
    choices = {action.dest: action.choices for action in parser._actions}
    assert "ensemble" in choices["frontend"]


def test_asr_offers_the_identity_encoder():
    from espnet2.tasks.asr import encoder_choices

    assert encoder_choices.get_class("identity") is IdentityEncoder


def test_data_sets_have_the_feature_cache():
    from espnet2.train.dataset import DATA_TYPES

    from espnet_ensemble.feature_cache.dataset import FeatureCache

    assert DATA_TYPES["feature_cache"]["func"] is FeatureCache


@pytest.mark.slow
def test_espnet_may_be_imported_first():
    result = run(
        "from espnet2.tasks.asr import frontend_choices\n"
        "import espnet_ensemble\n"
        "assert 'ensemble' in frontend_choices.classes"
    )
    assert result.returncode == 0, result.stderr


def test_registration_is_idempotent():
    from espnet2.tasks.asr import frontend_choices

    before = dict(frontend_choices.classes)
    espnet_ensemble.register()
    assert frontend_choices.classes == before


def test_what_is_mended_is_mended_once():
    result = run(
        "import espnet_ensemble\n"
        "from espnet2.asr.espnet_model import ESPnetASRModel\n"
        "from espnet2.main_funcs import pack_funcs\n"
        "espnet_ensemble.register()\n"
        "for mended in ESPnetASRModel._calc_ctc_loss, pack_funcs.unpack:\n"
        "    assert not hasattr(mended.__wrapped__, '__wrapped__'), mended"
    )
    assert result.returncode == 0, result.stderr


def test_foreign_class_is_not_replaced():
    class Foreign(AbsFrontend):
        pass

    task = types.ModuleType("espnet2.tasks.foreign")
    task.frontend_choices = ClassChoices(
        "frontend", dict(ensemble=Foreign), type_check=AbsFrontend
    )
    with pytest.raises(RuntimeError, match="already has 'ensemble': .*Foreign"):
        registration._add_choices(task)
    assert task.frontend_choices.classes["ensemble"] is Foreign


def test_foreign_data_type_is_not_replaced():
    dataset = types.ModuleType("espnet2.train.foreign")
    dataset.DATA_TYPES = {"feature_cache": dict(func=dict, kwargs=[], help="")}
    with pytest.raises(RuntimeError, match="already has 'feature_cache': .*dict"):
        registration._add_data_type(dataset)
    assert dataset.DATA_TYPES["feature_cache"]["func"] is dict


def test_unknown_attribute():
    with pytest.raises(AttributeError, match="no attribute 'Frontend'"):
        getattr(espnet_ensemble, "Frontend")  # noqa: B009
