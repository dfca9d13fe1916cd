"""What keeps the padding of a batch out of an utterance's features.

Three things in SSL encoders look past the end of an utterance: the group norm of
"base" feature extractors (its statistics run over the padding), the convolutions in
the encoder (position, conformer), and attention. Attention has a mask in every
implementation; this module sees to the other two.
"""

from contextlib import contextmanager
from typing import Iterator, List, Tuple

import torch
from torch import Tensor
from torch.linalg import vector_norm
from torch.nn import Conv1d, GroupNorm, Module
from torch.nn.functional import group_norm


def padding_mask(lengths: Tensor, max_length: int) -> Tensor:
    """Tell padding from content.

    Args:
        lengths: (batch,)
        max_length: Size of the time axis.

    Returns:
        bool, (batch, max_length), true at the padding.

    Example:
        >>> padding_mask(torch.tensor([1, 3]), 3).int().tolist()
        [[0, 1, 1], [0, 0, 0]]
    """
    return torch.arange(max_length, device=lengths.device) >= lengths.unsqueeze(1)


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
        self._convs: List[Tuple[int, int]] = [
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

    def num_frames(self, lengths: Tensor, num_convs: int = None) -> Tensor:
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

    Raises:
        ValueError: If a group has several channels.
    """

    def __init__(self, norm: GroupNorm):
        if norm.num_groups != norm.num_channels:
            raise ValueError(
                f"expected a group norm of single channels, got {norm.num_groups} groups "
                f"of {norm.num_channels} channels"
            )
        super().__init__(norm.num_groups, norm.num_channels, norm.eps)
        self.weight, self.bias = norm.weight, norm.bias
        self.num_frames = None

    def forward(self, input: Tensor) -> Tensor:
        """Normalise; without gradients, the input may be overwritten.

        Args:
            input: (batch, channel, time). Where :attr:`num_frames`, (batch,), is set, the
                frames from there on are padding.

        Returns:
            (batch, channel, time), undefined at the padding. Like fairseq's
            ``Fp32GroupNorm``, it is computed in float32 and returned in the input's type.
        """
        x, weight, bias = input.float(), self.weight.float(), self.bias.float()
        if self.num_frames is None:
            out = group_norm(x, self.num_groups, weight, bias, self.eps)
            return out.type_as(input)
        # This is the largest tensor of the model: spare memory and passes over it.
        in_place = not torch.is_grad_enabled()
        sub, mul = (Tensor.sub_, Tensor.mul_) if in_place else (Tensor.sub, Tensor.mul)
        content = (~padding_mask(self.num_frames, x.size(-1))).float()
        count = self.num_frames.view(-1, 1, 1)
        mean = torch.bmm(x, content.unsqueeze(2)) / count
        centred = mul(sub(x, mean), content.unsqueeze(1))
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
        self._lengths = None
        self._group_norms = []
        num_convs = 0
        for parent in list(feature_extractor.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, Conv1d):
                    num_convs += 1
                elif isinstance(child, GroupNorm):
                    norm = LengthAwareGroupNorm(child)
                    setattr(parent, name, norm)
                    self._group_norms.append((num_convs, norm))
        for module in encoder.modules():
            if isinstance(module, Conv1d) and module.padding[0] > 0:
                module.register_forward_pre_hook(self._zero_padding)

    @contextmanager
    def lengths(self, lengths: Tensor) -> Iterator[None]:
        """Say, around a forward pass of the model, how many samples are whose.

        Args:
            lengths: Samples of each utterance, (batch,); None: nothing is padded.
        """
        self._set(lengths)
        try:
            yield
        finally:
            self._set(None)

    def _set(self, lengths: Tensor) -> None:
        self._lengths = lengths
        for num_convs, norm in self._group_norms:
            norm.num_frames = (
                None if lengths is None else self.convs.num_frames(lengths, num_convs)
            )

    def _zero_padding(self, conv: Conv1d, args: Tuple[Tensor]) -> Tuple[Tensor]:
        if self._lengths is None:
            return args
        (x,) = args
        padding = padding_mask(self.convs.num_frames(self._lengths), x.size(-1))
        return (x.masked_fill(padding.unsqueeze(1), 0),)
