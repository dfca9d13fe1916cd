"""How sure an error rate is, and whether two differ: the bootstrap over utterances.

M. Bisani and H. Ney, "Bootstrap estimates for confidence intervals in ASR performance
evaluation", ICASSP 2004. As many utterances as there are get drawn with replacement, again
and again; how the error rate varies between the draws is how it would vary between test
sets. Systems are compared on the same draws, so that what is hard for all does not count.
"""

from dataclasses import dataclass

import numpy as np

# A draw is as long as the set; so many at a time keep memory small.
_CHUNK = 256


@dataclass(frozen=True)
class Interval:
    """Where an error rate would be, in percent, with the probability that was asked for."""

    low: float
    high: float


def draw_rates(
    errors: np.ndarray, words: np.ndarray, draws: int = 10000, seed: int = 0
) -> np.ndarray:
    """Draw utterances with replacement, and compute the error rates of each draw.

    Args:
        errors: Numbers of errors: (utterances, systems).
        words: Numbers of words in the references, at least one in each: (utterances,).
        draws: How often to draw as many utterances as there are.
        seed: The same seed gives the same draws.

    Returns:
        Error rates in percent, (draws, systems).

    Example:
        >>> rates = draw_rates(np.array([[1], [1]]), np.array([4, 4]), draws=3)
        >>> rates.ravel().tolist()
        [25.0, 25.0, 25.0]
    """
    rng = np.random.default_rng(seed)
    size = len(words)
    sums = np.column_stack([errors, words]).astype(np.float64)
    parts = []
    for first in range(0, draws, _CHUNK):
        drawn = rng.integers(size, size=(min(_CHUNK, draws - first), size))
        rows = np.arange(len(drawn))[:, None] * size
        times = np.bincount((drawn + rows).ravel(), minlength=len(drawn) * size)
        parts.append(times.reshape(len(drawn), size) @ sums)
    drawn_sums = np.concatenate(parts)
    return 100 * drawn_sums[:, :-1] / drawn_sums[:, -1:]


def interval(rates: np.ndarray, level: float = 0.95) -> Interval:
    """The middle of a system's rates.

    Args:
        rates: In percent: (draws,).
        level: Share of the draws that are to be inside.

    Example:
        >>> interval(np.arange(101.0), level=0.5)
        Interval(low=25.0, high=75.0)
    """
    outside = (1 - level) / 2
    low, high = np.quantile(rates, [outside, 1 - outside])
    return Interval(float(low), float(high))


def p_value(rates: np.ndarray, baseline: np.ndarray) -> float:
    """How likely a difference at least as clear is, if there is none: two-sided.

    Twice the share of the draws in which the system that is better on the whole is not
    better. The draws themselves count as one that is not: p is never 0.

    Args:
        rates: A system's error rates: (draws,).
        baseline: Another's, of the same draws.

    Returns:
        In (0, 1].

    Example:
        >>> baseline = np.full(99, 10.0)
        >>> p_value(baseline, baseline), p_value(baseline - 1, baseline)
        (1.0, 0.02)
    """
    better = int(np.sum(rates < baseline))
    worse = int(np.sum(rates > baseline))
    draws = len(rates)
    return min(1.0, 2 * (draws - max(better, worse) + 1) / (draws + 1))


def format_p_value(p: float) -> str:
    """Write a p value as tables have it.

    Example:
        >>> format_p_value(0.0123), format_p_value(0.0002)
        ('0.012', '< 0.001')
    """
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
