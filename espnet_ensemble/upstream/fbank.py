"""Encoders that take Kaldi's filterbanks, which are computed here, on the device."""

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from espnet_ensemble.frames import padding_mask
from espnet_ensemble.upstream.attention import layer_mask
from espnet_ensemble.upstream.base import pad_to
from espnet_ensemble.upstream.encoder import HuggingFaceUpstream
from espnet_ensemble.upstream.kaldi import log_mel


class FbankUpstream(HuggingFaceUpstream):
    """A model over log-mel filterbanks as Kaldi has them: w2v-BERT 2.0, Seamless M4T.

    The filterbanks are Kaldi's, of 25 ms every 10 ms, normalised per bin over the
    utterance and stacked by two, as in ``SeamlessM4TFeatureExtractor`` of transformers.
    An odd last frame, which the model does not attend to, is left out. An utterance of
    less than two filterbank frames (560 samples) is padded with zeros to them.

    Args:
        mask_layers: Whether layers take a mask for attention and one for the convolution;
            the model then gets none: what it would make of one asks the device whether
            anything is padded.
        cut: See :class:`.HuggingFaceUpstream`.
    """

    def __init__(
        self, name, model, extractor, layers, mask_layers: bool = False, **cut
    ):
        window, shift = extractor.sampling_rate // 40, extractor.sampling_rate // 100
        hop_length = shift * extractor.stride
        super().__init__(name, model, extractor, layers, hop_length, **cut)
        self._stride = extractor.stride
        self._num_mel_bins = extractor.num_mel_bins
        self._shortest = window + shift * (self._stride - 1)
        self._mask_layers = mask_layers

    def forward(self, wavs: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """Compute hidden states, see :meth:`.Upstream.forward`."""
        wavs = pad_to(wavs, self._shortest)
        samples = lengths.clamp(min=self._shortest).tolist()
        fbanks = [self._fbank(wav[:n]) for wav, n in zip(wavs, samples, strict=True)]
        num_frames = torch.tensor([len(x) for x in fbanks])
        padded = pad_sequence(fbanks, batch_first=True)
        content = ~padding_mask(num_frames, padded.size(1), padded.device)
        padded = padded.to(self._dtype)
        if not self._mask_layers:
            states = self._hidden_states(padded, attention_mask=content.long())
            return states, num_frames
        if int(num_frames.min()) == padded.size(1):
            return self._hidden_states(padded), num_frames
        masks = {
            "attention_mask": layer_mask(content, self.model, self._dtype),
            "conv_attention_mask": content,
        }
        states = self._hidden_states(padded, layer_arguments=masks)
        return states, num_frames

    def _fbank(self, wav: Tensor) -> Tensor:
        """From one waveform, (samples,), to (frames, bins * stride)."""
        wav = wav.float() * 2**15  # as 16-bit integers
        fbank = log_mel(wav, self._num_mel_bins, self.fs)
        variance, mean = torch.var_mean(fbank, dim=0, correction=1)
        fbank = (fbank - mean) / torch.sqrt(variance + 1e-7)
        fbank = fbank[: len(fbank) // self._stride * self._stride]
        return fbank.reshape(-1, self._num_mel_bins * self._stride)
