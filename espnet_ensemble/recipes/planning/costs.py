"""Sums of measured rates: disk, memory, hours of work and time of an experiment."""

from collections.abc import Sequence
from dataclasses import dataclass

from espnet_ensemble.recipes.planning.rates import ModelRate, UpstreamRate

#: Bytes of a number in the feature cache, by storage type.
BYTES = {"float32": 4, "float16": 2, "int8": 1}
# A second of 16-bit samples at 16 kHz. FLAC takes about half.
_WAV = 32_000
# Of an utterance, in each process of a training: ESPnet's batches and texts, measured with
# benchmarks/scale.py (espnet_batches, espnet_texts; docs/scale.md).
_ESPNET = 900


@dataclass(frozen=True)
class Experiment:
    """What is planned.

    Attributes:
        hours: Of training speech, before copies at other speeds are made.
        utterances: Of these.
        speeds: Copies of each, the original among them.
        epochs: Of training.
        test_hours: Of speech to be decoded.
        storage: Type of the cached numbers.
    """

    hours: float
    utterances: int
    speeds: int = 1
    epochs: int = 30
    test_hours: float = 10.0
    storage: str = "float16"

    @property
    def seconds(self) -> float:
        """Of training speech with all copies; at other speeds they are about as long."""
        return 3600 * self.hours * self.speeds


@dataclass(frozen=True)
class Workers:
    """Who does it.

    Attributes:
        unit: "GPU" or "core".
        number: How many.
        training: How many train one model together: GPUs, or 1 for a CPU's cores.
    """

    unit: str
    number: int
    training: int


@dataclass(frozen=True)
class Cost:
    """A row of the plan; None: nothing to be said.

    Attributes:
        step: What is done.
        disk: Bytes that it leaves.
        memory: Bytes of a worker.
        work: Hours of all workers together.
        time: Hours until it is done.
    """

    step: str
    disk: float | None = None
    memory: float | None = None
    work: float | None = None
    time: float | None = None


def list_costs(
    experiment: Experiment,
    workers: Workers,
    upstreams: Sequence[UpstreamRate],
    model: ModelRate,
    write_rate: float,
) -> list[Cost]:
    """Extrapolate measured rates to an experiment.

    Time is proportional to speech, and is divided by the number of workers; writing to the
    disk is not.

    Args:
        experiment: What is planned.
        workers: Who does it.
        upstreams: Rates of extraction.
        model: Rates of training and decoding from cached features.
        write_rate: Bytes that the disk of the cache takes in a second.
    """
    seconds, bytes_each = experiment.seconds, BYTES[experiment.storage]
    audio = Cost("audio as stage 3 makes it, at most (wav)", seconds * _WAV)
    members = []
    for upstream in upstreams:
        disk = seconds * upstream.values_per_second * bytes_each
        work = seconds / upstream.extraction.speed / 3600
        time = max(work / workers.number, disk / write_rate / 3600)
        memory = upstream.extraction.memory
        members.append(Cost(f"features of {upstream.name}", disk, memory, work, time))
    features = Cost(
        "features of all",
        disk=sum(member.disk or 0 for member in members),
        memory=max(member.memory or 0 for member in members),
        work=sum(member.work or 0 for member in members),
        time=sum(member.time or 0 for member in members),
    )
    tables = espnet_tables(experiment)
    of_cores = workers.number / workers.training
    time = experiment.epochs * seconds / model.training.speed / workers.training / 3600
    training = Cost(
        f"training, {experiment.epochs} epochs, from these features",
        memory=model.training.memory + (tables if workers.unit == "core" else 0),
        work=time * workers.number,
        time=time,
    )
    extraction = (
        sum(seconds / upstream.extraction.speed for upstream in upstreams) / 3600
    )
    again = experiment.epochs * extraction
    from_audio = Cost(
        "the same without a cache, upstreams in each epoch",
        work=again + (training.work or 0),
        time=again / workers.number + time,
    )
    share = experiment.test_hours / (seconds / 3600)
    work = extraction * share + of_cores * experiment.test_hours / model.decoding.speed
    decoding = Cost(
        f"decoding {experiment.test_hours:g} hours of audio",
        memory=max(model.decoding.memory, features.memory or 0),
        work=work,
        time=work / workers.number,
    )
    rows = [audio, *members, *([features] if len(members) > 1 else [])]
    return [*rows, training, from_audio, decoding]


def espnet_tables(experiment: Experiment) -> int:
    """Bytes that ESPnet holds of all utterances in each process of a training."""
    return _ESPNET * experiment.utterances * experiment.speeds
