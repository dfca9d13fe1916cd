"""When the tokens of a transcript were said, by CTC forced alignment.

Forced alignment finds the most probable of the paths that spell a given transcript. A path
gives every frame a token or the blank; the frames of a token are its span. CTC models tend
to emit a token in one or two frames somewhere inside its sound, so a span is a good guess
of where a token is, and no measure of how long it is.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import ModuleType

import numpy as np
import torch

from espnet_ensemble.errors import EnsembleError


@dataclass(frozen=True)
class TokenSpan:
    """A token, and the frames that it has on the best path.

    Attributes:
        token_id: Index into the token list.
        start: First frame.
        end: Frame after the last; always after ``start``.
    """

    token_id: int
    start: int
    end: int


def align_tokens(
    log_probs: torch.Tensor, token_ids: Sequence[int], blank: int = 0
) -> list[TokenSpan]:
    """Find the frames of each token of a transcript.

    Args:
        log_probs: Natural logarithms of an utterance's posteriors: (frames, tokens).
        token_ids: The transcript, without blanks.
        blank: Index of CTC's blank.

    Returns:
        A span for each token, one after the other.

    Raises:
        EnsembleError: If there are fewer frames than the transcript needs: one for each
            token, and one for the blank between two that are equal.

    Example:
        >>> probs = torch.tensor([[0.1, 0.9], [0.2, 0.8], [0.9, 0.1], [0.1, 0.9]])
        >>> align_tokens(probs.log(), [1, 1])
        [TokenSpan(token_id=1, start=0, end=2), TokenSpan(token_id=1, start=3, end=4)]
    """
    needed = len(token_ids) + sum(one == two for one, two in pairwise(token_ids))
    if needed > len(log_probs):
        raise EnsembleError(
            f"expected at least {needed} frames for a transcript of {len(token_ids)} "
            f"tokens, found {len(log_probs)}"
        )
    if not token_ids:
        return []
    path = _best_path(log_probs, token_ids, blank)
    changes = [frame for frame in range(1, len(path)) if path[frame] != path[frame - 1]]
    return [
        TokenSpan(path[start], start, end)
        for start, end in pairwise([0, *changes, len(path)])
        if path[start] != blank
    ]


def _best_path(
    log_probs: torch.Tensor, token_ids: Sequence[int], blank: int
) -> list[int]:
    """The token, or the blank, of each frame."""
    functional = _torchaudio()
    if functional is None:
        return viterbi(log_probs.float().cpu().numpy(), token_ids, blank)
    targets = torch.tensor([list(token_ids)], device=log_probs.device)
    paths, _ = functional.forced_align(log_probs.float()[None], targets, blank=blank)
    return paths[0].tolist()


@functools.cache
def _torchaudio() -> ModuleType | None:
    """``torchaudio.functional``, if that can still align: it is being taken apart."""
    try:
        from torchaudio import functional
    except ImportError:
        return None
    return functional if hasattr(functional, "forced_align") else None


def viterbi(
    log_probs: np.ndarray, token_ids: Sequence[int], blank: int = 0
) -> list[int]:
    """Find the best path as torchaudio's ``forced_align`` does, where that is missing.

    Args:
        log_probs: (frames, tokens), with frames enough.
        token_ids: The transcript, at least one token.
        blank: Index of CTC's blank.

    Returns:
        The token, or the blank, of each frame.

    Example:
        >>> probs = np.array([[0.1, 0.9], [0.2, 0.8], [0.9, 0.1], [0.1, 0.9]])
        >>> viterbi(np.log(probs), [1, 1])
        [1, 1, 0, 1]
    """
    labels = np.full(2 * len(token_ids) + 1, blank)
    labels[1::2] = token_ids
    # The blank between two tokens may be left out unless they are equal.
    may_skip = np.zeros(len(labels), dtype=bool)
    may_skip[3::2] = labels[3::2] != labels[1:-2:2]
    steps = np.zeros((len(log_probs), len(labels)), dtype=np.int8)
    scores = np.full(len(labels), -np.inf, dtype=log_probs.dtype)
    scores[:2] = log_probs[0, labels[:2]]
    for frame in range(1, len(log_probs)):
        from_states = np.full((3, len(labels)), -np.inf, dtype=log_probs.dtype)
        from_states[0] = scores
        from_states[1, 1:] = scores[:-1]
        from_states[2, 2:] = np.where(may_skip[2:], scores[:-2], -np.inf)
        steps[frame] = from_states.argmax(axis=0)
        scores = from_states.max(axis=0) + log_probs[frame, labels]
    state = len(labels) - 1 if scores[-1] > scores[-2] else len(labels) - 2
    path = []
    for step in steps[::-1]:
        path.append(int(labels[state]))
        state -= step[state]
    return path[::-1]
