"""Registration with transformers' AutoConfig and AutoModel."""

import functools
import importlib
from types import ModuleType

import wrapt


@functools.cache  # hooks stay
def register_with_transformers() -> None:
    """Let ``AutoConfig`` and ``AutoModel`` know ensembles, where these are imported.

    Importing transformers takes long, and who imports this package may never do so.
    """
    for name, auto in (
        ("configuration", "configuration_auto"),
        ("modeling", "modeling_auto"),
    ):
        # What registers does so when it is imported.
        own = f"{__package__}.{name}"
        hook = functools.partial(_import, own)
        wrapt.register_post_import_hook(hook, f"transformers.models.auto.{auto}")


def _import(name: str, _: ModuleType) -> None:
    importlib.import_module(name)
