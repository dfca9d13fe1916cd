"""Options of commands that extract features: who does it."""

import argparse
import os
import signal
from pathlib import Path

import torch

from espnet_ensemble.feature_cache.workers import Workers
from espnet_ensemble.recipes.jobs.slurm_conf import SlurmConf


def add_worker_options(parser: argparse.ArgumentParser) -> None:
    """Add a group of options, which :func:`read_workers` reads."""
    group = parser.add_argument_group("who extracts")
    group.add_argument(
        "--nj",
        type=int,
        default=len(os.sched_getaffinity(0)),
        help="processes on CPUs, of one thread each (default: %(default)s, the cores)",
    )
    group.add_argument(
        "--ngpu",
        type=int,
        help="GPUs of this machine; if not 0, there is one process for each, whatever "
        "--nj is (default: all). With --cmd, or --dask slurm: 1 if each job is to have "
        "one (default: 0)",
    )
    group.add_argument(
        "--cmd",
        metavar="COMMAND",
        help="extract in --nj jobs of a cluster, which this command submits: 'slurm.pl', "
        "as asr.sh does, or another one that takes what Kaldi's run.pl takes",
    )
    group.add_argument(
        "--dask",
        metavar="local|slurm|ADDRESS",
        help="extract on a Dask cluster: 'local' starts --nj workers here, 'slurm' --nj "
        "jobs; or that of a scheduler, tcp://host:8786",
    )
    group.add_argument(
        "--slurm_conf",
        type=Path,
        default=Path("conf/slurm.conf"),
        help="with --dask slurm: how jobs are submitted (default: %(default)s)",
    )


def read_workers(args: argparse.Namespace) -> Workers:
    """The processes that options ask for."""
    ngpu, sbatch = args.ngpu, []
    if ngpu is None:
        of_jobs = args.cmd or args.dask == "slurm"
        ngpu = 0 if of_jobs else torch.cuda.device_count()
    if args.cmd:
        # Who ends this process ends its jobs.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    if args.dask == "slurm":
        conf = SlurmConf.read(args.slurm_conf)
        sbatch = [*conf.command, *conf.arguments({"gpu": str(ngpu)})]
    return Workers(args.nj, ngpu, args.dask, tuple(sbatch), args.cmd)
