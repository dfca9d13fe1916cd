"""How well one upstream's features are predicted from another's: ridge regression.

Fitted and judged from moments alone, by cross-validation over folds of utterances.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np

from espnet_ensemble.analysis.moments import Moments

#: Penalties that are tried, in units of the mean variance of the inputs.
PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)


@dataclass(frozen=True)
class Fold:
    """Moments of a fold's frames, of inputs and targets.

    Attributes:
        xx: Of the inputs with themselves.
        xy: Of the inputs with the targets.
        yy: Sum of squares of each target, (targets,).
    """

    xx: Moments
    xy: Moments
    yy: np.ndarray

    def __add__(self, other: "Fold") -> "Fold":
        return Fold(self.xx + other.xx, self.xy + other.xy, self.yy + other.yy)

    def __sub__(self, other: "Fold") -> "Fold":
        return Fold(self.xx - other.xx, self.xy - other.xy, self.yy - other.yy)


@dataclass(frozen=True)
class Ridge:
    """A linear map with a bias.

    Attributes:
        weight: (inputs, targets)
        bias: (targets,)
    """

    weight: np.ndarray
    bias: np.ndarray


def fit_ridge(data: Fold, penalty: float) -> Ridge:
    """Fit a ridge regression, whose bias is not penalised.

    Args:
        data: Of the frames.
        penalty: In units of the mean variance of the inputs.
    """
    return _Solver(data).fit(penalty)


class _Solver:
    """Solves for several penalties with one decomposition."""

    def __init__(self, data: Fold):
        count = data.xx.count
        self._mean_x, self._mean_y = data.xy.x / count, data.xy.y / count
        covariance = data.xx.covariance
        self._values, self._vectors = np.linalg.eigh(covariance)
        self._scale = float(np.trace(covariance)) / len(covariance)
        self._rotated = self._vectors.T @ data.xy.covariance

    def fit(self, penalty: float) -> Ridge:
        denominators = self._values.clip(min=0) + penalty * self._scale
        weight = self._vectors @ (self._rotated / denominators[:, None])
        return Ridge(weight, self._mean_y - self._mean_x @ weight)


def squared_errors(ridge: Ridge, data: Fold) -> np.ndarray:
    """Sum of the squared errors of each target, (targets,)."""
    weight, bias, count = ridge.weight, ridge.bias, data.xx.count
    predicted = np.einsum("ij,ij->j", weight, data.xx.xy @ weight)
    predicted += 2 * bias * (data.xx.x @ weight) + count * bias**2
    crossed = np.einsum("ij,ij->j", weight, data.xy.xy) + bias * data.xy.y
    return data.yy - 2 * crossed + predicted


def cross_validated_r2(
    folds: Sequence[Fold], penalties: Sequence[float] = PENALTIES
) -> tuple[float, float]:
    """Share of the targets' variance that is predicted, on folds that were not seen.

    Args:
        folds: Two at least.
        penalties: Those that are tried.

    Returns:
        The largest R², over all targets by their variance, and its penalty. Below 0, the mean
        would be a better guess.
    """
    whole = reduce(add, folds)
    errors = np.zeros(len(penalties))
    total = 0.0
    for fold in folds:
        seen = _Solver(whole - fold)
        for index, penalty in enumerate(penalties):
            errors[index] += squared_errors(seen.fit(penalty), fold).sum()
        mean = fold.xy.y / max(1, fold.xy.count)
        total += float((fold.yy - fold.xy.count * mean**2).sum())
    best = int(errors.argmin())
    return (1 - float(errors[best]) / total if total > 0 else 0.0), penalties[best]
