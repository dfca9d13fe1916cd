"""The recipe's own modules, which are no package."""

import importlib
import sys
from pathlib import Path

import pytest

LOCAL = Path(__file__).parents[4] / "egs2" / "librilight_10h" / "asr1" / "local"


@pytest.fixture(scope="module")
def local():
    """Import a module of the recipe: local("prepare_librilight_10h")."""
    names = [path.stem for path in LOCAL.glob("*.py")]
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.syspath_prepend(str(LOCAL))
        yield importlib.import_module
    for name in names:
        sys.modules.pop(name, None)
