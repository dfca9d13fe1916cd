"""Archives made by the workers of a Dask cluster."""

import json
import logging
import os
import shlex
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

import torch

from espnet_ensemble.extras import import_extra
from espnet_ensemble.feature_cache import CacheError
from espnet_ensemble.feature_cache.shard import (
    Shard,
    ShardConf,
    ShardExtractor,
)
from espnet_ensemble.threads import num_threads

if TYPE_CHECKING:
    from distributed import Client

#: Archives that Dask is asked for at a time: it keeps some 100 kB for each.
IN_FLIGHT = 1000
#: Seconds without a worker after which this is said; then after twice as long, and so on.
NOTICE = 10.0

#: What Dask logs from which level on: a lost scheduler, or its end, would be tracebacks.
_DASK_LOGS = {"distributed": logging.WARNING, "distributed.client": logging.CRITICAL}

_log = logging.getLogger(__name__)


def make_on_dask(
    shards: list[Shard],
    conf: ShardConf,
    where: str,
    nj: int,
    sbatch: Sequence[str] = (),
) -> Iterator[float]:
    """Make archives, a few of them in Dask's hands at a time.

    Args:
        shards: What they are of.
        conf: How they are made.
        where: "local", "slurm", or the address of a scheduler.
        nj: Number of workers, where this starts them.
        sbatch: For "slurm": the command that submits them, with what it is given.

    Yields:
        How many more seconds of speech are done.

    Raises:
        CacheError: If one cannot be made; those that are complete stay.
    """
    # Its workers may have another working directory.
    conf = replace(conf, frontend=conf.frontend.absolute())
    conf_json = json.dumps(conf.to_dict())
    with _client(where, nj, sbatch) as client:
        from distributed.scheduler import KilledWorker

        executor = client.get_executor(pure=False)
        waiting = iter(shards)
        in_flight: dict[Future, float] = {}
        done: SimpleQueue[Future] = SimpleQueue()
        patience = _Patience(client, where)
        try:
            while True:
                for shard in islice(waiting, IN_FLIGHT - len(in_flight)):
                    future = executor.submit(_make, conf_json, shard.absolute())
                    in_flight[future] = shard.seconds
                    future.add_done_callback(done.put)
                if not in_flight:
                    break
                seconds = 0.0
                for future in _take(done, timeout=1):
                    seconds += in_flight.pop(future)
                    future.result()
                patience.last(seconds > 0)
                yield seconds
        except KilledWorker as error:
            raise CacheError(
                "Dask's workers were lost over and over, maybe as they have too little "
                f"memory; a smaller --batch_seconds takes less: {error}"
            ) from error
        except CancelledError as error:
            raise CacheError(
                f"--dask {where}: its scheduler was lost; archives that are complete "
                "are kept: with a scheduler, the next run goes on"
            ) from error
        finally:
            executor.shutdown(wait=False)


def _take(done: "SimpleQueue[Future]", timeout: float) -> list[Future]:
    """Those that are done; if there are none, the first within some seconds."""
    try:
        taken = [done.get(timeout=timeout)]
        while not done.empty():
            taken.append(done.get())
    except Empty:
        return []
    return taken


class _Patience:
    """Says what is waited for, and how long already, where there are no workers."""

    def __init__(self, client: "Client", where: str):
        self._client = client
        self._where = where
        self.last(True)

    def last(self, is_progress: bool) -> None:
        """Take note of another second, in which something was done or nothing."""
        if is_progress:
            self._since, self._next = time.monotonic(), NOTICE
            return
        seconds = time.monotonic() - self._since
        if seconds < self._next or self._has_workers():
            return
        self._next *= 2
        scheduler = self._client.scheduler
        assert scheduler is not None
        more = (
            "its jobs may be in the queue (squeue)"
            if self._where == "slurm"
            else f"to start one: dask worker {scheduler.address}"
        )
        _log.warning(
            "--dask %s: no worker for %.0f s; waiting until there is one (%s), or Ctrl-C",
            self._where,
            seconds,
            more,
        )

    def _has_workers(self) -> bool:
        try:
            return bool(self._client.nthreads())
        except OSError:  # a lost scheduler shows in what was asked for
            return True


@contextmanager
def _client(where: str, nj: int, sbatch: Sequence[str]) -> Iterator["Client"]:
    dask = import_extra("distributed", "dask")
    with ExitStack() as stack:
        for name, level in _DASK_LOGS.items():
            log = logging.getLogger(name)
            stack.callback(log.setLevel, log.level)
            log.setLevel(level)
        address: Any = where
        if where == "local":
            address = dask.LocalCluster(
                n_workers=nj, threads_per_worker=1, dashboard_address=":0"
            )
        elif where == "slurm":
            address = _slurm_cluster(sbatch)
        if address is not where:
            stack.callback(_close, address)
        if where == "slurm":
            address.scale(jobs=nj)
        try:
            client = dask.Client(address)
        except OSError as error:
            raise CacheError(f"--dask {where}: {error}") from error
        stack.callback(_close, client)
        yield client


def _slurm_cluster(sbatch: Sequence[str]) -> Any:
    """A cluster whose workers are jobs as ``sbatch`` is told to make them.

    What else dask-jobqueue's configuration says, such as the network interface, holds.
    """
    jobqueue = import_extra("dask_jobqueue", "dask")

    command = {"submit_command": shlex.join(sbatch)}
    folder = shlex.quote(os.getcwd())
    return jobqueue.SLURMCluster(
        job_cls=type("Job", (jobqueue.slurm.SLURMJob,), command),
        cores=1,
        processes=1,
        # It is for SLURM to limit it: Dask would kill a worker that comes close.
        memory="1GB",
        worker_extra_args=["--memory-limit", "0"],
        job_directives_skip=["#SBATCH"],
        job_script_prologue=[
            f"cd {folder} || exit 1",
            "[ ! -f path.sh ] || . ./path.sh",
        ],
    )


def _close(resource: Any) -> None:
    """Close it, or say why not: what was made is not lost by that."""
    try:
        resource.close()
    except Exception as error:
        _log.warning(
            "Dask's %s did not close (%s: %s); archives are not affected",
            type(resource).__name__,
            type(error).__name__,
            error,
        )


# A worker may have several threads: they take turns.
_turn = threading.Lock()


def _make(conf_json: str, shard: Shard) -> None:
    """Make an archive, in a worker."""
    with _turn, num_threads(1):
        for _ in _load_extractor(conf_json).make(shard):
            pass


@lru_cache(maxsize=1)
def _load_extractor(conf_json: str) -> ShardExtractor:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return ShardExtractor(ShardConf.parse(json.loads(conf_json)), device)
