"""Windows over long audio."""

from itertools import pairwise

import pytest
import torch

from espnet_ensemble.decoding.hypothesis import Hypothesis
from espnet_ensemble.decoding.long_audio import (
    Window,
    join_hypotheses,
    join_windows,
    plan_windows,
)


@pytest.mark.parametrize("num_items", [1, 40, 41, 60, 61, 99, 100, 101, 1000])
def test_windows_cover_all_and_overlap(num_items):
    windows = plan_windows(
        num_items, items_per_frame=2, window_frames=20, overlap_frames=10
    )
    assert windows[0].start == 0 and windows[-1].end == num_items
    for one, two in pairwise(windows):
        assert one.end - two.start == 20
        assert two.first_frame == two.start / 2
        assert one.end - one.start == 40
    assert windows[-1].end - windows[-1].start <= 60


def posteriors(blank):
    """Of two tokens: the blank's probability in each frame is given."""
    blank = torch.tensor(blank)
    return torch.stack([blank, 1 - blank], dim=1).log()


def test_windows_are_joined_where_both_are_surest_of_a_pause():
    ours = [0.5] * 10 + [0.1] * 4 + [0.2, 0.9, 0.2] + [0.1] * 3
    theirs = [0.3] * 4 + [0.3, 0.8, 0.3] + [0.3] * 3 + [0.5] * 10
    parts = [
        (Window(0, 40, 0), posteriors(ours)),
        (Window(20, 60, 10), posteriors(theirs)),
    ]
    first, second = join_windows(parts, blank_id=0, frame_seconds=1.0)
    assert torch.equal(first, posteriors(ours)[:15])
    assert torch.equal(second, posteriors(theirs)[5:])


def test_one_window_is_given_as_it_is():
    part = posteriors([0.5, 0.5])
    assert list(join_windows([(Window(0, 2, 0), part)], 0, 1.0)) == [part]


def test_the_best_combinations_come_first():
    parts = [
        [Hypothesis((1,), -1.0), Hypothesis((2,), -1.1)],
        [Hypothesis((3,), -0.5), Hypothesis((), -5.0)],
    ]
    found = join_hypotheses(parts, nbest=3)
    assert [x.token_ids for x in found] == [(1, 3), (2, 3), (1,)]
    assert [x.score for x in found] == pytest.approx([-1.5, -1.6, -6.0])
