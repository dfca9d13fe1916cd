"""Long audio, cut in pauses."""

from itertools import pairwise

import pytest
import torch

from espnet_ensemble.decoding.segments import (
    Segment,
    batch_segments,
    join_segments,
    plan_segments,
)

BLANK, SPACE, A, B = range(4)
FRAME = 160


def speech(*seconds):
    """Noise and pauses in turn."""
    generator = torch.Generator().manual_seed(0)
    return torch.cat(
        [
            (0.001 if i % 2 else 0.3)
            * torch.randn(round(x * 16000), generator=generator)
            for i, x in enumerate(seconds)
        ]
    )


def plan(samples, segment_seconds):
    return plan_segments(samples, FRAME, 0.01, segment_seconds)


def test_cuts_are_in_the_middle_of_pauses():
    found = plan(speech(2, 0.3, 2.5, 0.3, 1.5), segment_seconds=2)
    cuts = [segment.end / 16000 for segment in found[:-1]]
    assert cuts == pytest.approx([2.15, 4.95], abs=0.05)


def test_short_phrases_share_a_segment():
    samples = speech(*[0.7, 0.3] * 12)
    lengths = [(x.end - x.start) / 16000 for x in plan(samples, segment_seconds=4)]
    assert len(lengths) == 3 and lengths == pytest.approx([4, 4, 4], abs=0.2)


@pytest.mark.parametrize("samples", [torch.zeros(160000), speech(10), speech(9.99995)])
def test_without_a_pause_segments_are_no_longer_than_twice_the_typical(samples):
    found = plan(samples, segment_seconds=1)
    assert found[0].start == 0 and found[-1].end == len(samples)
    for one, two in pairwise(found):
        assert one.end == two.start and two.start % FRAME == 0
    assert all(0.2 < (x.end - x.start) / 16000 <= 2.1 for x in found)


def test_batches_are_within_the_budget():
    segments = [Segment(0, 10), Segment(10, 20), Segment(20, 60), Segment(60, 65)]
    found = batch_segments(segments, max_samples=30, max_segments=2)
    assert [len(batch) for batch in found] == [2, 1, 1]


def path(*token_ids):
    """Posteriors that are sure of it."""
    return (20 * torch.eye(4)[list(token_ids)]).log_softmax(1)


def join(parts, boundary_id=SPACE):
    chunks = list(join_segments(parts, BLANK, boundary_id))
    return torch.cat(chunks).argmax(1).tolist()


def test_segments_are_parted_by_a_word_boundary_where_a_frame_is_missing():
    # Of five steps, an encoder made four frames.
    parts = [(0, path(A, A, BLANK, B)), (5, path(B, BLANK, A, A))]
    assert join(parts) == [A, A, BLANK, B, SPACE, B, BLANK, A, A]
    assert join(parts, boundary_id=None) == [A, A, BLANK, B, BLANK, B, BLANK, A, A]


def test_frames_keep_their_time():
    parts = [(0, path(A)), (5, path(B, BLANK, A, A, A, BLANK)), (10, path(B))]
    expected = [A, *[BLANK] * 3, SPACE, B, BLANK, A, A, SPACE, B]
    assert join(parts) == expected


def test_there_is_one_boundary_between_words_and_none_around_them():
    said = (
        path(A, SPACE),
        path(BLANK, BLANK),
        path(B, BLANK),
        path(SPACE, A),
        path(BLANK),
    )
    parts = [(3 * i, log_probs) for i, log_probs in enumerate(said)]
    token_ids = [x for x in join(parts) if x != BLANK]
    assert token_ids == [A, SPACE, B, SPACE, A]
    silent_first = [(0, path(BLANK, BLANK)), (3, path(A, BLANK)), (6, path(BLANK, B))]
    assert [x for x in join(silent_first) if x != BLANK] == [A, SPACE, B]
