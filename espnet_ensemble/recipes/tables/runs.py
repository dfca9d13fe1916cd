"""Runs the systems of a table, one after the other."""

import os
import subprocess
import sys
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from filelock import Timeout

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import write_text
from espnet_ensemble.recipes.tables.experiments import Experiment
from espnet_ensemble.recipes.tables.random_weights import save_random_weights
from espnet_ensemble.recipes.tables.states import read_state, running


@dataclass(frozen=True)
class SystemRun:
    """A system to run.

    Attributes:
        experiment: What is run.
        run_args: More options of its ``run.sh``.
        env: More environment variables for it.
    """

    experiment: Experiment
    run_args: list[str] = field(default_factory=list)
    env: Mapping[str, str] = field(default_factory=dict)


def run_systems(runs: Sequence[SystemRun]) -> Iterator[str]:
    """Run what is not done; go on with the next where one fails.

    Error messages and progress bars of ``run.sh`` go to standard error.

    Yields:
        Lines, as they come: what ``run.sh`` prints behind the number and the name of the
        system, with its stages and epochs; at the end, how many are done.

    Raises:
        EnsembleError: Before any is run, if a recipe is missing or an option is not for
            the user to set; in the end, if systems failed.
    """
    commands = [_command(run) for run in runs]
    for run in runs:
        run.experiment.write_configs()
        save_random_weights(run.experiment, run.env)
    failures = []
    for number, (run, command) in enumerate(zip(runs, commands, strict=True), start=1):
        name = str(run.experiment)
        prefix = f"[{number}/{len(runs)} {name}]"
        if read_state(run.experiment).done:
            yield f"{prefix} done already"
            continue
        reason = yield from _run_locked(run, command, prefix)
        if reason is not None:
            yield f"{prefix} failed: {reason}"
            failures.append(f"\n  {name}: {reason}")
    yield f"{len(runs) - len(failures)} of {len(runs)} systems done"
    if failures:
        raise EnsembleError(f"failed:{''.join(failures)}")


def time_file(experiment: Experiment) -> Path:
    """The file that says how many seconds the last run of a system took that ended well."""
    return experiment.exp_dir.with_name(f"{experiment.exp_dir.name}.seconds")


def _command(run: SystemRun) -> list[str]:
    script = run.experiment.recipe_dir / "run.sh"
    if not script.is_file():
        raise EnsembleError(f"{script}: there is no such file")
    return run.experiment.command(run.run_args)


def _run_locked(
    run: SystemRun, command: list[str], prefix: str
) -> Generator[str, None, str | None]:
    """Run a system, unless another process does; returns what went wrong."""
    exp_dir = run.experiment.exp_dir
    exp_dir.parent.mkdir(exist_ok=True)
    try:
        with running(exp_dir):
            begin = time.monotonic()
            reason = yield from _run(run, command, prefix)
            if reason is None:
                write_text(
                    time_file(run.experiment), f"{time.monotonic() - begin:.0f}\n"
                )
            return reason
    except Timeout:
        return "another process is running it"


def _run(
    run: SystemRun, command: list[str], prefix: str
) -> Generator[str, None, str | None]:
    """Run a system; returns what went wrong."""
    # run.sh takes the Python that runs this, also where its environment is not activated.
    path = f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}"
    with subprocess.Popen(
        command,
        cwd=run.experiment.root,
        env={**os.environ, "PATH": path, **run.env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            yield f"{prefix} " + line.rstrip("\n")
    if process.returncode < 0:
        return f"run.sh was ended by signal {-process.returncode}"
    if process.returncode:
        return f"run.sh ended with exit status {process.returncode}"
    lacks = read_state(run.experiment).lacks
    return f"run.sh ended well, but evaluation sets are {lacks}" if lacks else None
