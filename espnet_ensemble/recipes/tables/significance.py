"""How sure a difference between two systems is: over seeds, and over utterances."""

from collections.abc import Sequence
from statistics import stdev

import numpy as np
from scipy.stats import t

from espnet_ensemble.analysis.bootstrap import draw_rates, p_value
from espnet_ensemble.recipes.compare.systems import read_systems
from espnet_ensemble.recipes.tables.experiments import Experiment
from espnet_ensemble.recipes.tables.measures import scored_sets


def half_width(values: Sequence[float], level: float = 0.95) -> float:
    """Half the confidence interval of a mean, by Student's t.

    Args:
        values: Independent ones, at least two, such as rates of several seeds.
        level: How sure it is to be.

    Example:
        >>> round(half_width([8.0, 9.0, 10.0]), 2)
        2.48
    """
    quantile = t.ppf((1 + level) / 2, len(values) - 1)
    return float(quantile * stdev(values) / len(values) ** 0.5)


def paired_p_value(
    systems: Sequence[Experiment], baseline: Sequence[Experiment]
) -> float | None:
    """How likely a difference of the means at least as clear is without any.

    The means are :func:`~.comparison.mean_rate`'s, as in the tables: utterances of each of its
    sets are drawn by themselves, the same for both systems, and each set counts as much. An
    utterance's errors are those of all seeds for which both have scored these sets.

    Args:
        systems: A system, one experiment for each seed.
        baseline: Another, with the same seeds.

    Returns:
        In (0, 1]; None if there is no such seed.

    Raises:
        EnsembleError: If results cannot be read, or references differ.
    """
    pairs = [
        pair
        for pair in zip(systems, baseline, strict=True)
        if all(set(e.system.corpus.unseen_sets) <= scored_sets(e).keys() for e in pair)
    ]
    if not pairs:
        return None
    drawn = []
    for number, name in enumerate(pairs[0][0].system.corpus.unseen_sets):
        counts = np.sum([_errors_and_words(name, *pair) for pair in pairs], axis=0)
        drawn.append(draw_rates(counts[:, :2], counts[:, 2], seed=number))
    rates = np.mean(drawn, axis=0)
    return p_value(rates[:, 0], rates[:, 1])


def _errors_and_words(name: str, one: Experiment, other: Experiment) -> np.ndarray:
    """Of each utterance of a set, errors of both and words: (utterances, 3)."""
    decodings = [e.exp_dir / e.names.inference_tag for e in (one, other)]
    first, second = read_systems(decodings, scored_sets(one)[name])
    both = zip(first.score.utterances, second.score.utterances, strict=True)
    rows = [(a.counts.errors, b.counts.errors, a.counts.words) for a, b in both]
    # Without words, there is nothing that could be drawn.
    return np.array([row for row in rows if row[2]])
