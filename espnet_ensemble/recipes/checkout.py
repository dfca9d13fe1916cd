"""Finds the checkout, which has what the package does not install: recipes, ``conf``."""

from pathlib import Path

from espnet_ensemble.errors import EnsembleError


def is_checkout(folder: Path) -> bool:
    """Whether a folder is a checkout of ESPnet-Ensemble."""
    return (folder / "conf" / "tables").is_dir() and (folder / "egs2").is_dir()


def find_checkout(given: Path | None = None) -> Path:
    """The folder that is given; else the one that is, or is around, the working directory.

    Raises:
        EnsembleError: If it has no ``conf/tables`` and ``egs2``.
    """
    here = Path.cwd()
    for folder in [given] if given else [here, *here.parents]:
        if is_checkout(folder):
            return folder.resolve()
    raise EnsembleError(
        f"{given or here}: expected a checkout of ESPnet-Ensemble, with conf/tables and "
        "egs2; go into one, or give one with --root"
    )
