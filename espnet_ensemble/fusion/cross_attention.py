"""Attention of each upstream to the others' neighbouring frames."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import LayerNorm, Linear, Module, ModuleList, Parameter
from torch.nn.functional import pad

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.frames import padding_mask
from espnet_ensemble.fusion.base import EqualSizes, Fusion


class CrossAttention(Fusion):
    """Concatenation after each upstream has attended to the others.

    In a block, a frame of one upstream asks the frames around it of all others, and adds what
    it gets to itself, with a layer norm after the sum. Encoders whose features come some
    frames apart find one another so. After the deep cross-attention of Chen and Hansen,
    "Advancing Automatic Speech Recognition using Feature Fusion with Self-Supervised
    Learning Features" (arXiv 2604.22203), of which we had the abstract: multi-head attention
    of the transformer, a window of frames, a learned bias for each of its places, and the
    concatenation of all results are our choice. One upstream alone attends to itself.

    Args:
        sizes: Feature size of each upstream.
        proj_dim: Size to project each upstream to first. None: no projection if the sizes
            are equal, else to the largest.
        attention_dim: Size of queries, keys and values, of all heads together.
        num_heads: Heads.
        window: Frames that are seen before and after each.
        num_blocks: How often upstreams attend to one another.

    Raises:
        EnsembleError: If an option is out of range, or heads do not divide
            ``attention_dim``.

    Example:
        >>> fusion = CrossAttention([768, 1024], proj_dim=256)
        >>> feats = [torch.rand(2, 5, 768), torch.rand(2, 5, 1024)]
        >>> fusion(feats, torch.tensor([5, 3])).shape
        torch.Size([2, 5, 512])
    """

    def __init__(
        self,
        sizes: Sequence[int],
        proj_dim: int | None = None,
        attention_dim: int = 128,
        num_heads: int = 4,
        window: int = 5,
        num_blocks: int = 1,
    ):
        super().__init__()
        if num_heads < 1 or attention_dim % num_heads:
            raise EnsembleError(
                "num_heads: expected a divisor of attention_dim, such as 4 of 128, found "
                f"{num_heads} of {attention_dim}"
            )
        if window < 0 or num_blocks < 1:
            raise EnsembleError(
                "window, num_blocks: expected at least 0 and 1, found "
                f"{window} and {num_blocks}"
            )
        self.equal_sizes = EqualSizes(sizes, proj_dim)
        size = self.equal_sizes.size
        self.blocks = ModuleList(
            _Block(size, len(sizes), attention_dim, num_heads, window)
            for _ in range(num_blocks)
        )
        self.output_size = size * len(sizes)

    def project(self, feats: list[Tensor]) -> list[Tensor]:
        return self.equal_sizes(feats)

    def forward(self, feats: list[Tensor], feats_lens: Tensor) -> Tensor:
        padding = padding_mask(feats_lens, feats[0].size(1))
        feats = self.project(feats)
        for block in self.blocks:
            # What is there must not reach others.
            feats = [x.masked_fill(padding.unsqueeze(-1), 0) for x in feats]
            feats = block(feats, padding)
        return torch.cat(feats, dim=-1)


class _Block(Module):
    """All upstreams' attention to one another."""

    def __init__(
        self, size: int, number: int, attention_dim: int, num_heads: int, window: int
    ):
        super().__init__()
        num_others = max(1, number - 1)
        self.members = ModuleList(
            _Attending(size, num_others, attention_dim, num_heads, window)
            for _ in range(number)
        )

    def forward(self, feats: list[Tensor], padding: Tensor) -> list[Tensor]:
        """Of (batch, time, size) of each, zero at the padding, make the same again."""
        return [
            attend(x, [y for y in feats if y is not x] or [x], padding)
            for attend, x in zip(self.members, feats, strict=True)
        ]


class _Attending(Module):
    """One upstream's attention to others."""

    def __init__(
        self,
        size: int,
        num_others: int,
        attention_dim: int,
        num_heads: int,
        window: int,
    ):
        super().__init__()
        self.num_heads, self.window = num_heads, window
        self.query = Linear(size, attention_dim)
        self.keys = ModuleList(Linear(size, attention_dim) for _ in range(num_others))
        self.values = ModuleList(Linear(size, attention_dim) for _ in range(num_others))
        self.out = Linear(attention_dim, size)
        self.norm = LayerNorm(size)
        # ESPnet's `init` leaves parameters of one axis at zero.
        places = num_others * (2 * window + 1)
        self.bias = Parameter(torch.zeros(num_heads * places))

    def forward(self, feats: Tensor, others: list[Tensor], padding: Tensor) -> Tensor:
        """Add what the others have to say.

        Args:
            feats: (batch, time, size)
            others: Of each other upstream, (batch, time, size), zero at the padding.
            padding: bool, (batch, time)

        Returns:
            (batch, time, size), undefined at the padding.
        """
        heads = (self.num_heads, -1)
        query = self.query(feats).unflatten(-1, heads)
        keys = self._windows(self.keys, others)
        scores = torch.einsum("bthd,bthdp->bthp", query, keys)
        scores = scores / math.sqrt(query.size(-1)) + self.bias.view(heads)
        # Not -inf: of frames in the padding, all may be outside, and NaN has a gradient.
        lowest = torch.finfo(scores.dtype).min
        outside = self._around(padding.unsqueeze(-1), value=True)
        outside = outside.repeat(1, 1, 1, len(others))
        weights = scores.masked_fill(outside, lowest).softmax(dim=-1)
        values = self._windows(self.values, others)
        found = torch.einsum("bthp,bthdp->bthd", weights, values)
        return self.norm(feats + self.out(found.flatten(start_dim=-2)))

    def _windows(self, linears: ModuleList, others: list[Tensor]) -> Tensor:
        """(batch, time, head, feature, place): places are of one upstream after the other."""
        found = [
            self._around(linear(y)) for linear, y in zip(linears, others, strict=True)
        ]
        return torch.cat(found, dim=-1).unflatten(2, (self.num_heads, -1))

    def _around(self, feats: Tensor, value: float = 0.0) -> Tensor:
        """(batch, time, feature) to the frames around each: (batch, time, feature, place)."""
        reach = (0, 0, self.window, self.window)
        return pad(feats, reach, value=value).unfold(1, 2 * self.window + 1, 1)
