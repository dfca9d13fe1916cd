"""Frames: which of a batch are padding, and one frame grid for several upstreams."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


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


@dataclass(frozen=True)
class FrameGrid:
    """The one frame rate that the features of several upstreams are brought to.

    It is that of the greatest common divisor of their hops. An upstream with a larger hop
    has its frames repeated; where upstreams differ in the number of frames, an utterance
    gets the smallest.

    Attributes:
        hop_length: Samples from one frame to the next.
        repeats: How often each upstream's frames are repeated.

    Example:
        >>> grid = FrameGrid.common([320, 640])
        >>> grid
        FrameGrid(hop_length=320, repeats=(1, 2))
        >>> grid.repeat(torch.tensor([[1.0], [2.0]]), upstream=1).flatten().tolist()
        [1.0, 1.0, 2.0, 2.0]
        >>> grid.num_frames({0: torch.tensor([5, 4]), 1: torch.tensor([2, 2])}).tolist()
        [4, 4]
    """

    hop_length: int
    repeats: tuple[int, ...]

    @classmethod
    def common(cls, hop_lengths: Sequence[int]) -> "FrameGrid":
        """Find the grid of upstreams with these hops, in samples at one rate."""
        hop_length = math.gcd(*hop_lengths)
        return cls(hop_length, tuple(hop // hop_length for hop in hop_lengths))

    def repeat(self, feats: Tensor, upstream: int) -> Tensor:
        """Bring features to the grid.

        Args:
            feats: (..., frames, features)
            upstream: Index of the upstream that they are of.

        Returns:
            (..., frames * repeats, features)
        """
        repeats = self.repeats[upstream]
        return feats if repeats == 1 else feats.repeat_interleave(repeats, dim=-2)

    def num_frames(self, num_frames: Mapping[int, Tensor]) -> Tensor:
        """Count the frames that utterances have on the grid.

        Args:
            num_frames: Index of an upstream -> the frames that it gives them, (batch,).

        Returns:
            (batch,)
        """
        on_grid = [
            frames * self.repeats[upstream] for upstream, frames in num_frames.items()
        ]
        return torch.stack(on_grid).amin(dim=0)
