"""Packages that only some users need, by the names of their extras."""

import importlib
from types import ModuleType

from espnet_ensemble.errors import EnsembleError


def import_extra(name: str, extra: str) -> ModuleType:
    """Import a package that a plain ``pip install espnet-ensemble`` leaves out.

    Args:
        name: The module, such as ``scipy.signal``.
        extra: The extra that installs it, such as ``recipes``.

    Raises:
        EnsembleError: If it is not installed; the message says how to install it.

    Example:
        >>> import_extra("nothing", "dask")
        Traceback (most recent call last):
        espnet_ensemble.errors.EnsembleError: nothing is not installed; run `pip install
        'espnet-ensemble[dask]'`
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise EnsembleError(
            f"{name.partition('.')[0]} is not installed; run `pip install "
            f"'espnet-ensemble[{extra}]'`"
        ) from error
