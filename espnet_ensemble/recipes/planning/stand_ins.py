"""Upstreams to measure: the real ones where they load, else random weights of their size."""

from dataclasses import dataclass
from textwrap import shorten

import torch

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.layers import layer_indices
from espnet_ensemble.upstream.base import Upstream
from espnet_ensemble.upstream.checkpoints import CHECKPOINTS
from espnet_ensemble.upstream.registry import UpstreamConf, load_upstream

# hidden size -> layers, heads, parameters as in the published checkpoints.
_LAYERS = {768: 12, 1024: 24, 1280: 48}
_HEADS = {768: 12, 1024: 16, 1280: 16}
_WORDS = {"xlarge": 1280, "large": 1024, "base": 768}


@dataclass(frozen=True)
class PlannedUpstream:
    """An upstream whose speed can be measured.

    Attributes:
        name: What the user calls it.
        upstream: It, or one of its size.
        reason: Why it is one of its size; "": it is the real one.
    """

    name: str
    upstream: Upstream
    reason: str = ""


def load_or_stand_in(
    name: str, conf: UpstreamConf, download_dir: str | None = None
) -> PlannedUpstream:
    """Load an upstream; where that fails, make one of the same size with random weights.

    Args:
        name: What to call it.
        conf: Which one.
        download_dir: Where downloaded ones are; None: the library's default.

    Raises:
        EnsembleError: If it does not load, and its name does not tell its size.
    """
    try:
        return PlannedUpstream(name, load_upstream(conf, download_dir))
    except (EnsembleError, OSError) as error:
        size = _size(conf)
        if size is None:
            raise EnsembleError(
                f"{error}\nTo plan without it: its name does not say whether it is base, "
                "large or xlarge; name a published one of its size (espnet-ensemble "
                "upstreams lists some)"
            ) from error
        reason = shorten(str(error).splitlines()[0], 100)
        return PlannedUpstream(name, make_stand_in(conf, size), reason)


def make_stand_in(conf: UpstreamConf, size: int) -> Upstream:
    """Make an upstream with random weights, of transformers' WavLM or HuBERT.

    Args:
        conf: What it stands for; WavLM by its name, whose attention takes longer.
        size: Size of its hidden states: 768, 1024 or 1280.
    """
    # Takes seconds.
    import transformers

    from espnet_ensemble.upstream.families import FAMILIES

    kind = "WavLM" if "wavlm" in conf.name.lower() else "Hubert"
    large = dict(feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True)
    config = getattr(transformers, f"{kind}Config")(
        hidden_size=size,
        num_hidden_layers=_LAYERS[size],
        num_attention_heads=_HEADS[size],
        intermediate_size=4 * size,
        **(large if size > 768 else {}),
    )
    with torch.device("meta"):  # transformers' own initial weights would take seconds
        model = getattr(transformers, f"{kind}Model")(config)
    model.to_empty(device="cpu")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.uniform_(-0.02, 0.02)
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=size > 768)
    layers = layer_indices(conf.layer, _LAYERS[size])
    return FAMILIES[kind.lower()].build(conf.name, model.eval(), extractor, layers)


def _size(conf: UpstreamConf) -> int | None:
    names = {conf.name, conf.path_or_url}
    for checkpoint in CHECKPOINTS:
        if names & {checkpoint.huggingface, checkpoint.s3prl}:
            return checkpoint.feature_size
    words = f"{conf.name} {conf.path_or_url or ''}".lower()
    return next((size for word, size in _WORDS.items() if word in words), None)
