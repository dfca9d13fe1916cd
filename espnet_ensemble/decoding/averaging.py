"""One model out of several: the mean of their posteriors."""

from collections.abc import Sequence

import torch

from espnet_ensemble.errors import EnsembleError


def average_posteriors(members: Sequence[torch.Tensor]) -> torch.Tensor:
    """Average the posteriors of an utterance.

    Args:
        members: Natural logarithms of each system's posteriors: (frames, tokens), at the
            same frame rate and over the same token list.

    Returns:
        Natural logarithms of the means, (frames, tokens).

    Raises:
        EnsembleError: If numbers of frames or tokens differ.

    Example:
        >>> one, two = torch.tensor([[0.2, 0.8]]), torch.tensor([[0.6, 0.4]])
        >>> average_posteriors([one.log(), two.log()]).exp()
        tensor([[0.4000, 0.6000]])
    """
    shapes = [tuple(member.shape) for member in members]
    if len(set(shapes)) > 1:
        raise EnsembleError(
            "expected posteriors with the same frames and tokens from all systems, found "
            f"{', '.join(map(str, shapes))}"
        )
    stacked = torch.stack([member.float() for member in members])
    return stacked.logsumexp(dim=0) - torch.tensor(float(len(members))).log()
