"""Model cards where ESPnet itself packs a model with the frontend ``ensemble``."""

import inspect
from pathlib import Path
from types import ModuleType

import wrapt

from espnet_ensemble.files import read_yaml


def pack_ensembles(module: ModuleType) -> None:
    """Let ESPnet's ``pack`` pack models with the frontend ``ensemble`` as recipes do.

    Args:
        module: :mod:`espnet2.main_funcs.pack_funcs`.
    """
    wrapt.wrap_function_wrapper(module, "pack", _pack)


def _pack(espnet_pack, instance, args, kwargs):
    given = inspect.signature(espnet_pack).bind(*args, **kwargs)
    given.apply_defaults()
    configs = [read_yaml(path) for path in given.arguments["yaml_files"].values()]
    if not any(config.get("frontend") == "ensemble" for config in configs):
        return espnet_pack(*args, **kwargs)
    # Stage 14 of ESPnet's asr.sh names the folder of curves also where none were drawn, with
    # use_matplotlib: false.
    given.arguments["option"] = [
        path
        for path in given.arguments["option"]
        if Path(path).name != "images" or Path(path).exists()
    ]
    # Who unpacks imports ESPnet's module, too, and does not wait for what makes cards.
    from espnet_ensemble.recipes.publishing import pack_with_card

    pack_with_card(**given.arguments)
