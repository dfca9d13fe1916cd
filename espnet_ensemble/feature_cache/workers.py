"""Who makes the archives: this process, several on this machine, or a cluster."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import (
    FIRST_EXCEPTION,
    Future,
    ProcessPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from espnet_ensemble.feature_cache import CacheError
from espnet_ensemble.feature_cache.dask_cluster import make_on_dask
from espnet_ensemble.feature_cache.jobs import make_in_jobs
from espnet_ensemble.feature_cache.shard import (
    Shard,
    ShardConf,
    ShardExtractor,
    Work,
)
from espnet_ensemble.threads import num_threads


@dataclass(frozen=True)
class Workers:
    """The processes that make archives.

    Each has one thread: sums depend on the number of threads, and features are to be the
    same to the bit whatever the number of processes is.

    Attributes:
        nj: Number of processes on CPUs; of Dask's workers, where this starts them; of jobs.
        ngpu: Number of GPUs here; if there are any, there is one process for each, and
            ``nj`` does not matter. Of jobs of a cluster, 1 if each is to have one.
        dask: Where Dask's workers are, if they do it: "local", "slurm" (jobs that
            ``sbatch`` submits), or the address of a scheduler, "tcp://host:8786".
        sbatch: For "slurm": the command, with what it is given.
        cmd: What runs jobs, if they do it, such as "slurm.pl --mem 4G": it takes what
            Kaldi's ``run.pl`` takes.

    Raises:
        CacheError: If one of them is wrong.
    """

    nj: int = 1
    ngpu: int = 0
    dask: str | None = None
    sbatch: tuple[str, ...] = ()
    cmd: str | None = None

    def __post_init__(self):
        if self.nj < 1:
            raise CacheError(f"nj: expected a number above 0, found {self.nj}")
        if self.dask and self.cmd:
            raise CacheError(
                f"expected dask or cmd, found both: {self.dask!r} and {self.cmd!r}"
            )
        if self.cmd or self.dask == "slurm":
            if self.ngpu not in (0, 1):
                raise CacheError(
                    f"ngpu: expected 0 or 1, the GPUs of each job, found {self.ngpu}; "
                    "nj is the number of jobs"
                )
        # Dask's workers take the GPUs that they have.
        if self.cmd or self.dask:
            return
        # CUDA is asked only by who wants it: it takes time, and memory of each GPU.
        if self.ngpu and not 0 < self.ngpu <= torch.cuda.device_count():
            raise CacheError(
                f"ngpu: expected 0 to {torch.cuda.device_count()}, the number of GPUs "
                f"here, found {self.ngpu}"
            )

    @property
    def are_jobs(self) -> bool:
        """Whether they go on when this process is lost, and may be at work already."""
        return self.cmd is not None

    def make(self, todo: list[Work], log_dir: Path) -> Generator[float]:
        """Make archives.

        Closed, or interrupted, it stops within a batch; what is complete stays.

        Args:
            todo: What is to be made.
            log_dir: For logs of jobs, and what they are told.

        Yields:
            How many more seconds of speech are done.

        Raises:
            CacheError: If one cannot be made; those that are complete stay.
        """
        todo = [work for work in todo if work.shards]
        if self.cmd is not None and todo:
            yield from make_in_jobs(todo, self.cmd, self.nj, self.ngpu, log_dir)
            return
        for work in todo:
            yield from self._make(work.shards, work.conf)

    def _make(self, shards: list[Shard], conf: ShardConf) -> Iterator[float]:
        if self.dask:
            yield from make_on_dask(shards, conf, self.dask, self.nj, self.sbatch)
        elif max(self.nj, self.ngpu) == 1 or len(shards) == 1:
            yield from _make_here(shards, conf, "cuda:0" if self.ngpu else "cpu")
        else:
            yield from _make_in_processes(shards, conf, self)


def _make_here(shards: list[Shard], conf: ShardConf, device: str) -> Iterator[float]:
    with num_threads(1):
        extractor = ShardExtractor(conf, device)
        for shard in shards:
            yield from extractor.make(shard)


def _watch(futures: Iterable[Future]) -> Iterator[set[Future]]:
    """Wait until all are done, or one fails: then its error is raised.

    Yields:
        Each second, or earlier, those that are done and were not before.
    """
    pending = set(futures)
    while pending:
        done, pending = wait(pending, timeout=1, return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()
        yield done


# Several processes on this machine.

_extractor: ShardExtractor
_seconds_done: Any


def _make_in_processes(
    shards: list[Shard], conf: ShardConf, workers: Workers
) -> Iterator[float]:
    context = multiprocessing.get_context("spawn")  # torch does not survive a fork
    seconds, started = context.Value("d", 0.0), context.Value("i", 0)
    pool = ProcessPoolExecutor(
        min(workers.ngpu or workers.nj, len(shards)),
        context,
        _start_worker,
        (conf, bool(workers.ngpu), started, seconds),
    )
    others, yielded = multiprocessing.active_children(), 0.0
    try:
        with _interrupts_blocked():  # the processes stay so: this one stops them
            futures = [pool.submit(_make_in_worker, shard) for shard in shards]
        for _ in _watch(futures):
            more = seconds.value - yielded
            yielded += more
            yield more
    except BrokenProcessPool as error:
        raise CacheError(
            "a process of the extraction was killed, maybe as there was no memory left; "
            "a smaller --nj or --batch_seconds takes less"
        ) from error
    except (KeyboardInterrupt, GeneratorExit):
        for process in multiprocessing.active_children():
            if process not in others:
                process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Block Ctrl-C in this thread, and in processes that are started meanwhile."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _start_worker(conf: ShardConf, on_gpu: bool, started, seconds) -> None:
    global _extractor, _seconds_done
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    with started.get_lock():
        number, started.value = started.value, started.value + 1
    _extractor = ShardExtractor(conf, f"cuda:{number}" if on_gpu else "cpu")
    _seconds_done = seconds


def _make_in_worker(shard: Shard) -> None:
    for seconds in _extractor.make(shard):
        with _seconds_done.get_lock():
            _seconds_done.value += seconds


def _exit_with_parent() -> None:
    """A parent that is killed tells nobody: without this, its processes stay forever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
