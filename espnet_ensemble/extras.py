"""Packages that only some users need, by the names of their extras."""

import importlib
from types import ModuleType

from espnet_ensemble.errors import EnsembleError


def import_extra(name: str, extra: str, package: str | None = None) -> ModuleType:
    """Import a package that a plain installation of the plugin leaves out.

    Args:
        name: The module, such as ``scipy.signal``.
        extra: The extra that installs it, such as ``recipes``.
        package: What pip calls it; None: as the module is called.

    Raises:
        EnsembleError: If it is not installed; the message says how to install it.

    Example:
        >>> import_extra("nothing", "dask")
        Traceback (most recent call last):
        espnet_ensemble.errors.EnsembleError: nothing is not installed; run `pip install
        '.[dask]'` in the checkout of espnet-ensemble, or `pip install nothing`
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        module = name.partition(".")[0]
        raise EnsembleError(
            f"{module} is not installed; run `pip install '.[{extra}]'` in the checkout "
            f"of espnet-ensemble, or `pip install {package or module.replace('_', '-')}`"
        ) from error
