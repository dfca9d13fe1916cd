"""Upstreams from S3PRL: the names of its hub."""

import importlib
import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.utils.rnn import pad_sequence
from torch.nn.utils.weight_norm import WeightNorm

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.frames import to_device
from espnet_ensemble.layers import Layer, layer_indices
from espnet_ensemble.upstream.attention import fuse_attention
from espnet_ensemble.upstream.base import (
    CopyableLock,
    Upstream,
    cut_layers,
    pad_to,
)
from espnet_ensemble.upstream.checkpoints import is_published_id
from espnet_ensemble.upstream.errors import UpstreamError
from espnet_ensemble.upstream.families import FAMILIES
from espnet_ensemble.upstream.fingerprint import fingerprint
from espnet_ensemble.upstream.padding import PaddingGuard
from espnet_ensemble.upstream.s3prl_hub import (
    HUGGINGFACE,
    hub_entries,
    removed_torchaudio_names,
    safe_loading,
)
from espnet_ensemble.upstream.unreadable import UNREADABLE, unreadable
from espnet_ensemble.upstream.waveform import zero_mean_unit_var_norm

# The S3PRL packages whose padding PaddingGuard neutralises. All others run one utterance
# at a time: right for any architecture, but slower.
BATCHED = (
    "data2vec",
    "hubert",
    "unispeech_sat",
    "wav2vec2",
    "wavlm",
)
FS = 16000
MIN_SAMPLES = 800  # s3prl.nn.upstream.MIN_SECOND

Encode = Callable[[Tensor, Tensor], tuple[list[Tensor], Tensor]]


def load_s3prl(
    name: str,
    layer: Layer = "last",
    path_or_url: str | None = None,
    extra_conf: dict[str, Any] | None = None,
    download_dir: str | None = None,
) -> Upstream:
    """Load an upstream with S3PRL.

    Args:
        name: A name of S3PRL's hub (``wavlm_large``, ``hubert_custom``).
        layer: See :func:`espnet_ensemble.layers.layer_indices`.
        path_or_url: Checkpoint of the names that end in ``_local``, ``_url``, ``_custom``.
        extra_conf: Further arguments of the hub entry.
        download_dir: Where S3PRL keeps what it downloads; None: its default.

    Raises:
        UpstreamError: If there is no such checkpoint, or it cannot be fetched.
        EnsembleError: If there is no such layer.
    """
    entry = hub_entries()[name]
    conf = dict(extra_conf or {})
    if path_or_url is not None:
        is_id = entry.package in HUGGINGFACE and is_published_id(path_or_url)
        is_remote = is_id or path_or_url.startswith("http")
        if not is_remote and not os.path.exists(path_or_url):
            raise UpstreamError(
                f"upstream {name!r}: path_or_url not found: {path_or_url}"
            )
        conf["ckpt"] = path_or_url
    elif not entry.urls and name.endswith(("_local", "_url", "_custom")):
        raise UpstreamError(f"upstream {name!r} needs path_or_url: its checkpoint")
    with removed_torchaudio_names():
        hubconf = importlib.import_module(f"s3prl.upstream.{entry.package}.hubconf")
        download = importlib.import_module("s3prl.util.download")
    if download_dir is not None:
        download.set_dir(download_dir)
    try:
        with safe_loading():
            expert = getattr(hubconf, name)(**conf)
    except UNREADABLE as e:
        raise unreadable(name, e) from e
    except OSError as e:  # urllib's and requests' errors are
        if entry.package in HUGGINGFACE:
            raise UpstreamError(
                f"upstream {name!r}: transformers cannot load {path_or_url}: {e}"
            ) from e
        urls = (path_or_url,) if path_or_url is not None else entry.urls
        wanted = "\n".join(
            f"  {url}\n    -> {download.urls_to_filepaths(url, download=False)}"
            for url in urls
        )
        raise UpstreamError(
            f"upstream {name!r}: S3PRL could not fetch its checkpoint: {e}\nOn a machine "
            f"that can, download the last of these and copy it to the path shown:\n"
            f"{wanted}\nor give it as path_or_url of the name that ends in _local."
        ) from e
    except EnsembleError:
        raise
    except (Exception, SystemExit) as e:  # some exit where a package is missing
        raise UpstreamError(
            f"upstream {name!r}: S3PRL cannot build it here ({type(e).__name__}: {e}); it "
            "may need packages that are not installed, or arguments (extra_conf)"
        ) from e
    if entry.package in HUGGINGFACE:
        return S3prlHuggingFaceUpstream(name, expert, layer)
    batched = entry.package in BATCHED and _is_plain(expert.model)
    return S3prlUpstream(name, expert, layer, batched)


class S3prlUpstream(Upstream):
    """An upstream of S3PRL, with the lengths of ``s3prl.nn.S3PRLUpstream``.

    S3PRL counts one frame for every started hop, one more than the encoder may give, and
    repeats the last frame to fill it; an utterance of less than 0.05 s is padded with
    zeros to that before it is encoded. Both are done here for each utterance as S3PRL
    does it for the utterance alone.

    Args:
        name: Name in S3PRL's hub.
        expert: What the hub entry returned.
        layer: See :func:`espnet_ensemble.layers.layer_indices`.
        batched: Whether :class:`.PaddingGuard` keeps the padding out of this
            architecture. Else utterances are encoded one at a time, and all layers are
            computed.
    """

    def __init__(self, name: str, expert, layer: Layer, batched: bool):
        expert.eval()
        with torch.no_grad():
            probe = expert([torch.zeros(FS)])["hidden_states"]
        layers = layer_indices(layer, len(probe) - 1)
        super().__init__(
            name=name,
            fs=FS,
            hop_length=_single(name, "hop", _hop_lengths(expert), layers),
            feature_size=_single(name, "size", [h.size(-1) for h in probe], layers),
            layers=layers,
            fingerprint=fingerprint_expert(expert.state_dict()),
        )
        self.expert = expert
        self._lock = CopyableLock()
        self._guard = self._guard_and_cut(expert) if batched else None

    def _guard_and_cut(self, expert) -> PaddingGuard:
        model, top = expert.model, max(self.layers)
        guard = PaddingGuard(model.feature_extractor, model.encoder)
        fuse_attention(model)
        pre_norm = getattr(model.encoder, "layer_norm_first", False)
        cut_layers(model.encoder, top, norm_follows=pre_norm)
        # One for each layer, and the encoder's.
        expert.hooks = [*expert.hooks[:top], *expert.hooks[-1:]]
        # Its hooks are run around this.
        expert.forward = partial(_run_model, model)
        return guard

    def __deepcopy__(self, memo: dict[int, Any]) -> "S3prlUpstream":
        _detach_computed_weights(self)
        copy = super().__deepcopy__(memo)
        # S3PRL's hooks collect hidden states in the expert that they were made for.
        for hook in copy.expert.hooks:
            hook.handler.remove()
            hook.handler = None
            copy.expert._register_hook_handler(hook)
        return copy

    def forward(self, wavs: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """Compute hidden states, see :meth:`.Upstream.forward`."""
        encode: Encode = self._encode_one_by_one
        if self._guard is not None:
            encode = partial(self._encode, self._guard)
        return _with_s3prl_lengths(encode, wavs, lengths, self.hop_length)

    def _encode(
        self, guard: PaddingGuard, wavs: Tensor, lengths: Tensor
    ) -> tuple[list[Tensor], Tensor]:
        if _normalizes(self.expert):
            wavs = zero_mean_unit_var_norm(wavs, lengths, eps=1e-5)
        with guard.batch(wavs, lengths) as padding:
            states = self._run_expert(wavs.to(self._dtype), padding)
        return states, guard.convs.num_frames(lengths)

    def _encode_one_by_one(
        self, wavs: Tensor, lengths: Tensor
    ) -> tuple[list[Tensor], Tensor]:
        alone = [
            self._run_expert([wav[:n]])
            for wav, n in zip(wavs.to(self._dtype), lengths.tolist(), strict=True)
        ]
        states = [
            pad_sequence([h.squeeze(0) for h in layer], batch_first=True)
            for layer in zip(*alone, strict=True)
        ]
        encoded = [utterance[0].size(1) for utterance in alone]
        return states, torch.tensor(encoded)

    def _run_expert(self, *args) -> list[Tensor]:
        # S3PRL's hooks collect hidden states in a list of the expert's.
        with self._lock:
            states = self.expert(*args)["hidden_states"]
        return [states[index] for index in self.layers]

    @property
    def _dtype(self) -> torch.dtype:
        return next((p.dtype for p in self.parameters()), torch.float32)


def _run_model(model, wavs: Tensor, padding: Tensor | None) -> None:
    """Run a model of the wav2vec 2.0 family, as its own ``extract_features`` does.

    That one asks the device how long utterances are and whether anything is padded. It also
    stops gradients before the convolutions.

    Args:
        model: Of S3PRL.
        wavs: (batch, samples)
        padding: Which frames are padding, bool, (batch, frames); None: nothing is.
    """
    feats = model.layer_norm(model.feature_extractor(wavs).transpose(1, 2))
    if model.post_extract_proj is not None:
        feats = model.post_extract_proj(feats)
    model.encoder(model.dropout_input(feats), padding_mask=padding)


def _is_plain(model) -> bool:
    """Whether nothing else comes between convolutions and transformer."""
    return (
        getattr(model, "input_quantizer", None) is None
        and getattr(model, "crop_seq_to_multiple", 1) == 1
    )


def _normalizes(expert) -> bool:
    """Whether an expert brings waveforms to mean 0 and variance 1."""
    if hasattr(expert, "wav_normalize"):
        return expert.wav_normalize
    return (expert.cfg if hasattr(expert, "cfg") else expert.task_cfg).normalize


def _detach_computed_weights(model: Module) -> None:
    """Let a model be copied: what weight norm has computed last has a gradient."""
    for module in model.modules():
        for hook in module._forward_pre_hooks.values():
            if isinstance(hook, WeightNorm):
                setattr(module, hook.name, hook.compute_weight(module).detach())


class S3prlHuggingFaceUpstream(Upstream):
    """An upstream of S3PRL whose model is transformers', with S3PRL's lengths.

    The model is run as one that transformers loads: which hidden states S3PRL would give
    depends on the version of transformers.

    Args:
        name: Name in S3PRL's hub.
        expert: What the hub entry returned.
        layer: See :func:`espnet_ensemble.layers.layer_indices`.
    """

    def __init__(self, name: str, expert, layer: Layer):
        config = expert.model.config
        layers = layer_indices(layer, config.num_hidden_layers)
        weights = fingerprint_expert(expert.state_dict())
        encoder = FAMILIES[config.model_type].build(
            name, expert.model, expert.extracter, layers
        )
        super().__init__(
            name, FS, encoder.hop_length, encoder.feature_size, layers, weights
        )
        self.encoder = encoder

    def forward(self, wavs: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """Compute hidden states, see :meth:`.Upstream.forward`."""
        return _with_s3prl_lengths(self.encoder, wavs, lengths, self.hop_length)


def _with_s3prl_lengths(
    encode: Encode, wavs: Tensor, lengths: Tensor, hop_length: int
) -> tuple[list[Tensor], Tensor]:
    """Encode what S3PRL would, and give it the frames that S3PRL does."""
    num_frames = (lengths - 1).div(hop_length, rounding_mode="floor") + 1
    states, encoded = encode(pad_to(wavs, MIN_SAMPLES), lengths.clamp(min=MIN_SAMPLES))
    # Frame t of an utterance, or its last one where S3PRL counts more.
    frames = torch.arange(int(num_frames.max()))
    places = torch.minimum(frames, encoded.unsqueeze(1) - 1).unsqueeze(-1)
    index = to_device(places, wavs.device)
    states = [h.gather(1, index.expand(-1, -1, h.size(-1))) for h in states]
    return states, num_frames


def fingerprint_expert(weights: Mapping[str, Tensor]) -> bytes:
    """Hash the weights of what S3PRL's hub returns.

    Args:
        weights: Its ``state_dict``.
    """
    return fingerprint(
        {
            key: weight
            for key, weight in weights.items()
            # Random where a checkpoint lacks it, and not used without masking.
            if not key.endswith("masked_spec_embed")
        }
    )


def _hop_lengths(expert) -> list[int]:
    hop_lengths = expert.get_downsample_rates("hidden_states")
    return [hop_lengths] if isinstance(hop_lengths, int) else list(hop_lengths)


def _single(name: str, what: str, values: list[int], layers: tuple[int, ...]) -> int:
    """The value that the chosen layers share, of one for each layer or one for all."""
    chosen = {values[i] if len(values) > 1 else values[0] for i in layers}
    if len(chosen) > 1:
        raise UpstreamError(
            f"upstream {name!r}: the layers {list(layers)} differ in {what}: "
            f"{sorted(chosen)}; choose layers that do not"
        )
    return chosen.pop()
