"""What keeps the padding of a batch out of an utterance's features.

Three things in SSL encoders look past the end of an utterance: the group norm of
"base" feature extractors (its statistics run over the padding), the convolutions in
the encoder (position, conformer), and attention. Attention has a mask in every
implementation; this module sees to the other two.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor
from torch.linalg import vector_norm
from torch.nn import Conv1d, GroupNorm, Module
from torch.nn.functional import group_norm

from espnet_ensemble.frames import padding_mask, to_device
from espnet_ensemble.upstream.base import CallState


class ConvStack:
    """The frame arithmetic of a stack of unpadded convolutions over the waveform.

    Args:
        feature_extractor: The module that holds them, in order.

    Example:
        >>> stack = ConvStack(torch.nn.Sequential(Conv1d(1, 1, 10, 5), Conv1d(1, 1, 8, 4)))
        >>> stack.hop_length, stack.receptive_field
        (20, 45)
        >>> stack.num_frames(torch.tensor([44, 45, 64, 65])).tolist()
        [0, 1, 1, 2]
    """

    def __init__(self, feature_extractor: Module):
        self._convs: list[tuple[int, int]] = [
            (conv.kernel_size[0], conv.stride[0])
            for conv in feature_extractor.modules()
            if isinstance(conv, Conv1d)
        ]

    @property
    def hop_length(self) -> int:
        """Samples from one frame to the next."""
        hop_length = 1
        for _, stride in self._convs:
            hop_length *= stride
        return hop_length

    @property
    def receptive_field(self) -> int:
        """Samples that one frame sees: the shortest input that gives a frame."""
        samples = 1
        for kernel_size, stride in reversed(self._convs):
            samples = (samples - 1) * stride + kernel_size
        return samples

    def num_frames(self, lengths: Tensor, num_convs: int | None = None) -> Tensor:
        """Count frames.

        Args:
            lengths: Samples, (batch,).
            num_convs: After how many of the convolutions; None: all.

        Returns:
            Frames, (batch,); 0 for less than the receptive field.
        """
        for kernel_size, stride in self._convs[:num_convs]:
            lengths = (lengths - kernel_size).div(stride, rounding_mode="floor") + 1
        return lengths.clamp(min=0)


class LengthAwareGroupNorm(GroupNorm):
    """Group norm over each utterance's own frames, with one channel in a group.

    Args:
        norm: The group norm whose weights and settings to take.
        num_frames: Tells the frames of each utterance, (batch,), in the forward pass that
            asks; None: there is no padding.

    Raises:
        ValueError: If a group has several channels.
    """

    def __init__(self, norm: GroupNorm, num_frames: Callable[[], Tensor | None]):
        if norm.num_groups != norm.num_channels:
            raise ValueError(
                f"expected a group norm of single channels, got {norm.num_groups} groups "
                f"of {norm.num_channels} channels"
            )
        super().__init__(norm.num_groups, norm.num_channels, norm.eps)
        self.weight, self.bias = norm.weight, norm.bias
        self._num_frames = num_frames

    def forward(self, input: Tensor) -> Tensor:
        """Normalise; without gradients, the input may be overwritten.

        Args:
            input: (batch, channel, time)

        Returns:
            (batch, channel, time), undefined at the padding. Like fairseq's
            ``Fp32GroupNorm``, it is computed in float32 and returned in the input's type.
        """
        x, weight, bias = input.float(), self.weight.float(), self.bias.float()
        num_frames = self._num_frames()
        if num_frames is None:
            out = group_norm(x, self.num_groups, weight, bias, self.eps)
            return out.type_as(input)
        # This is the largest tensor of the model: spare memory and passes over it.
        in_place = not torch.is_grad_enabled()
        sub, mul = (Tensor.sub_, Tensor.mul_) if in_place else (Tensor.sub, Tensor.mul)
        content = (~padding_mask(num_frames, x.size(-1), x.device)).float().unsqueeze(1)
        count = to_device(num_frames, x.device).view(-1, 1, 1)
        # Not by a matrix product, which autocast and TF32 would shorten.
        own = mul(x, content)
        mean = own.sum(dim=2, keepdim=True) / count
        centred = mul(sub(own, mean), content)
        variance = vector_norm(centred, dim=2, keepdim=True).square() / count
        scale = weight[:, None] * (variance + self.eps).rsqrt()
        return mul(centred, scale).add_(bias[:, None]).type_as(input)


class PaddingGuard:
    """Makes a wav2vec 2.0-like model blind to padding.

    It replaces the group norms of the feature extractor by length-aware ones and lets
    every padded convolution of the encoder see zeros at the padding, as it sees where
    the utterance is alone. The model's parameters keep their names.

    Args:
        feature_extractor: The convolutions over the waveform.
        encoder: The transformer or conformer, with its positional convolution.
    """

    def __init__(self, feature_extractor: Module, encoder: Module):
        self.convs = ConvStack(feature_extractor)
        self._call = CallState()
        num_convs = 0
        for parent in list(feature_extractor.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, Conv1d):
                    num_convs += 1
                elif isinstance(child, GroupNorm):
                    num_frames = partial(self._num_frames, num_convs)
                    setattr(parent, name, LengthAwareGroupNorm(child, num_frames))
        for module in encoder.modules():
            if isinstance(module, Conv1d) and module.padding not in ((0,), "valid"):
                module.register_forward_pre_hook(self._zero_padding)

    @contextmanager
    def batch(self, wavs: Tensor, lengths: Tensor) -> Iterator[Tensor | None]:
        """Say, around a forward pass of the model, how many samples are whose.

        Args:
            wavs: What the model gets, (batch, samples).
            lengths: Samples of each utterance, (batch,); on the host, so that nothing has
                to wait for the device.

        Yields:
            Which frames are padding, bool, (batch, frames), on the device of ``wavs``;
            None: nothing is.
        """
        self._call.padding = None
        if bool((lengths < wavs.size(1)).any()):
            self._call.lengths = lengths
            num_frames = self.convs.num_frames(lengths)
            most = int(self.convs.num_frames(torch.tensor(wavs.size(1))))
            self._call.padding = padding_mask(num_frames, most, wavs.device)
        try:
            yield self._call.padding
        finally:
            self._call.lengths = self._call.padding = None

    def _num_frames(self, num_convs: int) -> Tensor | None:
        """Frames of each utterance after so many convolutions, in this forward pass."""
        lengths = getattr(self._call, "lengths", None)
        return None if lengths is None else self.convs.num_frames(lengths, num_convs)

    def _zero_padding(self, conv: Conv1d, args: tuple[Tensor]) -> tuple[Tensor]:
        padding = getattr(self._call, "padding", None)
        if padding is None:
            return args
        (x,) = args
        return (x.masked_fill(padding.unsqueeze(1), 0),)
