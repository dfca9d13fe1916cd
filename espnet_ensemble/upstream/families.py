"""The families of encoders that transformers has, by what they take: waveform, filterbank.

To add one, give it a line in :data:`FAMILIES`; where no class here fits, write one.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import Module
from torch.nn.utils.rnn import pad_sequence

from espnet_ensemble.frames import padding_mask
from espnet_ensemble.upstream.base import (
    CallState,
    Upstream,
    cut_layers,
    pad_to,
)
from espnet_ensemble.upstream.errors import UpstreamError
from espnet_ensemble.upstream.fingerprint import fingerprint
from espnet_ensemble.upstream.padding import PaddingGuard

if TYPE_CHECKING:  # it takes seconds to import
    import transformers


class HuggingFaceUpstream(Upstream):
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
        model: "transformers.PreTrainedModel",
        extractor: "transformers.SequenceFeatureExtractor",
        layers: tuple[int, ...],
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
        for key, parameter in model.named_parameters():
            # DDP waits for the gradient of every parameter that trains.
            if key.startswith(_not_in_use(model.config.model_type)):
                parameter.requires_grad_(False)
        self._call = CallState()
        config, top = model.config, max(layers)
        encoder: Any = model.encoder
        cut_layers(
            encoder,
            top,
            norm_follows=getattr(config, "do_stable_layer_norm", False)
            or config.model_type == "wav2vec2-conformer",
        )
        for index in layers:
            if index < top:
                encoder.layers[index].register_forward_pre_hook(
                    partial(self._keep_inner_state, index)
                )

    def _keep_inner_state(self, index: int, layer: Module, args: tuple) -> None:
        self._call.inner_states[index] = args[0]

    def _hidden_states(self, *args, **kwargs) -> list[Tensor]:
        if torch.is_grad_enabled() and self._computes_layers_again():
            raise UpstreamError(
                f"upstream {self.name!r}: gradient checkpointing is not supported: layers "
                "that are computed again do not know the lengths of the utterances"
            )
        self._call.inner_states = {}
        try:
            last = self.model(*args, **kwargs).last_hidden_state
            return [self._call.inner_states.get(i, last) for i in self.layers]
        finally:
            del self._call.inner_states

    def _computes_layers_again(self) -> bool:
        # The property that says so has another name since transformers 5.24.
        modules = self.model.modules()
        return any(
            getattr(module, "gradient_checkpointing", False) for module in modules
        )

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.model.parameters()).dtype


def _not_in_use(model_type: str) -> tuple[str, ...]:
    """Beginnings of the names of weights that no hidden state depends on."""
    if model_type == "wav2vec2-conformer":
        return "masked_spec_embed", "encoder.pos_conv_embed."
    return ("masked_spec_embed",)


class WaveformUpstream(HuggingFaceUpstream):
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

    def forward(self, wavs: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """Compute hidden states, see :meth:`.Upstream.forward`."""
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


class FbankUpstream(HuggingFaceUpstream):
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

    def forward(self, wavs: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """Compute hidden states, see :meth:`.Upstream.forward`."""
        wavs = pad_to(wavs, self._shortest)
        samples = lengths.clamp(min=self._shortest).tolist()
        fbanks = [self._fbank(wav[:n]) for wav, n in zip(wavs, samples, strict=True)]
        num_frames = torch.tensor([len(x) for x in fbanks], device=wavs.device)
        padded = pad_sequence(fbanks, batch_first=True)
        states = self._hidden_states(
            padded.to(self._dtype),
            attention_mask=(~padding_mask(num_frames, padded.size(1))).long(),
        )
        return states, num_frames

    def _fbank(self, wav: Tensor) -> Tensor:
        """From one waveform, (samples,), to (frames, bins * stride)."""
        # Imported where it is needed: torch is all that the waveform families take.
        from torchaudio.compliance.kaldi import fbank as kaldi_fbank

        fbank = kaldi_fbank(
            wav.float().unsqueeze(0) * 2**15,  # as 16-bit integers
            num_mel_bins=self._num_mel_bins,
            sample_frequency=self.fs,
        )
        variance, mean = torch.var_mean(fbank, dim=0, correction=1)
        fbank = (fbank - mean) / torch.sqrt(variance + 1e-7)
        fbank = fbank[: len(fbank) // self._stride * self._stride]
        return fbank.reshape(-1, self._num_mel_bins * self._stride)


#: transformers' ``model_type`` -> the class that runs it.
FAMILIES: dict[str, Callable[..., HuggingFaceUpstream]] = {
    "wav2vec2": WaveformUpstream,
    "hubert": WaveformUpstream,
    "wavlm": WaveformUpstream,
    "data2vec-audio": WaveformUpstream,
    "unispeech": WaveformUpstream,
    "unispeech-sat": WaveformUpstream,
    "wav2vec2-conformer": WaveformUpstream,
    "wav2vec2-bert": FbankUpstream,
}
