"""ESPnet3's Dask workers, which know nothing of what the recipe's ``run.py`` imports."""

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

import wrapt


def bring_plugin(parallel: ModuleType) -> None:
    """Let every Dask worker import this package before it builds a model.

    A worker on another node is not started from ``run.py``, nor does its scheduler have to
    pass on the environment that ``espnet-ensemble-python`` makes. It does unpickle what
    sets it up; that this is a function of ours makes it import the package, which
    registers.

    Args:
        parallel: :mod:`espnet3.parallel.parallel`.
    """
    wrapt.wrap_function_wrapper(parallel, "DictReturnWorkerPlugin.__init__", _init)


def _init(init, instance, args, kwargs):
    init(*args, **kwargs)
    instance.setup_fn = functools.partial(_set_up, instance.setup_fn)


def _set_up(setup_fn: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    return setup_fn()
