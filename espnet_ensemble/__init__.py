"""ESPnet-Ensemble: combine frozen self-supervised speech encoders in ESPnet.

Importing this package registers the frontend ``ensemble`` and the encoder
``identity`` with ESPnet's tasks.

Example:
    >>> import espnet_ensemble
    >>> from espnet2.tasks.asr import frontend_choices
    >>> frontend_choices.get_class("ensemble").__name__
    'EnsembleFrontend'
"""

from espnet_ensemble.plugin import register

__version__ = "0.1.0"
__all__ = ["EnsembleFrontend", "IdentityEncoder", "register"]

register()


def __getattr__(name):
    # Imported on first use: `import espnet_ensemble` stays cheap enough to run in every
    # process that `espnet-ensemble-python` starts, also where torch is never needed.
    if name == "EnsembleFrontend":
        from espnet_ensemble.frontend import EnsembleFrontend

        return EnsembleFrontend
    if name == "IdentityEncoder":
        from espnet_ensemble.encoder import IdentityEncoder

        return IdentityEncoder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
