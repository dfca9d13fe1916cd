"""What every way of combining is."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import Linear, Module, ModuleList


class Fusion(Module):
    """One way of combining.

    Attributes:
        output_size: Size of the result.
        takes_layers: Whether it takes all hidden states of an upstream, concatenated, in
            place of one average of them.
        takes_repeats: Whether it wants to know how often each upstream's frames are
            repeated to bring all to one rate.
    """

    output_size: int
    takes_layers = False
    takes_repeats = False

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

    def project(self, feats: list[Tensor]) -> list[Tensor]:
        """What the fusion makes of each upstream by itself, before it combines them.

        Args:
            feats: As for :meth:`forward`.

        Returns:
            One tensor per upstream, (batch, time, any size), undefined at the padding.
        """
        return feats


class EqualSizes(Module):
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

    def forward(self, feats: list[Tensor]) -> list[Tensor]:
        """Make (batch, time, size) of each upstream's features."""
        if not self.projections:
            return feats
        return [p(x) for p, x in zip(self.projections, feats, strict=True)]
