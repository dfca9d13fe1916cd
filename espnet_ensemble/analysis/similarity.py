"""How alike two sets of features are, of their covariances alone.

- Linear CKA: S. Kornblith et al., "Similarity of neural network representations revisited",
  ICML 2019. It does not change with rotations and one factor for all features.
- SVCCA: M. Raghu et al., "SVCCA: singular vector canonical correlation analysis for deep
  learning dynamics and interpretability", NIPS 2017. The directions of each that hold 99 % of its
  variance are kept, and the mean of the canonical correlations between these is taken: directions of
  little variance, which any noise correlates by chance, do not count. It does not change with
  rotations and one factor for all features.
"""

from dataclasses import dataclass

import numpy as np

#: Share of the variance that SVCCA keeps.
KEPT_VARIANCE = 0.99


@dataclass(frozen=True)
class Whitening:
    """The directions of features that hold most of their variance, brought to variance 1.

    Attributes:
        matrix: (features, directions)
    """

    matrix: np.ndarray

    @classmethod
    def of(cls, covariance: np.ndarray, kept: float = KEPT_VARIANCE) -> "Whitening":
        """Find them.

        Args:
            covariance: (features, features)
            kept: Share of the variance.
        """
        values, vectors = np.linalg.eigh(covariance)
        values, vectors = values[::-1].clip(min=0), vectors[:, ::-1]
        total = values.sum()
        if total <= 0:
            return cls(np.zeros((len(covariance), 0)))
        number = int(np.searchsorted(np.cumsum(values), kept * total)) + 1
        # What rounding leaves of a direction without variance is none.
        number = min(number, int(np.sum(values > 1e-12 * values[0])))
        return cls(vectors[:, :number] / np.sqrt(values[:number]))


def linear_cka(xx: np.ndarray, xy: np.ndarray, yy: np.ndarray) -> float:
    """Linear centred kernel alignment.

    Args:
        xx: Covariance of the first features.
        xy: Between the first and the second.
        yy: Of the second.

    Returns:
        0 to 1; 0 where one does not vary.

    Example:
        >>> x = np.random.default_rng(0).standard_normal((50, 3))
        >>> c = np.cov(x.T)
        >>> round(linear_cka(c, c, c), 6)
        1.0
    """
    norms = np.linalg.norm(xx) * np.linalg.norm(yy)
    return float(np.linalg.norm(xy) ** 2 / norms) if norms > 0 else 0.0


def svcca(x: Whitening, xy: np.ndarray, y: Whitening) -> float:
    """Mean canonical correlation of the directions that hold most of the variance.

    Args:
        x: Those of the first features.
        xy: Covariance between the first and the second, (first, second).
        y: Those of the second.

    Returns:
        0 to 1; 0 where one does not vary.
    """
    number = min(x.matrix.shape[1], y.matrix.shape[1])
    if number == 0:
        return 0.0
    correlations = np.linalg.svd(x.matrix.T @ xy @ y.matrix, compute_uv=False)
    return float(correlations.clip(0, 1).sum() / number)
