"""Modules of a recipe, or of the recipes, which are no package."""

import importlib
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def importing_from(folder: Path):
    """Yield what imports a module of a folder by its name; in the end, forget them."""
    names = [path.stem for path in folder.glob("*.py")]
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.syspath_prepend(str(folder))
        yield importlib.import_module
    for name in names:
        sys.modules.pop(name, None)
