"""Word, character and token errors, counted as sclite counts them.

An alignment of least cost is not unique, and libraries for weighted edit distances choose
another one than sclite, with other numbers of errors. Case is ignored for ASCII letters
only, as by sclite. What sclite takes for markup inside a transcript (``{a / b}``, ``@``,
``;;``) is text like any other here.

Numbers only: :mod:`espnet_ensemble.recipes.sclite` lays them out.
"""

import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np

from espnet_ensemble.data.tables import Table

#: utt_id -> tokens.
Tokens = dict[str, list[str]]

# sclite's costs: a substitution is better than a deletion and an insertion.
_SUBSTITUTION = 4
_GAP = 3

_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


class Pair(NamedTuple):
    """Tokens that stand for each other; None where one side has none.

    A tuple, since whoever reads an alignment unpacks it.
    """

    ref: str | None
    hyp: str | None

    @property
    def kind(self) -> Literal["C", "S", "D", "I"]:
        """Correct, substitution, deletion or insertion."""
        if self.ref is None:
            return "I"
        if self.hyp is None:
            return "D"
        return "C" if fold_case(self.ref) == fold_case(self.hyp) else "S"


@dataclass(frozen=True)
class Percentages:
    """Shares of the words, or of the sentences, rounded as sclite does: to one decimal."""

    correct: float
    substitutions: float
    deletions: float
    insertions: float
    errors: float
    wrong_sentences: float


@dataclass(frozen=True)
class Counts:
    """Numbers of sentences, words and errors: a row of sclite's table of counts.

    Attributes:
        sentences: How many utterances.
        words: Tokens of the references: words, characters or pieces.
        correct: Of these.
        substitutions: Of these.
        deletions: Of these.
        insertions: Tokens of the hypotheses that stand for none of the references.
        errors: Substitutions, deletions and insertions.
        wrong_sentences: Utterances that have any.

    Example:
        >>> Counts(sentences=1, words=3, correct=3) + Counts(sentences=1, words=2, correct=2)
        Counts(sentences=2, words=5, correct=5, substitutions=0, deletions=0,
               insertions=0, errors=0, wrong_sentences=0)
    """

    sentences: int = 0
    words: int = 0
    correct: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    errors: int = 0
    wrong_sentences: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        names = [field.name for field in fields(self)]
        return Counts(*(getattr(self, name) + getattr(other, name) for name in names))

    @property
    def percentages(self) -> Percentages:
        """Shares of the words, or of the sentences; 0 where there are none.

        Example:
            >>> Counts(5, 16, 6, 5, 5, 2, 12, 5).percentages
            Percentages(correct=37.5, substitutions=31.3, deletions=31.3, insertions=12.5,
                        errors=75.0, wrong_sentences=100.0)
        """
        return Percentages(
            correct=_percent(self.correct, self.words),
            substitutions=_percent(self.substitutions, self.words),
            deletions=_percent(self.deletions, self.words),
            insertions=_percent(self.insertions, self.words),
            errors=_percent(self.errors, self.words),
            wrong_sentences=_percent(self.wrong_sentences, self.sentences),
        )


@dataclass(frozen=True)
class ScoredUtterance:
    """A hypothesis, token by token beside its reference."""

    utt_id: str
    spk: str
    pairs: tuple[Pair, ...]
    counts: Counts


@dataclass(frozen=True)
class Score:
    """Hypotheses compared with their references, utterance by utterance."""

    utterances: tuple[ScoredUtterance, ...]

    @cached_property
    def counts(self) -> Counts:
        """The sums over all utterances."""
        return sum((utterance.counts for utterance in self.utterances), Counts())

    def by_speaker(self, name: Callable[[str], str] = str) -> dict[str, "Score"]:
        """The same for each speaker, in the order in which they first appear.

        Args:
            name: What to call a speaker; those with one name are taken together.
        """
        groups: dict[str, list[ScoredUtterance]] = {}
        for utterance in self.utterances:
            groups.setdefault(name(utterance.spk), []).append(utterance)
        return {spk: Score(tuple(group)) for spk, group in groups.items()}


def score_tokens(ref: Tokens, hyp: Tokens, utt2spk: Table) -> Score:
    """Compare hypotheses with references.

    Args:
        ref: utt_id -> tokens that were said, in the order of the result.
        hyp: utt_id -> tokens that were recognised, of the same utterances at least.
        utt2spk: utt_id -> speaker, likewise.

    Example:
        >>> score = score_tokens({"utt1": ["a", "b"]}, {"utt1": ["a"]}, {"utt1": "alice"})
        >>> score.counts.deletions, score.counts.percentages.errors
        (1, 50.0)
    """
    utterances = []
    for utt_id, tokens in ref.items():
        pairs = tuple(align(tokens, hyp[utt_id]))
        utterances.append(ScoredUtterance(utt_id, utt2spk[utt_id], pairs, count(pairs)))
    return Score(tuple(utterances))


def align(ref: list[str], hyp: list[str]) -> list[Pair]:
    """Align tokens at the least cost; of several ways, take the one that sclite takes.

    Example:
        >>> for ref, hyp in align("the cat sat".split(), "cat SAT down".split()):
        ...     print(ref, hyp)
        the None
        cat cat
        sat SAT
        None down
    """
    replace = _SUBSTITUTION * _differ(ref, hyp)
    costs = _costs(replace)
    pairs = []
    row, column = len(ref), len(hyp)
    while row or column:
        both = row > 0 and column > 0
        cost = costs[row, column]
        if both and cost == costs[row - 1, column - 1] + replace[row - 1, column - 1]:
            row, column = row - 1, column - 1
            pairs.append(Pair(ref[row], hyp[column]))
        elif row and (not column or costs[row - 1, column] < costs[row, column - 1]):
            row -= 1
            pairs.append(Pair(ref[row], None))
        else:
            column -= 1
            pairs.append(Pair(None, hyp[column]))
    return pairs[::-1]


def count(pairs: Sequence[Pair]) -> Counts:
    """Count the errors of an utterance.

    Example:
        >>> count(align("the cat sat".split(), "cat SAT down".split()))
        Counts(sentences=1, words=3, correct=2, substitutions=0, deletions=1,
               insertions=1, errors=2, wrong_sentences=1)
    """
    kinds = Counter(pair.kind for pair in pairs)
    errors = kinds["S"] + kinds["D"] + kinds["I"]
    return Counts(
        sentences=1,
        words=kinds["C"] + kinds["S"] + kinds["D"],
        correct=kinds["C"],
        substitutions=kinds["S"],
        deletions=kinds["D"],
        insertions=kinds["I"],
        errors=errors,
        wrong_sentences=int(errors > 0),
    )


def fold_case(text: str) -> str:
    """Make ASCII letters small, and no others, as sclite does before it compares."""
    return text.translate(_LOWER)


def _differ(ref: list[str], hyp: list[str]) -> np.ndarray:
    """Whether tokens differ: (ref tokens, hyp tokens)."""
    tokens = [fold_case(token) for token in ref + hyp]
    _, ids = np.unique(np.array(tokens, dtype=str), return_inverse=True)
    return ids[: len(ref), None] != ids[None, len(ref) :]


def _costs(replace: np.ndarray) -> np.ndarray:
    """The least costs of aligning the first tokens.

    Args:
        replace: What it costs that tokens stand for each other: (ref, hyp).

    Returns:
        (1 + ref, 1 + hyp)
    """
    rows, columns = replace.shape
    insertions = _GAP * np.arange(columns + 1)
    costs = np.empty((rows + 1, columns + 1), dtype=np.int64)
    costs[0] = insertions
    for row in range(rows):
        best = costs[row] + _GAP
        best[1:] = np.minimum(best[1:], costs[row, :-1] + replace[row])
        # A run of insertions after any of them, all at once.
        costs[row + 1] = np.minimum.accumulate(best - insertions) + insertions
    return costs


def _percent(number: int, of: int) -> float:
    # Halves are rounded up, unlike by round().
    return int(number / of * 100 * 10 + 0.5) / 10 if of else 0.0
