"""What a trained and decoded experiment says beside its word error rates."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from espnet_ensemble.decoding.datasets import POSTERIORS
from espnet_ensemble.decoding.posteriors import SCP
from espnet_ensemble.recipes.names import dataset_of
from espnet_ensemble.recipes.results import read_results
from espnet_ensemble.recipes.tables.experiments import Experiment
from espnet_ensemble.recipes.tables.systems import Rates
from espnet_ensemble.recipes.train_log import Epoch, read_epochs

_PARAMETERS = re.compile(r"Number of trainable parameters: (\S+ \S*?) ?\(")
_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")


@dataclass(frozen=True)
class Measures:
    """What is known of one training of a system.

    Attributes:
        seed: Of the training.
        wer: Word error rates of the sets that are scored, in percent.
        cer: Character error rates of these.
        parameters: Of what was trained, as ESPnet writes the number; "" if not known.
        epochs: The learning curve.
        decode_seconds: From the first to the last line of each decoding process, all added
            up: with loading the model; None if not known.
    """

    seed: int
    wer: Rates
    cer: Rates
    parameters: str
    epochs: list[Epoch]
    decode_seconds: float | None

    @property
    def train_seconds(self) -> float | None:
        """Training and validation, without what comes before; None if not known."""
        known = [epoch.seconds for epoch in self.epochs if epoch.seconds is not None]
        return sum(known) if known else None


def read_measures(experiment: Experiment) -> Measures:
    """Read what the folder of an experiment says.

    Raises:
        EnsembleError: If a ``result.txt`` is not sclite's.
    """
    exp_dir, rates = experiment.exp_dir, read_rates(experiment)
    return Measures(
        seed=experiment.setup.seed,
        wer=rates["wer"],
        cer=rates["cer"],
        parameters=_parameters(exp_dir),
        epochs=read_epochs(exp_dir),
        decode_seconds=_decode_seconds(exp_dir / experiment.names.inference_tag),
    )


def read_rates(experiment: Experiment) -> dict[str, Rates]:
    """Read error rates, to more digits than sclite's tables have.

    Returns:
        "wer" and "cer" -> rates of the evaluation sets that are scored, in their order.

    Raises:
        EnsembleError: If a ``result.txt`` is not sclite's.
    """
    found: dict[str, Rates] = {"wer": {}, "cer": {}}
    if not scored_sets(experiment):
        return found
    tag = experiment.names.inference_tag
    for result in read_results(experiment.exp_dir):
        if result.inference_tag == tag and result.metric in found:
            rate = 100 * result.counts.errors / result.counts.words
            found[result.metric][dataset_of(result.dataset)] = rate
    sets = experiment.system.corpus.sets
    return {
        metric: {name: rates[name] for name in sets if name in rates}
        for metric, rates in found.items()
    }


def scored_sets(experiment: Experiment) -> dict[str, str]:
    """Evaluation sets that are scored -> their folders, from that of the decoding."""
    folder = experiment.exp_dir / experiment.names.inference_tag
    found = (path.parents[1] for path in folder.glob("**/score_wer/result.txt"))
    folders = {
        dataset_of(str(p)): str(p) for p in (f.relative_to(folder) for f in found)
    }
    sets = experiment.system.corpus.sets
    return {name: folders[name] for name in sets if name in folders}


def sets_without_posteriors(experiment: Experiment) -> list[str]:
    """Folders of scored sets whose decoding has not kept what the table asks for."""
    if not experiment.system.save_posteriors:
        return []
    decoding = experiment.exp_dir / experiment.names.inference_tag
    return [
        folder
        for folder in scored_sets(experiment).values()
        if not (
            # Stage 12 is not through with the set before the second is there.
            (decoding / folder / POSTERIORS / SCP).exists()
            and (decoding / folder / ".done").exists()
        )
    ]


def _parameters(exp_dir: Path) -> str:
    for log in sorted(exp_dir.glob("train*.log")):
        found = _PARAMETERS.search(log.read_text(encoding="utf-8", errors="replace"))
        if found:
            return found[1].strip()
    return ""


def _decode_seconds(folder: Path) -> float | None:
    spans = [_span(log) for log in folder.glob("**/logdir/*.log")]
    return sum(spans) if spans else None


def _span(log: Path) -> float:
    """Seconds from the first time that a log names to the last."""
    with open(log, encoding="utf-8", errors="replace") as lines:
        times = _times(lines)
    return (times[-1] - times[0]).total_seconds() if times else 0.0


def _times(lines: Iterable[str]) -> list[datetime]:
    found = (_TIME.search(line) for line in lines)
    return [datetime.fromisoformat(match[0]) for match in found if match]
