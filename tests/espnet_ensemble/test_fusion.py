import pytest
import torch

from espnet_ensemble.fusion import FUSIONS, build_fusion

SIZES = [4, 4, 4]
LENGTHS = torch.tensor([5, 3])


def features(sizes):
    torch.manual_seed(0)
    return [torch.randn(2, 5, size) for size in sizes]


@pytest.mark.parametrize("name", FUSIONS)
@pytest.mark.parametrize("sizes", [[4], [4, 4, 4], [4, 6]])
def test_output_size(name, sizes):
    fusion = build_fusion(name, sizes)
    assert fusion(features(sizes), LENGTHS).shape == (2, 5, fusion.output_size)


def test_concat():
    feats = features([4, 6])
    out = build_fusion("concat", [4, 6])(feats, LENGTHS)
    assert torch.equal(out[..., :4], feats[0]) and torch.equal(out[..., 4:], feats[1])


def test_sum():
    feats = features(SIZES)
    out = build_fusion("sum", SIZES)(feats, LENGTHS)
    torch.testing.assert_close(out, feats[0] + feats[1] + feats[2])


def test_weighted_sum():
    feats = features(SIZES)
    fusion = build_fusion("weighted_sum", SIZES)
    torch.testing.assert_close(fusion(feats, LENGTHS), sum(feats) / 3)
    with torch.no_grad():
        fusion.weights.copy_(torch.tensor([1.0, 2.0, 4.0]).log())
    torch.testing.assert_close(
        fusion(feats, LENGTHS), (feats[0] + 2 * feats[1] + 4 * feats[2]) / 7
    )


def test_projection_equals_espnet_fused():
    """The projection of `FusedFrontends.forward`, for frontends of one frame rate."""
    feats = features([4, 6])
    fusion = build_fusion("projection", [4, 6], proj_dim=3)
    expected = torch.cat(
        [
            x @ p.weight.T + p.bias
            for x, p in zip(feats, fusion.projections, strict=True)
        ],
        dim=-1,
    )
    torch.testing.assert_close(fusion(feats, LENGTHS), expected)
    assert build_fusion("projection", [4, 6]).output_size == 200


@torch.no_grad()
def test_attention_equals_loop_over_frames():
    feats = features([4, 4])
    fusion = build_fusion("attention", [4, 4], attention_dim=8)
    out = fusion(feats, LENGTHS)
    for b in range(2):
        for t in range(5):
            frames = [x[b, t] for x in feats]
            scores = torch.cat(
                [
                    s[2](torch.tanh(s[0](x)))
                    for s, x in zip(fusion.scorers, frames, strict=True)
                ]
            )
            weights = scores.exp() / scores.exp().sum()
            expected = weights[0] * frames[0] + weights[1] * frames[1]
            torch.testing.assert_close(out[b, t], expected)


@pytest.mark.parametrize("name", ["sum", "weighted_sum", "attention"])
def test_different_sizes_are_projected_to_the_largest(name):
    fusion = build_fusion(name, [4, 6])
    assert [p.weight.shape for p in fusion.equal_sizes.projections] == [(6, 4), (6, 6)]
    assert fusion.output_size == 6
    assert not build_fusion(name, [4, 4]).equal_sizes.projections
    assert build_fusion(name, [4, 4], proj_dim=5).output_size == 5


@pytest.mark.parametrize("name", FUSIONS)
def test_gradients_reach_all_parameters(name):
    fusion = build_fusion(name, [4, 6])
    parameters = list(fusion.parameters())
    if parameters:
        fusion(features([4, 6]), LENGTHS).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in parameters)


def test_wrong_options():
    with pytest.raises(ValueError, match="expected one of concat, sum.* found 'mean'"):
        build_fusion("mean", SIZES)
    with pytest.raises(ValueError, match="fusion_conf of 'concat'.*proj_dim"):
        build_fusion("concat", SIZES, proj_dim=3)
