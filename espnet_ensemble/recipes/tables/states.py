"""How far a system has come, read from the folder of its experiment."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from espnet_ensemble.recipes.tables.experiments import Experiment
from espnet_ensemble.recipes.tables.measures import (
    read_rates,
    sets_without_posteriors,
)
from espnet_ensemble.recipes.tables.systems import Rates


@dataclass(frozen=True)
class State:
    """How far a system has come.

    Attributes:
        running: Whether a process of ``espnet-ensemble table`` runs it.
        started: Whether training has begun.
        epoch: Epochs that are finished and saved.
        trained: Whether training has ended.
        rates: Word error rates of the evaluation sets that are scored.
        lacks: What it needs to be done after training; "": nothing.
    """

    running: bool
    started: bool
    epoch: int
    trained: bool
    rates: Rates
    lacks: str

    @property
    def done(self) -> bool:
        """Whether all sets are scored, with posteriors where the table asks for them."""
        return not self.lacks

    def describe(self, max_epoch: int) -> str:
        """One line about it.

        Args:
            max_epoch: Epochs that training is to have.

        Example:
            >>> State(False, True, 3, False, {}, "not yet scored").describe(30)
            'interrupted: epoch 3 of 30 done'
            >>> State(False, True, 30, True, {"test": 9.25}, "").describe(30)
            'done: test 9.25'
        """
        if self.done:
            rates = (f"{name} {rate:.2f}" for name, rate in self.rates.items())
            return f"done: {', '.join(rates)}"
        how = "running" if self.running else "interrupted"
        if self.trained:
            return f"{how}: trained, {self.lacks}"
        if self.started:
            return f"{how}: epoch {self.epoch} of {max_epoch} done"
        return "running: not yet training" if self.running else "not run"


def running(exp_dir: Path) -> FileLock:
    """The lock that a process holds while it runs a system."""
    return FileLock(f"{exp_dir}.lock", timeout=0)


def read_state(experiment: Experiment) -> State:
    """Read how far a system has come from the folder that ``asr.sh`` makes.

    Raises:
        EnsembleError: If a ``result.txt`` is not sclite's.
    """
    exp_dir, rates = experiment.exp_dir, read_rates(experiment)["wer"]
    return State(
        running=_is_running(exp_dir),
        started=(exp_dir / "train.log").exists(),
        epoch=_last_epoch(exp_dir),
        trained=(exp_dir / ".done").exists(),
        rates=rates,
        lacks=_lacks(experiment, rates),
    )


def _lacks(experiment: Experiment, rates: Rates) -> str:
    if len(rates) < len(experiment.system.corpus.sets):
        return "not yet scored"
    if sets_without_posteriors(experiment):
        return "scored, but decoded without --save_posteriors true"
    return ""


def _is_running(exp_dir: Path) -> bool:
    lock = running(exp_dir)
    if not Path(lock.lock_file).exists():
        return False
    try:
        with lock:
            return False
    except Timeout:
        return True


def _last_epoch(exp_dir: Path) -> int:
    """The epoch that ESPnet's trainer saved last."""
    latest = exp_dir / "latest.pth"
    if not latest.is_symlink():
        return 0
    found = re.fullmatch(r"(\d+)epoch\.pth", os.readlink(latest))
    return int(found.group(1)) if found else 0
