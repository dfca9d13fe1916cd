import numpy as np
import pytest
import torch

from espnet_ensemble.decorrelation import refinement_loss

LENGTHS = torch.tensor([30, 17])


def features(sizes):
    torch.manual_seed(0)
    common = torch.randn(2, 30, 1)
    return [torch.randn(2, 30, size) * (i + 1) + common for i, size in enumerate(sizes)]


def by_numpy(feats):
    """The same from numpy's correlation coefficients, pair by pair."""
    frames = [np.concatenate([x[0], x[1, :17]]) for x in feats]
    found = []
    for i, one in enumerate(frames):
        for other in frames[i + 1 :]:
            both = np.corrcoef(one, other, rowvar=False)
            found.append(np.square(both[: one.shape[1], one.shape[1] :]).mean())
    return np.mean(found)


@pytest.mark.parametrize("sizes", [[4, 6], [3, 3, 5]])
def test_mean_square_of_all_correlations_between_upstreams(sizes):
    feats = features(sizes)
    loss = refinement_loss(feats, LENGTHS)
    assert loss.item() == pytest.approx(by_numpy(feats), rel=1e-3)
    assert 0 < loss < 1


def test_what_is_at_the_padding_does_not_matter():
    feats = features([4, 6])
    expected = refinement_loss(feats, LENGTHS)
    damaged = [x.clone() for x in feats]
    for x in damaged:
        x[1, 17:] = float("nan")
    assert torch.equal(refinement_loss(damaged, LENGTHS), expected)
    longer = [torch.nn.functional.pad(x, (0, 0, 0, 9)) for x in feats]
    torch.testing.assert_close(refinement_loss(longer, LENGTHS), expected)


def test_scale_and_mean_do_not_matter_and_gradients_reduce_it():
    feats = features([4, 6])
    loss = refinement_loss(feats, LENGTHS)
    scaled = [3 * feats[0] - 7, feats[1]]
    torch.testing.assert_close(
        refinement_loss(scaled, LENGTHS), loss, rtol=1e-3, atol=0
    )
    feats = [x.requires_grad_() for x in feats]
    optimizer = torch.optim.SGD(feats, lr=100)
    for _ in range(20):
        optimizer.zero_grad()
        refinement_loss(feats, LENGTHS).backward()
        optimizer.step()
    assert refinement_loss(feats, LENGTHS) < 0.5 * loss


def test_one_upstream_repeats_nobody_and_silence_stays_finite():
    assert refinement_loss(features([4]), LENGTHS) == 0
    silence = torch.zeros(2, 30, 4, requires_grad=True)
    refinement_loss([silence, features([4])[0]], LENGTHS).backward()
    assert silence.grad.isfinite().all()
