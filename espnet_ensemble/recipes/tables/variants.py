"""How a table's systems are trained where the paper does not say it.

``docs/paper.md`` lists every choice with its source.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from espnet_ensemble.errors import EnsembleError

#: Keys and values of a training configuration.
Config = Mapping[str, Any]

# In place of bands of the concatenation: so much of each upstream, whatever their number.
_FEATURE_MASK = {"num_mask": 2, "max_share": 0.1}
# 28 % of each upstream's features on average: docs/results/exploration.md.
_STRONG_FEATURE_MASK = {"num_mask": 2, "max_share": 0.3}


#: What ESPnet calls the checkpoint of the last epoch.
LAST_EPOCH = "latest.pth"


@dataclass(frozen=True)
class Variant:
    """One answer to what the paper leaves open, the same for all systems of a table.

    Attributes:
        name: What ``--variant`` takes; experiments and files have it in their names.
        title: What a reader is told of it.
        asr_model: The checkpoint that is decoded with.
        derive: Makes its training configuration of the recipe's, and of the hours of speech
            in the training set.
        alone_share: For which share of training several upstreams' head sees the best of
            them alone (:class:`~espnet_ensemble.masking.MemberWarmup`).
    """

    name: str
    title: str
    asr_model: str
    derive: Callable[[Config, float], dict[str, Any]]
    alone_share: float = 0.0


def speechbrain(config: Config, hours: float) -> dict[str, Any]:
    """Train as the paper's toolkit did by default, in March 2022.

    Each upstream's features get mean 0 and variance 1 over the utterance. There is neither
    SpecAugment nor mean normalization, and one checkpoint is kept.

    Example:
        >>> conf = {"specaug": "specaug", "normalize": "utterance_mvn", "frontend_conf": {}}
        >>> for key, value in speechbrain(conf, hours=100).items():
        ...     print(key, value)
        normalize None
        frontend_conf {'normalize': 'utterance'}
        keep_nbest_models 1
    """
    derived = _without(config, "specaug", "specaug_conf")
    frontend_conf = {**(config.get("frontend_conf") or {}), "normalize": "utterance"}
    changes = {
        "normalize": None,
        "frontend_conf": frontend_conf,
        "keep_nbest_models": 1,
    }
    return {**derived, **changes}


def raw(config: Config, hours: float) -> dict[str, Any]:
    """Train as the recipe does, on features as they come.

    Where it has SpecAugment, bands of the concatenation give way to bands of each upstream:
    of every one the same share is hidden, however many there are.

    Example:
        >>> conf = {"specaug": "specaug", "frontend_conf": {}}
        >>> conf["specaug_conf"] = {"apply_freq_mask": True, "apply_time_mask": True}
        >>> for key, value in raw(conf, hours=100).items():
        ...     print(key, value)
        specaug specaug
        frontend_conf {'feature_mask': {'num_mask': 2, 'max_share': 0.1}}
        specaug_conf {'apply_freq_mask': False, 'apply_time_mask': True}
    """
    # ESPnet's SpecAugment warps and masks what it is not told to leave.
    specaug = config.get("specaug_conf") or {}
    if not config.get("specaug") or not specaug.get("apply_freq_mask", True):
        return dict(config)
    frontend_conf = {
        **(config.get("frontend_conf") or {}),
        "feature_mask": dict(_FEATURE_MASK),
    }
    return _without_frequency_masks({**config, "frontend_conf": frontend_conf})


def recommended(config: Config, hours: float) -> dict[str, Any]:
    """Train so that combinations gain most, by our own measurements.

    Each upstream's features get mean 0 and variance 1 over the utterance, and in training
    28 % of them are hidden, of each upstream the same share, in place of bands of the
    concatenation. The learning rate rises for a tenth of training, and falls along a cosine.
    An encoder of several layers has CTC in the middle as well. ``docs/results/exploration.md``
    says what of this was measured.

    Example:
        >>> conf = {"encoder": "identity", "normalize": "utterance_mvn", "max_epoch": 10}
        >>> conf["batch_bins"] = 3200000
        >>> for key, value in recommended(conf, hours=100).items():
        ...     print(key, value)
        encoder identity
        normalize None
        max_epoch 10
        batch_bins 3200000
        frontend_conf {'normalize': 'utterance', 'feature_mask': {'num_mask': 2, 'max_share': 0.3}}
        optim_conf {'lr': 0.003}
        scheduler cosineannealingwarmuprestarts
        scheduler_conf {'first_cycle_steps': 19800, 'warmup_steps': 1800, 'max_lr': 0.003, 'min_lr': 1e-06}

    Raises:
        EnsembleError: If the configuration's batches are not by size.
    """
    derived = _without_frequency_masks(config)
    derived["normalize"] = None
    derived["frontend_conf"] = {
        **(config.get("frontend_conf") or {}),
        "normalize": "utterance",
        "feature_mask": dict(_STRONG_FEATURE_MASK),
    }
    peak = 0.003 if config["encoder"] == "identity" else 0.002
    derived["optim_conf"] = {**(config.get("optim_conf") or {}), "lr": peak}
    num_batches = count_batches(config, hours)
    derived["scheduler"] = "cosineannealingwarmuprestarts"
    derived["scheduler_conf"] = {
        # Padding makes batches more than they are expected to be: none comes after a restart.
        "first_cycle_steps": round(1.1 * num_batches),
        "warmup_steps": round(0.1 * num_batches),
        "max_lr": peak,
        "min_lr": 1e-6,
    }
    num_blocks = (config.get("encoder_conf") or {}).get("num_blocks", 1)
    if num_blocks > 1:
        derived["encoder_conf"] = {
            **config["encoder_conf"],
            "interctc_layer_idx": [num_blocks // 2],
        }
        derived["model_conf"] = {
            **(config.get("model_conf") or {}),
            "interctc_weight": 0.3,
        }
    return derived


def count_batches(config: Config, hours: float) -> int:
    """About how many batches training has, without what padding adds.

    Args:
        config: With batches by size (``batch_type: numel``), of speech at 16 kHz.
        hours: Of speech in the training set.

    Raises:
        EnsembleError: If its batches are others.
    """
    if "batch_bins" not in config:
        raise EnsembleError(
            "variant recommended: the configuration has no batch_bins; use batch_type: numel"
        )
    return round(config["max_epoch"] * hours * 3600 * 16000 / config["batch_bins"])


def _without_frequency_masks(config: Config) -> dict[str, Any]:
    """The configuration with SpecAugment left to warp and mask time, if it does either."""
    # ESPnet's SpecAugment warps and masks what it is not told to leave.
    specaug = config.get("specaug_conf") or {}
    left = [specaug.get(f"apply_{kind}", True) for kind in ("time_warp", "time_mask")]
    if not config.get("specaug") or not any(left):
        return _without(config, "specaug", "specaug_conf")
    return {**config, "specaug_conf": {**specaug, "apply_freq_mask": False}}


def _without(config: Config, *keys: str) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in keys}


#: The name that ``--variant`` takes -> the variant; the first is the default.
VARIANTS = {
    variant.name: variant
    for variant in (
        Variant(
            "speechbrain",
            "what the paper leaves open is as in the toolkit that its authors used: each "
            "upstream's features normalized over the utterance, no SpecAugment, one "
            "checkpoint, greedy decoding",
            "valid.cer_ctc.best.pth",
            speechbrain,
        ),
        Variant(
            "raw",
            "features as they come, their mean over the utterance removed; SpecAugment "
            "where the head's configuration has it, of each upstream the same share; the "
            "mean of up to 5 checkpoints; greedy decoding",
            "valid.cer_ctc.ave.pth",
            raw,
        ),
        Variant(
            "recommended",
            "what we would do: each upstream's features normalized over the utterance, 28 % "
            "of them hidden in training, of each upstream the same share; for the first 40 % "
            "of it the best upstream alone; a learning rate that falls to 0; CTC in the "
            "middle of an encoder, too; the last epoch; greedy decoding",
            # Of a rate that falls to 0 it is as good as a mean, and of several upstreams it
            # has seen all: the best 5 may be of the time when it saw one.
            LAST_EPOCH,
            recommended,
            alone_share=0.4,
        ),
    )
}
DEFAULT_VARIANT = next(iter(VARIANTS))
