"""Archives made by jobs of a cluster, which a command such as ``slurm.pl`` submits.

Jobs share nothing but files: each is told in one what to make. They go on when the process
that has submitted them is lost, and what they have made is found.
"""

import hashlib
import json
import logging
import os
import shlex
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from espnet_ensemble.feature_cache import CacheError
from espnet_ensemble.feature_cache.shard import (
    Shard,
    ShardConf,
    ShardExtractor,
    Work,
)
from espnet_ensemble.files import PathLike, write_text
from espnet_ensemble.threads import num_threads

#: Seconds from one look for archives to the next.
POLL = 5.0
#: Seconds for the last archives of ended jobs to appear here: NFS looks once in a minute.
FILE_WAIT = 60.0

_log = logging.getLogger(__name__)


def make_in_jobs(
    todo: list[Work], cmd: str, nj: int, ngpu: int, log_dir: Path
) -> Iterator[float]:
    """Make archives in an array of jobs.

    Interrupted, or closed, it ends ``cmd`` with SIGTERM, on which that cancels the jobs.

    Args:
        todo: What is to be made.
        cmd: The command, and its options; it takes what Kaldi's ``run.pl`` takes.
        nj: Number of jobs, at most.
        ngpu: GPUs of each, 0 or 1.
        log_dir: Where logs go, and files that say what each job makes.

    Yields:
        How many more seconds of speech are done.

    Raises:
        CacheError: If the command fails, as it does if a job fails; or if jobs have left
            archives out.
    """
    log_dir.mkdir(parents=True, exist_ok=True)
    plans = _divide(todo, nj)
    plan = _write(plans, log_dir)
    command = _command(cmd, len(plans), ngpu, log_dir, plan)
    missing = _Missing(todo)
    try:
        # Others read what is printed here.
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr)
    except OSError as error:
        raise CacheError(
            f"--cmd {cmd}: expected a command, found: {error.strerror}"
        ) from error
    try:
        while process.poll() is None:
            time.sleep(POLL)
            yield missing.look()
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait()
    if process.returncode:
        raise CacheError(
            f"--cmd {cmd}: failed (exit code {process.returncode}), see "
            f"{log_dir}/extract.*.log; archives that are complete are kept: run it again, "
            "and it goes on from there"
        )
    deadline = time.monotonic() + FILE_WAIT
    while missing.seconds and time.monotonic() < deadline:
        yield missing.look()
        time.sleep(min(POLL, 1))
    if missing.seconds:
        raise CacheError(
            f"--cmd {cmd}: its jobs have ended, and {next(iter(missing.seconds))} is not "
            f"there; see {log_dir}/extract.*.log, and whether they write to this file "
            "system"
        )
    for path in log_dir.glob("plan.*.json"):
        path.unlink()


def make_planned(path: PathLike, ngpu: int) -> None:
    """Do what a job is told: make those of its archives that are not complete.

    Args:
        path: The file that says it.
        ngpu: GPUs, 0 or 1.

    Raises:
        CacheError: If an archive cannot be made, or there is no GPU.
    """
    if ngpu > torch.cuda.device_count():
        raise CacheError(
            "expected a GPU in the job, found none: look at what slurm.conf makes of gpu=1"
        )
    for work in map(_parse, json.loads(Path(path).read_text(encoding="utf-8"))):
        shards = [s for s in work.shards if not s.is_complete(work.conf.skip)]
        if not shards:
            continue
        with num_threads(1):
            extractor = ShardExtractor(work.conf, "cuda:0" if ngpu else "cpu")
            for shard in shards:
                start = time.monotonic()
                for _ in extractor.make(shard):
                    pass
                seconds = time.monotonic() - start
                _log.info(
                    "%s: %.0f s in %.1f s", shard.archives[0], shard.seconds, seconds
                )


def _divide(todo: list[Work], nj: int) -> list[list[Work]]:
    """Deal archives to jobs in turn, each member's in one piece."""
    num_jobs = min(nj, sum(len(work.shards) for work in todo))
    plans: list[list[Work]] = [[] for _ in range(num_jobs)]
    first = 0
    for work in todo:
        for job in range(num_jobs):
            shards = work.shards[(job - first) % num_jobs :: num_jobs]
            if shards:
                plans[job].append(Work(work.conf, shards))
        first = (first + len(work.shards)) % num_jobs
    return plans


def _write(plans: list[list[Work]], log_dir: Path) -> str:
    """Write what jobs are told -> the name of the files, with ``{}`` for the number.

    Other plans have other names: what jobs in the queue are yet to read is not replaced.
    """
    texts = [json.dumps([_unparse(work) for work in plan]) for plan in plans]
    digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()
    name = f"{log_dir}/plan.{digest[:8]}.{{}}.json"
    for number, text in enumerate(texts, start=1):
        write_text(name.format(number), text)
    return name


def _unparse(work: Work) -> dict[str, Any]:
    shards = [
        {**asdict(s), "archives": list(map(str, s.archives))} for s in work.shards
    ]
    return {"conf": work.conf.to_dict(), "shards": shards}


def _parse(content: dict[str, Any]) -> Work:
    shards = [
        Shard(**{**s, "archives": tuple(map(Path, s["archives"]))})
        for s in content["shards"]
    ]
    return Work(ShardConf.parse(content["conf"]), shards)


def _command(cmd: str, num_jobs: int, ngpu: int, log_dir: Path, plan: str) -> list[str]:
    try:
        words = shlex.split(cmd)
    except ValueError as error:
        raise CacheError(f"--cmd {cmd}: {error}") from error
    program = [sys.executable, "-m", "espnet_ensemble.bin.extract_shards"]
    job = "JOB"
    while any(job in word for word in (*program, str(log_dir), plan)):
        job += "_"
    return [
        *words,
        *("--gpu", str(ngpu), f"{job}=1:{num_jobs}", f"{log_dir}/extract.{job}.log"),
        *(*program, "--ngpu", str(ngpu), plan.format(job)),
    ]


class _Missing:
    """Archives that are not there yet.

    Attributes:
        seconds: Path of an archive -> seconds of its speech.
    """

    def __init__(self, todo: list[Work]):
        self.seconds = {s.archives[0]: s.seconds for work in todo for s in work.shards}

    def look(self) -> float:
        """How many seconds of speech have come since it was last called."""
        folders = defaultdict(list)
        for path in self.seconds:
            folders[path.parent].append(path)
        return sum(
            self.seconds.pop(path)
            for folder, paths in folders.items()
            for names in [set(os.listdir(folder)) if folder.exists() else set()]
            for path in paths
            if path.name in names
        )
