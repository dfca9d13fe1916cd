"""Members that are predicted from another one's hidden states, in place of being run."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Linear, ModuleDict, ModuleList

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.featurizer import Featurizer
from espnet_ensemble.fusion.base import Fusion


class Prediction(Fusion):
    """Another fusion, some of whose members are linear maps of the others' hidden states.

    T. Srivastava, J. Shi, W. Chen and S. Watanabe, "EFFUSE: Efficient self-supervised feature
    fusion for E2E ASR in low resource and multilingual scenarios", Interspeech 2024 (arXiv
    2310.03938). ``espnet-ensemble effuse`` makes a model with it of a trained ensemble.

    Args:
        sizes: Feature size of each upstream that is run.
        num_layers: Hidden states of each.
        predicted: Feature sizes of the members that are predicted: the place that each has among
            all members -> its size; None: there are none.
        own_layers: Of each upstream that is run, which of its hidden states, counted from 0 in
            the order of ``layer``, are averaged to be its own features; None: the last.
        fusion: What combines the members, one of ``FUSIONS`` that takes one hidden state of each.
        fusion_conf: Its options.

    Raises:
        EnsembleError: If a place is none, or the fusion is of another kind.

    Example:
        >>> fusion = Prediction([4], num_layers=[3], predicted={0: 6})
        >>> fusion([torch.rand(1, 5, 12)], torch.tensor([5])).shape
        torch.Size([1, 5, 10])
    """

    takes_layers = True

    def __init__(
        self,
        sizes: Sequence[int],
        num_layers: Sequence[int],
        predicted: Mapping[int, int] | None = None,
        own_layers: Sequence[Sequence[int]] | None = None,
        fusion: str = "concat",
        fusion_conf: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        from espnet_ensemble.fusion import FUSIONS, build_fusion

        if fusion in FUSIONS and FUSIONS[fusion].takes_layers:
            raise EnsembleError(
                f"fusion: expected one that takes one hidden state of each, found {fusion!r}"
            )
        predicted = {int(place): size for place, size in (predicted or {}).items()}
        number = len(sizes) + len(predicted)
        outside = [place for place in predicted if not 0 <= place < number]
        if outside:
            raise EnsembleError(
                f"predicted: expected places from 0 to {number - 1}, found {outside[0]}"
            )
        if own_layers is None:
            own_layers = [[layers - 1] for layers in num_layers]
        for layers, of_all in zip(own_layers, num_layers, strict=True):
            if not layers or not all(0 <= layer < of_all for layer in layers):
                raise EnsembleError(
                    f"own_layers: expected some from 0 to {of_all - 1}, found {layers}"
                )
        self.num_layers, self.own_layers = list(num_layers), list(map(list, own_layers))
        self.own = ModuleList(Featurizer(len(layers)) for layers in own_layers)
        inputs = sum(n * size for n, size in zip(num_layers, sizes, strict=True))
        self.predictors = ModuleDict(
            {str(place): Linear(inputs, size) for place, size in predicted.items()}
        )
        run = iter(sizes)
        of_members = [
            predicted[i] if i in predicted else next(run) for i in range(number)
        ]
        self.inner = build_fusion(fusion, of_members, **(fusion_conf or {}))
        self.output_size = self.inner.output_size

    def project(self, feats: list[Tensor]) -> list[Tensor]:
        return self.inner.project(self._members(feats))

    def forward(self, feats: list[Tensor], feats_lens: Tensor) -> Tensor:
        return self.inner(self._members(feats), feats_lens)

    def _members(self, feats: list[Tensor]) -> list[Tensor]:
        """The features of all members, run or predicted, in their order."""
        inputs = torch.cat(feats, dim=-1)
        run = []
        for x, number, layers, own in zip(
            feats, self.num_layers, self.own_layers, self.own, strict=True
        ):
            states = x.chunk(number, dim=-1)
            run.append(own([states[layer] for layer in layers]))
        rest = iter(run)
        return [
            self.predictors[str(place)](inputs)
            if str(place) in self.predictors
            else next(rest)
            for place in range(len(run) + len(self.predictors))
        ]
