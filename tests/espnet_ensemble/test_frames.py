import pytest
import torch

from espnet_ensemble.frames import FrameGrid, padding_mask


def test_padding_begins_where_an_utterance_ends():
    mask = padding_mask(torch.tensor([2, 0, 4]), 4)
    assert mask.dtype == torch.bool
    assert mask.int().tolist() == [[0, 0, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("hops", "hop_length", "repeats"),
    [
        ([320], 320, (1,)),
        ([320, 320], 320, (1, 1)),
        ([320, 160], 160, (2, 1)),
        ([640, 480, 320], 160, (4, 3, 2)),
    ],
)
def test_common_hop_is_the_greatest_common_divisor(hops, hop_length, repeats):
    assert FrameGrid.common(hops) == FrameGrid(hop_length, repeats)


@pytest.mark.parametrize("shape", [(3, 2), (5, 3, 2)])
def test_frames_are_repeated_along_the_axis_before_the_last(shape):
    grid = FrameGrid.common([320, 160])
    feats = torch.rand(shape)
    repeated = grid.repeat(feats, 0)
    assert repeated.shape == (*shape[:-2], 6, 2)
    for frame in range(6):
        assert torch.equal(repeated[..., frame, :], feats[..., frame // 2, :])
    assert grid.repeat(feats, 1) is feats


def test_an_utterance_has_the_frames_of_the_upstream_that_gives_it_fewest():
    grid = FrameGrid.common([320, 160])
    frames = [torch.tensor([3, 2, 7]), torch.tensor([5, 5, 14])]
    assert grid.num_frames(dict(enumerate(frames))).tolist() == [5, 4, 14]
