"""The recipe's own scripts, which are no package."""

import importlib.util

import pytest
from repository import REPOSITORY


@pytest.fixture(scope="module")
def local():
    """Load a script of the recipe's folder local: local("make_table")."""

    def load(name: str):
        path = REPOSITORY / "egs2/mini_synth/asr1/local" / f"{name}.py"
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
