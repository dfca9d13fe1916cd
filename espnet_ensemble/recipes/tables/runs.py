"""Runs the systems of a table, one after the other."""

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from filelock import Timeout

from espnet_ensemble.recipes.tables.states import read_state, running
from espnet_ensemble.recipes.tables.systems import System


@dataclass(frozen=True)
class Job:
    """A system to run.

    Attributes:
        system: The system.
        command: What runs it, in the checkout.
        exp_dir: Folder of its experiment.
        env: More environment variables for it.
    """

    system: System
    command: list[str]
    exp_dir: Path
    env: dict[str, str] = field(default_factory=dict)


def run_jobs(root: Path, jobs: list[Job]) -> list[str]:
    """Run what is not done; go on with the next where one fails.

    What ``run.sh`` prints goes to standard output behind the number and the name of the
    system, with its stages and epochs; its error messages and progress bars go to
    standard error.

    Args:
        root: The checkout.

    Returns:
        A line for each system that failed.
    """
    failures = []
    for number, job in enumerate(jobs, start=1):
        prefix = f"[{number}/{len(jobs)} {job.system}]"
        if _is_done(job):
            print(f"{prefix} done already", flush=True)
            continue
        job.exp_dir.parent.mkdir(exist_ok=True)
        try:
            with running(job.exp_dir):
                reason = _run(root, job, prefix)
        except Timeout:
            reason = "another process is running it"
        if reason is not None:
            print(f"{prefix} failed: {reason}", flush=True)
            failures.append(f"{job.system}: {reason}")
    return failures


def _is_done(job: Job) -> bool:
    return read_state(job.exp_dir, job.system).done


def _run(root: Path, job: Job, prefix: str) -> str | None:
    """Run a system; returns what went wrong."""
    # run.sh takes the Python that runs this, also where its environment is not activated.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with subprocess.Popen(
        job.command,
        cwd=root,
        env={**os.environ, "PATH": path, **job.env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
    ) as process:
        for line in process.stdout:
            print(f"{prefix} {line}", end="", flush=True)
    if process.returncode < 0:
        return f"run.sh was ended by signal {-process.returncode}"
    if process.returncode:
        return f"run.sh ended with exit status {process.returncode}"
    if not _is_done(job):
        return "run.sh ended well, but there are evaluation sets without results"
    return None
