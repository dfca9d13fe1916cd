"""Greedy CTC decoding: the best token of every frame."""

from collections.abc import Sequence

from torch import Tensor

from espnet_ensemble.decoding.hypothesis import Hypothesis
from espnet_ensemble.frames import padding_mask


def best_paths(
    log_probs: Tensor, lengths: Tensor, blank_id: int = 0
) -> list[Hypothesis]:
    """Find the most probable path of each utterance, and what it spells.

    Args:
        log_probs: Natural logarithms of the posteriors, (batch, frames, tokens).
        lengths: Frames of each utterance, (batch,), on the same device.
        blank_id: Index of CTC's blank.

    Returns:
        Of each utterance, the path's tokens without repetitions and blanks, and the
        path's log-probability: the sum over the frames.

    Example:
        >>> probs = torch.tensor([[[0.1, 0.9], [0.2, 0.8], [0.5, 0.5]]])
        >>> (best,) = best_paths(probs.log(), torch.tensor([2]))
        >>> best.token_ids, round(best.score, 3)  # the logarithm of 0.72
        ((1,), -0.329)
    """
    best, token_ids = log_probs.max(dim=2)
    padding = padding_mask(lengths, log_probs.size(1))
    scores = best.double().masked_fill(padding, 0).sum(dim=1).tolist()
    starts = token_ids != blank_id
    starts[:, 1:] &= token_ids[:, 1:] != token_ids[:, :-1]
    starts &= ~padding
    # Two copies from the device, however many utterances there are.
    rows = zip(token_ids.cpu(), starts.cpu(), scores, strict=True)
    return [Hypothesis(tuple(ids[keep].tolist()), score) for ids, keep, score in rows]


class GreedySearch:
    """A :class:`~espnet_ensemble.decoding.decoder.Search` for the best path.

    Args:
        blank_id: Index of CTC's blank.
    """

    name = "greedy"

    def __init__(self, blank_id: int = 0):
        self._blank_id = blank_id

    def __call__(
        self, utt_ids: Sequence[str], log_probs: Tensor, lengths: Tensor
    ) -> list[list[Hypothesis]]:
        """The one best path of each utterance."""
        return [[path] for path in best_paths(log_probs, lengths, self._blank_id)]
