"""Upstreams from transformers: a hub id or a local folder."""

import os
from contextlib import contextmanager
from functools import partial
from typing import Iterator, List, Optional, Tuple

import torch
import torchaudio
from torch import Tensor
from torch.nn import Module
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoConfig, AutoFeatureExtractor, AutoModel, PreTrainedModel
from transformers.feature_extraction_utils import FeatureExtractionMixin
from transformers.utils import logging

from espnet_ensemble.fingerprint import fingerprint
from espnet_ensemble.layers import Layer, layer_indices
from espnet_ensemble.upstream.base import (
    Upstream,
    UpstreamError,
    cut_layers,
    pad_to,
)
from espnet_ensemble.upstream.padding import PaddingGuard, padding_mask

WAVEFORM_FAMILIES = (
    "wav2vec2",
    "hubert",
    "wavlm",
    "data2vec-audio",
    "unispeech",
    "unispeech-sat",
    "wav2vec2-conformer",
)
FBANK_FAMILIES = ("wav2vec2-bert",)

# Parts of a checkpoint that hidden states do not need: SpecAugment and layer drop belong
# to pre-training, the adapter subsamples what the last layer gives.
_INFERENCE = dict(
    apply_spec_augment=False,
    mask_time_prob=0.0,
    mask_feature_prob=0.0,
    layerdrop=0.0,
    add_adapter=False,
)


def load_huggingface(
    name: str, layer: Layer = "last", cache_dir: Optional[str] = None
) -> Upstream:
    """Load an upstream with transformers.

    A checkpoint that was fine-tuned with a head (CTC, classification) loads without it.

    Args:
        name: Hub id (``microsoft/wavlm-large``) or local folder.
        layer: See :func:`espnet_ensemble.layers.layer_indices`.
        cache_dir: Where transformers keeps what it downloads; None: its default.

    Raises:
        UpstreamError: If the checkpoint is not found or reachable, is of another family,
            lacks weights, or lacks its ``preprocessor_config.json``.
        ValueError: If there is no such layer.
    """
    config = _fetch(AutoConfig, name, cache_dir)
    families = WAVEFORM_FAMILIES + FBANK_FAMILIES
    if config.model_type not in families:
        raise UpstreamError(
            f"upstream {name!r} is a {config.model_type!r} model; expected one of "
            f"{', '.join(families)}"
        )
    layers = layer_indices(layer, config.num_hidden_layers)
    extractor = _fetch(AutoFeatureExtractor, name, cache_dir)
    for option, value in _INFERENCE.items():
        setattr(config, option, value)
    with _errors_only():
        model, loading = _fetch(
            AutoModel,
            name,
            cache_dir,
            config=config,
            dtype=torch.float32,
            output_loading_info=True,
        )
    if loading["missing_keys"]:
        raise UpstreamError(
            f"upstream {name!r} lacks weights, which would be random: "
            + ", ".join(sorted(loading["missing_keys"]))
        )
    cls = FbankUpstream if config.model_type in FBANK_FAMILIES else WaveformUpstream
    return cls(name, model, extractor, layers)


@contextmanager
def _errors_only() -> Iterator[None]:
    """Keep transformers from reporting the head that is left out at each loading."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def _fetch(auto_class, name: str, cache_dir: Optional[str], **kwargs):
    try:
        return auto_class.from_pretrained(name, cache_dir=cache_dir, **kwargs)
    except (OSError, ValueError) as e:
        if os.path.isdir(name):
            advice = (
                "A folder needs config.json, preprocessor_config.json and "
                "model.safetensors, as written by save_pretrained() of the model and of "
                "its feature extractor."
            )
        else:
            advice = (
                f"Without access to the hub, run `hf download {name} --local-dir DIR` on "
                "a machine that has it, copy DIR here, and give the folder instead of "
                "the id."
            )
        raise UpstreamError(f"upstream {name!r}: {e}\n{advice}") from e


class _HuggingFaceUpstream(Upstream):
    """What all families share: cutting the model to the layers that are used, and
    collecting their hidden states.

    Args:
        name: Hub id or folder.
        model: The encoder without head.
        extractor: Its feature extractor, which knows the checkpoint's input convention.
        layers: The hidden states to return.
        hop_length: Samples from one frame to the next.
    """

    def __init__(
        self,
        name: str,
        model: PreTrainedModel,
        extractor: FeatureExtractionMixin,
        layers: Tuple[int, ...],
        hop_length: int,
    ):
        super().__init__(
            name=name,
            fs=extractor.sampling_rate,
            hop_length=hop_length,
            feature_size=model.config.hidden_size,
            layers=layers,
            fingerprint=fingerprint(model.state_dict()),
        )
        self.model = model
        self._inner_states = {}
        config, top = model.config, max(layers)
        cut_layers(
            model.encoder,
            top,
            norm_follows=getattr(config, "do_stable_layer_norm", False)
            or config.model_type == "wav2vec2-conformer",
        )
        for index in layers:
            if index < top:
                model.encoder.layers[index].register_forward_pre_hook(
                    partial(self._keep_inner_state, index)
                )

    def _keep_inner_state(self, index: int, layer: Module, args: Tuple) -> None:
        self._inner_states[index] = args[0]

    def _hidden_states(self, *args, **kwargs) -> List[Tensor]:
        last = self.model(*args, **kwargs).last_hidden_state
        states = [self._inner_states.get(index, last) for index in self.layers]
        self._inner_states.clear()
        return states

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.model.parameters()).dtype


class WaveformUpstream(_HuggingFaceUpstream):
    """A model over the waveform: the wav2vec 2.0 family.

    Padding is masked also for checkpoints that were trained without an attention mask
    (``return_attention_mask: false``): it is what gives each utterance the hidden states
    that it has alone, without any mask.

    An utterance that is shorter than the receptive field (400 samples, where the model
    itself would crash) is padded with zeros to it and gets one frame.
    """

    def __init__(self, name, model, extractor, layers):
        guard = PaddingGuard(model.feature_extractor, model.encoder)
        super().__init__(name, model, extractor, layers, guard.convs.hop_length)
        self._guard = guard
        self._normalize = extractor.do_normalize

    def forward(self, wavs: Tensor, lengths: Tensor) -> Tuple[List[Tensor], Tensor]:
        """Compute hidden states, see :meth:`Upstream.forward`."""
        if self._normalize:
            wavs = zero_mean_unit_var_norm(wavs, lengths)
        shortest = self._guard.convs.receptive_field
        wavs, lengths = pad_to(wavs, shortest), lengths.clamp(min=shortest)
        padding = padding_mask(lengths, wavs.size(1))
        attention_mask = None
        if padding.any():
            wavs, attention_mask = wavs.masked_fill(padding, 0), (~padding).long()
        with self._guard.lengths(None if attention_mask is None else lengths):
            states = self._hidden_states(
                wavs.to(self._dtype), attention_mask=attention_mask
            )
        return states, self._guard.convs.num_frames(lengths)


def zero_mean_unit_var_norm(wavs: Tensor, lengths: Tensor) -> Tensor:
    """Normalise each utterance over its own samples.

    This is ``Wav2Vec2FeatureExtractor.zero_mean_unit_var_norm`` of transformers, on the
    tensor's device.

    Args:
        wavs: (batch, samples)
        lengths: Samples of each utterance, (batch,).

    Returns:
        (batch, samples), zeros at the padding.
    """
    padding = padding_mask(lengths, wavs.size(1))
    count = lengths.unsqueeze(1)
    mean = wavs.masked_fill(padding, 0).sum(dim=1, keepdim=True) / count
    centred = (wavs - mean).masked_fill(padding, 0)
    variance = centred.square().sum(dim=1, keepdim=True) / count
    return centred / torch.sqrt(variance + 1e-7)


class FbankUpstream(_HuggingFaceUpstream):
    """A model over log-mel filterbanks: w2v-BERT 2.0.

    The filterbanks are Kaldi's, of 25 ms every 10 ms, normalised per bin over the
    utterance and stacked by two, as in ``SeamlessM4TFeatureExtractor`` of transformers.
    An odd last frame, which the model does not attend to, is left out. An utterance of
    less than two filterbank frames (560 samples) is padded with zeros to them.
    """

    def __init__(self, name, model, extractor, layers):
        window, shift = extractor.sampling_rate // 40, extractor.sampling_rate // 100
        super().__init__(name, model, extractor, layers, shift * extractor.stride)
        self._stride = extractor.stride
        self._num_mel_bins = extractor.num_mel_bins
        self._shortest = window + shift * (self._stride - 1)

    def forward(self, wavs: Tensor, lengths: Tensor) -> Tuple[List[Tensor], Tensor]:
        """Compute hidden states, see :meth:`Upstream.forward`."""
        wavs = pad_to(wavs, self._shortest)
        samples = lengths.clamp(min=self._shortest).tolist()
        fbanks = [self._fbank(wav[:n]) for wav, n in zip(wavs, samples)]
        num_frames = torch.tensor([len(x) for x in fbanks], device=wavs.device)
        fbanks = pad_sequence(fbanks, batch_first=True)
        states = self._hidden_states(
            fbanks.to(self._dtype),
            attention_mask=(~padding_mask(num_frames, fbanks.size(1))).long(),
        )
        return states, num_frames

    def _fbank(self, wav: Tensor) -> Tensor:
        """From one waveform, (samples,), to (frames, bins * stride)."""
        fbank = torchaudio.compliance.kaldi.fbank(
            wav.float().unsqueeze(0) * 2**15,  # as 16-bit integers
            num_mel_bins=self._num_mel_bins,
            sample_frequency=self.fs,
        )
        variance, mean = torch.var_mean(fbank, dim=0, correction=1)
        fbank = (fbank - mean) / torch.sqrt(variance + 1e-7)
        fbank = fbank[: len(fbank) // self._stride * self._stride]
        return fbank.reshape(-1, self._num_mel_bins * self._stride)
