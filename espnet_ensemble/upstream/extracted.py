"""Encoders whose input the checkpoint's own feature extractor computes."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from espnet_ensemble.frames import batch_to_device, padding_mask
from espnet_ensemble.upstream.attention import layer_mask
from espnet_ensemble.upstream.base import pad_to
from espnet_ensemble.upstream.encoder import HuggingFaceUpstream
from espnet_ensemble.upstream.errors import UpstreamError

# What a feature extractor is asked for, where it knows the option.
_ASKED = {"return_tensors": "pt", "return_attention_mask": True}
#: What it may call its mask.
MASKS = "attention_mask", "input_features_mask"


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
        of_layers: Whether its layers get a mask of their frames, and it gets none.
        asked: Further arguments of the feature extractor.
        stride: Of how many frames of its input the layers have one, the last of what is
            left; None: the model's own arithmetic, or all its frames.
        averaged: Tells from the model's configuration how many frames of each hidden state
            are in one of the upstream's, which is their mean; None: one.
        cut: See :class:`.HuggingFaceUpstream`.
    """

    on_host = True
    # The time axis of a batch of what the feature extractor gives.
    _time = 1

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
        of_layers: bool = False,
        asked: Mapping[str, Any] | None = None,
        stride: int | None = None,
        averaged: Callable[[Any], Sequence[int]] | None = None,
        **cut,
    ):
        super().__init__(name, model, extractor, layers, hop_length, **cut)
        self._extractor = extractor
        self._batched = batched
        self._shortest = shortest
        self._names, self._of_layers = (feats, mask), of_layers
        self._asked = extraction_options(extractor, asked)
        self._stride = stride
        each = averaged(model.config) if averaged else None
        self._averaged = [each[layer] if each else 1 for layer in layers]

    def forward(self, wavs: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """Compute hidden states, see :meth:`.Upstream.forward`."""
        samples = lengths.clamp(min=self._shortest).tolist()
        wavs, device = self._to_host(wavs)
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

    def _to_host(self, wavs: Tensor) -> tuple[Tensor, torch.device]:
        """Waveforms of enough samples, on the host, and where the model is."""
        device = next(self.model.parameters()).device
        return pad_to(wavs, self._shortest).float().cpu(), device

    def _extract(self, wav: Tensor) -> tuple[Tensor, int]:
        """From (samples,) to the model's input, (time, ...), and how much of it is speech."""
        # Some take no waveform but in a list.
        found = self._extractor([wav.numpy()], **self._asked)
        feats = found[next(k for k in ("input_features", "input_values") if k in found)]
        feats = torch.as_tensor(feats).squeeze(0)
        length = len(feats)
        if self._names[1] is not None:
            mask = next(found[key] for key in MASKS if key in found)
            length = int(torch.as_tensor(mask).sum())
        return feats, length

    def _encode(
        self, inputs: Sequence[tuple[Tensor, int]], device: torch.device
    ) -> tuple[list[Tensor], Tensor]:
        """From what :meth:`_extract` gave to hidden states, and frames of each, (batch,)."""
        states, valid = self._compute(inputs, device)
        num_frames = self._num_frames(valid)
        if num_frames is None:
            return states, torch.full_like(valid, states[0].size(1))
        return [h[:, : int(num_frames.max())] for h in states], num_frames

    def _compute(
        self, inputs: Sequence[tuple[Tensor, int]], device: torch.device
    ) -> tuple[list[Tensor], Tensor]:
        """From the same to hidden states, and how much of each input is speech, (batch,)."""
        feats, mask = self._names
        padded = pad_sequence([x for x, _ in inputs], batch_first=True)
        padded = batch_to_device(padded, device).to(self._dtype)
        valid = torch.tensor([n for _, n in inputs])
        arguments, passed, time = {feats: padded}, {}, padded.size(self._time)
        if self._of_layers:
            frames = self._num_frames(torch.cat([valid, torch.tensor([time])]))
            assert frames is not None
            content = ~padding_mask(frames[:-1], int(frames[-1]), device)
            passed["attention_mask"] = layer_mask(content, self.model, self._dtype)
        elif mask is not None:
            arguments[mask] = ~padding_mask(valid, time, device)
        states = self._hidden_states(**arguments, layer_arguments=passed)
        return [
            h.unfold(1, frames, frames).mean(dim=-1) if frames > 1 else h
            for h, frames in zip(states, self._averaged, strict=True)
        ], valid

    def _num_frames(self, valid: Tensor) -> Tensor | None:
        """Frames of so much input, (batch,); None: all that there are."""
        model: Any = self.model
        if self._stride is not None:
            return (valid + self._stride - 1) // self._stride
        if self._names[1] is not None and hasattr(
            model, "_get_subsampling_output_length"
        ):
            return model._get_subsampling_output_length(valid).long()
        return None


def extraction_options(
    extractor: Any, asked: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What a feature extractor is called with, besides the waveform.

    Args:
        extractor: Of transformers.
        asked: Further arguments.
    """
    wanted = {**_ASKED, "sampling_rate": extractor.sampling_rate}
    known = inspect.signature(type(extractor).__call__).parameters
    return {key: wanted[key] for key in wanted if key in known} | dict(asked or {})


class SelfConditionedUpstream(ExtractedUpstream):
    """One that feeds what its CTC layer says back in, behind the middle of its layers.

    The hidden state there is what the next layer gets.

    Args:
        cut: See :class:`ExtractedUpstream`.
    """

    def __init__(self, name, model, extractor, layers, **cut):
        if max(layers) < len(model.layers) // 2:
            cut["dropped"] = ("out", "out_mid")
        super().__init__(name, model, extractor, layers, **cut)

    def _keep_output(self, index, layer, args, out) -> None:
        """With fewer layers, what the model gives is the hidden state behind them."""


class WindowUpstream(ExtractedUpstream):
    """A model over windows of fixed size, each padded with silence: Whisper's encoder.

    It attends to all of a window, and was trained so, or has a mask of the silence. An
    utterance shorter than the window (30 s) is padded to it; of a longer one, windows follow
    one another without overlap, each encoded by itself. It gets the frames that have begun
    within it; of a model that pools frames, those that hold what the model pools, and one at
    least. No window holds two utterances, so what else is in the batch does not matter; each
    costs the time of all its windows, and as many are encoded at once as there are
    utterances.

    Args:
        mask: See :class:`ExtractedUpstream`.
        pool: How many of the layers' frames the model makes one of.
        cut: See :class:`ExtractedUpstream`.
    """

    _time = 2

    def __init__(
        self,
        name,
        model,
        extractor,
        layers,
        mask: str | None = None,
        pool: int = 1,
        **cut,
    ):
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
        self._pool = pool
        super().__init__(
            name, model, extractor, layers, hop_length * pool, mask=mask, **cut
        )

    def forward(self, wavs: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """Compute hidden states, see :meth:`.Upstream.forward`."""
        samples = lengths.clamp(min=self._shortest).tolist()
        wavs, device = self._to_host(wavs)
        windows = [
            part
            for wav, n in zip(wavs, samples, strict=True)
            for part in wav[:n].split(self._window)
        ]
        inputs = [self._extract(window) for window in windows]
        parts = []
        for start in range(0, len(inputs), len(wavs)):
            batch = inputs[start : start + len(wavs)]
            parts.append(self._compute(batch, device)[0])
        states = [torch.cat(layer) for layer in zip(*parts, strict=True)]
        num_windows = [math.ceil(n / self._window) for n in samples]
        unpooled = self.hop_length // self._pool
        begun = (lengths + unpooled - 1) // unpooled
        num_frames = (begun // self._pool).clamp(min=1)
        return [
            pad_sequence(
                [utterance.flatten(0, 1) for utterance in h.split(num_windows)],
                batch_first=True,
            )[:, : int(num_frames.max())]
            for h in states
        ], num_frames
