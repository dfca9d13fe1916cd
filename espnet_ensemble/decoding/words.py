"""The words of a transcript: when each was said, and how sure that is."""

import math
from collections.abc import Sequence

import torch

from espnet_ensemble.decoding.alignment import TokenSpan, align_tokens
from espnet_ensemble.decoding.confidence import token_confidences
from espnet_ensemble.decoding.hypothesis import Word
from espnet_ensemble.decoding.vocabulary import Vocabulary


def find_words(
    log_probs: torch.Tensor,
    token_ids: Sequence[int],
    vocabulary: Vocabulary,
    frame_seconds: float,
) -> list[Word]:
    """Find the words of a transcript in the posteriors that it was made of.

    A word reaches from the first frame of its first token to the last of its last, and
    :mod:`espnet_ensemble.decoding.confidence` says what its confidence is.

    Args:
        log_probs: Natural logarithms of the utterance's posteriors: (frames, tokens).
        token_ids: The transcript.
        vocabulary: What the tokens stand for.
        frame_seconds: Seconds from one frame to the next.

    Raises:
        EnsembleError: If there are too few frames for the transcript.

    Example:
        >>> letters = Vocabulary(("<blank>", "<space>", "a", "b"), "".join)
        >>> path = torch.tensor([0, 2, 2, 1, 3])
        >>> log_probs = (torch.eye(4)[path] * 0.96 + 0.01).log()
        >>> for word in find_words(log_probs, [2, 1, 3], letters, frame_seconds=0.02):
        ...     print(f"{word.text} {word.start:.2f} {word.end:.2f} {word.confidence:.2f}")
        a 0.02 0.06 0.77
        b 0.08 0.10 0.77
    """
    spans = align_tokens(log_probs, token_ids, vocabulary.blank_id)
    sure = dict(zip(spans, token_confidences(log_probs, spans), strict=True))
    return [
        Word(
            vocabulary.to_text([span.token_id for span in group]).strip(),
            start=group[0].start * frame_seconds,
            end=group[-1].end * frame_seconds,
            confidence=math.prod(sure[span] for span in group),
        )
        for group in group_words(spans, vocabulary)
    ]


def group_words(
    spans: Sequence[TokenSpan], vocabulary: Vocabulary
) -> list[list[TokenSpan]]:
    """Divide tokens into words; those that only stand between words are left out."""
    boundary = vocabulary.word_boundary
    if boundary is None:
        return [[span] for span in spans]
    groups: list[list[TokenSpan]] = [[]]
    for span in spans:
        token = vocabulary.tokens[span.token_id]
        if token.startswith(boundary):
            groups.append([])
        if token != boundary:
            groups[-1].append(span)
    return [group for group in groups if group]
