"""Which hidden states of an upstream are used."""

from collections.abc import Sequence
from typing import Any

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
