"""What is hidden in training: some of each upstream's features, or whole upstreams."""

from dataclasses import dataclass

import torch
from torch import Tensor

from espnet_ensemble.errors import EnsembleError


@dataclass(frozen=True)
class BandMask:
    """Hides bands of one upstream's features: some of each utterance's, all frames long.

    SpecAugment (Park et al., 2019) hides bands of neighbouring channels. Of concatenated
    upstreams, ESPnet's ``specaug`` hides a share that shrinks with their number, and mostly
    in one of them at a time. Applied to each upstream, this one hides the same share of
    each, whatever their number and sizes.

    Args:
        num_mask: Bands in an utterance. They may overlap.
        max_share: Largest share of the features that one band hides; the least is none.

    Raises:
        EnsembleError: If one of them is out of range.

    Example:
        >>> mask = BandMask(num_mask=1, max_share=0.5)
        >>> masked = mask(torch.ones(1000, 7, 64))
        >>> torch.isclose(1 - masked.mean(), torch.tensor(0.25), atol=0.02)
        tensor(True)
    """

    num_mask: int = 2
    max_share: float = 0.1

    def __post_init__(self):
        if not (type(self.num_mask) is int and self.num_mask >= 1):
            raise EnsembleError(
                f"feature_mask: num_mask: expected at least 1, found {self.num_mask!r}"
            )
        if not (isinstance(self.max_share, (int, float)) and 0 < self.max_share <= 1):
            raise EnsembleError(
                "feature_mask: max_share: expected a share, above 0 and at most 1, found "
                f"{self.max_share!r}"
            )

    def __call__(self, feats: Tensor) -> Tensor:
        """Set bands to zero.

        Args:
            feats: Of one upstream, (batch, time, feature).

        Returns:
            (batch, time, feature)
        """
        size = feats.size(2)
        draws = torch.rand(2, len(feats), self.num_mask, 1, device=feats.device)
        widths = draws[0] * self.max_share * size
        starts = draws[1] * (size - widths)
        channels = torch.arange(size, device=feats.device)
        bands = (starts.round() <= channels) & (channels < (starts + widths).round())
        return feats.masked_fill(bands.any(dim=1).unsqueeze(1), 0)


@dataclass(frozen=True)
class MemberDropout:
    """Hides whole upstreams in training, other ones of each utterance, and never all.

    ModDrop (Neverova et al., TPAMI 2016, arXiv 1501.00102), with upstreams for its
    modalities: each is hidden by itself. Where that would hide all, one of them stays, and
    each is as likely to be it.

    Args:
        probability: Of hiding an upstream; at least 0, below 1.

    Raises:
        EnsembleError: If it is out of range.

    Example:
        >>> dropout = MemberDropout(0.9)
        >>> kept = dropout(torch.ones(1000, 3, dtype=torch.bool))
        >>> kept.sum(dim=1).min(), torch.isclose(kept.float().mean(), torch.tensor(0.34), atol=0.03)
        (tensor(1), tensor(True))
    """

    probability: float

    def __post_init__(self):
        p = self.probability
        if not (isinstance(p, (int, float)) and 0 <= p < 1):
            raise EnsembleError(
                "member_dropout: expected a probability, at least 0 and below 1, found "
                f"{p!r}"
            )

    def __call__(self, members: Tensor) -> Tensor:
        """Draw which upstreams stay.

        Args:
            members: Those that there are of each utterance, bool, (batch, upstream); at
                least one of each.

        Returns:
            Those of them that stay, bool, (batch, upstream); at least one of each.
        """
        draws = torch.rand(members.shape, device=members.device)
        draws = draws.masked_fill(~members, -1)
        return (draws >= self.probability) | (draws == draws.amax(dim=1, keepdim=True))
