"""Sums and averages of the upstreams' features."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import Linear, ModuleList, Parameter, Sequential, Tanh

from espnet_ensemble.fusion.base import EqualSizes, Fusion


class Sum(Fusion):
    """Sum of the upstreams' features.

    Args:
        sizes: Feature size of each upstream.
        proj_dim: Size to project each to first. None: no projection if the sizes are
            equal, else to the largest.
    """

    def __init__(self, sizes: Sequence[int], proj_dim: int | None = None):
        super().__init__()
        self.equal_sizes = EqualSizes(sizes, proj_dim)
        self.output_size = self.equal_sizes.size

    def project(self, feats: list[Tensor]) -> list[Tensor]:
        return self.equal_sizes(feats)

    def forward(self, feats: list[Tensor], feats_lens: Tensor) -> Tensor:
        return torch.stack(self.project(feats)).sum(dim=0)


class WeightedSum(Sum):
    """Average of the upstreams' features with learned softmax weights, equal at first.

    Args:
        sizes: Feature size of each upstream.
        proj_dim: As for :class:`Sum`.

    Example:
        >>> fusion = WeightedSum([4, 4])
        >>> one, two = torch.ones(1, 2, 4), torch.full((1, 2, 4), 2.0)
        >>> fusion([one, two], torch.tensor([2])).unique()
        tensor([1.5000], grad_fn=<Unique2Backward0>)
    """

    def __init__(self, sizes: Sequence[int], proj_dim: int | None = None):
        super().__init__(sizes, proj_dim)
        self.weights = Parameter(torch.zeros(len(sizes)))

    def forward(self, feats: list[Tensor], feats_lens: Tensor) -> Tensor:
        weights = self.weights.softmax(dim=0)
        return torch.einsum("u,ubtf->btf", weights, torch.stack(self.project(feats)))


class Attention(Fusion):
    """Average of the upstreams' features with weights that each frame computes.

    The score of upstream i in a frame is ``v_i . tanh(W_i x_i)``; the softmax over
    upstreams gives the weights (additive attention, Bahdanau et al., 2015).

    Args:
        sizes: Feature size of each upstream.
        proj_dim: As for :class:`Sum`.
        attention_dim: Size of the hidden layer that computes the scores.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        proj_dim: int | None = None,
        attention_dim: int = 128,
    ):
        super().__init__()
        self.scorers = ModuleList(
            Sequential(Linear(size, attention_dim), Tanh(), Linear(attention_dim, 1))
            for size in sizes
        )
        self.equal_sizes = EqualSizes(sizes, proj_dim)
        self.output_size = self.equal_sizes.size

    def project(self, feats: list[Tensor]) -> list[Tensor]:
        return self.equal_sizes(feats)

    def forward(self, feats: list[Tensor], feats_lens: Tensor) -> Tensor:
        scores = torch.stack([s(x) for s, x in zip(self.scorers, feats, strict=True)])
        return (scores.softmax(dim=0) * torch.stack(self.project(feats))).sum(dim=0)
