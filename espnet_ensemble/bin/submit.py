#!/usr/bin/env python3
"""Run a command, or an array of them, on this machine or on a SLURM cluster.

    submit --backend local JOB=1:4 exp/log/stats.JOB.log program --part JOB

runs four jobs. JOB, or another word before "=", stands for the number of the job wherever
it occurs in the name of the log and in the command. The command is run as it is, without a
shell; for a pipe, use bash -c "...". The exit status is 0 if all jobs succeeded, otherwise
that of the first that failed.
"""

import argparse
from functools import partial
from pathlib import Path

from espnet_ensemble.bin.command import make_parser, run
from espnet_ensemble.recipes.jobs.base import (
    FailedJob,
    JobArray,
    JobsStopped,
    Submission,
)
from espnet_ensemble.recipes.jobs.local import run_local
from espnet_ensemble.recipes.jobs.slurm import run_slurm
from espnet_ensemble.recipes.jobs.slurm_conf import SlurmConf

#: What slurm.conf translates; on this machine there is nothing to ask for.
RESOURCES = {
    "name": (str, "of the job, in the queue"),
    "gpu": (int, "GPUs, per node"),
    "num_threads": (int, "CPU cores, per task"),
    "num_nodes": (int, "machines"),
    "num_tasks": (int, "processes that srun starts"),
    "mem": (str, "memory, such as 4G"),
    "time": (str, "limit, such as 4:00:00"),
}


def positive_int(text: str) -> int:
    """An integer from 1 on."""
    number = int(text)
    if number < 1:
        raise ValueError(number)
    return number


def get_parser() -> argparse.ArgumentParser:
    """Options of ``submit``, in Kaldi's spelling too, with hyphens."""
    parser = make_parser(
        "submit",
        __doc__,
        usage="%(prog)s --backend local|slurm [options] [JOB=1:n] LOG COMMAND...",
        allow_abbrev=False,
    )
    parser.add_argument("--backend", choices=["local", "slurm"], required=True)
    for name, (kind, text) in RESOURCES.items():
        parser.add_argument(*_spellings(name), type=kind, help=f"slurm: {text}")
    parser.add_argument(
        *_spellings("max_jobs_run"),
        type=positive_int,
        help="how many jobs of an array run at a time; default: as many as there are "
        "processors, with slurm all",
    )
    parser.add_argument(
        "--config",
        type=Path,
        default=Path("conf/slurm.conf"),
        help="slurm: how options become those of sbatch",
    )
    parser.add_argument(
        "words", nargs=argparse.REMAINDER, metavar="[JOB=1:n] LOG COMMAND..."
    )
    return parser


def main(cmd: list[str] | None = None) -> None:
    """Run the jobs, and exit with a message about those that failed."""
    parser = get_parser()
    run(parser, partial(_work, parser), cmd)


def _work(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    try:
        failed = _run(parser, args)
    except JobsStopped as stopped:
        parser.exit(128 + stopped.signal, f"submit: {stopped}, and so are the jobs\n")
    if failed:
        parts = [f"submit: {len(failed)} job(s) failed", *map(str, failed)]
        parser.exit(failed[0].code, "\n".join(parts) + "\n")


def _run(parser: argparse.ArgumentParser, args: argparse.Namespace) -> list[FailedJob]:
    array = JobArray.parse(args.words[0]) if args.words else None
    if array:
        # Kaldi takes options also after JOB=1:n.
        given = [f"--backend={args.backend}", *args.words[1:]]
        args = parser.parse_args(given, namespace=args)
    submission = Submission(next(iter(args.words), ""), args.words[1:], array)
    if args.backend == "local":
        return run_local(submission, args.max_jobs_run)
    asked = {name: getattr(args, name) for name in RESOURCES}
    options = {name: str(value) for name, value in asked.items() if value is not None}
    conf = SlurmConf.read(args.config)
    return run_slurm(submission, conf, options, args.max_jobs_run)


def _spellings(name: str) -> list[str]:
    return list(dict.fromkeys([f"--{name}", f"--{name.replace('_', '-')}"]))


if __name__ == "__main__":
    main()
