"""SSL speech encoders, from S3PRL or transformers, behind one interface."""

import importlib
from typing import TYPE_CHECKING

from espnet_ensemble.upstream.errors import UpstreamError

if TYPE_CHECKING:
    from espnet_ensemble.upstream.base import Upstream
    from espnet_ensemble.upstream.registry import (
        UpstreamConf,
        load_upstream,
        register_upstream,
    )

__all__ = [
    "Upstream",
    "UpstreamConf",
    "UpstreamError",
    "load_upstream",
    "register_upstream",
]

# Imported on first use: who only reads what a configuration says need not wait for torch.
_LAZY = {
    "Upstream": "base",
    "UpstreamConf": "registry",
    "load_upstream": "registry",
    "register_upstream": "registry",
}


def __getattr__(name):
    if name in _LAZY:
        module = importlib.import_module(f"{__name__}.{_LAZY[name]}")
        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
