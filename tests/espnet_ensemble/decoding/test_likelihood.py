import itertools
import math

import pytest
import torch

from espnet_ensemble.decoding.likelihood import log_likelihood, most_likely


def collapse(path, blank_id):
    tokens = (token for token, _ in itertools.groupby(path))
    return [token for token in tokens if token != blank_id]


@pytest.mark.parametrize("blank_id", [0, 2])
@pytest.mark.parametrize("length", [0, 1, 2])
def test_equals_the_sum_over_all_paths(length, blank_id):
    log_probs = torch.randn(4, 3, generator=torch.Generator().manual_seed(length))
    log_probs = log_probs.log_softmax(-1)
    token_ids = [1] * length
    expected = sum(
        math.exp(sum(log_probs[frame, token] for frame, token in enumerate(path)))
        for path in itertools.product(range(3), repeat=4)
        if collapse(path, blank_id) == token_ids
    )
    found = log_likelihood(log_probs, token_ids, blank_id)
    assert found == pytest.approx(math.log(expected), rel=1e-5)


def test_a_transcript_that_does_not_fit_is_impossible():
    log_probs = torch.full((2, 2), 0.5).log()
    assert log_likelihood(log_probs, [1, 1]) == -math.inf
    assert most_likely([log_probs], [[1, 1], [1]]) == 1


def test_one_sure_model_outweighs_two_that_are_not():
    unsure, sure = torch.tensor([[0.6, 0.4]]), torch.tensor([[0.05, 0.95]])
    members = [probs.log() for probs in (unsure, unsure, sure)]
    assert most_likely(members, [[], [1]]) == 1
    assert most_likely(members[:2], [[], [1]]) == 0


def test_of_equal_ones_the_first():
    log_probs = torch.full((1, 3), 1 / 3).log()
    assert most_likely([log_probs], [[2], [1], [2]]) == 0
