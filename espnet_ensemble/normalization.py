"""Bringing the features of several upstreams to one scale.

The last layers of wav2vec 2.0, HuBERT and WavLM differ in scale by orders of magnitude. What
is concatenated as it comes, a linear layer can hardly learn from.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.frames import padding_mask

#: Makes of one hidden state, (batch, time, feature), and the frames of each utterance,
#: (batch,), one of the same shape.
Normalization = Callable[[Tensor, Tensor], Tensor]

# As torch.nn.functional.layer_norm.
_EPS = 1e-5


def as_it_comes(feats: Tensor, feats_lens: Tensor) -> Tensor:
    """Change nothing."""
    return feats


def normalize_utterance(feats: Tensor, feats_lens: Tensor) -> Tensor:
    """Give each utterance mean 0 and variance 1, over all its frames and features together.

    For an utterance alone this is SpeechBrain's ``output_norm`` of March 2022
    (``lobes/models/huggingface_wav2vec.py``), ``layer_norm(out, out.shape)``, which looks at
    a whole padded batch.

    Args:
        feats: (batch, time, feature)
        feats_lens: Frames of each utterance, (batch,).

    Returns:
        (batch, time, feature), undefined at the padding.

    Example:
        >>> feats = torch.tensor([[[1.0, 3.0], [1.0, 3.0], [50.0, 60.0]]])
        >>> normalize_utterance(feats, torch.tensor([2]))[0, :2].round(decimals=3)
        tensor([[-1.,  1.],
                [-1.,  1.]])
    """
    own = ~padding_mask(feats_lens, feats.size(1)).unsqueeze(-1)
    # In half precision, sums over an utterance would lose digits, and squares overflow.
    values = feats.to(torch.promote_types(feats.dtype, torch.float32))
    num_values = (feats_lens * feats.size(2)).view(-1, 1, 1)
    mean = values.where(own, 0).sum(dim=(1, 2), keepdim=True) / num_values
    values = (values - mean).where(own, 0)
    variance = values.square().sum(dim=(1, 2), keepdim=True) / num_values
    return (values * (variance + _EPS).rsqrt()).to(feats.dtype)


def normalize_frames(feats: Tensor, feats_lens: Tensor) -> Tensor:
    """Give each frame mean 0 and variance 1 over its features.

    A layer norm without parameters, as S3PRL's featurizer has it (``normalize``).

    Args:
        feats: (batch, time, feature)
        feats_lens: Frames of each utterance, (batch,).

    Returns:
        (batch, time, feature), undefined at the padding.

    Example:
        >>> feats = torch.tensor([[[1.0, 3.0], [-10.0, 10.0]]])
        >>> normalize_frames(feats, torch.tensor([2])).round(decimals=3)
        tensor([[[-1.,  1.],
                 [-1.,  1.]]])
    """
    return torch.nn.functional.layer_norm(feats, feats.shape[-1:], eps=_EPS)


#: The name that ``frontend_conf`` gives each -> what it does.
NORMALIZATIONS: dict[str, Normalization] = {
    "none": as_it_comes,
    "utterance": normalize_utterance,
    "layer_norm": normalize_frames,
}


def find_normalization(name: str) -> Normalization:
    """Find a normalization by the name that ``frontend_conf`` gives it.

    Raises:
        EnsembleError: If there is none.
    """
    if name not in NORMALIZATIONS:
        raise EnsembleError(
            f"normalize: expected one of {', '.join(NORMALIZATIONS)}, found {name!r}"
        )
    return NORMALIZATIONS[name]
