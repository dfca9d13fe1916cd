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


def test_learned_upsampling_equals_espnet_fused():
    """The projection of `FusedFrontends.forward`, for frontends of two frame rates."""
    fast, slow = torch.randn(2, 5, 4), torch.randn(2, 3, 6)
    options = dict(proj_dim=3, learned_upsampling=True)
    fusion = build_fusion("projection", [4, 6], repeats=[1, 2], **options)
    repeated = slow.repeat_interleave(2, dim=1)[:, :5]
    found = fusion([fast, repeated], LENGTHS)
    one, two = fusion.projections
    assert two.out_features == 6 and fusion.output_size == found.size(-1) == 6
    expected = [one(fast), two(slow).reshape(2, 6, 3)[:, :5]]
    torch.testing.assert_close(found, torch.cat(expected, dim=-1))

    usual = build_fusion("projection", [4, 6], repeats=[1, 2], proj_dim=3)
    assert usual.projections[1].out_features == 3


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


@torch.no_grad()
@pytest.mark.parametrize("gate_per", ["frame", "utterance"])
def test_gate_equals_loop_over_frames(gate_per):
    feats = features([4, 6])
    fusion = build_fusion("gate", [4, 6], gate_per=gate_per, gate_dim=8)
    out = fusion(feats, LENGTHS)
    assert fusion.output_size == 10
    for b, length in enumerate(LENGTHS):
        frames = [torch.cat([x[b, t] for x in feats]) for t in range(length)]
        mean = sum(frames) / length
        for t, frame in enumerate(frames):
            hidden = torch.tanh(
                fusion.gate[0](mean if gate_per == "utterance" else frame)
            )
            scores = fusion.gate[2](hidden).exp()
            first, second = 2 * scores / scores.sum()
            expected = torch.cat([feats[0][b, t] * first, feats[1][b, t] * second])
            torch.testing.assert_close(out[b, t], expected)


@torch.no_grad()
def test_a_gate_that_counts_all_the_same_is_concatenation():
    feats = features(SIZES)
    fusion = build_fusion("gate", SIZES)
    for parameter in fusion.gate[2].parameters():
        parameter.zero_()
    torch.testing.assert_close(fusion(feats, LENGTHS), torch.cat(feats, dim=-1))


@torch.no_grad()
def test_time_shift_equals_loop_over_frames():
    feats = features([4, 6])
    fusion = build_fusion("time_shift", [4, 6], kernel_size=3)
    torch.testing.assert_close(fusion(feats, LENGTHS), torch.cat(feats, dim=-1))
    for kernel in fusion.kernels:
        kernel.normal_()
    out = fusion(feats, LENGTHS)
    for b, length in enumerate(LENGTHS):
        for t in range(length):
            expected = []
            for x, kernel in zip(feats, fusion.kernels, strict=True):
                around = [u for u in (t - 1, t, t + 1) if 0 <= u < length]
                found = sum(kernel[u - t + 1] * x[b, u] for u in around)
                expected.append(x[b, t] + found)
            torch.testing.assert_close(out[b, t], torch.cat(expected))


def attend(attending, feats, others, b, t, window):
    """What a frame of one upstream becomes, head by head and place by place."""
    length, num_places = LENGTHS[b], 2 * window + 1
    query = attending.query(feats[b, t]).chunk(attending.num_heads)
    bias = attending.bias.view(attending.num_heads, len(others), num_places)
    found = []
    for head, q in enumerate(query):
        scores, values = [], []
        for j, other in enumerate(others):
            for u in range(max(0, t - window), min(length, t + window + 1)):
                key = attending.keys[j](other[b, u]).chunk(attending.num_heads)[head]
                value = attending.values[j](other[b, u])
                place = bias[head, j, u - t + window]
                scores.append(q @ key / len(q) ** 0.5 + place)
                values.append(value.chunk(attending.num_heads)[head])
        weights = torch.stack(scores).softmax(dim=0)
        found.append(sum(w * v for w, v in zip(weights, values, strict=True)))
    return attending.norm(feats[b, t] + attending.out(torch.cat(found)))


@torch.no_grad()
@pytest.mark.parametrize("sizes", [[6], [4, 6], [4, 4, 4]])
def test_cross_attention_equals_loop_over_frames(sizes):
    feats = features(sizes)
    options = {"attention_dim": 6, "num_heads": 2, "window": 1, "num_blocks": 2}
    fusion = build_fusion("cross_attention", sizes, **options)
    for parameter in fusion.parameters():
        parameter.normal_()
    out = fusion(feats, LENGTHS)
    states = fusion.equal_sizes(feats)
    for block in fusion.blocks:
        states = [
            torch.stack(
                [
                    torch.stack(
                        [
                            attend(
                                attending,
                                x,
                                [y for j, y in enumerate(states) if j != i] or [x],
                                b,
                                t,
                                1,
                            )
                            if t < LENGTHS[b]
                            else torch.zeros(fusion.equal_sizes.size)
                            for t in range(5)
                        ]
                    )
                    for b in range(2)
                ]
            )
            for i, (attending, x) in enumerate(zip(block.members, states, strict=True))
        ]
    expected = torch.cat(states, dim=-1)
    for b, length in enumerate(LENGTHS):
        torch.testing.assert_close(out[b, :length], expected[b, :length])


def convolve(states, conv):
    """Convolve a list of vectors, place by place, with zeros around."""
    reach, out = conv.kernel_size[0] // 2, []
    for start in range(0, len(states), conv.stride[0]):
        total = conv.bias.clone()
        for k in range(conv.kernel_size[0]):
            place = start + k - reach
            if 0 <= place < len(states):
                total += conv.weight[:, :, k] @ states[place]
        out.append(total.relu())
    return out


@torch.no_grad()
@pytest.mark.parametrize(
    ("sizes", "num_layers", "places"),
    [
        ([8, 8], [1, 1], [1]),
        ([8], [5], [2]),
        ([8, 6], [13, 13], [9, 3]),
        ([8, 8, 8], [13, 25, 13], [17, 6, 2]),
    ],
)
def test_layer_convolution_equals_loop_over_places(sizes, num_layers, places):
    states = [
        [torch.randn(2, 5, size) for _ in range(number)]
        for size, number in zip(sizes, num_layers, strict=True)
    ]
    feats = [torch.cat(layers, dim=-1) for layers in states]
    fusion = build_fusion("layer_conv", sizes, num_layers)
    out = fusion(feats, LENGTHS)
    assert out.shape == (2, 5, fusion.output_size)
    convs = [m for m in fusion.convolutions if isinstance(m, torch.nn.Conv1d)]
    assert [conv.stride for conv in convs] == [(3,)] * len(places)
    linears = fusion.equal_sizes.projections
    for b, t in [(0, 0), (1, 2)]:
        axis = [
            linears[i](x[b, t]) if linears else x[b, t]
            for i, layers in enumerate(states)
            for x in layers
        ]
        for conv, number in zip(convs, places, strict=True):
            axis = convolve(axis, conv)
            assert len(axis) == number
        # Feature by feature, as the authors' code lays it out.
        expected = torch.stack(axis, dim=1).flatten()
        torch.testing.assert_close(out[b, t], expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "conf"),
    [*((name, {}) for name in FUSIONS), ("gate", {"gate_per": "utterance"})],
)
def test_what_an_utterance_gets_does_not_depend_on_its_batch(name, conf):
    fusion = build_fusion(name, [4, 6], **conf)
    for parameter in fusion.parameters():
        parameter.normal_()
    feats = features([4, 6])
    out = fusion(feats, LENGTHS)
    alone = fusion([x[1:, :3] for x in feats], LENGTHS[1:])
    torch.testing.assert_close(out[1, :3], alone[0])


@pytest.mark.parametrize(
    "name", ["sum", "weighted_sum", "attention", "cross_attention", "layer_conv"]
)
def test_different_sizes_are_projected_to_the_largest(name):
    fusion = build_fusion(name, [4, 6])
    assert [p.weight.shape for p in fusion.equal_sizes.projections] == [(6, 4), (6, 6)]
    number = 2 if name == "cross_attention" else 1
    assert fusion.output_size == 6 * number
    assert not build_fusion(name, [4, 4]).equal_sizes.projections
    assert build_fusion(name, [4, 4], proj_dim=5).output_size == 5 * number


@pytest.mark.parametrize("name", FUSIONS)
def test_gradients_reach_all_parameters(name):
    fusion = build_fusion(name, [4, 6])
    parameters = list(fusion.parameters())
    if parameters:
        fusion(features([4, 6]), LENGTHS).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in parameters)


@pytest.mark.parametrize(
    ("name", "conf", "message"),
    [
        ("mean", {}, "expected one of concat, sum.* found 'mean'"),
        ("concat", {"proj_dim": 3}, "fusion_conf of 'concat'.*proj_dim"),
        ("gate", {"gate_per": "batch"}, "'gate': gate_per: .* found 'batch'"),
        ("time_shift", {"kernel_size": 4}, "'time_shift': kernel_size: .* found 4"),
        ("cross_attention", {"num_heads": 3}, "num_heads: .* found 3 of 128"),
        ("cross_attention", {"window": -1}, "window, num_blocks: .* found -1 and 1"),
        ("layer_conv", {"kernel_size": 2}, "kernel_size: expected .* found 2"),
        ("layer_conv", {"stride": 1}, "stride: expected at least 2, found 1"),
    ],
)
def test_wrong_options(name, conf, message):
    with pytest.raises(ValueError, match=message):
        build_fusion(name, SIZES, **conf)


@pytest.mark.parametrize("name", FUSIONS)
def test_no_fusion_is_harmed_by_padding_that_nobody_attends_to(name):
    """Where an utterance is much shorter than the batch, gradients stay finite."""
    feats = [torch.randn(2, 40, 4, requires_grad=True) for _ in range(2)]
    lengths = torch.tensor([40, 1])
    fusion = build_fusion(name, [4, 4])
    out = fusion(feats, lengths)
    out.masked_fill(
        (torch.arange(40) >= lengths[:, None])[..., None], 0
    ).sum().backward()
    assert all(
        p.grad.isfinite().all() for p in fusion.parameters() if p.grad is not None
    )


def test_prediction_puts_predicted_members_between_those_that_are_run():
    fusion = build_fusion(
        "prediction", [4], [3], predicted={0: 2, 2: 5}, own_layers=[[1]]
    )
    (feats,) = features([12])
    out = fusion([feats], LENGTHS)
    assert out.shape == (2, 5, 11) and fusion.output_size == 11
    first, last = fusion.predictors["0"], fusion.predictors["2"]
    expected = torch.cat([first(feats), feats[..., 4:8], last(feats)], dim=-1)
    torch.testing.assert_close(out, expected)


def test_prediction_averages_own_layers_and_has_another_fusion_inside():
    fusion = build_fusion(
        "prediction", [4], [3], predicted={1: 4}, own_layers=[[0, 2]], fusion="sum"
    )
    (feats,) = features([12])
    with torch.no_grad():
        fusion.own[0].weights.copy_(torch.tensor([1.0, 3.0]).log())
        found = fusion([feats], LENGTHS)
        own = 0.25 * feats[..., :4] + 0.75 * feats[..., 8:]
        torch.testing.assert_close(found, own + fusion.predictors["1"](feats))


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({"predicted": {3: 4}}, "predicted: expected places from 0 to 1, found 3"),
        ({"own_layers": [[3]]}, "own_layers: expected some from 0 to 2, found"),
        ({"fusion": "layer_conv"}, "takes one hidden state of each, found 'layer_c"),
        ({"fusion": "mean"}, "fusion: expected one of concat, .* found 'mean'"),
    ],
)
def test_wrong_options_of_prediction(conf, message):
    with pytest.raises(ValueError, match=message):
        build_fusion("prediction", [4], [3], **conf)
