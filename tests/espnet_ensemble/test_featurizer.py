import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

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


class Largest(TorchDispatchMode):
    """The most numbers that a result of an operator has."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.numbers = max(self.numbers, result.numel())
        return result


@pytest.mark.parametrize("grad", [True, False])
def test_weighted_sum_makes_no_copy_of_all_layers(grad):
    layers = Featurizer(5)
    torch.nn.init.normal_(layers.weights)
    states = [torch.randn(2, 7, 4) for _ in range(5)]
    with torch.set_grad_enabled(grad), Largest() as largest:
        found = layers(state for state in states)
        if grad:
            found.square().sum().backward()
    assert largest.numbers == states[0].numel()
    expected = torch.einsum(
        "l,lbtf->btf", layers.weights.softmax(0), torch.stack(states)
    )
    torch.testing.assert_close(found, expected)
    if grad:
        own, layers.weights.grad = layers.weights.grad, None
        expected.square().sum().backward()
        torch.testing.assert_close(own, layers.weights.grad)


def test_number_of_layers_must_be_that_of_weights():
    with pytest.raises(ValueError, match="shorter"):
        Featurizer(3)([torch.zeros(1, 1, 1)] * 2)
