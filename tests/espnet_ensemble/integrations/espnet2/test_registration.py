import ast
import importlib
import importlib.util
import pkgutil
import subprocess
import sys
import types

import espnet2.tasks
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
    """A task that a new ESPnet brings makes this test fail.

    Those are known by a choice of frontends of their own, whatever it is called. Tasks that
    import another's choices have ours with them.
    """
    others = {"mt", "gan_svs"}  # embeddings of text; features of what was synthesized
    choosing = {
        module.name
        for module in pkgutil.iter_modules(espnet2.tasks.__path__)
        if any(map(chooses_frontends, module_tree(f"espnet2.tasks.{module.name}").body))
    }
    known = {name for name in registration.TASKS if name != "aqa" or "aqa" in choosing}
    assert choosing - others == known


def module_tree(name):
    with open(importlib.util.find_spec(name).origin, encoding="utf-8") as file:
        return ast.parse(file.read())


def chooses_frontends(statement):
    """Whether it is `... = ClassChoices(...)`, of frontends by its name or their type."""
    call = statement.value if isinstance(statement, ast.Assign) else None
    if not isinstance(call, ast.Call) or not ast.unparse(call.func).endswith("Choices"):
        return False
    return "frontend" in ast.unparse(call).lower()


def test_lightning_trains_no_other_task():
    pytest.importorskip("lightning", reason="an extra of ESPnet from 202611 on")
    from espnet2.train.lightning_espnet_model import task_choices

    assert set(task_choices) <= set(registration.TASKS)


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
