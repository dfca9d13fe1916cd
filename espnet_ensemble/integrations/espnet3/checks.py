"""Whether ESPnet3's training can be from the feature cache that its configuration names."""

from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any, cast

import wrapt
from omegaconf import DictConfig, OmegaConf
from torch.nn import Module

from espnet_ensemble.feature_cache import CacheError
from espnet_ensemble.feature_cache.identity import check_frozen
from espnet_ensemble.integrations.espnet2.checks import (
    check_audio,
    check_features,
    check_options,
    other_frontend,
)
from espnet_ensemble.integrations.espnet2.frontend import EnsembleFrontend


def check_before_training(module: ModuleType) -> None:
    """Check what ESPnet2's training checks: ESPnet3's does not go through that.

    Args:
        module: :mod:`espnet3.components.modeling.lightning_module`.
    """
    wrapt.wrap_function_wrapper(module, "ESPnetLightningModule.__init__", _init)


def _init(init, instance, args, kwargs):
    init(*args, **kwargs)
    check_training(
        instance.model,
        instance.config,
        [*_parts(instance.train_dataset), *_parts(instance.valid_dataset)],
    )


def _parts(dataset: Any) -> list[Any]:
    """What ESPnet3's ``CombinedDataset`` is of."""
    return getattr(dataset, "datasets", [])


def check_training(model: Module, config: DictConfig, datasets: list[Any]) -> None:
    """Refuse training from features that are not those of the waveform that is meant.

    Args:
        model: The model.
        config: The training configuration.
        datasets: What it is trained and validated on.

    Raises:
        CacheError: If an option needs the waveform, the features are not those of the
            model's upstreams, or the audio has changed since; or if features are asked for
            in ESPnet2's way.
    """
    # Imports ESPnet3, which may be about to import this.
    from espnet_ensemble.integrations.espnet3.datasets import FeatureCacheDataset

    sources = [x for x in datasets if isinstance(x, FeatureCacheDataset)]
    frontends = [x for x in model.modules() if isinstance(x, EnsembleFrontend)]
    if any(x.conf.feature_cache for x in frontends):
        raise CacheError(
            "frontend_conf: feature_cache is for ESPnet2's training; ESPnet3's trains from "
            "features where the training configuration has a section feature_cache (with "
            "EnsembleASRSystem), or a dataset of them: see docs/espnet3.md"
        )
    if not sources:
        return
    first = sources[0].path
    if not frontends:
        found = type(getattr(model, "frontend", None)).__name__
        raise CacheError(other_frontend(first, found))
    for options in _preprocessors(config):
        check_options(first, options)
    check_frozen(frontends[0].conf)
    check_features([source.path for source in sources], model)
    for source in sources:
        check_audio(source.cache, source.utt_ids)


def _preprocessors(config: DictConfig) -> Iterator[Mapping[str, Any]]:
    """Options of preprocessors: of all sets, and of the single ones."""
    preprocessor = config.dataset.get("preprocessor")
    if not OmegaConf.is_dict(preprocessor):
        return
    plain = OmegaConf.to_container(preprocessor, resolve=True)
    options = cast("dict[str, Any]", plain)
    yield options
    yield from (value for value in options.values() if isinstance(value, dict))
