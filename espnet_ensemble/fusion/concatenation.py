"""Upstreams' features side by side."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import (
    Linear,
    Module,
    ModuleList,
    Parameter,
    ParameterList,
    Sequential,
    Tanh,
)
from torch.nn.functional import pad

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.frames import padding_mask
from espnet_ensemble.fusion.base import Fusion


class Concat(Fusion):
    """Concatenation along the feature axis: the paper's choice, without parameters.

    Args:
        sizes: Feature size of each upstream.

    Example:
        >>> fusion = Concat([768, 1024])
        >>> fusion.output_size
        1792
        >>> feats = [torch.rand(2, 5, 768), torch.rand(2, 5, 1024)]
        >>> fusion(feats, torch.tensor([5, 3])).shape
        torch.Size([2, 5, 1792])
    """

    def __init__(self, sizes: Sequence[int]):
        super().__init__()
        self.output_size = sum(sizes)

    def forward(self, feats: list[Tensor], feats_lens: Tensor) -> Tensor:
        return torch.cat(feats, dim=-1)


class Projection(Fusion):
    """A linear projection of each upstream, then concatenation.

    Args:
        sizes: Feature size of each upstream.
        proj_dim: Size that each is projected to.
        learned_upsampling: Whether an upstream whose frames are repeated gets a projection
            for each of the repetitions, in place of one for all: what ESPnet's ``fused``
            does with upstreams of different hops.
        repeats: How often each upstream's frames are repeated; None: once.

    Example:
        >>> fusion = Projection([4, 6], 3, learned_upsampling=True, repeats=[1, 2])
        >>> feats = [torch.rand(2, 5, 4), torch.rand(2, 3, 6).repeat_interleave(2, 1)[:, :5]]
        >>> fusion(feats, torch.tensor([5, 3])).shape
        torch.Size([2, 5, 6])
    """

    takes_repeats = True

    def __init__(
        self,
        sizes: Sequence[int],
        proj_dim: int = 100,
        learned_upsampling: bool = False,
        repeats: Sequence[int] | None = None,
    ):
        super().__init__()
        if not learned_upsampling or repeats is None:
            repeats = [1] * len(sizes)
        self._repeats = list(repeats)
        self.projections = ModuleList(
            Linear(size, number * proj_dim)
            for size, number in zip(sizes, self._repeats, strict=True)
        )
        self.output_size = proj_dim * len(sizes)

    def project(self, feats: list[Tensor]) -> list[Tensor]:
        return [
            _project(projection, x, number)
            for projection, x, number in zip(
                self.projections, feats, self._repeats, strict=True
            )
        ]

    def forward(self, feats: list[Tensor], feats_lens: Tensor) -> Tensor:
        return torch.cat(self.project(feats), dim=-1)


def _project(projection: Module, feats: Tensor, number: int) -> Tensor:
    """Project one of so many equal frames to as many different ones."""
    time = feats.size(1)
    frames = projection(feats[:, ::number]).unflatten(-1, (number, -1))
    return frames.flatten(1, 2)[:, :time]


class TimeShift(Fusion):
    """Concatenation after a short convolution over time: a learned shift of each upstream.

    Encoders that were trained with CTC each emit a token in frames of their own, some
    earlier, some later. One kernel for all features of an upstream can move them by whole
    frames and less; all kernels change nothing at first. Ours.

    Args:
        sizes: Feature size of each upstream.
        kernel_size: Frames that a kernel sees, odd; it shifts by up to half of them.

    Raises:
        EnsembleError: If ``kernel_size`` is even or not positive.

    Example:
        >>> fusion = TimeShift([1], kernel_size=3)
        >>> feats = torch.tensor([[[1.0], [2.0], [3.0]]])
        >>> fusion([feats], torch.tensor([3])).flatten().tolist()
        [1.0, 2.0, 3.0]
        >>> _ = fusion.kernels[0].data.copy_(torch.tensor([0.0, -1.0, 1.0]))
        >>> fusion([feats], torch.tensor([3])).flatten().tolist()  # one frame earlier
        [2.0, 3.0, 0.0]
    """

    def __init__(self, sizes: Sequence[int], kernel_size: int = 5):
        super().__init__()
        if not (type(kernel_size) is int and kernel_size > 0 and kernel_size % 2):
            raise EnsembleError(
                "kernel_size: expected an odd number of frames, such as 5, found "
                f"{kernel_size!r}"
            )
        #: What is added to kernels that change nothing. ESPnet's ``init`` leaves parameters
        #: of one axis at zero.
        self.kernels = ParameterList(Parameter(torch.zeros(kernel_size)) for _ in sizes)
        self.output_size = sum(sizes)

    def project(self, feats: list[Tensor]) -> list[Tensor]:
        return feats

    def forward(self, feats: list[Tensor], feats_lens: Tensor) -> Tensor:
        padding = padding_mask(feats_lens, feats[0].size(1)).unsqueeze(-1)
        shifted = [
            x + _convolve(x.masked_fill(padding, 0), kernel)
            for x, kernel in zip(feats, self.kernels, strict=True)
        ]
        return torch.cat(shifted, dim=-1)


def _convolve(feats: Tensor, kernel: Tensor) -> Tensor:
    """Convolve (batch, time, feature) with one kernel along the time axis."""
    reach = len(kernel) // 2
    windows = pad(feats, (0, 0, reach, reach)).unfold(1, len(kernel), 1)
    return windows @ kernel


class Gate(Fusion):
    """Concatenation after a gate: what each upstream counts, by all of them together.

    A hidden layer looks at the features of all upstreams in a frame, or at their means over
    the utterance, and a softmax over upstreams gives each its weight, times their number:
    where all count the same, this is plain concatenation. After the mixtures of encoders of
    2024 and 2025, which compute such weights from the audio (Zhang et al., MoWE-Audio,
    arXiv 2409.06635) or from the prompt (Shan et al., PaM, arXiv 2502.15178); soft
    weights, the hidden layer, and concatenation in place of a sum are ours.

    Args:
        sizes: Feature size of each upstream.
        gate_per: "frame" or "utterance".
        gate_dim: Size of the hidden layer.

    Raises:
        EnsembleError: If ``gate_per`` is something else.

    Example:
        >>> fusion = Gate([768, 1024], gate_per="utterance")
        >>> feats = [torch.rand(2, 5, 768), torch.rand(2, 5, 1024)]
        >>> fusion(feats, torch.tensor([5, 3])).shape
        torch.Size([2, 5, 1792])
    """

    def __init__(
        self, sizes: Sequence[int], gate_per: str = "frame", gate_dim: int = 128
    ):
        super().__init__()
        if gate_per not in ("frame", "utterance"):
            raise EnsembleError(
                f"gate_per: expected frame or utterance, found {gate_per!r}"
            )
        self.gate_per = gate_per
        self.gate = Sequential(
            Linear(sum(sizes), gate_dim), Tanh(), Linear(gate_dim, len(sizes))
        )
        self.output_size = sum(sizes)

    def forward(self, feats: list[Tensor], feats_lens: Tensor) -> Tensor:
        seen = torch.cat(feats, dim=-1)
        if self.gate_per == "utterance":
            padding = padding_mask(feats_lens, seen.size(1)).unsqueeze(-1)
            total = seen.masked_fill(padding, 0).sum(dim=1, keepdim=True)
            seen = total / feats_lens.view(-1, 1, 1)
        weights = len(feats) * self.gate(seen).softmax(dim=-1)
        parts = zip(feats, weights.split(1, dim=-1), strict=True)
        return torch.cat([x * weight for x, weight in parts], dim=-1)
