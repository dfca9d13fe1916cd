"""Encoders whose input the checkpoint's own feature extractor computes."""

import inspect
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from espnet_ensemble.frames import padding_mask, to_device
from espnet_ensemble.upstream.base import pad_to
from espnet_ensemble.upstream.encoder import HuggingFaceUpstream
from espnet_ensemble.upstream.errors import UpstreamError

# What a feature extractor is asked for, where it knows the option.
_ASKED = {
    "sampling_rate": None,
    "return_tensors": "pt",
    "return_attention_mask": True,
}


class ExtractedUpstream(HuggingFaceUpstream):
    """A model over what its feature extractor makes of each utterance by itself.

    Where the model's masks keep padding out of everything (``batched``), utterances are
    encoded together; else one at a time, which is right for any architecture.

    Args:
        hop_length: Samples from one frame to the next.
        batched: Whether the model keeps padding out where it gets a mask.
        shortest: Samples that an utterance is padded to with zeros if it has less.
        feats: What the model calls its input.
        mask: What it calls the mask of its input; None: it takes none.
        cut: See :class:`.HuggingFaceUpstream`.
    """

    def __init__(
        self,
        name,
        model,
        extractor,
        layers,
        hop_length: int,
        batched: bool = False,
        shortest: int = 400,
        feats: str = "input_features",
        mask: str | None = "attention_mask",
        **cut,
    ):
        super().__init__(name, model, extractor, layers, hop_length, **cut)
        self._extractor = extractor
        self._batched = batched
        self._shortest = shortest
        self._names = feats, mask
        parameters = inspect.signature(type(extractor).__call__).parameters
        self._takes = {key for key in _ASKED if key in parameters}

    def forward(self, wavs: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """Compute hidden states, see :meth:`.Upstream.forward`."""
        wavs, device = pad_to(wavs, self._shortest).float().cpu(), wavs.device
        samples = lengths.clamp(min=self._shortest).tolist()
        utterances = [wav[:n] for wav, n in zip(wavs, samples, strict=True)]
        inputs = [self._extract(wav) for wav in utterances]
        if self._batched:
            return self._encode(inputs, device)
        alone = [self._encode([x], device)[0] for x in inputs]
        states = [
            pad_sequence([h.squeeze(0) for h in layer], batch_first=True)
            for layer in zip(*alone, strict=True)
        ]
        frames = [h[0].size(1) for h in alone]
        return states, torch.tensor(frames)

    def _extract(self, wav: Tensor) -> tuple[Tensor, int]:
        """From (samples,) to the model's input, (time, ...), and how much of it is speech."""
        asked = {**_ASKED, "sampling_rate": self.fs}
        found = self._extractor(wav.numpy(), **{key: asked[key] for key in self._takes})
        feats = found[next(k for k in ("input_features", "input_values") if k in found)]
        feats = torch.as_tensor(feats).squeeze(0)
        length = len(feats)
        if self._names[1] is not None:
            length = int(torch.as_tensor(found["attention_mask"]).sum())
        return feats, length

    def _encode(
        self, inputs: Sequence[tuple[Tensor, int]], device: torch.device
    ) -> tuple[list[Tensor], Tensor]:
        feats, mask = self._names
        padded = to_device(
            pad_sequence([x for x, _ in inputs], batch_first=True), device
        )
        valid = torch.tensor([n for _, n in inputs])
        arguments = {feats: padded.to(self._dtype)}
        if mask is not None:
            arguments[mask] = ~padding_mask(valid, padded.size(1), padded.device)
        states = self._hidden_states(**arguments)
        model: Any = self.model
        if mask is not None and hasattr(model, "_get_subsampling_output_length"):
            num_frames = model._get_subsampling_output_length(valid).long()
            states = [h[:, : int(num_frames.max())] for h in states]
        else:
            num_frames = torch.full_like(valid, states[0].size(1))
        return states, num_frames


class WindowUpstream(ExtractedUpstream):
    """A model over windows of fixed size, each padded with silence: Whisper's encoder.

    It attends to all of a window, and was trained so; there is no padding to mask. An
    utterance shorter than the window (30 s) is padded to it; of a longer one, windows follow
    one another without overlap, each encoded by itself. It gets the frames that have begun
    within it. No window holds two utterances, so what else is in the batch does not matter;
    each costs the time of all its windows, and as many are encoded at once as there are
    utterances.

    Args:
        cut: See :class:`ExtractedUpstream`.
    """

    def __init__(self, name, model, extractor, layers, **cut):
        self._window = extractor.n_samples
        config = model.config
        frames = getattr(config, "max_source_positions", None)
        frames = frames or config.max_position_embeddings
        hop_length, rest = divmod(self._window, frames)
        if rest:
            raise UpstreamError(
                f"upstream {name!r}: expected windows of whole frames, found "
                f"{self._window} samples (preprocessor_config.json) for {frames} frames "
                "(config.json)"
            )
        super().__init__(name, model, extractor, layers, hop_length, mask=None, **cut)

    def forward(self, wavs: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """Compute hidden states, see :meth:`.Upstream.forward`."""
        samples = lengths.tolist()
        windows = [
            part
            for wav, n in zip(wavs.float().cpu(), samples, strict=True)
            for part in wav[:n].split(self._window)
        ]
        inputs = [self._extract(window) for window in windows]
        parts = []
        for start in range(0, len(inputs), len(wavs)):
            batch = inputs[start : start + len(wavs)]
            parts.append(self._encode(batch, wavs.device)[0])
        states = [torch.cat(layer) for layer in zip(*parts, strict=True)]
        num_windows = [math.ceil(n / self._window) for n in samples]
        num_frames = (lengths + self.hop_length - 1) // self.hop_length
        return [
            pad_sequence(
                [utterance.flatten(0, 1) for utterance in h.split(num_windows)],
                batch_first=True,
            )[:, : int(num_frames.max())]
            for h in states
        ], num_frames
