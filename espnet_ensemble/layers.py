"""Which hidden states of an upstream are used, and how several become one."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from espnet_ensemble.errors import EnsembleError

Layer = str | int | Sequence[int]


def layer_indices(layer: Layer, num_layers: int) -> tuple[int, ...]:
    """Resolve the option ``layer`` of an upstream to hidden states.

    Hidden states are counted as in S3PRL: 0 is the input to the first transformer layer,
    ``num_layers`` the output of the last.

    Args:
        layer: "last", "weighted_sum" (all of them), an index, or a list of indices. A
            negative index counts from the end.
        num_layers: Number of transformer layers.

    Raises:
        EnsembleError: If it is none of these, or out of range.

    Example:
        >>> layer_indices("last", 12), layer_indices([6, 7, -1], 12)
        ((12,), (6, 7, 12))
    """
    if layer == "last":
        return (num_layers,)
    if layer == "weighted_sum":
        return tuple(range(num_layers + 1))
    indices: Any = [layer] if isinstance(layer, int) else layer
    if (
        isinstance(indices, str)
        or not isinstance(indices, Sequence)
        or not indices
        or not all(type(i) is int for i in indices)
    ):
        raise EnsembleError(
            "layer: expected last, weighted_sum, an index or a list of indices, "
            f"found {layer!r}"
        )
    hidden_states = range(num_layers + 1)
    outside = [i for i in indices if not -len(hidden_states) <= i <= num_layers]
    if outside:
        raise EnsembleError(
            f"layer: {outside[0]} is out of range: there are hidden states 0 (the input "
            f"to the first transformer layer) to {num_layers} (the output of the last)"
        )
    resolved = tuple(hidden_states[i] for i in indices)
    if len(set(resolved)) < len(resolved):
        raise EnsembleError(f"layer: {layer!r} names one layer twice")
    return resolved


class Featurizer(torch.nn.Module):
    """Average of several hidden states with learned softmax weights, equal at first.

    This is the featurizer of SUPERB (Yang et al., 2021; ``s3prl.nn.Featurizer``). A
    single hidden state passes as it is, without parameters.

    Args:
        num_hidden_states: How many hidden states :meth:`forward` gets.

    Example:
        >>> featurizer = Featurizer(2)
        >>> featurizer([torch.zeros(1, 1, 2), torch.ones(1, 1, 2)]).tolist()
        [[[0.5, 0.5]]]
    """

    def __init__(self, num_hidden_states: int):
        super().__init__()
        if num_hidden_states > 1:
            self.weights = torch.nn.Parameter(torch.zeros(num_hidden_states))

    def forward(self, hidden_states: list[Tensor]) -> Tensor:
        """Average the hidden states.

        Args:
            hidden_states: One tensor per hidden state, (batch, time, feature).

        Returns:
            (batch, time, feature)
        """
        if len(hidden_states) == 1:
            return hidden_states[0]
        weights = self.weights.softmax(dim=0)
        return torch.einsum("l,lbtf->btf", weights, torch.stack(hidden_states))


class LayerStack(torch.nn.Module):
    """All hidden states of an upstream side by side, for who combines them itself.

    Example:
        >>> LayerStack()([torch.zeros(1, 1, 2), torch.ones(1, 1, 2)]).tolist()
        [[[0.0, 0.0, 1.0, 1.0]]]
    """

    def forward(self, hidden_states: list[Tensor]) -> Tensor:
        """Concatenate the hidden states.

        Args:
            hidden_states: One tensor per hidden state, (batch, time, feature).

        Returns:
            (batch, time, hidden states * feature)
        """
        return torch.cat(hidden_states, dim=-1)
