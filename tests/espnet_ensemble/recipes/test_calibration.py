import numpy as np
import pytest

from espnet_ensemble.decoding.hypothesis import Word
from espnet_ensemble.recipes.calibration import Bin, Calibration, calibrate


def words(text, *confidences):
    return [
        Word(word, 0.0, 1.0, confidence)
        for word, confidence in zip(text.split(), confidences, strict=True)
    ]


def test_which_words_are_right():
    ref = {"u1": ["the", "cat", "sat"], "u2": ["down"], "u3": ["x"]}
    found = calibrate(
        ref,
        {"u1": words("the hat sat", 0.9, 0.2, 0.8), "u2": words("DOWN y", 0.7, 0.1)},
    )
    assert found.confidences.tolist() == [0.9, 0.2, 0.8, 0.7, 0.1]
    assert found.correct.tolist() == [True, False, True, True, False]


def test_bins():
    found = Calibration(
        np.array([0.0, 0.05, 0.55, 1.0]), np.array([False, True, True, True])
    )
    assert found.bins(10) == [
        Bin(2, pytest.approx(0.025), 0.5),
        Bin(1, pytest.approx(0.55), 1.0),
        Bin(1, 1.0, 1.0),
    ]


def test_confidences_that_mean_what_they_say():
    rng = np.random.default_rng(0)
    confidences = rng.uniform(size=20000)
    found = Calibration(confidences, rng.uniform(size=20000) < confidences)
    assert found.ece == pytest.approx(0, abs=0.02)
    assert found.nce > 0.25


def test_confidences_that_are_too_high():
    found = Calibration(np.full(1000, 0.9), np.arange(1000) < 500)
    assert found.ece == pytest.approx(0.4)
    assert found.nce < 0
    assert found.auc == pytest.approx(0.5)


def test_one_confidence_for_all_says_nothing():
    found = Calibration(np.full(1000, 0.7), np.arange(1000) < 700)
    assert found.ece == pytest.approx(0, abs=1e-9)
    assert found.nce == pytest.approx(0, abs=1e-9)


def test_perfect_confidences():
    found = Calibration(np.array([1.0, 1.0, 0.0]), np.array([True, True, False]))
    assert found.ece == 0 and found.auc == 1.0
    assert found.nce == pytest.approx(1, abs=1e-4)


def test_nothing_wrong_or_nothing_right():
    for right in (True, False):
        found = Calibration(np.array([0.5, 0.6]), np.array([right, right]))
        assert found.nce is None and found.auc is None
