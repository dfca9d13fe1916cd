"""How a table's systems are trained where the paper does not say it.

``docs/paper.md`` lists every choice with its source.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

#: Keys and values of a training configuration.
Config = Mapping[str, Any]

# In place of bands of the concatenation: so much of each upstream, whatever their number.
_FEATURE_MASK = {"num_mask": 2, "max_share": 0.1}


@dataclass(frozen=True)
class Variant:
    """One answer to what the paper leaves open, the same for all systems of a table.

    Attributes:
        name: What ``--variant`` takes; experiments and files have it in their names.
        title: What a reader is told of it.
        asr_model: The checkpoint that is decoded with.
        derive: Makes its training configuration of the recipe's.
    """

    name: str
    title: str
    asr_model: str
    derive: Callable[[Config], dict[str, Any]]


def speechbrain(config: Config) -> dict[str, Any]:
    """Train as the paper's toolkit did by default, in March 2022.

    Each upstream's features get mean 0 and variance 1 over the utterance. There is neither
    SpecAugment nor mean normalization, and one checkpoint is kept.

    Example:
        >>> conf = {"specaug": "specaug", "normalize": "utterance_mvn", "frontend_conf": {}}
        >>> for key, value in speechbrain(conf).items():
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


def raw(config: Config) -> dict[str, Any]:
    """Train as the recipe does, on features as they come.

    Where it has SpecAugment, bands of the concatenation give way to bands of each upstream:
    of every one the same share is hidden, however many there are.

    Example:
        >>> conf = {"specaug": "specaug", "frontend_conf": {}}
        >>> conf["specaug_conf"] = {"apply_freq_mask": True, "apply_time_mask": True}
        >>> for key, value in raw(conf).items():
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
    derived = {**config, "frontend_conf": frontend_conf}
    left = [specaug.get(f"apply_{kind}", True) for kind in ("time_warp", "time_mask")]
    if not any(left):
        return _without(derived, "specaug", "specaug_conf")
    return {**derived, "specaug_conf": {**specaug, "apply_freq_mask": False}}


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
    )
}
DEFAULT_VARIANT = next(iter(VARIANTS))
