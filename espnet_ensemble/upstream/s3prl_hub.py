"""S3PRL itself: the names of its hub, read without importing it, and how to import it."""

import ast
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from espnet_ensemble.upstream.base import UpstreamError


class HubEntry(NamedTuple):
    """Where S3PRL defines a hub name, and what it downloads for it."""

    package: str
    urls: tuple[str, ...]


@lru_cache
def hub_entries() -> dict[str, HubEntry]:
    """List the names of S3PRL's hub, by reading its sources.

    Importing ``s3prl.hub`` instead would import every upstream there is, which takes
    long and fails on torchaudio 2.9 and newer.
    """
    spec = importlib.util.find_spec("s3prl")
    if spec is None:
        raise UpstreamError("S3PRL is not installed; run `pip install s3prl`")
    root = Path(spec.origin).parent
    entries = {}
    # It has lines like: from s3prl.upstream.wavlm.hubconf import *
    for statement in _parse(root / "hub.py"):
        if isinstance(statement, ast.ImportFrom) and statement.names[0].name == "*":
            package = statement.module.split(".")[2]
            for function in _parse(root / "upstream" / package / "hubconf.py"):
                if isinstance(function, ast.FunctionDef):
                    entries[function.name] = HubEntry(package, _urls(function))
    return {name: entry for name, entry in entries.items() if name[0] != "_"}


def _parse(path: Path) -> list[ast.stmt]:
    return ast.parse(path.read_text(encoding="utf-8")).body


def _urls(function: ast.FunctionDef) -> tuple[str, ...]:
    strings = (n.value for n in ast.walk(function) if isinstance(n, ast.Constant))
    return tuple(s for s in strings if str(s).startswith("http"))


@contextmanager
def removed_torchaudio_names() -> Iterator[None]:
    """Let S3PRL be imported where torchaudio (2.9 and newer) has dropped what it names.

    Two of S3PRL's modules name ``set_audio_backend`` and ``sox_effects`` while they are
    imported. Inside this context, torchaudio has stand-ins for what it lacks, and
    nothing else is changed: choosing a backend does nothing, as in every torchaudio since
    2.1; applying a sox effect raises ``NotImplementedError``, also later. Outside,
    torchaudio is as it was.
    """
    import torchaudio

    lacks_backend = not hasattr(torchaudio, "set_audio_backend")
    lacks_sox = importlib.util.find_spec("torchaudio.sox_effects") is None
    try:
        if lacks_backend:
            torchaudio.set_audio_backend = lambda backend: None
        if lacks_sox:
            sox_effects = ModuleType("torchaudio.sox_effects")
            sox_effects.apply_effects_tensor = _removed_apply_effects_tensor
            sys.modules[sox_effects.__name__] = sox_effects
        yield
    finally:
        if lacks_backend:
            del torchaudio.set_audio_backend
        if lacks_sox:
            del sys.modules["torchaudio.sox_effects"]


def _removed_apply_effects_tensor(*args, **kwargs):
    raise NotImplementedError(
        "S3PRL calls torchaudio.sox_effects.apply_effects_tensor, which this torchaudio no "
        "longer has; this upstream needs torchaudio < 2.9"
    )


def import_s3prl_nn():
    """Import ``s3prl.nn`` on any torchaudio.

    ESPnet's own ``s3prl`` and ``fused`` frontends work after it. It imports all of
    S3PRL's hub, about 12 s.
    """
    with removed_torchaudio_names():
        return importlib.import_module("s3prl.nn")
