"""How several hidden states of an upstream become one."""

from collections.abc import Iterable

import torch
from torch import Tensor


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

    def forward(self, hidden_states: Iterable[Tensor]) -> Tensor:
        """Average the hidden states, one after the other: there is no copy of all of them.

        Args:
            hidden_states: One tensor per hidden state, (batch, time, feature).

        Returns:
            (batch, time, feature)
        """
        if not hasattr(self, "weights"):
            (only,) = hidden_states
            return only
        weights = self.weights.softmax(dim=0).unbind()
        pairs = zip(weights, hidden_states, strict=True)
        weight, state = next(pairs)
        total = weight * state
        for weight, state in pairs:
            if torch.is_grad_enabled():
                total = torch.addcmul(total, weight, state)
            else:
                total.addcmul_(weight, state)
        return total


class LayerStack(torch.nn.Module):
    """All hidden states of an upstream side by side, for who combines them itself.

    Example:
        >>> LayerStack()([torch.zeros(1, 1, 2), torch.ones(1, 1, 2)]).tolist()
        [[[0.0, 0.0, 1.0, 1.0]]]
    """

    def forward(self, hidden_states: Iterable[Tensor]) -> Tensor:
        """Concatenate the hidden states.

        Args:
            hidden_states: One tensor per hidden state, (batch, time, feature).

        Returns:
            (batch, time, hidden states * feature)
        """
        return torch.cat(list(hidden_states), dim=-1)
