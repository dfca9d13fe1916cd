"""What an upstream costs."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import torch
from torch.nn.utils.rnn import pad_sequence

from espnet_ensemble.feature_cache.identity import read_wav
from espnet_ensemble.frontend_conf import FrontendConf

#: Seconds of speech that the speed is measured with.
_SECONDS = 30.0


@dataclass(frozen=True)
class Cost:
    """What it costs to have features.

    Attributes:
        parameters: Of the encoder, as far as it is run for the layer.
        seconds: Seconds that a second of speech takes here.
        cache_mb: Megabytes of the layer's features of an hour of speech.
    """

    parameters: int
    seconds: float
    cache_mb: float

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            self.parameters + other.parameters,
            self.seconds + other.seconds,
            self.cache_mb + other.cache_mb,
        )

    @property
    def speed(self) -> float:
        """Seconds of speech in a second."""
        return 1 / self.seconds


def total(costs: Sequence[Cost]) -> Cost:
    """Of several upstreams, one after the other."""
    return reduce(add, costs)


@torch.no_grad()
def measure(frontend: FrontendConf, paths: Sequence[str], device: str) -> Cost:
    """Count parameters, and run an upstream on some speech.

    Args:
        frontend: A frontend with this upstream alone.
        paths: Audio files.
        device: Where it runs.

    Returns:
        Without ``cache_mb``, which is 0.
    """
    ensemble = frontend.build().to(device)
    (upstream,) = ensemble.upstreams
    wavs, taken = [], 0.0
    for path in paths:
        wav = read_wav(path)
        wavs.append(torch.from_numpy(wav.samples))
        taken += len(wav.samples) / wav.fs
        if taken >= _SECONDS:
            break
    wavs.sort(key=len)
    batches = [wavs[i : i + 8] for i in range(0, len(wavs), 8)]
    for timed in (batches[:1], batches):  # the first only warms up
        start = time.perf_counter()
        for batch in timed:
            lengths = torch.tensor([len(wav) for wav in batch])
            padded = pad_sequence(batch, batch_first=True)
            feats, _ = ensemble.extract(padded.to(device), lengths.to(device))
            feats[0][-1].sum().item()  # waits for a GPU
    seconds = (time.perf_counter() - start) / taken
    return Cost(sum(p.numel() for p in upstream.parameters()), seconds, 0.0)
