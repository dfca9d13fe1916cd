"""Which upstreams and which layers to combine: from speech to a ranked list."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from espnet_ensemble.analysis.comparison import (
    Predictions,
    Similarities,
    compare_layers,
    predict_layers,
)
from espnet_ensemble.analysis.cost import Cost, measure, total
from espnet_ensemble.analysis.features import LayerFeatures, extract_layers
from espnet_ensemble.analysis.probe import (
    Gain,
    ProbeConf,
    ProbeResult,
    gain,
    run_probe,
)
from espnet_ensemble.analysis.sample import Sample, draw_sample
from espnet_ensemble.analysis.steps import Steps
from espnet_ensemble.data.tables import read_table
from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.feature_cache.extract import ExtractConf
from espnet_ensemble.files import PathLike
from espnet_ensemble.frontend_conf import FrontendConf

_log = logging.getLogger(__name__)
Result = TypeVar("Result")


@dataclass(frozen=True)
class StudyConf:
    """How upstreams are compared.

    Attributes:
        hours: Speech to look at, at most.
        max_members: Upstreams of a combination, at most.
        candidates: Upstreams, the best alone, whose pairs are all tried.
        similarity_frames: Frames that similarities are computed of, at most.
        max_bytes: Memory for covariances.
        probe: How probes are trained.
        extraction: How features are extracted, and which layers.
    """

    hours: float = 1.0
    max_members: int = 3
    candidates: int = 8
    similarity_frames: int = 20000
    max_bytes: int = 10**9
    probe: ProbeConf = field(default_factory=ProbeConf)
    extraction: ExtractConf = field(default_factory=lambda: ExtractConf(layers="all"))

    def __post_init__(self):
        for name in ("hours", "max_members", "candidates", "similarity_frames"):
            if not getattr(self, name) > 0:
                raise EnsembleError(
                    f"{name}: expected a number above 0, found {getattr(self, name)}"
                )


@dataclass(frozen=True)
class Choice:
    """A combination of layers of upstreams.

    Attributes:
        members: Places of the layers in :attr:`Study.layers`.
        probe: What a probe on all of them recognises.
        gain: Against the best layer alone.
        cost: Of all its upstreams.
    """

    members: tuple[int, ...]
    probe: ProbeResult
    gain: Gain
    cost: Cost


@dataclass(frozen=True)
class Study:
    """What there is to say of some upstreams.

    Attributes:
        frontend: The upstreams.
        sample: The speech.
        layers: All layers of all upstreams.
        probes: Of each layer alone.
        costs: Of the best layer of each upstream: its place -> what it costs.
        similarities: Of all layers.
        best: Of each upstream the place of the layer whose probe errs least.
        predictions: Between these.
        choices: Combinations that were tried, with their best layers; the fewest errors first.
    """

    frontend: FrontendConf
    sample: Sample
    layers: list[LayerFeatures]
    probes: list[ProbeResult]
    costs: dict[int, Cost]
    similarities: Similarities
    best: list[int]
    predictions: Predictions
    choices: list[Choice]

    def best_within(self, max_members: int) -> Choice:
        """The combination of at most so many upstreams with the fewest errors."""
        return next(c for c in self.choices if len(c.members) <= max_members)

    def frontend_config(self, choice: Choice) -> dict[str, Any]:
        """What a training configuration has of a combination: plain values for YAML."""
        upstreams = []
        for place in sorted(choice.members):
            layer = self.layers[place]
            conf = self.frontend.upstreams[layer.upstream]
            given = {k: v for k, v in asdict(conf).items() if v is not None}
            given["layer"] = (
                "last" if layer.identity.layer == "last" else int(layer.layer)
            )
            upstreams.append(given)
        values = {"upstreams": upstreams, "normalize": self.frontend.normalize}
        default = FrontendConf(self.frontend.upstreams)
        for name in ("fs", "dtype", "download_dir"):
            if getattr(self.frontend, name) != getattr(default, name):
                values[name] = getattr(self.frontend, name)
        return {"frontend": "ensemble", "frontend_conf": values}


def study(
    data_dir: PathLike,
    frontend: FrontendConf,
    output_dir: PathLike,
    cache_dir: PathLike,
    conf: StudyConf = StudyConf(),
) -> Study:
    """Compare upstreams on some speech; what has been found before is not done again.

    Args:
        data_dir: A data directory such as ``dump/raw/train``, with ``text``.
        frontend: The upstreams; their ``layer`` does not matter.
        output_dir: For results.
        cache_dir: For features.
        conf: How.

    Raises:
        EnsembleError: If the data or the upstreams are not what they should be.
    """
    output_dir = Path(output_dir)
    sample = draw_sample(data_dir, output_dir, conf.hours, frontend.fs)
    nested = extract_layers(sample.data_dir, frontend, cache_dir, conf.extraction)
    layers = [layer for of_upstream in nested for layer in of_upstream]
    keys = [key for key in [*sample.train, *sample.test] if _is_there(layers[0], key)]
    steps = open_steps(output_dir, sample, layers, frontend, conf.extraction)
    return _Studying(frontend, sample, layers, conf, steps).run(nested, keys)


def open_steps(
    output_dir: Path,
    sample: Sample,
    layers: Sequence[LayerFeatures],
    frontend: FrontendConf,
    extraction: ExtractConf,
) -> Steps:
    """What was found before of some speech, of these upstreams or of others beside them."""
    keys = [key for key in [*sample.train, *sample.test] if _is_there(layers[0], key)]
    common = {
        "normalize": frontend.normalize,
        "storage": extraction.storage,
        "train": sample.train,
        "test": sample.test,
        "texts": [sample.texts[key] for key in keys],
        "frames": sum(layers[0].num_frames(key) for key in keys),
    }
    return Steps(output_dir / "steps", common)


def find_probe(
    steps: Steps, layers: Sequence[LayerFeatures], sample: Sample, conf: ProbeConf
) -> ProbeResult:
    """Train a probe on some layers, unless that has been done before."""
    return ProbeResult(
        **steps.find(
            "probe",
            {"of": [layer.about for layer in layers], "conf": asdict(conf)},
            lambda: run_probe(layers, sample, conf).to_dict(),
        )
    )


def _is_there(layer: LayerFeatures, key: str) -> bool:
    try:
        return layer.num_frames(key) > 0
    except KeyError:  # skipped by the extraction
        return False


class _Studying:
    """The steps of :func:`study`."""

    def __init__(
        self,
        frontend: FrontendConf,
        sample: Sample,
        layers: list[LayerFeatures],
        conf: StudyConf,
        steps: Steps,
    ):
        self._frontend = frontend
        self._sample = sample
        self._layers = layers
        self._conf = conf
        self._steps = steps

    def run(self, nested: list[list[LayerFeatures]], keys: list[str]) -> Study:
        similarities = Similarities(
            **self._steps.find(
                "similarity",
                {
                    "of": [layer.about for layer in self._layers],
                    "most": self._conf.similarity_frames,
                },
                lambda: _watch(
                    "similarity",
                    compare_layers(
                        self._layers,
                        keys,
                        self._conf.similarity_frames,
                        self._conf.max_bytes,
                    ),
                ).to_dict(),
            )
        )
        probes = [
            self._probe((index,))
            for index in tqdm(range(len(self._layers)), "probes", disable=None)
        ]
        best = self._best(nested, probes)
        costs = {index: self._cost(index) for index in best}
        chosen = [self._layers[index] for index in best]
        predictions = Predictions(
            **self._steps.find(
                "prediction",
                {"of": [layer.about for layer in chosen]},
                lambda: _watch("prediction", predict_layers(chosen, keys)).to_dict(),
            )
        )
        found = self._combine(best, probes)
        first = min((found[(index,)] for index in best), key=lambda p: (p.cer, p.loss))
        choices = [
            Choice(
                members, probe, gain(probe, first), total([costs[i] for i in members])
            )
            for members, probe in found.items()
        ]
        choices.sort(key=lambda choice: (choice.probe.cer, choice.probe.loss))
        return Study(
            self._frontend,
            self._sample,
            self._layers,
            probes,
            costs,
            similarities,
            best,
            predictions,
            choices,
        )

    def _best(
        self, nested: list[list[LayerFeatures]], probes: list[ProbeResult]
    ) -> list[int]:
        best, first = [], 0
        for of_upstream in nested:
            places = range(first, first + len(of_upstream))
            best.append(min(places, key=lambda i: (probes[i].cer, probes[i].loss)))
            first = places.stop
        return best

    def _combine(
        self, best: list[int], probes: list[ProbeResult]
    ) -> dict[tuple[int, ...], ProbeResult]:
        """All pairs of the candidates; to the best, the best third is added, and so on."""
        found: dict[tuple[int, ...], ProbeResult] = {}
        found |= {(index,): probes[index] for index in best}
        by_errors = sorted(best, key=lambda i: (probes[i].cer, probes[i].loss))
        candidates = by_errors[: self._conf.candidates]
        rounds: Sequence[tuple[int, ...]] = list(combinations(sorted(candidates), 2))
        for size in range(2, min(self._conf.max_members, len(candidates)) + 1):
            name = f"combinations of {size}"
            of_round = {m: self._probe(m) for m in tqdm(rounds, name, disable=None)}
            found |= of_round
            top = min(of_round, key=lambda m: (of_round[m].cer, of_round[m].loss))
            rounds = [
                tuple(sorted((*top, i))) for i in sorted(candidates) if i not in top
            ]
        return found

    def _probe(self, members: tuple[int, ...]) -> ProbeResult:
        layers = [self._layers[index] for index in members]
        return find_probe(self._steps, layers, self._sample, self._conf.probe)

    def _cost(self, index: int) -> Cost:
        layer = self._layers[index]
        found = self._steps.find(
            "cost",
            {"of": layer.about, "device": self._conf.probe.device},
            lambda: self._measure(layer),
        )
        hours = self._sample.samples / self._frontend.fs / 3600
        return Cost(**{**found, "cache_mb": layer.num_bytes / 1e6 / hours})

    def _measure(self, layer: LayerFeatures) -> dict[str, Any]:
        member = self._frontend.members()[layer.upstream]
        (upstream,) = member.upstreams
        member = replace(member, upstreams=(replace(upstream, layer=layer.layer),))
        wav_scp = read_table(self._sample.data_dir / "wav.scp")
        paths = [wav_scp[key] for key in self._sample.train]
        return asdict(measure(member, paths, self._conf.probe.device))


def _watch(name: str, work: Iterator[float | Result]) -> Result:
    """Show the progress of a step; the last that it yields is its result."""
    with tqdm(total=100, desc=name, unit=" %", disable=None) as progress:
        for item in work:
            if not isinstance(item, float):
                return item
            progress.update(100 * item)
    raise AssertionError("expected a result")
