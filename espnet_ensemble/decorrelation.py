"""How much upstreams say the same: a loss that makes them complement one another."""

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor

from espnet_ensemble.frames import padding_mask

# Of a feature that does not vary, which correlates with nothing.
_EPS = 1e-5


def refinement_loss(feats: Sequence[Tensor], feats_lens: Tensor) -> Tensor:
    """Measure how far the features of different upstreams correlate.

    It is the mean square of the correlations, over the frames of the batch, of each feature
    of one upstream with each of another. After the feature refinement loss of Chen, Xie and
    Hansen, "FeaRLESS: Feature Refinement Loss for Ensembling Self-Supervised Learning
    Features in Robust End-to-end Speech Recognition", Interspeech 2022 (arXiv 2206.15056), of
    which we had the abstract: decorrelation of what upstreams are projected to. The form is
    ours, the second term of Barlow Twins (Zbontar et al., 2021) without its diagonal.

    Args:
        feats: One tensor per upstream, (batch, time, any size), undefined at the padding.
        feats_lens: Frames of each utterance, (batch,).

    Returns:
        A number between 0 and 1; 0 of one upstream alone.

    Example:
        >>> one = torch.tensor([[[1.0], [2.0], [3.0], [4.0]]])
        >>> other = torch.tensor([[[1.0], [-1.0], [-1.0], [1.0]]])
        >>> lengths = torch.tensor([4])
        >>> alike = refinement_loss([one, -2 * one], lengths)
        >>> print(f"{alike:.3f}, {refinement_loss([one, other], lengths):.3f}")
        1.000, 0.000
    """
    own = ~padding_mask(feats_lens, feats[0].size(1))
    normalized = [_standardize(x[own].float()) for x in feats]
    losses = [(x.T @ y).square().mean() for x, y in combinations(normalized, 2)]
    return torch.stack(losses).mean() if losses else feats[0].new_zeros(())


def _standardize(frames: Tensor) -> Tensor:
    """Give each column of (frames, feature) mean 0 and length 1."""
    centred = frames - frames.mean(dim=0)
    variance = centred.square().mean(dim=0)
    return centred / (len(frames) * (variance + _EPS)).sqrt()
