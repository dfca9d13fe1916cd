"""Encoders that take a waveform through convolutions: the wav2vec 2.0 family."""

from operator import attrgetter

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from espnet_ensemble.frames import padding_mask, to_device
from espnet_ensemble.upstream.attention import fuse_attention, layer_mask
from espnet_ensemble.upstream.base import pad_to
from espnet_ensemble.upstream.encoder import HuggingFaceUpstream
from espnet_ensemble.upstream.padding import ConvStack, PaddingGuard


class WaveformUpstream(HuggingFaceUpstream):
    """A model over the waveform: the wav2vec 2.0 family.

    Padding is masked also for checkpoints that were trained without an attention mask
    (``return_attention_mask: false``): it is what gives each utterance the hidden states
    that it has alone, without any mask.

    An utterance that is shorter than the receptive field (400 samples, where the model
    itself would crash) is padded with zeros to it and gets one frame.

    Args:
        convs: Where in the model the convolutions over the waveform are.
        positions: Where in it the padded convolutions over frames are.
        channels: Whether it takes waveforms as (batch, 1, samples).
        norm_eps: What is added to the variance where waveforms are normalised.
        cut: See :class:`.HuggingFaceUpstream`.
    """

    def __init__(
        self,
        name,
        model,
        extractor,
        layers,
        convs: str = "feature_extractor",
        positions: str = "encoder",
        channels: bool = False,
        norm_eps: float = 1e-7,
        **cut,
    ):
        guard = PaddingGuard(attrgetter(convs)(model), attrgetter(positions)(model))
        super().__init__(name, model, extractor, layers, guard.convs.hop_length, **cut)
        self._channels, self._norm_eps = channels, norm_eps
        self._guard = guard
        self._normalize = extractor.do_normalize
        fuse_attention(model)

    def forward(self, wavs: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """Compute hidden states, see :meth:`.Upstream.forward`."""
        if self._normalize:
            wavs = zero_mean_unit_var_norm(wavs, lengths, self._norm_eps)
        shortest = self._guard.convs.receptive_field
        wavs, lengths = pad_to(wavs, shortest), lengths.clamp(min=shortest)
        with self._guard.batch(wavs, lengths) as padding:
            mask = (
                None
                if padding is None
                else layer_mask(~padding, self.model, self._dtype)
            )
            wavs = wavs.unsqueeze(1) if self._channels else wavs
            states = self._hidden_states(
                wavs.to(self._dtype), layer_arguments={"attention_mask": mask}
            )
        return states, self._guard.convs.num_frames(lengths)


def zero_mean_unit_var_norm(wavs: Tensor, lengths: Tensor, eps: float = 1e-7) -> Tensor:
    """Normalise each utterance over its own samples.

    This is ``Wav2Vec2FeatureExtractor.zero_mean_unit_var_norm`` of transformers, on the
    tensor's device.

    Args:
        wavs: (batch, samples)
        lengths: Samples of each utterance, (batch,).
        eps: Added to the variance.

    Returns:
        (batch, samples), zeros at the padding.
    """
    padding = padding_mask(lengths, wavs.size(1), wavs.device)
    count = to_device(lengths, wavs.device).unsqueeze(1)
    mean = wavs.masked_fill(padding, 0).sum(dim=1, keepdim=True) / count
    centred = (wavs - mean).masked_fill(padding, 0)
    variance = centred.square().sum(dim=1, keepdim=True) / count
    return centred / torch.sqrt(variance + eps)


class SqueezedUpstream(HuggingFaceUpstream):
    """A model whose layers work at a fraction of the frame rate: SEW, SEW-D.

    What it pools, and pads behind the last whole group of frames, is not masked in a batch:
    utterances are encoded one at a time. The last hidden state has a frame for each of the
    convolutions', those below have one for ``squeeze_factor`` of them, which is repeated
    (the last also for what is left over). An utterance of less than ``squeeze_factor``
    frames is padded with zeros to them.

    Args:
        cut: See :class:`.HuggingFaceUpstream`.
    """

    def __init__(self, name, model, extractor, layers, **cut):
        self._convs = convs = ConvStack(model.feature_extractor)
        super().__init__(name, model, extractor, layers, convs.hop_length, **cut)
        self._normalize = extractor.do_normalize
        self._squeeze = model.config.squeeze_factor
        self._shortest = convs.receptive_field + convs.hop_length * (self._squeeze - 1)

    def forward(self, wavs: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """Compute hidden states, see :meth:`.Upstream.forward`."""
        if self._normalize:
            wavs = zero_mean_unit_var_norm(wavs, lengths)
        wavs, lengths = pad_to(wavs, self._shortest), lengths.clamp(min=self._shortest)
        num_frames = self._convs.num_frames(lengths)
        alone = [
            self._encode(wav[None, :n], frames)
            for wav, n, frames in zip(
                wavs.to(self._dtype), lengths.tolist(), num_frames.tolist(), strict=True
            )
        ]
        return [
            pad_sequence(list(layer), batch_first=True)
            for layer in zip(*alone, strict=True)
        ], num_frames

    def _encode(self, wav: Tensor, num_frames: int) -> list[Tensor]:
        """From (1, samples) to (frames, features) for each layer."""
        frames = torch.arange(num_frames, device=wav.device)
        return [
            h[0, :num_frames]
            if index == self.model.config.num_hidden_layers
            else h[0, (frames // self._squeeze).clamp(max=h.size(1) - 1)]
            for index, h in zip(self.layers, self._hidden_states(wav), strict=True)
        ]
