"""S3PRL itself: the names of its hub, read without importing it, and how to import it."""

import argparse
import ast
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from espnet_ensemble.upstream.errors import UpstreamError

# Makes torch.load take weights alone, whatever it is asked for.
_FORCE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
_MOST_LAYERS = 1000
#: The S3PRL packages whose models are transformers'.
HUGGINGFACE = ("hf_hubert", "hf_wav2vec2")


@dataclass(frozen=True)
class HubEntry:
    """Where S3PRL defines a hub name, and what it downloads for it."""

    package: str
    urls: tuple[str, ...]


def is_installed() -> bool:
    """Whether S3PRL is, or ESPnet's fork of it, which has the same name."""
    return importlib.util.find_spec("s3prl") is not None


@lru_cache
def hub_entries() -> dict[str, HubEntry]:
    """List the names of S3PRL's hub, by reading its sources.

    Importing ``s3prl.hub`` instead would import every upstream there is, which takes
    long and fails on torchaudio 2.9 and newer.
    """
    spec = importlib.util.find_spec("s3prl")
    if spec is None or spec.origin is None:
        raise UpstreamError(
            "S3PRL is not installed; run `pip install s3prl`, or `pip install espnet-s3prl` "
            "for ESPnet's fork of it, of which one only may be installed"
        )
    root = Path(spec.origin).parent
    entries = {}
    # It has lines like: from s3prl.upstream.wavlm.hubconf import *
    for statement in _parse(root / "hub.py"):
        if not isinstance(statement, ast.ImportFrom) or statement.module is None:
            continue
        if statement.names[0].name == "*":
            package = statement.module.split(".")[2]
            for function in _parse(root / "upstream" / package / "hubconf.py"):
                if isinstance(function, ast.FunctionDef):
                    entries[function.name] = HubEntry(package, _urls(function))
    return {name: entry for name, entry in entries.items() if name[0] != "_"}


def _parse(path: Path) -> list[ast.stmt]:
    return ast.parse(path.read_text(encoding="utf-8")).body


def _urls(function: ast.FunctionDef) -> tuple[str, ...]:
    strings = (n.value for n in ast.walk(function) if isinstance(n, ast.Constant))
    return tuple(s for s in strings if isinstance(s, str) and s.startswith("http"))


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
            vars(sox_effects)["apply_effects_tensor"] = _removed_apply_effects_tensor
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


@contextmanager
def safe_loading() -> Iterator[None]:
    """Keep S3PRL from running what a checkpoint holds.

    Some of its builders load pickles with ``weights_only=False``, and its models call
    ``eval`` on strings of a checkpoint's configuration. Inside this context, torch loads
    weights alone, in all threads, and those strings may be lists of numbers only.
    """
    # Who only asks for names need not wait for torch.
    import torch

    before = os.environ.get(_FORCE)
    os.environ[_FORCE] = "1"
    for name, module in list(sys.modules.items()):
        # These call it on names of their own modules and functions, or not at all.
        own = name.endswith((".expert", ".interfaces", ".extracter", ".hubconf"))
        if name.startswith("s3prl.upstream.") and not own:
            vars(module)["eval"] = evaluate_layers
    try:
        # Published checkpoints of some upstreams hold the options of their training.
        with torch.serialization.safe_globals([argparse.Namespace]):
            yield
    finally:
        if before is None:
            del os.environ[_FORCE]
        else:
            os.environ[_FORCE] = before


def evaluate_layers(expression: str) -> Any:
    """Evaluate what fairseq writes for lists of convolutions, and nothing else.

    Raises:
        UpstreamError: If it is something else.

    Example:
        >>> evaluate_layers("[(512, 10, 5)] + [(512, 3, 2)] * 2")
        [(512, 10, 5), (512, 3, 2), (512, 3, 2)]
    """
    try:
        return _evaluate(ast.parse(expression.strip(), mode="eval").body)
    except (SyntaxError, TypeError) as error:
        raise UpstreamError(
            "expected lists of numbers, such as [(512,10,5)] + [(512,3,2)]*4, found "
            f"{expression!r}"
        ) from error


def _evaluate(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=int() | float()):
            return node.value
        case ast.List():
            return [_evaluate(element) for element in node.elts]
        case ast.Tuple():
            return tuple(_evaluate(element) for element in node.elts)
        case ast.BinOp(op=ast.Add()):
            return _evaluate(node.left) + _evaluate(node.right)
        case ast.BinOp(op=ast.Mult(), right=ast.Constant(value=int(times))):
            if times <= _MOST_LAYERS:
                return _evaluate(node.left) * times
    raise TypeError(ast.dump(node))


def import_s3prl_nn():
    """Import ``s3prl.nn`` on any torchaudio.

    ESPnet's own ``s3prl`` and ``fused`` frontends work after it. It imports all of
    S3PRL's hub, about 12 s.
    """
    with removed_torchaudio_names():
        return importlib.import_module("s3prl.nn")
