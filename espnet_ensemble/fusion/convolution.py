"""Convolution over the layers of all upstreams."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import Conv1d, ReLU, Sequential

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.fusion.base import EqualSizes, Fusion


class LayerConvolution(Fusion):
    """Hierarchical convolution over the hidden states of all upstreams, in each frame.

    The hidden states of an upstream, and then those of the next, are one axis, along which
    convolutions with a stride are applied until few places are left; the number of
    convolutions grows with the logarithm of that of hidden states. The last one gives each
    place a share of the features, and all are concatenated: HConv of Shih and Harwath,
    "Interface Design for Self-Supervised Speech Models", Interspeech 2024 (arXiv
    2406.12209), and its kernel, stride and ReLU. That one axis holds the layers of several
    models, as in their "Unifying Model and Layer Fusion for Speech Foundation Models" (arXiv
    2511.08389), is our reading: of that paper we had the abstract.

    Give each upstream several hidden states (``layer: weighted_sum``, or a list). The place
    of the learned weights over them is taken by the convolution.

    Args:
        sizes: Feature size of each upstream.
        num_layers: Hidden states of each upstream.
        proj_dim: Size to project each upstream's hidden states to first. None: no
            projection if the sizes are equal, else to the largest.
        kernel_size: Hidden states that a convolution sees, odd.
        stride: Hidden states from one place to the next, at least 2.

    Raises:
        EnsembleError: If ``kernel_size`` or ``stride`` is out of range.

    Example:
        >>> fusion = LayerConvolution([768, 768], num_layers=[13, 13])
        >>> feats = [torch.rand(1, 5, 13 * 768), torch.rand(1, 5, 13 * 768)]
        >>> fusion(feats, torch.tensor([5])).shape, fusion.output_size
        (torch.Size([1, 5, 768]), 768)
    """

    takes_layers = True

    def __init__(
        self,
        sizes: Sequence[int],
        num_layers: Sequence[int],
        proj_dim: int | None = None,
        kernel_size: int = 5,
        stride: int = 3,
    ):
        super().__init__()
        if not (kernel_size > 0 and kernel_size % 2):
            raise EnsembleError(
                f"kernel_size: expected 1, 3, 5, …, found {kernel_size}"
            )
        if stride < 2:
            raise EnsembleError(f"stride: expected at least 2, found {stride}")
        self.num_layers = list(num_layers)
        self.equal_sizes = EqualSizes(sizes, proj_dim)
        places = _places(sum(num_layers), kernel_size, stride)
        size = self.equal_sizes.size
        last = max(1, size // places[-1])
        self.convolutions = Sequential()
        for index in range(len(places)):
            out = size if index < len(places) - 1 else last
            self.convolutions.append(
                Conv1d(size, out, kernel_size, stride, padding=kernel_size // 2)
            )
            self.convolutions.append(ReLU())
        self.output_size = last * places[-1]

    def project(self, feats: list[Tensor]) -> list[Tensor]:
        layers = [
            x.unflatten(-1, (number, -1))
            for x, number in zip(feats, self.num_layers, strict=True)
        ]
        return [x.flatten(start_dim=-2) for x in self.equal_sizes(layers)]

    def forward(self, feats: list[Tensor], feats_lens: Tensor) -> Tensor:
        batch, time, _ = feats[0].shape
        states = torch.cat(self.project(feats), dim=-1)
        # (batch * time, feature, hidden state of some upstream)
        axis = states.view(batch * time, sum(self.num_layers), -1).transpose(1, 2)
        return self.convolutions(axis).reshape(batch, time, self.output_size)


def _places(number: int, kernel_size: int, stride: int) -> list[int]:
    """How many places each convolution leaves of so many hidden states.

    There are as many convolutions as the logarithm of that number to the base ``stride``, and
    at least one.

    Example:
        >>> _places(26, kernel_size=5, stride=3)
        [9, 3]
    """
    places = [number]
    while len(places) == 1 or stride ** len(places) <= number:
        places.append((places[-1] + 2 * (kernel_size // 2) - kernel_size) // stride + 1)
    return places[1:]
