import pytest
import torch

from espnet_ensemble.layers import Featurizer, layer_indices
from espnet_ensemble.upstream.s3prl_hub import import_s3prl_nn


@pytest.mark.parametrize(
    "layer,expected",
    [
        ("last", (12,)),
        ("weighted_sum", tuple(range(13))),
        (0, (0,)),
        (12, (12,)),
        (-1, (12,)),
        (-13, (0,)),
        ([6, 7, 8], (6, 7, 8)),
        ([8], (8,)),
    ],
)
def test_layer_indices(layer, expected):
    assert layer_indices(layer, 12) == expected


@pytest.mark.parametrize(
    "layer", ["first", [], None, 1.5, True, [1, "2"], [[1]], {"a": 1}]
)
def test_wrong_layer(layer):
    with pytest.raises(ValueError, match="layer: expected last, weighted_sum"):
        layer_indices(layer, 12)


@pytest.mark.parametrize("layer", [13, -14, [1, 13]])
def test_layer_out_of_range(layer):
    with pytest.raises(
        ValueError, match="out of range: there are hidden states 0 .* 12"
    ):
        layer_indices(layer, 12)


@pytest.mark.parametrize("layer", [[3, 3], [12, -1]])
def test_layer_twice(layer):
    with pytest.raises(ValueError, match="names one layer twice"):
        layer_indices(layer, 12)


def test_weighted_sum_equals_s3prl_featurizer():
    class Upstream:
        num_layers, hidden_sizes, downsample_rates = 3, [4] * 3, [320] * 3

    featurizer = import_s3prl_nn().Featurizer(Upstream())
    layers = Featurizer(3)
    assert torch.equal(layers.weights, featurizer.weights)  # both start with equal ones
    with torch.no_grad():
        featurizer.weights.copy_(torch.tensor([0.3, -1.0, 2.0]))
        layers.weights.copy_(featurizer.weights)
    states = [torch.randn(2, 5, 4) for _ in range(3)]
    lengths = [torch.tensor([5, 4])] * 3
    torch.testing.assert_close(layers(states), featurizer(states, lengths)[0])


def test_single_layer_has_no_parameters():
    layers = Featurizer(1)
    assert not list(layers.parameters())
    state = torch.randn(1, 2, 3)
    assert layers([state]) is state
