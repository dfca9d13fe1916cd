"""Word, character and token errors, counted as sclite counts them.

An alignment of least cost is not unique, and libraries for weighted edit distances choose
another one than sclite, with other numbers of errors: here, rapidfuzz's distances tell which
steps are on one of least cost, and sclite's order of preference chooses among them. Case is
ignored for ASCII letters only, as by sclite. What sclite takes for markup inside a transcript
(``{a / b}``, ``@``, ``;;``) is text like any other here.

Numbers only: :mod:`espnet_ensemble.recipes.sclite` lays them out.
"""

import math
import string
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count as count_up
from itertools import islice
from operator import add
from typing import Literal, NamedTuple

import numpy as np
from rapidfuzz.distance import LCSseq, Levenshtein

from espnet_ensemble.data.tables import Table
from espnet_ensemble.recipes.edit_tables import (
    MAX_TOKENS,
    MAX_WIDTH,
    Edit,
    find_band,
    trace_all,
)

#: utt_id -> tokens.
Tokens = Mapping[str, list[str]]

# sclite's costs are 4 for a substitution and 3 for a deletion or an insertion. That is 3 for
# every token, less twice these for two that stand for each other.
_CORRECT = 3
_SUBSTITUTED = 1

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
        return Counts(*map(add, vars(self).values(), vars(other).values()))

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
    """A hypothesis, compared with its reference.

    Attributes:
        utt_id: The utterance.
        spk: Its speaker.
        ref: Tokens that were said.
        hyp: Tokens that were recognised.
        edits: The errors, in their order.
    """

    utt_id: str
    spk: str
    ref: list[str]
    hyp: list[str]
    edits: tuple[Edit, ...]

    @classmethod
    def of(
        cls, utt_id: str, spk: str, ref: list[str], hyp: list[str]
    ) -> "ScoredUtterance":
        """Find the errors."""
        return cls(utt_id, spk, ref, hyp, tuple(find_edits(ref, hyp)))

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Both, token by token."""
        return tuple(_pair(self.ref, self.hyp, self.edits))

    @cached_property
    def counts(self) -> Counts:
        """The numbers of its words and errors."""
        kinds = [edit.kind for edit in self.edits]
        missed = kinds.count("S") + kinds.count("D")
        return Counts(
            sentences=1,
            words=len(self.ref),
            correct=len(self.ref) - missed,
            substitutions=kinds.count("S"),
            deletions=kinds.count("D"),
            insertions=kinds.count("I"),
            errors=len(kinds),
            wrong_sentences=int(bool(kinds)),
        )


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
    pairs = ((tokens, hyp[utt_id]) for utt_id, tokens in ref.items())
    edits = find_all_edits(pairs)
    return Score(
        tuple(
            ScoredUtterance(utt_id, utt2spk[utt_id], tokens, hyp[utt_id], tuple(found))
            for (utt_id, tokens), found in zip(ref.items(), edits, strict=True)
        )
    )


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
    return list(_pair(ref, hyp, find_edits(ref, hyp)))


def find_edits(ref: list[str], hyp: list[str]) -> list[Edit]:
    """Find the errors of the alignment that :func:`align` gives.

    Example:
        >>> for edit in find_edits("the cat sat".split(), "cat SAT down".split()):
        ...     print(*edit)
        D 0 0
        I 3 2
    """
    if ref == hyp:
        return []
    return _find_edits_of(*_encode(ref, hyp))


def _find_edits_of(said: str, heard: str) -> list[Edit]:
    gains = _Gains(said, heard)
    for gain in (gains.bound, gains.exact):
        edits = _trace(gains, gain(len(said), len(heard)))
        if edits is not None:
            return edits[::-1]
    return _trace_table(said, heard)[::-1]


def find_all_edits(
    pairs: Iterable[tuple[list[str], list[str]]],
) -> Iterator[list[Edit]]:
    """Find the errors of many utterances, as :func:`find_edits` does of one, but faster.

    Args:
        pairs: References and hypotheses. A few hundred are held at a time.

    Example:
        >>> pairs = [("a b".split(), "a".split()), ("a b".split(), "a b".split())]
        >>> list(find_all_edits(pairs))
        [[Edit(kind='D', ref=1, hyp=1)], []]
    """
    source = iter(pairs)
    while window := list(islice(source, _WINDOW)):
        yield from _find_edits(window)


# Utterances that are read at a time, and those, of similar length, whose tables are one.
_WINDOW, _TABLE = 4096, 64


def _find_edits(window: list[tuple[list[str], list[str]]]) -> list[list[Edit]]:
    found: list[list[Edit]] = [[] for _ in window]
    banded = []
    for place, (ref, hyp) in enumerate(window):
        if ref == hyp:
            continue
        said, heard = _encode(ref, hyp)
        low, high = find_band(said, heard)
        if low == high:
            found[place] = [
                Edit("S", row, row)
                for row, (token, other) in enumerate(zip(said, heard, strict=True))
                if token != other
            ]
        elif high - low < MAX_WIDTH and max(len(said), len(heard)) <= MAX_TOKENS:
            # Of similar width and length: tables are as large as the largest.
            size = int(2 * math.log2(high - low)), len(said)
            banded.append((size, place, (low, high), (said, heard)))
        else:
            found[place] = _find_edits_of(said, heard)
    banded.sort()
    for start in range(0, len(banded), _TABLE):
        part = banded[start : start + _TABLE]
        _, places, bands, texts = zip(*part, strict=True)
        for place, edits in zip(places, trace_all(texts, bands), strict=True):
            found[place] = edits[::-1]
    return found


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
    return text.lower() if text.isascii() else text.translate(_LOWER)


def _pair(ref: list[str], hyp: list[str], edits: Sequence[Edit]) -> Iterator[Pair]:
    row = column = 0
    for kind, next_row, next_column in edits:
        yield from map(Pair, ref[row:next_row], hyp[column:next_column])
        row, column = next_row + (kind != "I"), next_column + (kind != "D")
        yield Pair(
            None if kind == "I" else ref[next_row],
            None if kind == "D" else hyp[next_column],
        )
    yield from map(Pair, ref[row:], hyp[column:])


class _Codes(dict[str, str]):
    """Token -> a character for it, the same for those that differ in case: rapidfuzz and
    NumPy are fastest on these.

    Letters and ESPnet's space are themselves, or are among the first 256, with which it is
    faster still.
    """

    def __init__(self):
        super().__init__(
            {letter: fold_case(letter) for letter in map(chr, range(1, 256))}
        )
        self["<space>"] = chr(0)
        self._numbers = count_up(256)

    def __missing__(self, token: str) -> str:
        folded = fold_case(token)
        # In one step: several threads may be scoring.
        code = self.setdefault(folded, chr(next(self._numbers)))
        return self.setdefault(token, code)


_codes = _Codes()
# There are a million characters; an utterance has fewer tokens than the rest of them.
_MAX_CODES = 100_000


def _encode(*texts: list[str]) -> list[str]:
    """Tokens as characters, the same where sclite takes tokens for the same."""
    global _codes
    if len(_codes) > _MAX_CODES:
        _codes = _Codes()
    find = _codes.__getitem__
    return ["".join(map(find, tokens)) for tokens in texts]


# An alignment with C correct tokens and S substitutions costs 3 (ref + hyp) - 2 (3 C + S):
# the least cost is the largest 3 C + S, its gain.


class _Gains:
    """What alignments of the first tokens gain."""

    def __init__(self, ref: str, hyp: str):
        self.ref, self.hyp = ref, hyp
        self._bounds: dict[tuple[int, int], int] = {}

    def bound(self, row: int, column: int) -> int:
        """How much it is at most.

        The Levenshtein distance is ref + hyp - (2 C + S) at best, and C is at most the
        length of the longest common subsequence.
        """
        bound = self._bounds.get((row, column))
        if bound is None:
            ref, hyp = self.ref[:row], self.hyp[:column]
            distance, common = (
                Levenshtein.distance(ref, hyp),
                LCSseq.similarity(ref, hyp),
            )
            bound = self._bounds[row, column] = row + column - distance + common
        return bound

    def exact(self, row: int, column: int) -> int:
        """How much it is; this takes long."""
        ref, hyp = self.ref[:row], self.hyp[:column]
        cost = Levenshtein.distance(ref, hyp, weights=(3, 3, 4))
        return (3 * (row + column) - cost) // 2


def _trace(gains: _Gains, left: int) -> list[Edit] | None:
    """Go back along sclite's alignment, by bounds.

    Args:
        gains: Of the tokens.
        left: What is to be gained in all.

    Returns:
        The errors, from the last to the first; None where that led astray.
    """
    ref, hyp = gains.ref, gains.hyp
    row, column, edits = len(ref), len(hyp), []
    slack = gains.bound(row, column) - left

    def is_left(row: int, column: int, left: int) -> bool:
        # A bound that is as loose as before was so far off before, too.
        nonlocal slack
        loose = gains.bound(row, column) - left
        if loose < 0 or (loose < slack and gains.exact(row, column) < left):
            return False
        slack = loose
        return True

    while row and column:
        # Tokens that are equal stand for each other on some way of least cost; sclite
        # looks at that way first, then at insertions.
        if ref[row - 1] == hyp[column - 1]:
            row, column, left = row - 1, column - 1, left - _CORRECT
        elif is_left(row - 1, column - 1, left - _SUBSTITUTED):
            row, column, left = row - 1, column - 1, left - _SUBSTITUTED
            edits.append(Edit("S", row, column))
        elif is_left(row, column - 1, left):
            column -= 1
            edits.append(Edit("I", row, column))
        else:
            row -= 1
            edits.append(Edit("D", row, column))
    # A step not taken was not on a way of least cost. One that was taken may have been wrong,
    # but then not all can be gained.
    return None if left else edits + _rest(row, column)


def _trace_table(ref: str, hyp: str) -> list[Edit]:
    """The same as :func:`_trace`, for any tokens, by a table of all gains."""
    gains = _table(ref, hyp)
    edits = []
    row, column = len(ref), len(hyp)
    while row and column:
        gain = gains[row, column]
        if ref[row - 1] == hyp[column - 1]:
            row, column = row - 1, column - 1
        elif gain == gains[row - 1, column - 1] + _SUBSTITUTED:
            row, column = row - 1, column - 1
            edits.append(Edit("S", row, column))
        elif gain == gains[row, column - 1]:
            column -= 1
            edits.append(Edit("I", row, column))
        else:
            row -= 1
            edits.append(Edit("D", row, column))
    return edits + _rest(row, column)


def _rest(row: int, column: int) -> list[Edit]:
    """What is left where one side has no more tokens."""
    deletions = [Edit("D", place, 0) for place in reversed(range(row))]
    return deletions + [Edit("I", 0, place) for place in reversed(range(column))]


def _table(ref: str, hyp: str) -> np.ndarray:
    """The largest gains of aligning the first tokens: (1 + ref, 1 + hyp)."""
    rows, columns = (np.fromiter(map(ord, tokens), int) for tokens in (ref, hyp))
    gains = np.zeros((len(ref) + 1, len(hyp) + 1), dtype=np.int32)
    for row, token in enumerate(rows):
        before, best = gains[row], gains[row + 1]
        both = np.where(columns == token, np.int32(_CORRECT), np.int32(_SUBSTITUTED))
        np.add(before[:-1], both, out=best[1:])
        np.maximum(before, best, out=best)
        # A run of insertions after any of them, all at once.
        np.maximum.accumulate(best, out=best)
    return gains


def _percent(number: int, of: int) -> float:
    # Halves are rounded up, unlike by round().
    return int(number / of * 100 * 10 + 0.5) / 10 if of else 0.0
