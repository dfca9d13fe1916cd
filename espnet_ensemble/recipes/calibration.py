"""Whether confidences mean what they say: of the words with 0.8, 80 % should be right.

C. Guo et al., "On calibration of modern neural networks", ICML 2017 (expected calibration
error, reliability diagrams); NIST's normalized cross entropy, as sclite reports it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from espnet_ensemble.decoding.hypothesis import Word
from espnet_ensemble.recipes.scoring import Tokens, align

# What logarithms are taken of is kept away from 0 and 1.
_LEAST = 1e-6


@dataclass(frozen=True)
class Bin:
    """Words of similar confidence.

    Attributes:
        size: How many.
        confidence: Their mean confidence.
        correct: Share of them that is right.
    """

    size: int
    confidence: float
    correct: float


@dataclass(frozen=True)
class Calibration:
    """Words with their confidences, and which of them are right.

    Attributes:
        confidences: In [0, 1], one of each word.
        correct: Whether it is right, likewise.

    Example:
        >>> found = Calibration(np.array([0.9, 0.9, 0.2]), np.array([True, True, False]))
        >>> round(found.ece, 3), found.auc
        (0.133, 1.0)
    """

    confidences: np.ndarray
    correct: np.ndarray

    def bins(self, number: int = 10) -> list[Bin]:
        """Group the words by confidence, in steps of equal width; without empty ones."""
        places = np.minimum((self.confidences * number).astype(int), number - 1)
        groups = (places == place for place in range(number))
        return [
            Bin(
                int(group.sum()),
                float(self.confidences[group].mean()),
                float(self.correct[group].mean()),
            )
            for group in groups
            if group.any()
        ]

    @cached_property
    def ece(self) -> float:
        """Expected calibration error: how far confidences are from the shares that are
        right, the mean over ten bins weighted by size; 0 is best."""
        gaps = [part.size * abs(part.confidence - part.correct) for part in self.bins()]
        return sum(gaps) / len(self.correct)

    @cached_property
    def nce(self) -> float | None:
        """Normalized cross entropy: 1 is perfect, 0 as good as one confidence for all,
        below 0 worse; None where all words are right, or none."""
        share = float(self.correct.mean())
        if share in (0.0, 1.0):
            return None
        known = np.clip(self.confidences, _LEAST, 1 - _LEAST)
        found = np.where(self.correct, np.log(known), np.log(1 - known)).mean()
        chance = share * np.log(share) + (1 - share) * np.log(1 - share)
        return float(1 - found / chance)

    @cached_property
    def auc(self) -> float | None:
        """Area under the ROC curve: how likely a right word has more confidence than a
        wrong one; 1 is perfect, 0.5 chance. None where all words are right, or none."""
        right = self.confidences[self.correct]
        wrong = np.sort(self.confidences[~self.correct])
        if not len(right) or not len(wrong):
            return None
        below = np.searchsorted(wrong, right, "left")
        up_to = np.searchsorted(wrong, right, "right")
        return float((below + up_to).mean() / 2 / len(wrong))


def calibrate(ref: Tokens, words: Mapping[str, Sequence[Word]]) -> Calibration:
    """Compare recognised words with the references.

    Args:
        ref: utt_id -> words that were said.
        words: utt_id -> words that were recognised, of these utterances.
    """
    confidences: list[float] = []
    correct: list[bool] = []
    for utt_id, recognised in words.items():
        confidences += [word.confidence for word in recognised]
        correct += _right(ref[utt_id], [word.text for word in recognised])
    return Calibration(np.array(confidences), np.array(correct, dtype=bool))


def _right(ref: list[str], hyp: list[str]) -> Iterable[bool]:
    return [pair.kind == "C" for pair in align(ref, hyp) if pair.hyp is not None]
