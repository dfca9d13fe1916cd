"""Frames: which of a batch are padding, and one frame grid for several upstreams."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def padding_mask(
    lengths: Tensor, max_length: int, device: torch.device | None = None
) -> Tensor:
    """Tell padding from content.

    Args:
        lengths: (batch,), on any device.
        max_length: Size of the time axis.
        device: Where the mask shall be; None: where the lengths are. What is on the host
            gets there without waiting for it.

    Returns:
        bool, (batch, max_length), true at the padding.

    Example:
        >>> padding_mask(torch.tensor([1, 3]), 3).int().tolist()
        [[0, 1, 1], [0, 0, 0]]
    """
    lengths = to_device(lengths, device or lengths.device)
    return torch.arange(max_length, device=lengths.device) >= lengths.unsqueeze(1)


def to_device(numbers: Tensor, device: torch.device) -> Tensor:
    """Bring a few numbers from the host to a device without waiting for it."""
    return numbers.to(device, non_blocking=True)


def batch_to_device(batch: Tensor, device: torch.device) -> Tensor:
    """Bring a batch from the host to a device while both go on with their work.

    To a GPU, it goes through memory that the GPU itself reads.
    """
    if device.type == "cuda" and batch.device.type == "cpu":
        batch = batch.pin_memory()
    return to_device(batch, device)


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


@dataclass(frozen=True)
class FrameStacking:
    """A frame rate below that of a grid: frames that are distinct are put side by side.

    A frame of the slower rate holds all of an upstream that begins in it. Where an utterance
    ends within it, the last frame of the grid is repeated.

    Attributes:
        num_grid_frames: Frames of the grid in one of the slower rate.
        steps: For each upstream, frames of the grid from one of those that are put side by
            side to the next.
        stacks: How many these are.

    Example:
        >>> stacking = FrameStacking.of(FrameGrid.common([320, 1280]), 640)
        >>> stacking
        FrameStacking(num_grid_frames=2, steps=(1, 4), stacks=(2, 1))
        >>> lengths = torch.tensor([4])
        >>> feats = torch.arange(4.0).view(1, 4, 1)
        >>> stacking.stack(feats, 0, lengths).tolist()
        [[[0.0, 1.0], [2.0, 3.0]]]
        >>> stacking.stack(feats, 1, lengths).tolist()
        [[[0.0], [2.0]]]
        >>> stacking.num_frames(torch.tensor([4, 3])).tolist()
        [2, 2]
    """

    num_grid_frames: int
    steps: tuple[int, ...]
    stacks: tuple[int, ...]

    @classmethod
    def of(cls, grid: FrameGrid, hop_length: int | None) -> "FrameStacking":
        """Find what makes frames of a hop of those of a grid.

        Args:
            grid: The grid.
            hop_length: In samples; None: the grid's.

        Raises:
            ValueError: If an upstream's frames do not fit into it, nor it into them.
        """
        hop_length = hop_length or grid.hop_length
        number, rest = divmod(hop_length, grid.hop_length)
        if rest or any(number % r and r % number for r in grid.repeats):
            raise ValueError(f"{hop_length} samples")
        return cls(
            number, grid.repeats, tuple(max(1, number // r) for r in grid.repeats)
        )

    def num_frames(self, num_frames: Tensor) -> Tensor:
        """Frames of the slower rate, of those of the grid, (batch,)."""
        return (num_frames + self.num_grid_frames - 1) // self.num_grid_frames

    def stack(self, feats: Tensor, upstream: int, num_frames: Tensor) -> Tensor:
        """Bring an upstream's features to the slower rate.

        Args:
            feats: On the grid, (batch, frames, features).
            upstream: Index of the upstream.
            num_frames: Frames of each utterance, (batch,).

        Returns:
            (batch, fewer frames, features * stacks)
        """
        if self.num_grid_frames == 1:
            return feats
        device, stacks = feats.device, self.stacks[upstream]
        count = -(-feats.size(1) // self.num_grid_frames)
        begins = self.num_grid_frames * torch.arange(count, device=device)
        offsets = self.steps[upstream] * torch.arange(stacks, device=device)
        places = (begins.unsqueeze(1) + offsets).flatten()
        last = num_frames.to(device).unsqueeze(1) - 1
        places = torch.minimum(places, last).unsqueeze(-1)
        stacked = feats.gather(1, places.expand(-1, -1, feats.size(-1)))
        return stacked.unflatten(1, (count, stacks)).flatten(2)
