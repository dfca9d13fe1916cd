"""Several transcripts of an utterance beside its reference, and the best in all of them."""

from collections.abc import Sequence
from itertools import zip_longest
from typing import NamedTuple

from espnet_ensemble.decoding.rover import correspond
from espnet_ensemble.recipes.scoring import Pair, fold_case


class Column(NamedTuple):
    """A word of the reference, and what each system has for it; None: nothing.

    A tuple, since whoever reads an alignment unpacks it. Without a word of the reference,
    what systems have are insertions.
    """

    ref: str | None
    hyps: tuple[str | None, ...]


def align_systems(alignments: Sequence[Sequence[Pair]]) -> list[Column]:
    """Put the alignments of several systems with the same reference side by side.

    Args:
        alignments: Of each system, as :func:`~espnet_ensemble.recipes.scoring.align`
            gives it.

    Example:
        >>> from espnet_ensemble.recipes.scoring import align
        >>> said = "the cat sat".split()
        >>> one, two = align(said, "the big cat".split()), align(said, "cat sat".split())
        >>> for ref, hyps in align_systems([one, two]):
        ...     print(ref, *hyps)
        the the None
        None big None
        cat cat cat
        sat None sat
    """
    refs = [pair.ref for pair in alignments[0] if pair.ref is not None]
    systems = [_by_reference(pairs, len(refs)) for pairs in alignments]
    columns = []
    for place in range(len(refs) + 1):
        inserted = (insertions[place] for insertions, _ in systems)
        columns += [Column(None, hyps) for hyps in zip_longest(*inserted)]
        if place < len(refs):
            hyps = tuple(words[place] for _, words in systems)
            columns.append(Column(refs[place], hyps))
    return columns


def oracle_errors(ref: Sequence[str], hypotheses: Sequence[Sequence[str]]) -> int:
    """How many errors are left if the best word is chosen everywhere.

    The transcripts are aligned with one another, as by ROVER; of every correspondence set,
    the word is taken that fits the reference best, or none if some transcript has none.

    Args:
        ref: Words of the reference.
        hypotheses: Words of each system.

    Example:
        >>> oracle_errors("the cat sat".split(), ["the bat sat".split(), ["cat", "sad"]])
        0
    """
    folded = [[fold_case(word) for word in words] for words in hypotheses]
    wanted = [fold_case(word) for word in ref]
    sets = [
        {
            None if index is None else folded[number][index]
            for number, index in enumerate(members)
        }
        for members in correspond(folded)
    ]
    _drop_agreed(sets, wanted)
    _drop_agreed(sets, wanted, -1)
    costs = list(range(len(wanted) + 1))
    for words in sets:
        row = [costs[0] + (None not in words)]
        for place, word in enumerate(wanted):
            row.append(
                min(
                    costs[place] + (word not in words),
                    costs[place + 1] + (None not in words),
                    row[-1] + 1,
                )
            )
        costs = row
    return costs[-1]


def _drop_agreed(
    sets: list[set[str | None]], wanted: list[str], place: int = 0
) -> None:
    """Drop what all have right at the beginning (0) or the end (-1): no choice is better."""
    while sets and wanted and sets[place] == {wanted[place]}:
        del sets[place], wanted[place]


def _by_reference(
    pairs: Sequence[Pair], length: int
) -> tuple[list[list[str | None]], list[str | None]]:
    """What is inserted before each word of the reference and after the last, and what
    stands for each word."""
    insertions: list[list[str | None]] = [[] for _ in range(length + 1)]
    words: list[str | None] = []
    for ref, hyp in pairs:
        if ref is None:
            insertions[len(words)].append(hyp)
        else:
            words.append(hyp)
    return insertions, words
