import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import dask
import pytest
import soundfile
import torch
from cache_runs import everything, fork, strip
from distributed import LocalCluster

from espnet_ensemble.feature_cache import CacheError
from espnet_ensemble.feature_cache.extract import ExtractConf, extract
from espnet_ensemble.feature_cache.workers import Workers


@pytest.fixture
def conf(tiny_wavlm, monkeypatch):
    """A frontend over a folder that is named by a relative path."""
    folder, name = os.path.split(tiny_wavlm)
    monkeypatch.chdir(folder)
    return {"upstreams": [name]}


@pytest.fixture
def expected(data, conf, tmp_path):
    """What one process makes: the bytes of all files, but for the cache's folder."""
    extract(data, conf, tmp_path / "expected", ExtractConf(shard_utts=1))
    return strip(everything(tmp_path / "expected"), tmp_path / "expected")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Two of Dask's workers, in other working directories."""
    folder = tmp_path_factory.mktemp("dask")
    with LocalCluster(
        2, threads_per_worker=1, dashboard_address=None, local_directory=str(folder)
    ) as cluster:
        yield cluster


def on(workers):
    return ExtractConf(shard_utts=1, workers=workers)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [Workers(2), Workers(2, dask="local")])
def test_same_bytes(workers, data, conf, tmp_path, expected):
    extract(data, conf, tmp_path / "feats", on(workers))
    assert strip(everything(tmp_path / "feats"), tmp_path / "feats") == expected


@pytest.mark.slow
def test_scheduler_s_address(cluster, data, conf, tmp_path, expected):
    workers = Workers(dask=cluster.scheduler_address)
    extract(data, conf, tmp_path / "feats", on(workers))
    assert strip(everything(tmp_path / "feats"), tmp_path / "feats") == expected


@pytest.mark.slow
def test_lost_worker(cluster, data, conf, tmp_path, expected):
    """One is killed while it writes an archive, which is made anew."""
    workers = Workers(dask=cluster.scheduler_address)
    lost = next(iter(cluster.workers.values())).pid
    killer = fork(kill_when_at_work, lost, tmp_path / "feats")
    extract(data, conf, tmp_path / "feats", on(workers))
    killer.join(60)
    assert killer.exitcode == 0
    assert strip(everything(tmp_path / "feats"), tmp_path / "feats") == expected


def kill_when_at_work(pid, cache_dir):
    while not any(is_archive_in_work(path, cache_dir) for path in open_files(pid)):
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)


def open_files(pid):
    for link in Path(f"/proc/{pid}/fd").iterdir():
        # It may have been closed by now.
        with contextlib.suppress(FileNotFoundError):
            yield link.readlink()


def is_archive_in_work(path, cache_dir):
    return path.suffix == ".tmp" and cache_dir in path.parents and ".ark." in path.name


@pytest.mark.slow
@pytest.mark.parametrize("dask_too", [False, True])
def test_bad_audio_is_named(dask_too, cluster, data, conf, tmp_path):
    path = tmp_path / "wav" / "d.wav"
    soundfile.write(path, torch.full((7999,), torch.nan), 16000, subtype="FLOAT")
    address = cluster.scheduler_address if dask_too else None
    with pytest.raises(CacheError, match=f"d: {path}: .*NaN"):
        extract(data, conf, tmp_path / "feats", on(Workers(2, dask=address)))


@pytest.mark.slow
def test_lost_scheduler(data, conf, tmp_path, caplog):
    """It is killed when an archive is complete, which is kept."""
    file, python = tmp_path / "scheduler.json", [sys.executable, "-W", "ignore", "-m"]
    options = ["--scheduler-file", file, "--no-dashboard"]
    with ExitStack() as stack:

        def start(program, *more):
            command = [*python, f"distributed.cli.{program}", *options, *more]
            process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        scheduler = start("dask_scheduler", "--port", "0")
        start("dask_worker", "--no-nanny", "--nthreads", "1")
        while not file.exists():
            time.sleep(0.1)
        killer = fork(kill_when_there_is_an_archive, scheduler.pid, tmp_path / "feats")
        workers = Workers(dask=json.loads(file.read_text())["address"])
        with pytest.raises(
            CacheError, match="--dask tcp.*: its scheduler was lost; arch"
        ):
            extract(data, conf, tmp_path / "feats", on(workers))
        killer.join(60)
    kept = list(tmp_path.glob("feats/*/train/shards/*.index"))
    assert kept and not list(tmp_path.glob("feats/*/train/cache.yaml"))
    assert not [log for log in caplog.records if log.name == "distributed.client"]


def kill_when_there_is_an_archive(pid, cache_dir):
    while not list(cache_dir.glob("*/train/shards/*.index")):
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)


def test_no_scheduler(data, conf, tmp_path):
    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}):
        with pytest.raises(CacheError, match="--dask tcp://127.0.0.1:9: "):
            workers = Workers(dask="tcp://127.0.0.1:9")
            extract(data, conf, tmp_path / "feats", on(workers))


@pytest.mark.slow
def test_slurm(data, conf, tmp_path, expected, monkeypatch):
    """With stand-ins for sbatch and scancel, as there is no cluster here."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    # The file that sbatch gets is gone when it returns.
    copy = f"{folder}/job"
    scripts = {
        "sbatch": f'cp "$1" {copy}; bash {copy} > {copy}.log 2>&1 & echo "job $!"',
        "scancel": 'kill "$1"',
    }
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/bash\n{script}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    options = {
        "cores": 1,
        "memory": "4GB",
        "queue": "cpu",
        "local-directory": str(folder),
    }
    with dask.config.set({f"jobqueue.slurm.{k}": v for k, v in options.items()}):
        extract(data, conf, tmp_path / "feats", on(Workers(1, dask="slurm")))
    assert strip(everything(tmp_path / "feats"), tmp_path / "feats") == expected
    assert "#SBATCH -p cpu" in (folder / "job").read_text()


@pytest.mark.parametrize(
    "options,message",
    [
        ({"nj": 0}, "nj: expected a number above 0, found 0"),
        ({"ngpu": 99}, "ngpu: expected 0 to [0-9]+, the number of GPUs here, found 99"),
        ({"ngpu": -1}, "ngpu: expected 0 to"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(CacheError, match=message):
        Workers(**options)
