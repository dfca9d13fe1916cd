"""Registration with ESPnet's class choices."""

import functools
import inspect
from types import ModuleType
from typing import Any

import wrapt

from espnet_ensemble.integrations import espnet3

# ESPnet's tasks that take speech and let the user choose its frontend. `enh_s2t` shares
# the choices of `asr` and `diar`; `mt` chooses embeddings of text, not speech. `aqa` is
# there from ESPnet 202611 on.
TASKS = (
    "aqa",
    "asr",
    "asr_transducer",
    "asvspoof",
    "cls",
    "diar",
    "hubert",
    "lid",
    "s2st",
    "s2t",
    "s2t_ctc",
    "slu",
    "spk",
    "ssl",
    "st",
    "uasr",
)
# These bring an encoder `identity` of their own.
TASKS_WITH_IDENTITY = ("lid", "spk")

# What mends a module of ESPnet, and which one.
MENDED = (
    # To 202511, and from 202611 on.
    ("ctc_only:decode_by_ctc", "espnet.nets.beam_search"),
    ("ctc_only:decode_by_ctc", "espnet2.legacy.nets.beam_search"),
    ("ctc_only:report_true_cer", "espnet2.asr.espnet_model"),
    ("help_texts:print_percent_signs", "espnet2.bin.asr_inference"),
    ("saving:save_whole_files", "espnet2.main_funcs.average_nbest_models"),
    ("saving:save_whole_files", "espnet2.train.trainer"),
    ("unpacking:check_before_unpacking", "espnet2.main_funcs.pack_funcs"),
    ("unpacking:use_checked_unpack", "espnet_model_zoo.downloader"),
)


@functools.cache  # hooks stay: more of the same would mend what is mended
def register() -> None:
    """Offer ``frontend: ensemble`` and ``encoder: identity`` in ESPnet's tasks.

    And ``model: ensemble`` in its ASR task; the data type ``feature_cache`` in its data sets;
    checks of the options before training, from features and of an experiment that was begun;
    what :mod:`.ctc_only` mends, :mod:`.help_texts` and :mod:`.saving`; a check of archives
    before they are unpacked; and archives that work on any machine where ESPnet's ``pack``
    makes them. The same in ESPnet3, see :mod:`espnet_ensemble.integrations.espnet3`.

    A module that is already imported gets them now, any other at the moment it is
    imported: importing all tasks takes long and needs packages that one task alone does
    not. Calling this again changes nothing.

    Raises:
        RuntimeError: If a class that is not ours already has one of the names; for a
            module that is imported later, it is raised by that import.
    """
    for task in TASKS:
        wrapt.register_post_import_hook(_add_choices, f"espnet2.tasks.{task}")
    wrapt.register_post_import_hook(_add_data_type, "espnet2.train.dataset")
    wrapt.register_post_import_hook(_check_before_training, "espnet2.tasks.abs_task")
    wrapt.register_post_import_hook(
        _check_before_lightning, "espnet2.train.lightning_espnet_model"
    )
    for hook, module in MENDED:
        # By its name: it is imported when it is needed.
        wrapt.register_post_import_hook(f"{__package__}.{hook}", module)
    # Above this room, as it makes cards of what recipes leave; by its name, too.
    wrapt.register_post_import_hook(
        "espnet_ensemble.recipes.packing:pack_ensembles",
        "espnet2.main_funcs.pack_funcs",
    )
    for hook, module in espnet3.HOOKS:
        wrapt.register_post_import_hook(f"{espnet3.__name__}.{hook}", module)


def _add_data_type(dataset: ModuleType) -> None:
    from espnet_ensemble.feature_cache.dataset import FeatureCache

    data_type = dict(
        func=FeatureCache,
        kwargs=[],
        help="Features of frozen upstreams, for the frontend `ensemble`. The path is "
        "that of the members.yaml that espnet_ensemble.bin.extract writes.",
    )
    registered = dataset.DATA_TYPES.setdefault("feature_cache", data_type)
    if registered["func"] is not FeatureCache:
        raise RuntimeError(
            f"{dataset.__name__}.DATA_TYPES already has 'feature_cache': "
            f"{registered['func']!r}. espnet_ensemble does not replace it; remove one of "
            "the two plugins."
        )


def _check_before_training(module: ModuleType) -> None:
    task = module.AbsTask
    # Its name is how multiprocessing finds it in another process, so it keeps that; and
    # wrapt's proxies cannot be sent to one.
    train = task.main_worker.__func__
    if hasattr(train, "checks_before_training"):
        return

    @functools.wraps(train)
    def main_worker(cls, args):
        from espnet_ensemble.integrations.espnet2 import before_training

        before_training.check(args)

        def build_model(args):
            model = cls.build_model(args)
            before_training.prepare(args, model)
            return model

        def build_task_iter_factory(args, iter_options, mode):
            from espnet_ensemble.integrations.espnet2 import disk_order

            return disk_order.build_iter_factory(cls, args, iter_options, mode)

        own: dict[str, Any] = {"build_model": staticmethod(build_model)}
        # ESPnet's own says that it is not implemented.
        unset = task.build_task_iter_factory.__func__
        if cls.build_task_iter_factory.__func__ is unset:
            own["build_task_iter_factory"] = staticmethod(build_task_iter_factory)
        return train(type(cls.__name__, (cls,), own), args)

    vars(main_worker)["checks_before_training"] = True
    task.main_worker = classmethod(main_worker)


def _check_before_lightning(module: ModuleType) -> None:
    wrapt.wrap_function_wrapper(module, "LitESPnetModel.__init__", _init_lightning)


def _init_lightning(init, lit_model, args, kwargs):
    from espnet_ensemble.integrations.espnet2 import before_training

    options = inspect.signature(init).bind(*args, **kwargs).arguments["args"]
    before_training.check(options)
    init(*args, **kwargs)
    before_training.prepare(options, lit_model.model)


def _add_choices(task: ModuleType) -> None:
    add_choices(task, task.__name__.rpartition(".")[2])


def add_choices(task: ModuleType, name: str) -> None:
    """Offer our classes in a module that defines choices as ESPnet's tasks do.

    Args:
        task: The module.
        name: Which of ESPnet2's tasks it is, or is a copy of.

    Raises:
        RuntimeError: As :func:`register`.
    """
    from espnet_ensemble.integrations.espnet2.encoder import IdentityEncoder
    from espnet_ensemble.integrations.espnet2.frontend import EnsembleFrontend
    from espnet_ensemble.integrations.espnet2.packed_config import (
        ENSEMBLE_WITH_ADVICE,
    )

    for frontend in ("ensemble", ENSEMBLE_WITH_ADVICE):
        _add(task, "frontend_choices", frontend, EnsembleFrontend)
    if name not in TASKS_WITH_IDENTITY:
        _add(task, "encoder_choices", "identity", IdentityEncoder)
    if name == "asr":
        from espnet_ensemble.integrations.espnet2.asr_model import EnsembleASRModel

        _add(task, "model_choices", "ensemble", EnsembleASRModel)


def _add(task: ModuleType, choices_name: str, name: str, cls: type) -> None:
    choices = getattr(task, choices_name, None)
    # A task without such a choice, or whose encoders follow another interface
    # (asr_transducer), goes without.
    if choices is None or not issubclass(cls, choices.base_type or object):
        return
    registered = choices.classes.setdefault(name, cls)
    if registered is not cls:
        raise RuntimeError(
            f"{task.__name__}.{choices_name} already has {name!r}: "
            f"{registered.__module__}.{registered.__qualname__}. espnet_ensemble does "
            "not replace it; remove one of the two plugins."
        )
