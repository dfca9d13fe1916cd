"""Encoders that ESPnet's own task for self-supervised learning has trained, such as XEUS."""

from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import Any

import humanfriendly
import torch
from torch import Tensor
from torch.nn import Identity, Module, ModuleDict, ModuleList

from espnet_ensemble.files import check_keys, read_yaml
from espnet_ensemble.integrations.espnet2.packed_model import read_weights, weights_in
from espnet_ensemble.layers import layer_indices
from espnet_ensemble.upstream.base import CallState
from espnet_ensemble.upstream.checkpoint_files import ESPNET_CONFIG, espnet_weights
from espnet_ensemble.upstream.errors import UpstreamError
from espnet_ensemble.upstream.one_at_a_time import OneAtATimeUpstream
from espnet_ensemble.upstream.registry import UpstreamConf

# Parts of a model that hidden states do not need.
_OF_TRAINING = ("losses.", "util_modules.", "global_step")


def load_espnet_ssl(
    conf: UpstreamConf, download_dir: str | None = None
) -> OneAtATimeUpstream:
    """Load an encoder of ESPnet's ``SSLTask``: the upstream ``espnet_ssl``.

    Hidden state 0 is the input to the first layer; the last one is after the encoder's norm.
    Utterances are run one at a time, without masking; layers above the highest one used are
    not computed.

    Args:
        conf: ``path_or_url`` is the file of the weights, with ``config.yaml`` beside it, or a
            folder of both.
        download_dir: Nothing is downloaded.

    Raises:
        UpstreamError: If a file is missing, the configuration is none of that task, or the
            weights are others.
    """
    check_keys(f"upstream {conf.name!r}: extra_conf", conf.extra_conf or {}, [])
    if conf.path_or_url is None:
        raise UpstreamError(
            f"upstream {conf.name!r} needs path_or_url: a folder with config.yaml and the "
            "weights, such as `hf download espnet/xeus --local-dir DIR` makes"
        )
    weights = espnet_weights(conf.path_or_url)
    model, config = _build(weights)
    encoder: Any = model.encoder
    layers = layer_indices(conf.layer, len(encoder.encoders))
    top = max(layers)
    if top < len(encoder.encoders):
        # The input to the first is kept where it arrives.
        encoder.encoders = encoder.encoders[: max(top, 1)]
        encoder.after_norm = Identity()
        encoder.encoders.requires_grad_(top > 0)
    call = _Call()
    encoder.encoders[0].register_forward_pre_hook(call.keep)
    fs = humanfriendly.parse_size(
        str((config.get("frontend_conf") or {}).get("fs", 16000))
    )
    return OneAtATimeUpstream(
        conf.name, model, partial(_take, call, top), list(layers), fs, shortest=400
    )


def _build(weights: Path) -> tuple[Module, dict[str, Any]]:
    from espnet2.tasks.ssl import SSLTask

    path = weights.parent / ESPNET_CONFIG
    config = read_yaml(path)
    try:
        model = SSLTask.build_model(Namespace(**config))
    except Exception as error:  # whatever ESPnet's classes say
        raise UpstreamError(
            f"{path}: expected the configuration of ESPnet's SSL task: "
            f"{type(error).__name__}: {error}"
        ) from error
    found = model.load_state_dict(weights_in(read_weights(weights)), strict=False)
    missing = [key for key in found.missing_keys if not key.startswith(_OF_TRAINING)]
    unknown = [key for key in found.unexpected_keys if not key.startswith(_OF_TRAINING)]
    if missing or unknown:
        raise UpstreamError(
            f"{weights}: not the weights of {path}: "
            + ", ".join([*(f"no {key}" for key in missing), *unknown][:5])
        )
    model.losses, model.util_modules = ModuleList(), ModuleDict()
    model.util_attributes = set()
    return model.eval(), config


class _Call:
    """What a forward pass leaves: the input to the first layer."""

    def __init__(self):
        self.state = CallState()

    def keep(self, layer: Module, args: tuple) -> None:
        """Keep the input to the first layer."""
        first = args[0]
        self.state.first = first[0] if isinstance(first, tuple) else first


def _take(call: _Call, top: int, model: Any, wav: Tensor) -> list[Tensor]:
    """All hidden states of one waveform, (samples,)."""
    dtype = next(model.parameters()).dtype
    length = torch.tensor([len(wav)], device=wav.device)
    last, inner, _ = model.inference_encode(wav[None].to(dtype), length)
    states = [call.state.first, *inner][: top + 1]
    # The last one is after the norm, where that is there.
    return [*states[:-1], last] if top else states
