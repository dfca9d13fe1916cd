"""The recipe's own modules, which are no package."""

from pathlib import Path

import pytest
from local_modules import importing_from

LOCAL = Path(__file__).parents[4] / "egs2" / "wsj" / "asr1" / "local"


@pytest.fixture(scope="module")
def local():
    """Import a module of the recipe: local("sphere")."""
    with importing_from(LOCAL) as import_module:
        yield import_module
