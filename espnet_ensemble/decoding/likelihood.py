"""How likely a CTC model holds a transcript, over all of its paths."""

from collections.abc import Sequence

import torch
from torch.nn.functional import ctc_loss


def log_likelihood(
    log_probs: torch.Tensor, token_ids: Sequence[int], blank_id: int = 0
) -> float:
    """Sum the probabilities of all paths that spell a transcript.

    Args:
        log_probs: Natural logarithms of an utterance's posteriors: (frames, tokens).
        token_ids: The transcript, without blanks.
        blank_id: Index of CTC's blank.

    Returns:
        The natural logarithm of the sum; ``-inf`` if there are too few frames.

    Example:
        >>> probs = torch.tensor([[0.6, 0.4], [0.6, 0.4]])
        >>> round(log_likelihood(probs.log(), [1]), 3)  # the logarithm of 0.64
        -0.446
    """
    loss = ctc_loss(
        log_probs.float().cpu()[:, None],
        torch.tensor([list(token_ids)], dtype=torch.long),
        torch.tensor([len(log_probs)]),
        torch.tensor([len(token_ids)]),
        blank=blank_id,
        reduction="sum",
    )
    return -loss.item()


def most_likely(
    members: Sequence[torch.Tensor],
    candidates: Sequence[Sequence[int]],
    blank_id: int = 0,
) -> int:
    """Choose the transcript that several models together hold most likely.

    Args:
        members: Logarithms of each model's posteriors of the utterance, over the same
            tokens; their frames may differ.
        candidates: Transcripts to choose from.
        blank_id: Index of CTC's blank.

    Returns:
        Index of the one whose likelihoods have the highest product; of equal ones, the
        first.

    Example:
        >>> sure, unsure = torch.tensor([[0.1, 0.9]]), torch.tensor([[0.6, 0.4]])
        >>> most_likely([unsure.log(), sure.log()], [[], [1]])
        1
    """
    scores = [
        sum(log_likelihood(member, tokens, blank_id) for member in members)
        for tokens in candidates
    ]
    return scores.index(max(scores))
