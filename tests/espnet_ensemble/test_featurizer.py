import torch

from espnet_ensemble.featurizer import Featurizer
from espnet_ensemble.upstream.s3prl_hub import import_s3prl_nn


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
