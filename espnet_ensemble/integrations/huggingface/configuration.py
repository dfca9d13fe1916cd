"""The configuration of an ensemble that transformers loads."""

from collections.abc import Mapping
from typing import Any

from transformers import AutoConfig, PretrainedConfig


class EnsembleConfig(PretrainedConfig):
    """What an ensemble is made of, in a ``config.json``.

    Args:
        frontend_conf: As in ESPnet's YAML, see
            :class:`~espnet_ensemble.frontend_conf.FrontendConf`.
        hidden_size: Features per frame; the model sets it.
        sampling_rate: Of the speech that it takes, in Hz; the model sets it.
        kwargs: Of ``PretrainedConfig``.
    """

    model_type = "espnet_ensemble"

    def __init__(
        self,
        frontend_conf: Mapping[str, Any] | None = None,
        hidden_size: int | None = None,
        sampling_rate: int | None = None,
        **kwargs,
    ):
        # None: transformers makes one without arguments, to see what is default.
        self.frontend_conf = None if frontend_conf is None else dict(frontend_conf)
        self.hidden_size = hidden_size
        self.sampling_rate = sampling_rate
        super().__init__(**kwargs)


AutoConfig.register(EnsembleConfig.model_type, EnsembleConfig, exist_ok=True)
