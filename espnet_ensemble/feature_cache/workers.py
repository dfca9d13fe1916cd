"""Who makes the archives: this process, several on this machine, or a Dask cluster."""

import json
import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import (
    FIRST_EXCEPTION,
    CancelledError,
    Future,
    ProcessPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch

from espnet_ensemble.extras import import_extra
from espnet_ensemble.feature_cache import CacheError
from espnet_ensemble.feature_cache.shard import Shard, ShardConf, ShardExtractor

if TYPE_CHECKING:
    from distributed import Client


@dataclass(frozen=True)
class Workers:
    """The processes that make archives.

    Each has one thread: sums depend on the number of threads, and features are to be the
    same to the bit whatever the number of processes is.

    Attributes:
        nj: Number of processes on CPUs; of Dask's workers, where this starts them.
        ngpu: Number of GPUs; if there are any, there is one process for each, and
            ``nj`` does not matter.
        dask: Where Dask's workers are, if they do it: "local", "slurm" (as dask-jobqueue's
            configuration says), or the address of a scheduler, "tcp://host:8786".

    Raises:
        CacheError: If one of them is wrong.
    """

    nj: int = 1
    ngpu: int = 0
    dask: str | None = None

    def __post_init__(self):
        if self.nj < 1:
            raise CacheError(f"nj: expected a number above 0, found {self.nj}")
        # CUDA is asked only by who wants it: it takes time, and memory of each GPU.
        if self.ngpu and not 0 < self.ngpu <= torch.cuda.device_count():
            raise CacheError(
                f"ngpu: expected 0 to {torch.cuda.device_count()}, the number of GPUs "
                f"here, found {self.ngpu}"
            )

    def make(self, shards: list[Shard], conf: ShardConf) -> Generator[float]:
        """Make archives.

        Closed, or interrupted, it stops within a batch; what is complete stays.

        Args:
            shards: What they are of.
            conf: How they are made.

        Yields:
            How many more seconds of speech are done.

        Raises:
            CacheError: If one cannot be made; those that are complete stay.
        """
        if not shards:
            return
        if self.dask:
            yield from _make_on_dask(shards, conf, self)
        elif max(self.nj, self.ngpu) == 1 or len(shards) == 1:
            yield from _make_here(shards, conf, "cuda:0" if self.ngpu else "cpu")
        else:
            yield from _make_in_processes(shards, conf, self)


def _make_here(shards: list[Shard], conf: ShardConf, device: str) -> Iterator[float]:
    with _one_thread():
        extractor = ShardExtractor(conf, device)
        for shard in shards:
            yield from extractor.make(shard)


@contextmanager
def _one_thread() -> Iterator[None]:
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


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


# A Dask cluster.

#: What Dask logs from which level on: a lost scheduler, or its end, would be tracebacks.
_DASK_LOGS = {"distributed": logging.WARNING, "distributed.client": logging.CRITICAL}


def _make_on_dask(
    shards: list[Shard], conf: ShardConf, workers: Workers
) -> Iterator[float]:
    # Its workers may have another working directory.
    conf = replace(conf, frontend=conf.frontend.absolute())
    conf_json = json.dumps(conf.to_dict())
    with _dask_client(workers) as client:
        from distributed.scheduler import KilledWorker

        executor = client.get_executor(pure=False)
        futures = {
            executor.submit(_make_in_dask_worker, conf_json, shard.absolute()): shard
            for shard in shards
        }
        try:
            for done in _watch(futures):
                yield sum(futures[future].seconds for future in done)
        except KilledWorker as error:
            raise CacheError(
                "Dask's workers were lost over and over, maybe as they have too little "
                f"memory; a smaller --batch_seconds takes less: {error}"
            ) from error
        except CancelledError as error:
            raise CacheError(
                f"--dask {workers.dask}: its scheduler was lost; archives that are complete "
                "are kept: with a scheduler, the next run goes on"
            ) from error
        finally:
            executor.shutdown(wait=False)


@contextmanager
def _dask_client(workers: Workers) -> Iterator["Client"]:
    dask = import_extra("distributed", "dask")
    with ExitStack() as stack:
        for name, level in _DASK_LOGS.items():
            log = logging.getLogger(name)
            stack.callback(log.setLevel, log.level)
            log.setLevel(level)
        address = workers.dask
        if address == "local":
            address = stack.enter_context(
                dask.LocalCluster(
                    workers.nj, threads_per_worker=1, dashboard_address=":0"
                )
            )
        elif address == "slurm":
            jobqueue = import_extra("dask_jobqueue", "dask")
            address = stack.enter_context(jobqueue.SLURMCluster())
            address.scale(jobs=workers.nj)
        try:
            yield stack.enter_context(dask.Client(address))
        except OSError as error:
            raise CacheError(f"--dask {workers.dask}: {error}") from error


# A worker may have several threads: they take turns.
_turn = threading.Lock()


def _make_in_dask_worker(conf_json: str, shard: Shard) -> None:
    with _turn, _one_thread():
        for _ in _load_extractor(conf_json).make(shard):
            pass


@lru_cache(maxsize=1)
def _load_extractor(conf_json: str) -> ShardExtractor:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return ShardExtractor(ShardConf.parse(json.loads(conf_json)), device)
