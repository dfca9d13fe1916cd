import pytest
import torch

from espnet_ensemble.decoding.alignment import TokenSpan
from espnet_ensemble.decoding.confidence import token_confidences

PROBS = torch.tensor([[0.1, 0.6, 0.3], [0.1, 0.1, 0.8], [0.2, 0.7, 0.1]])


def test_the_best_frame_of_a_token_counts():
    spans = [TokenSpan(1, 0, 3), TokenSpan(2, 0, 1)]
    found = token_confidences(PROBS.log(), spans, temperature=1.0)
    assert found == pytest.approx([0.7, 0.3])


def test_a_temperature_makes_posteriors_more_alike():
    (found,) = token_confidences(PROBS.log(), [TokenSpan(2, 1, 2)], temperature=2.0)
    roots = PROBS[1].sqrt()
    assert found == pytest.approx(float(roots[2] / roots.sum()))


def test_certainty_and_impossibility():
    log_probs = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).log()
    assert token_confidences(log_probs, [TokenSpan(1, 0, 1)]) == [1.0]
    assert token_confidences(log_probs, [TokenSpan(1, 1, 2)]) == [0.0]


def test_half_precision():
    (found,) = token_confidences(PROBS.log().half(), [TokenSpan(2, 1, 2)])
    (expected,) = token_confidences(PROBS.log(), [TokenSpan(2, 1, 2)])
    assert found == pytest.approx(expected, abs=1e-3)


def test_no_tokens():
    assert token_confidences(PROBS.log(), []) == []
