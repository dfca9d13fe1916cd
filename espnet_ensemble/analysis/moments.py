"""First and second moments of frames, added up utterance by utterance.

All that CKA, CCA and ridge regression need to know of any number of frames is their number,
sums, and sums of products: memory does not grow with the speech.
"""

from dataclasses import dataclass

import numpy as np


@dataclass
class Moments:
    """What is known of two sets of features of the same frames.

    Attributes:
        count: Number of frames.
        x: Sum of the first features, (features,), float64.
        y: Sum of the second.
        xy: Sum of their products, (first features, second features).

    Example:
        >>> x = np.array([[1.0, 2.0], [3.0, 0.0], [2.0, 1.0]])
        >>> moments = Moments.zeros(2, 2)
        >>> for frames in (x[:2], x[2:]):
        ...     moments.add(frames, frames)
        >>> np.allclose(moments.covariance, np.cov(x.T, bias=True))
        True
    """

    count: int
    x: np.ndarray
    y: np.ndarray
    xy: np.ndarray

    @classmethod
    def zeros(cls, num_x: int, num_y: int) -> "Moments":
        """Those of no frames."""
        return cls(0, np.zeros(num_x), np.zeros(num_y), np.zeros((num_x, num_y)))

    def add(self, x: np.ndarray, y: np.ndarray) -> None:
        """Take in frames: (frames, first features) and (frames, second features)."""
        x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
        self.count += len(x)
        self.x += x.sum(axis=0)
        self.y += y.sum(axis=0)
        self.xy += x.T @ y

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(
            self.count + other.count,
            self.x + other.x,
            self.y + other.y,
            self.xy + other.xy,
        )

    def __sub__(self, other: "Moments") -> "Moments":
        return Moments(
            self.count - other.count,
            self.x - other.x,
            self.y - other.y,
            self.xy - other.xy,
        )

    def around(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Sum of products of the deviations from given means, (first, second)."""
        outer = np.outer
        return self.xy - outer(self.x, y) - outer(x, self.y) + self.count * outer(x, y)

    @property
    def covariance(self) -> np.ndarray:
        """(first features, second features), divided by the number of frames."""
        count = max(1, self.count)
        return self.xy / count - np.outer(self.x / count, self.y / count)
