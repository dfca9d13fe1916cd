"""Any model as an upstream: utterances are run one at a time, so that there is no padding."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from espnet_ensemble.layers import Layer, layer_indices
from espnet_ensemble.upstream.base import Upstream, pad_to
from espnet_ensemble.upstream.errors import UpstreamError
from espnet_ensemble.upstream.fingerprint import fingerprint

#: All hidden states, each (1, frames, features), of a model and a waveform, (samples,).
Call = Callable[[Any, Tensor], list[Tensor]]
# Samples that two probes differ by: frames of 40 ms are 100 of them.
_PROBED = 64000


class OneAtATimeUpstream(Upstream):
    """A model that somebody else's code computes.

    How many frames it gives, and of what size, is seen by running it.

    Args:
        name: What the user calls it.
        model: The model.
        call: What computes its hidden states.
        layer: See :func:`espnet_ensemble.layers.layer_indices`; hidden states are counted as
            ``call`` gives them.
        fs: Sample rate that it expects, in Hz.
        shortest: Samples that an utterance is padded to with zeros if it has less.

    Raises:
        UpstreamError: If it gives no frames that could be used.
    """

    def __init__(
        self, name: str, model: Any, call: Call, layer: Layer, fs: int, shortest: int
    ):
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            short, long = (
                call(model, 0.01 * torch.randn(n, generator=generator))
                for n in (_PROBED, 2 * _PROBED)
            )
        layers = layer_indices(layer, len(long) - 1)
        sizes = {tuple(long[index].shape[1:]) for index in layers}
        more = long[layers[0]].size(1) - short[layers[0]].size(1)
        if len(sizes) > 1 or more < 1:
            found = ", ".join(f"{i}: {tuple(long[i].shape)}" for i in layers)
            raise UpstreamError(
                f"upstream {name!r}: expected hidden states of one size, (1, frames, "
                f"features), more of a longer utterance; found {found}"
            )
        super().__init__(
            name=name,
            fs=fs,
            hop_length=round(_PROBED / more),
            feature_size=long[layers[0]].size(2),
            layers=layers,
            fingerprint=fingerprint(model.state_dict()),
        )
        self.model, self._run, self._shortest = model, call, shortest

    def forward(self, wavs: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """Compute hidden states, see :meth:`.Upstream.forward`."""
        wavs = pad_to(wavs, self._shortest)
        samples = lengths.clamp(min=self._shortest).tolist()
        alone = [
            self._run(self.model, wav[:n]) for wav, n in zip(wavs, samples, strict=True)
        ]
        states = [
            pad_sequence([found[index][0] for found in alone], batch_first=True)
            for index in self.layers
        ]
        frames = [found[self.layers[0]].size(1) for found in alone]
        return states, torch.tensor(frames, device=lengths.device)
