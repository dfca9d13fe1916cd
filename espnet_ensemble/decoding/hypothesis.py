"""What a search through CTC's posteriors finds."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Hypothesis:
    """A transcript in tokens.

    Attributes:
        token_ids: Indices into the token list, without blanks and repetitions.
        score: Natural logarithm of its probability: of the best path alone (greedy), or of
            all paths that the search kept, with what a language model adds.

    Example:
        >>> Hypothesis(token_ids=(5, 3, 3), score=-1.5)
        Hypothesis(token_ids=(5, 3, 3), score=-1.5)
    """

    token_ids: tuple[int, ...]
    score: float


@dataclass(frozen=True)
class Word:
    """A recognised word, where it is, and how sure that is.

    Attributes:
        text: The word.
        start: When it begins, in seconds from the beginning of the utterance.
        end: When it ends, in seconds.
        confidence: In [0, 1].

    Example:
        >>> Word("hello", start=0.12, end=0.5, confidence=0.98).text
        'hello'
    """

    text: str
    start: float
    end: float
    confidence: float
