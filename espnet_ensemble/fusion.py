"""The ways of combining the features of several upstreams.

Each class takes one tensor per upstream, all with the same frames, and gives one.
Section 3 of the paper lists sum, weighted average, concatenation and attention, and
uses concatenation; ``projection`` is what ESPnet's ``fused`` frontend does.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import Linear, Module, ModuleList, Parameter, Sequential, Tanh

from espnet_ensemble.errors import EnsembleError


class Fusion(Module):
    """One way of combining.

    Attributes:
        output_size: Size of the result.
    """

    output_size: int

    def forward(self, feats: list[Tensor], feats_lens: Tensor) -> Tensor:
        """Combine the upstreams' features.

        An utterance's result must not depend on what it is batched with: who looks along
        the time axis has to leave out the padding.

        Args:
            feats: One tensor per upstream, (batch, time, size of the upstream), undefined
                at the padding.
            feats_lens: Frames of each utterance, (batch,).

        Returns:
            (batch, time, output_size), undefined at the padding.
        """
        raise NotImplementedError


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
    """

    def __init__(self, sizes: Sequence[int], proj_dim: int = 100):
        super().__init__()
        self.projections = ModuleList(Linear(size, proj_dim) for size in sizes)
        self.output_size = proj_dim * len(sizes)

    def forward(self, feats: list[Tensor], feats_lens: Tensor) -> Tensor:
        return torch.cat(
            [p(x) for p, x in zip(self.projections, feats, strict=True)], dim=-1
        )


class _EqualSizes(Module):
    """Brings each upstream's features to one size, by a linear projection where needed.

    Args:
        sizes: Feature size of each upstream.
        proj_dim: Size to project to. None leaves equal sizes as they are, and projects
            to the largest where they differ.
    """

    def __init__(self, sizes: Sequence[int], proj_dim: int | None = None):
        super().__init__()
        self.size = max(sizes) if proj_dim is None else proj_dim
        needed = proj_dim is not None or len(set(sizes)) > 1
        self.projections = ModuleList(
            Linear(size, self.size) for size in (sizes if needed else [])
        )

    def forward(self, feats: list[Tensor]) -> Tensor:
        """Stack (batch, time, size) of each to (upstream, batch, time, size)."""
        if self.projections:
            feats = [p(x) for p, x in zip(self.projections, feats, strict=True)]
        return torch.stack(feats)


class Sum(Fusion):
    """Sum of the upstreams' features.

    Args:
        sizes: Feature size of each upstream.
        proj_dim: Size to project each to first. None: no projection if the sizes are
            equal, else to the largest.
    """

    def __init__(self, sizes: Sequence[int], proj_dim: int | None = None):
        super().__init__()
        self.equal_sizes = _EqualSizes(sizes, proj_dim)
        self.output_size = self.equal_sizes.size

    def forward(self, feats: list[Tensor], feats_lens: Tensor) -> Tensor:
        return self.equal_sizes(feats).sum(dim=0)


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
        return torch.einsum("u,ubtf->btf", weights, self.equal_sizes(feats))


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
        self.equal_sizes = _EqualSizes(sizes, proj_dim)
        self.output_size = self.equal_sizes.size

    def forward(self, feats: list[Tensor], feats_lens: Tensor) -> Tensor:
        scores = torch.stack([s(x) for s, x in zip(self.scorers, feats, strict=True)])
        return (scores.softmax(dim=0) * self.equal_sizes(feats)).sum(dim=0)


#: The name of each way of combining -> its class.
FUSIONS: dict[str, type[Fusion]] = {
    "concat": Concat,
    "sum": Sum,
    "weighted_sum": WeightedSum,
    "projection": Projection,
    "attention": Attention,
}


def build_fusion(name: str, sizes: Sequence[int], **conf) -> Fusion:
    """Build a fusion by the name that ``frontend_conf`` gives it.

    Args:
        name: One of ``FUSIONS``.
        sizes: Feature size of each upstream.
        conf: The fusion's own options (``fusion_conf``).

    Raises:
        EnsembleError: If there is no such fusion, or it has no such option.
    """
    if name not in FUSIONS:
        raise EnsembleError(
            f"fusion: expected one of {', '.join(FUSIONS)}, found {name!r}"
        )
    try:
        return FUSIONS[name](sizes, **conf)
    except TypeError as e:
        raise EnsembleError(f"fusion_conf of {name!r}: {e}") from e
