"""Who makes the archives: this process, several on this machine, or a Dask cluster."""

import json
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

import torch

from espnet_ensemble.feature_cache.shard import ShardExtractor, ShardOptions
from espnet_ensemble.feature_cache.store import CacheError, Shard
from espnet_ensemble.frontend_conf import FrontendConf

_Report = Callable[[float], Any]


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
        if not 0 <= self.ngpu <= torch.cuda.device_count():
            raise CacheError(
                f"ngpu: expected 0 to {torch.cuda.device_count()}, the number of GPUs "
                f"here, found {self.ngpu}"
            )

    def make(self, shards: list[Shard], options: ShardOptions, report: _Report) -> None:
        """Make archives.

        Args:
            shards: What they are of.
            options: How to make them.
            report: Told how many more seconds of speech are done.

        Raises:
            CacheError: If one cannot be made; those that are complete stay.
        """
        if not shards:
            return
        if self.dask:
            _make_on_dask(shards, options, self, report)
        elif max(self.nj, self.ngpu) == 1 or len(shards) == 1:
            with _one_thread():
                extractor = ShardExtractor(
                    options, "cuda:0" if self.ngpu else "cpu", report
                )
                for shard in shards:
                    extractor(shard)
        else:
            _make_in_processes(shards, options, self, report)


@contextmanager
def _one_thread() -> Iterator[None]:
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


def _wait(futures: Iterable, on_tick: Callable[[set], Any]) -> None:
    pending = set(futures)
    while pending:
        done, pending = wait(pending, timeout=1, return_when=FIRST_EXCEPTION)
        on_tick(done)
        for future in done:
            future.result()


# Several processes on this machine.

_worker: ShardExtractor | None = None


def _make_in_processes(
    shards: list[Shard], options: ShardOptions, workers: Workers, report: _Report
) -> None:
    context = multiprocessing.get_context("spawn")  # torch does not survive a fork
    seconds, started = context.Value("d", 0.0), context.Value("i", 0)
    reported = 0.0

    def tick(_done) -> None:
        nonlocal reported
        more = seconds.value - reported
        reported += more
        report(more)

    pool = ProcessPoolExecutor(
        min(workers.ngpu or workers.nj, len(shards)),
        context,
        _start_worker,
        (options, bool(workers.ngpu), started, seconds),
    )
    try:
        _wait([pool.submit(_make_in_worker, shard) for shard in shards], tick)
    except BrokenProcessPool as error:
        raise CacheError(
            "a process of the extraction was killed, maybe as there was no memory left; "
            "a smaller --nj or --batch_seconds takes less"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker(options: ShardOptions, on_gpu: bool, started, seconds) -> None:
    global _worker
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    with started.get_lock():
        number, started.value = started.value, started.value + 1

    def report(more: float) -> None:
        with seconds.get_lock():
            seconds.value += more

    _worker = ShardExtractor(options, f"cuda:{number}" if on_gpu else "cpu", report)


def _make_in_worker(shard: Shard) -> None:
    _worker(shard)


def _exit_with_parent() -> None:
    """A parent that is killed tells nobody: without this, its processes stay forever."""
    multiprocessing.parent_process().join()
    os._exit(1)


# A Dask cluster.


def _make_on_dask(
    shards: list[Shard], options: ShardOptions, workers: Workers, report: _Report
) -> None:
    # Its workers may have another working directory.
    options = replace(options, member_conf=_absolute_conf(options.member_conf))
    options_json = json.dumps(asdict(options))
    with _dask_client(workers) as client:
        from distributed.scheduler import KilledWorker

        executor = client.get_executor(pure=False)
        futures = {
            executor.submit(_make_in_dask_worker, options_json, _absolute(shard)): shard
            for shard in shards
        }

        def tick(done: set) -> None:
            for future in done:
                if not future.exception():
                    report(futures[future].seconds)

        try:
            _wait(futures, tick)
        except KilledWorker as error:
            raise CacheError(
                "Dask's workers were lost over and over, maybe as they have too little "
                f"memory; a smaller --batch_seconds takes less: {error}"
            ) from error
        finally:
            executor.shutdown(wait=False)


@contextmanager
def _dask_client(workers: Workers) -> Iterator[Any]:
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise CacheError(
            f"--dask {workers.dask} needs Dask: pip install 'espnet-ensemble[dask]'"
        ) from error
    with ExitStack() as stack:
        address = workers.dask
        if address == "local":
            address = stack.enter_context(
                LocalCluster(workers.nj, threads_per_worker=1, dashboard_address=":0")
            )
        elif address == "slurm":
            from dask_jobqueue import SLURMCluster

            address = stack.enter_context(SLURMCluster())
            address.scale(jobs=workers.nj)
        try:
            yield stack.enter_context(Client(address))
        except OSError as error:
            raise CacheError(f"--dask {workers.dask}: {error}") from error


def _absolute(shard: Shard) -> Shard:
    paths = {key: os.path.abspath(path) for key, path in shard.paths.items()}
    return shard._replace(ark=shard.ark.absolute(), paths=paths)


def _absolute_conf(member_conf: dict[str, Any]) -> dict[str, Any]:
    return FrontendConf.parse(member_conf).absolute().to_dict()


# A worker may have several threads: they take turns.
_turn = threading.Lock()


def _make_in_dask_worker(options: str, shard: Shard) -> None:
    with _turn, _one_thread():
        _extractor(options)(shard)


@lru_cache(maxsize=1)
def _extractor(options: str) -> ShardExtractor:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return ShardExtractor(ShardOptions(**json.loads(options)), device, lambda _: None)
