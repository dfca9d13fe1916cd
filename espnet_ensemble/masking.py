"""What is hidden in training: some of each upstream's features, or whole upstreams."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Module

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


class MemberWarmup(Module):
    """Shows one upstream alone at first; the others join it after some batches of training.

    A CTC head that starts over several upstreams at once has to find out where in time to
    write each token, and upstreams (fine-tuned ones above all) tell it in different frames:
    some starts end between them, worse than the best upstream alone. Here the head settles
    on the alignment of one, and then learns what the others add to it
    (``docs/results/exploration.md``).

    Batches are counted in ``state_dict``: training that was interrupted goes on where it was,
    and a checkpoint of the first batches is validated and decoded with the one upstream that
    it knows.

    Args:
        num_batches: For how many batches of training the others are hidden, at least 1.
        first: Place of the upstream that is shown from the beginning.

    Raises:
        EnsembleError: If ``num_batches`` is out of range.

    Example:
        >>> warmup = MemberWarmup(num_batches=1, first=1)
        >>> members = torch.ones(1, 3, dtype=torch.bool)
        >>> [warmup(members).tolist() for batch in range(2)]
        [[[False, True, False]], [[True, True, True]]]
    """

    batches: Tensor

    def __init__(self, num_batches: int, first: int = 0):
        super().__init__()
        if not (type(num_batches) is int and num_batches >= 1):
            raise EnsembleError(
                "member_warmup: num_batches: expected at least 1, found "
                f"{num_batches!r}"
            )
        self.num_batches = num_batches
        self.first = first
        self.register_buffer("batches", torch.tensor(0))

    def forward(self, members: Tensor) -> Tensor:
        """Say which upstreams are shown, and count the batch if it is one of training.

        Args:
            members: Those that there are of each utterance, bool, (batch, upstream).

        Returns:
            Those of them that are shown, bool, (batch, upstream); all where the first is
            not among them.
        """
        if self.training:
            self.batches += 1
        # Without asking the device, which would have to be waited for.
        alone = torch.zeros_like(members)
        alone[:, self.first] = members[:, self.first]
        joined = (self.batches > self.num_batches) | ~alone.any(dim=1, keepdim=True)
        return members & (alone | joined)
