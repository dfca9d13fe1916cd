"""The best path of CTC."""

import pytest
import torch

from espnet_ensemble.decoding.greedy import GreedySearch, best_paths


def naive(log_probs, blank_id):
    """Frame by frame, with what every textbook says."""
    token_ids, score, before = [], 0.0, None
    for frame in log_probs.tolist():
        best = max(range(len(frame)), key=frame.__getitem__)
        score += frame[best]
        if best not in (before, blank_id):
            token_ids.append(best)
        before = best
    return tuple(token_ids), score


@pytest.mark.parametrize("blank_id", [0, 3])
def test_a_batch_gives_what_a_loop_over_frames_gives(blank_id):
    generator = torch.Generator().manual_seed(0)
    lengths = torch.tensor([50, 1, 17, 50, 0])
    log_probs = torch.randn(5, 50, 4, generator=generator).mul(3).log_softmax(2)
    found = best_paths(log_probs, lengths, blank_id)
    for row, n, hypothesis in zip(log_probs, lengths, found, strict=True):
        token_ids, score = naive(row[:n], blank_id)
        assert hypothesis.token_ids == token_ids
        assert hypothesis.score == pytest.approx(score)


def test_what_is_at_the_padding_does_not_matter():
    log_probs = torch.tensor([[[0.1, 0.9], [0.9, 0.1]]]).log()
    padded = torch.cat([log_probs, torch.full((1, 3, 2), float("nan"))], dim=1)
    lengths = torch.tensor([2])
    assert best_paths(padded, lengths) == best_paths(log_probs, lengths)


def test_tokens_repeat_only_across_a_blank():
    best = torch.tensor([1, 1, 0, 1, 2, 2])
    log_probs = torch.nn.functional.one_hot(best, 3).float().log_softmax(1)
    ((hypothesis,),) = GreedySearch()(["utt"], log_probs[None], torch.tensor([6]))
    assert hypothesis.token_ids == (1, 1, 2)
