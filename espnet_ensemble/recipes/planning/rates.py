"""How fast this machine is at each step, and what memory it takes: measured on made data."""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from espnet2.tasks.asr import ASRTask
from torch import Tensor

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import PathLike
from espnet_ensemble.recipes.planning.stand_ins import PlannedUpstream
from espnet_ensemble.threads import num_threads
from espnet_ensemble.upstream.base import Upstream
from espnet_ensemble.upstream.registry import UpstreamConf, register_upstream

# Seconds of speech that warm up (memory, kernels), and that tell how many can be measured.
_WARM_UP, _TRIAL = 1.0, 2.0
# Read speech has about 15 characters a second.
_TOKENS_PER_SECOND = 15
_TOKENS = ["<blank>", "<unk>", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ'", "<space>", "<sos/eos>"]
_MIB = 1 << 20


@dataclass(frozen=True)
class Rate:
    """What a worker does: a process on one core, or a GPU.

    Attributes:
        speed: Seconds of speech in a second.
        memory: Bytes that it took: of the GPU, or of the process with all that it has loaded.
    """

    speed: float
    memory: int


@dataclass(frozen=True)
class UpstreamRate:
    """An upstream, as extraction runs it.

    Attributes:
        name: What the user calls it.
        values_per_second: Numbers that are stored for a second of speech.
        parameters: Its number of weights.
        extraction: How fast it is.
        reason: Why a model of its size was measured in its place; "": it was not.
    """

    name: str
    values_per_second: float
    parameters: int
    extraction: Rate
    reason: str = ""


@dataclass(frozen=True)
class ModelRate:
    """The model above the upstreams, on cached features.

    Attributes:
        parameters: Its number of weights that train.
        training: Forward, backward, and a step of the optimizer.
        decoding: Forward alone, with the best token of each frame.
    """

    parameters: int
    training: Rate
    decoding: Rate


@dataclass(frozen=True)
class Measure:
    """How to measure.

    Attributes:
        device: Where.
        budget: Seconds that one of the measurements may take.
        utterance: Seconds of an utterance.
        batch: Seconds of a batch at most.
    """

    device: torch.device
    budget: float
    utterance: float
    batch: float = 60.0

    def rate(self, work: Callable[[int, float], object]) -> Rate:
        """Measure work on a number of utterances of so many seconds each."""
        self._time(work, _WARM_UP)
        self._reset_memory()
        trial = self._time(work, _TRIAL) / _TRIAL
        seconds = min(self.batch, max(_TRIAL, self.budget / trial))
        took = self._time(work, seconds)
        return Rate(seconds / took, self._memory())

    def _time(self, work: Callable[[int, float], object], seconds: float) -> float:
        number = max(1, round(seconds / self.utterance))
        self._wait()
        start = time.perf_counter()
        work(number, seconds / number)
        self._wait()
        return time.perf_counter() - start

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def _reset_memory(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def _memory(self) -> int:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return 1024 * int(status.partition("VmRSS:")[2].split()[0])


def measure_upstream(planned: PlannedUpstream, measure: Measure) -> UpstreamRate:
    """Measure an upstream, with one thread on the CPU, as extraction runs it."""
    upstream = planned.upstream.to(measure.device)

    @torch.no_grad()
    def extract(number: int, seconds: float) -> None:
        length = max(400, int(seconds * upstream.fs))
        wavs = torch.rand(number, length, device=measure.device) - 0.5
        upstream(wavs, torch.full((number,), length, device=measure.device))

    try:
        with num_threads(1):
            rate = measure.rate(extract)
    finally:
        upstream.to("cpu")
    values = upstream.feature_size * len(upstream.layers)
    return UpstreamRate(
        planned.name,
        values * upstream.fs / upstream.hop_length,
        sum(parameter.numel() for parameter in upstream.parameters()),
        rate,
        planned.reason,
    )


def measure_model(
    config: dict[str, Any], planned: Sequence[PlannedUpstream], measure: Measure
) -> ModelRate:
    """Measure training and decoding on features, with a configuration's model, all cores.

    Args:
        config: A training configuration with ``frontend: ensemble``; its ``upstreams`` are
            those that are given.
        planned: The upstreams.
        measure: How.

    Raises:
        EnsembleError: If the configuration's model does not take speech and text alone.
    """
    model = ASRTask.build_model(_arguments(config, planned)).to(measure.device)
    frontend = model.frontend
    frames = frontend.fs / frontend.hop_length
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(parameters, lr=1e-6)

    def batch(number: int, seconds: float) -> dict[str, Tensor]:
        length = max(8, int(seconds * frames))
        tokens = min(length // 4, max(1, int(seconds * _TOKENS_PER_SECOND)))
        lengths = torch.full((number,), length, device=measure.device)
        shape = (number, length, frontend.total_size)
        return {
            "speech": torch.randn(shape, device=measure.device),
            "speech_lengths": lengths,
            "text": torch.randint(2, 28, (number, tokens), device=measure.device),
            "text_lengths": torch.full_like(lengths, tokens),
        }

    def train(number: int, seconds: float) -> None:
        model.train()
        optimizer.zero_grad()
        model(**batch(number, seconds))[0].backward()
        optimizer.step()

    @torch.no_grad()
    def decode(number: int, seconds: float) -> None:
        model.eval()
        made = batch(number, seconds)
        encoded, _ = model.encode(made["speech"], made["speech_lengths"])
        encoded = encoded[0] if isinstance(encoded, tuple) else encoded
        model.ctc.argmax(encoded)

    if model.ctc is None:
        raise EnsembleError(
            "model_conf: ctc_weight: expected above 0: decoding is by CTC"
        )
    with num_threads(len(os.sched_getaffinity(0))):
        training, decoding = measure.rate(train), measure.rate(decode)
    return ModelRate(sum(p.numel() for p in parameters), training, decoding)


def _arguments(
    config: dict[str, Any], planned: Sequence[PlannedUpstream]
) -> argparse.Namespace:
    """The configuration as training reads it, with upstreams that are loaded already."""
    frontend_conf = {**(config.get("frontend_conf") or {}), "upstreams": []}
    for number, part in enumerate(planned):
        # None is loaded again: the names lead to what is here.
        name = f"planned_{id(planned)}_{number}"
        register_upstream(name)(_loaded(part))
        frontend_conf["upstreams"].append(name)
    changed = {
        **config,
        "frontend": "ensemble",
        "frontend_conf": frontend_conf,
        "token_list": _TOKENS,
    }
    if changed.get("normalize") == "global_mvn":
        changed["normalize"] = "utterance_mvn"  # whose statistics are of the batch
        changed["normalize_conf"] = {}
    parser = ASRTask.get_parser()
    parser.set_defaults(**changed)
    return parser.parse_args([])


def _loaded(planned: PlannedUpstream) -> Callable[[UpstreamConf, str | None], Upstream]:
    return lambda conf, download_dir: planned.upstream


def measure_writing(folder: PathLike, mebibytes: int = 128) -> float:
    """Bytes that a second writes to a folder's disk, with the time until they are there.

    Raises:
        OSError: If that cannot be written.
    """
    block = os.urandom(_MIB)
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        start = time.perf_counter()
        for _ in range(mebibytes):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
        return mebibytes * _MIB / (time.perf_counter() - start)
