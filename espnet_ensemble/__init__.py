"""ESPnet-Ensemble: combine frozen self-supervised speech encoders.

Importing this package registers the frontend ``ensemble`` and the encoder ``identity``
with ESPnet's tasks, where ESPnet is installed, and ``EnsembleModel`` with transformers'
``AutoModel``. What is public is listed in ``__all__``.

Example:
    >>> import espnet_ensemble
    >>> from espnet2.tasks.asr import frontend_choices
    >>> frontend_choices.get_class("ensemble").__name__
    'EnsembleFrontend'
"""

import importlib
import importlib.util
from typing import TYPE_CHECKING

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.version import __version__

if TYPE_CHECKING:
    from espnet_ensemble.ensemble import Ensemble
    from espnet_ensemble.frontend_conf import FrontendConf
    from espnet_ensemble.integrations.espnet2.encoder import IdentityEncoder
    from espnet_ensemble.integrations.espnet2.frontend import EnsembleFrontend
    from espnet_ensemble.integrations.espnet2.pretrained import pretrained
    from espnet_ensemble.integrations.espnet2.registration import register
    from espnet_ensemble.integrations.huggingface.configuration import EnsembleConfig
    from espnet_ensemble.integrations.huggingface.modeling import EnsembleModel
    from espnet_ensemble.upstream import Upstream, UpstreamConf, load_upstream

__all__ = [
    "Ensemble",
    "EnsembleConfig",
    "EnsembleError",
    "EnsembleFrontend",
    "EnsembleModel",
    "FrontendConf",
    "IdentityEncoder",
    "Upstream",
    "UpstreamConf",
    "__version__",
    "load_upstream",
    "pretrained",
    "register",
]

# Imported on first use: `import espnet_ensemble` stays cheap enough to run in every
# process that `espnet-ensemble-python` starts, also where torch is never needed.
_LAZY = {
    "Ensemble": "ensemble",
    "EnsembleConfig": "integrations.huggingface.configuration",
    "EnsembleFrontend": "integrations.espnet2.frontend",
    "EnsembleModel": "integrations.huggingface.modeling",
    "FrontendConf": "frontend_conf",
    "IdentityEncoder": "integrations.espnet2.encoder",
    "Upstream": "upstream",
    "UpstreamConf": "upstream",
    "load_upstream": "upstream",
    "pretrained": "integrations.espnet2.pretrained",
    "register": "integrations.espnet2.registration",
}


def __getattr__(name):
    if name in _LAZY:
        module = importlib.import_module(f"espnet_ensemble.{_LAZY[name]}")
        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if importlib.util.find_spec("espnet2") is not None:
    __getattr__("register")()
if (
    importlib.util.find_spec("wrapt") is not None
):  # else, EnsembleModel registers itself
    _registration = importlib.import_module(
        "espnet_ensemble.integrations.huggingface.registration"
    )
    _registration.register_with_transformers()
