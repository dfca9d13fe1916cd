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
    finder = WordFinder(vocabulary, frame_seconds)
    finder.add(log_probs, token_ids)
    return finder.words()


class WordFinder:
    """Finds the words of a long transcript, part by part: memory is that of a part.

    Args:
        vocabulary: What tokens stand for.
        frame_seconds: Seconds from one frame to the next.
    """

    def __init__(self, vocabulary: Vocabulary, frame_seconds: float):
        self._vocabulary = vocabulary
        self._frame_seconds = frame_seconds
        self._num_frames = 0
        self._sure: dict[TokenSpan, float] = {}

    def add(self, log_probs: torch.Tensor, token_ids: Sequence[int]) -> None:
        """Go on with the next part.

        Args:
            log_probs: Its posteriors, as for :func:`find_words`.
            token_ids: Its transcript. A word may go on in the next part.

        Raises:
            EnsembleError: If there are too few frames for the transcript.
        """
        log_probs = log_probs.cpu()
        spans = align_tokens(log_probs, token_ids, self._vocabulary.blank_id)
        for span, sure in zip(spans, token_confidences(log_probs, spans), strict=True):
            start, end = self._num_frames + span.start, self._num_frames + span.end
            self._sure[TokenSpan(span.token_id, start, end)] = sure
        self._num_frames += len(log_probs)

    def words(self) -> list[Word]:
        """The words of all parts so far.

        Where tokens between two boundaries spell several words (SentencePiece's unknown
        piece is one by itself), these share times and confidence.
        """
        return [
            Word(
                text,
                start=group[0].start * self._frame_seconds,
                end=group[-1].end * self._frame_seconds,
                confidence=math.prod(self._sure[span] for span in group),
            )
            for group in group_words(list(self._sure), self._vocabulary)
            for text in self._spell(group).split()
        ]

    def _spell(self, spans: Sequence[TokenSpan]) -> str:
        return self._vocabulary.to_text([span.token_id for span in spans])


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
