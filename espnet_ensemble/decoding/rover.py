"""ROVER: several transcripts of an utterance aligned with one another, and a vote.

J. G. Fiscus, "A post-processing system to yield reduced word error rates: Recognizer Output
Voting Error Reduction (ROVER)", ASRU 1997. The transcripts are aligned one after the other
with what the earlier ones have become: a chain of correspondence sets, each of which holds
a word, or none, of every transcript. Then the best of each set is chosen. The first
transcript is the backbone, so the best system should come first.

Alignments, votes and ties are those of ``rover`` of NIST's scoring toolkit with ``-s``,
except that it cuts long recordings where all systems are silent for a second.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import fmean
from typing import Literal, NamedTuple, get_args

import numpy as np
from rapidfuzz.distance import Levenshtein

from espnet_ensemble.decoding.hypothesis import Word
from espnet_ensemble.errors import EnsembleError

#: For every transcript: which of its words is here; None: none of them.
CorrespondenceSet = tuple[int | None, ...]

Method = Literal["meth1", "avgconf", "maxconf"]
METHODS: tuple[Method, ...] = get_args(Method)

# The toolkit's costs, in its precision: rounding decides between alignments of equal cost.
_SAME = np.float32(0)
_OTHER = np.float32(4)
_FOR_NO_WORD = np.float32(1)
_GAP = np.float32(3)
_SKIP_NO_WORD = np.float32(0.001)
_NEVER = np.float32(np.inf)

# Among texts; words are never empty.
_NO_WORD = ""


@dataclass(frozen=True)
class Voting:
    """How a word is chosen out of a correspondence set.

    The score of a word is ``alpha`` times the share of the transcripts that have it, plus
    ``1 - alpha`` times its confidence there. "No word" is a candidate like any other.

    Attributes:
        method: What the confidence of a word is that several have: "meth1", their mean (the
            paper's average confidence); "maxconf", the highest; "avgconf", the share of
            their sum in that of the whole set. Named as the options of ``rover -m``.
        alpha: In [0, 1]; 1: votes alone, whatever the confidences.
        null_conf: Confidence of "no word", in [0, 1].

    Raises:
        EnsembleError: If the method is unknown, or a number is out of range.
    """

    method: Method = "meth1"
    alpha: float = 1.0
    null_conf: float = 0.0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise EnsembleError(
                f"method: expected one of {', '.join(METHODS)}, found {self.method!r}"
            )
        for name in ("alpha", "null_conf"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise EnsembleError(f"{name}: expected 0 to 1, found {value}")


def rover(
    hypotheses: Sequence[Sequence[Word]], voting: Voting | None = None
) -> list[Word]:
    """Combine several transcripts of an utterance into one.

    Args:
        hypotheses: The words of each, the best system's first. Case counts.
        voting: How words are chosen; None: by votes alone.

    Returns:
        The words that win, with means of the times and confidences of those who have them.

    Example:
        >>> said = [["the", "cat", "sat"], ["a", "cat", "sat"], ["the", "cat"]]
        >>> hypotheses = [[Word(w, i, i + 1, 0.5) for i, w in enumerate(h)] for h in said]
        >>> [word.text for word in rover(hypotheses)]
        ['the', 'cat', 'sat']
    """
    sets = correspond([[word.text for word in words] for words in hypotheses])
    return vote(sets, hypotheses, voting or Voting())


def vote(
    sets: Sequence[CorrespondenceSet],
    hypotheses: Sequence[Sequence[Word]],
    voting: Voting,
) -> list[Word]:
    """Choose the best of each correspondence set: the second half of :func:`rover`.

    Args:
        sets: The alignment, :func:`correspond`.
        hypotheses: The words that were aligned.
        voting: How words are chosen.
    """
    no_word = Word(_NO_WORD, 0.0, 0.0, voting.null_conf)
    winners = []
    for members in sets:
        words = [
            no_word if index is None else hypothesis[index]
            for index, hypothesis in zip(members, hypotheses, strict=True)
        ]
        winners.append(_choose(words, voting))
    return [word for word in winners if word.text != _NO_WORD]


def correspond(hypotheses: Sequence[Sequence[str]]) -> list[CorrespondenceSet]:
    """Align transcripts: the word transition network.

    Args:
        hypotheses: The words of each; of none, there are no sets.

    Returns:
        From left to right.

    Example:
        >>> correspond([["the", "cat", "sat"], ["cat", "sat", "down"]])
        [(0, None), (1, 0), (2, 1), (None, 2)]
    """
    sets: list[CorrespondenceSet] = []
    for number, words in enumerate(hypotheses):
        known = [_texts(members, hypotheses) for members in sets]
        nobody = (None,) * number
        sets = [
            (nobody if place is None else sets[place]) + (index,)
            for place, index in _align(known, words)
        ]
    return sets


def _texts(
    members: CorrespondenceSet, hypotheses: Sequence[Sequence[str]]
) -> list[str]:
    """The distinct words of a correspondence set."""
    return _distinct(
        [
            _NO_WORD if index is None else hypothesis[index]
            for index, hypothesis in zip(members, hypotheses, strict=False)
        ]
    )


def _distinct(texts: Sequence[str]) -> list[str]:
    """Each once, in the toolkit's order: who has opened the set comes first."""
    opener = next(text for text in texts if text != _NO_WORD)
    return list(dict.fromkeys([opener, *texts]))


class _Cell(NamedTuple):
    """The least cost of reaching a place, and the place before it. A tuple, for speed.

    Attributes:
        cost: Sum of costs.
        sets: How many correspondence sets are behind.
        arc: Which word of the last of these.
        words: How many words are behind.
    """

    cost: np.float32
    sets: int
    arc: int
    words: int


# By how many words are behind.
_Row = dict[int, _Cell]


def _align(
    sets: Sequence[Sequence[str]], words: Sequence[str]
) -> list[tuple[int | None, int | None]]:
    """Align words with correspondence sets at the least cost.

    Returns:
        Pairs of a set and a word, by index; None where one side has none.
    """
    first, *others = _limits(sets, words)
    table: list[list[_Row]] = [[_first_row(first)]]
    for arcs, numbers in zip(sets, others, strict=True):
        before = {number: _cheapest(table, number) for number in table[-1][0]}
        table.append(
            [
                _row(len(table), index, arc, words, before, numbers)
                for index, arc in enumerate(arcs)
            ]
        )
    place = _cheapest(table, len(words))
    pairs = []
    while place.sets or place.words:
        origin = table[place.sets][place.arc][place.words]
        pairs.append(
            (
                origin.sets if origin.sets < place.sets else None,
                origin.words if origin.words < place.words else None,
            )
        )
        place = origin
    return pairs[::-1]


def _limits(sets: Sequence[Sequence[str]], words: Sequence[str]) -> Iterator[range]:
    """How many words can be behind each number of sets, on a way of the least cost.

    Every word without a set costs a gap, and so does every set without a word, but for those
    in which "no word" is already. The sets' first words alone tell how many gaps there are at
    most.
    """
    most = _OTHER * Levenshtein.distance([arcs[0] for arcs in sets], words)
    gaps, more = int(most / _GAP), len(words) - len(sets)
    free = [0, *accumulate(_NO_WORD in arcs for arcs in sets)]
    for number, behind in enumerate(free):
        # Words that are ahead of the sets by x cost x gaps so far, and x - surplus later;
        # those that are behind by x cost x - behind so far, and x + more later.
        surplus = more + free[-1] - behind
        ahead = min(gaps, max(surplus, (gaps + surplus) // 2))
        late = min(gaps - more, max(behind, (gaps - more + behind) // 2))
        yield range(max(number - late, 0), min(number + ahead, len(words)) + 1)


def _first_row(numbers: range) -> _Row:
    """The cells before any correspondence set."""
    row = {0: _Cell(np.float32(0), 0, 0, 0)}
    for number in numbers[1:]:
        row[number] = _Cell(row[number - 1].cost + _GAP, 0, 0, number - 1)
    return row


def _cheapest(table: list[list[_Row]], words: int) -> _Cell:
    """The best place after the last correspondence set and so many words."""
    costs = [row[words].cost for row in table[-1]]
    best = min(costs)
    return _Cell(best, len(table) - 1, costs.index(best), words)


def _row(
    sets: int,
    index: int,
    arc: str,
    words: Sequence[str],
    before: _Row,
    numbers: range,
) -> _Row:
    """The cells of a word of a correspondence set.

    Args:
        sets: Which set, from 1.
        index: Which word of the set.
        arc: The word.
        words: Those to align.
        before: The best places before the set.
        numbers: How many words may be behind.
    """
    skip = _SKIP_NO_WORD if arc == _NO_WORD else _GAP
    row: _Row = {}
    for number in numbers:
        both, one = before.get(number - 1), row.get(number - 1)
        none = before.get(number)
        costs = (
            both.cost + _replace(arc, words[number - 1]) if both else _NEVER,
            one.cost + _GAP if one else _NEVER,
            none.cost + skip if none else _NEVER,
        )
        cost = min(costs)
        way = costs.index(cost)  # the first, where several cost the same
        if way == 1:
            row[number] = _Cell(cost, sets, index, number - 1)
        else:
            row[number] = _Cell(cost, *before[number if way else number - 1][1:])
    return row


def _replace(arc: str, word: str) -> np.float32:
    """What it costs that they stand for each other."""
    if arc == _NO_WORD:
        return _FOR_NO_WORD
    return _SAME if arc == word else _OTHER


def _choose(words: Sequence[Word], voting: Voting) -> Word:
    """Choose out of a correspondence set; of several with the same score, the first."""
    total = sum(word.confidence for word in words)
    groups = [
        [word for word in words if word.text == text]
        for text in _distinct([word.text for word in words])
    ]
    best = max(groups, key=lambda group: _score(group, len(words), total, voting))
    return Word(
        best[0].text,
        start=fmean(word.start for word in best),
        end=fmean(word.end for word in best),
        confidence=fmean(word.confidence for word in best),
    )


def _score(group: list[Word], size: int, total: float, voting: Voting) -> float:
    """The score of a word that ``group`` has, out of ``size`` transcripts."""
    confidences = [word.confidence for word in group]
    if voting.method == "meth1":
        confidence = sum(confidences) / len(confidences)
    elif voting.method == "maxconf":
        confidence = max(confidences)
    else:
        confidence = sum(confidences) / total if total else 0.0
    return voting.alpha * (len(group) / size) + (1 - voting.alpha) * confidence
