"""What there is to say of several systems on one dataset: values, for whoever shows them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from espnet_ensemble.analysis.bootstrap import (
    Interval,
    draw_rates,
    interval,
    p_value,
)
from espnet_ensemble.recipes.compare.alignments import (
    Column,
    align_systems,
    oracle_errors,
)
from espnet_ensemble.recipes.compare.systems import System, differences, name_systems
from espnet_ensemble.recipes.scoring import Counts, ScoredUtterance


@dataclass(frozen=True)
class Row:
    """A system's result.

    Attributes:
        number: What the system is called in the comparison: 1 is the best.
        name: Its folder, without what the folders of all have in common.
        counts: Its errors.
        wer: Word error rate in percent.
        interval: Where that lies with 95 %, by the bootstrap over utterances.
        p: How likely so clear a difference from the baseline is, if there is none; None
            for the baseline.
    """

    number: int
    name: str
    counts: Counts
    wer: float
    interval: Interval
    p: float | None


@dataclass(frozen=True)
class Utterance:
    """What the systems made of an utterance.

    Attributes:
        scored: What each made of it, in the order of the rows.
    """

    scored: tuple[ScoredUtterance, ...]

    @property
    def utt_id(self) -> str:
        """Its id."""
        return self.scored[0].utt_id

    @cached_property
    def columns(self) -> list[Column]:
        """Reference and transcripts, word by word, in the order of the rows."""
        return align_systems([scored.pairs for scored in self.scored])

    @cached_property
    def errors(self) -> tuple[int, ...]:
        """Of each system."""
        return tuple(scored.counts.errors for scored in self.scored)

    @property
    def agree(self) -> bool:
        """Whether all systems recognised the same."""
        return all(scored.hyp == self.scored[0].hyp for scored in self.scored)


@dataclass(frozen=True)
class Oracle:
    """What somebody could reach who knows the references, in percent of the words.

    Attributes:
        utterance_wer: Who takes the best system for each utterance.
        word_wer: Who takes the best word at each place of the aligned transcripts.
    """

    utterance_wer: float
    word_wer: float


@dataclass(frozen=True)
class Comparison:
    """Several systems on one dataset.

    Attributes:
        dataset: Its name.
        rows: The systems, the best first.
        baseline: Number of the system that the others are tested against.
        differences: What differs in their configurations: key -> each system's, in the
            order of the rows.
        oracle: What a perfect combination of them could reach.
        utterances: All, in the order of the references.
    """

    dataset: str
    rows: Sequence[Row]
    baseline: int
    differences: dict[str, list[str]]
    oracle: Oracle
    utterances: Sequence[Utterance]

    @cached_property
    def differing(self) -> list[Utterance]:
        """The utterances that some recognise better than others, the widest gap first."""
        found = [u for u in self.utterances if min(u.errors) < max(u.errors)]
        return sorted(found, key=lambda u: min(u.errors) - max(u.errors))

    @cached_property
    def suspicious(self) -> list[Utterance]:
        """Where all systems agree on something other than the reference, which may be wrong.

        Those with most errors first; none, if there is one system only.
        """
        if len(self.rows) == 1:
            return []
        found = [u for u in self.utterances if u.agree and u.errors[0]]
        return sorted(found, key=lambda u: -u.errors[0])


def compare(
    dataset: str,
    systems: Sequence[System],
    draws: int = 10000,
    seed: int = 0,
    names: Sequence[str] | None = None,
) -> Comparison:
    """Compare systems; the first is the baseline.

    Args:
        dataset: Name of the dataset.
        systems: What each made of it, :func:`~.systems.read_systems`.
        draws: Of the bootstrap.
        seed: Of the bootstrap.
        names: What to call the systems; None: by their folders.
    """
    baseline = systems[0]
    if names is None:
        names = name_systems([system.decoding for system in systems])
    pairs = sorted(zip(systems, names, strict=True), key=lambda pair: pair[0].wer)
    ordered = [system for system, _ in pairs]
    errors = np.array(
        [[u.counts.errors for u in system.score.utterances] for system in ordered]
    ).T
    words = np.array([u.counts.words for u in baseline.score.utterances])
    rates = draw_rates(errors, words, draws, seed)
    base = ordered.index(baseline)
    rows = [
        Row(
            number=index + 1,
            name=name,
            counts=system.score.counts,
            wer=system.wer,
            interval=interval(rates[:, index]),
            p=None if index == base else p_value(rates[:, index], rates[:, base]),
        )
        for index, (system, name) in enumerate(pairs)
    ]
    return Comparison(
        dataset,
        rows,
        base + 1,
        differences([system.decoding for system in ordered]),
        _oracle(ordered, errors, int(words.sum())),
        _utterances(ordered),
    )


def _utterances(systems: Sequence[System]) -> list[Utterance]:
    return list(map(Utterance, _side_by_side(systems)))


def _side_by_side(
    systems: Sequence[System],
) -> Iterator[tuple[ScoredUtterance, ...]]:
    return zip(*(system.score.utterances for system in systems), strict=True)


def _oracle(systems: Sequence[System], errors: np.ndarray, words: int) -> Oracle:
    best_words = sum(
        oracle_errors(same[0].ref, [scored.hyp for scored in same])
        for same in _side_by_side(systems)
    )
    return Oracle(
        utterance_wer=100 * int(errors.min(axis=1).sum()) / words,
        word_wer=100 * best_words / words,
    )
