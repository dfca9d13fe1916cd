import contextlib
import json
import os
import re
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
from cache_runs import everything, fork
from distributed import Client, LocalCluster
from slurm_stand_in import Slurm

from espnet_ensemble.feature_cache import CacheError, dask_cluster
from espnet_ensemble.feature_cache.dask_cluster import make_on_dask
from espnet_ensemble.feature_cache.extract import ExtractConf, extract
from espnet_ensemble.feature_cache.shard import Shard, ShardConf
from espnet_ensemble.feature_cache.workers import Workers
from espnet_ensemble.frontend_conf import FrontendConf


@pytest.fixture
def conf(tiny_wavlm, monkeypatch):
    """A frontend over a folder that is named by a relative path."""
    folder, name = os.path.split(tiny_wavlm)
    monkeypatch.chdir(folder)
    return {"upstreams": [name]}


@pytest.fixture
def expected(data, conf, tmp_path):
    """What one process makes: the bytes of all files, but for the cache's folder."""
    extract(data, conf, tmp_path / "expected", ExtractConf(shard_seconds=1e-3))
    return everything(tmp_path / "expected")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Two of Dask's workers, in other working directories."""
    folder = tmp_path_factory.mktemp("dask")
    with LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        dashboard_address=None,
        local_directory=str(folder),
    ) as cluster:
        yield cluster


def on(workers):
    return ExtractConf(shard_seconds=1e-3, workers=workers)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [Workers(2), Workers(2, dask="local")])
def test_same_bytes(workers, data, conf, tmp_path, expected):
    extract(data, conf, tmp_path / "feats", on(workers))
    assert everything(tmp_path / "feats") == expected


@pytest.mark.slow
def test_scheduler_s_address(cluster, data, conf, tmp_path, expected):
    workers = Workers(dask=cluster.scheduler_address)
    extract(data, conf, tmp_path / "feats", on(workers))
    assert everything(tmp_path / "feats") == expected


@pytest.mark.slow
def test_lost_worker(cluster, data, conf, tmp_path, expected):
    """One is killed at work, and its archive is made by the other."""
    workers = Workers(dask=cluster.scheduler_address)
    lost = next(iter(cluster.workers.values())).pid
    killer = fork(kill_when_at_work, lost, tmp_path / "feats")
    extract(data, conf, tmp_path / "feats", on(workers))
    killer.join(60)
    assert killer.exitcode == 0
    assert everything(tmp_path / "feats") == expected


def kill_when_at_work(pid, cache_dir):
    """When it has opened audio, or an archive is there."""
    while not list(cache_dir.rglob("*.safetensors")):
        if any(path.suffix == ".wav" for path in open_files(pid)):
            break
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)


def open_files(pid):
    for link in Path(f"/proc/{pid}/fd").iterdir():
        # It may have been closed by now.
        with contextlib.suppress(FileNotFoundError):
            yield link.readlink()


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
    kept = list(tmp_path.glob("feats/*/train/shards/*/*.safetensors"))
    assert kept and not list(tmp_path.glob("feats/*/train/cache.yaml"))
    assert not [log for log in caplog.records if log.name == "distributed.client"]


def kill_when_there_is_an_archive(pid, cache_dir):
    while not list(cache_dir.glob("*/train/shards/*/*.safetensors")):
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)


def test_no_scheduler(data, conf, tmp_path):
    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}):
        with pytest.raises(CacheError, match="--dask tcp://127.0.0.1:9: "):
            workers = Workers(dask="tcp://127.0.0.1:9")
            extract(data, conf, tmp_path / "feats", on(workers))


@pytest.mark.slow
def test_slurm(data, conf, tmp_path, expected, monkeypatch):
    """Workers are jobs like others: as sbatch is told, in the working directory."""
    slurm = Slurm(tmp_path / "slurm")
    monkeypatch.setenv("PATH", str(slurm.bin), prepend=os.pathsep)
    sbatch = ("sbatch", "--export=ALL", "-p", "cpu", "--comment", "a b")
    with dask.config.set({"jobqueue.slurm.local-directory": str(tmp_path)}):
        workers = Workers(1, dask="slurm", sbatch=sbatch)
        extract(data, conf, tmp_path / "feats", on(workers))
    assert everything(tmp_path / "feats") == expected
    (submitted,) = slurm.submitted()
    assert submitted[:-1] == list(sbatch[1:])
    script = (slurm.folder / "4242.sh").read_text()
    assert "#SBATCH" not in script and f"cd {os.getcwd()} || exit 1\n" in script
    assert slurm.cancelled() == ["4242"]
    slurm.close()


def work_of(num_shards, tmp_path):
    """Archives of nothing: Dask's own time and memory, and the order of things."""
    frontend = FrontendConf.parse({"upstreams": ["wavlm_base"]})
    shards = [
        Shard((tmp_path / f"{n}",), {}, {"a": 16000}, 16000) for n in range(num_shards)
    ]
    return shards, ShardConf(frontend, "float16", 60.0, False)


def nothing(_conf_json, shard):
    assert all(path.is_absolute() for path in shard.archives)


def messages(caplog):
    """What this project has said; Dask says more."""
    records = [log for log in caplog.records if log.name.startswith("espnet_ensemble")]
    return [log.getMessage() for log in records]


@pytest.mark.slow
class TestDask:
    def test_few_archives_are_in_flight(self, cluster, tmp_path, monkeypatch):
        monkeypatch.setattr(dask_cluster, "_make", nothing)
        monkeypatch.setattr(dask_cluster, "IN_FLIGHT", 5)
        address, most = cluster.scheduler_address, 0
        shards, conf = work_of(60, tmp_path)
        for _ in (made := make_on_dask(shards, conf, address, 1)):
            most = max(most, len(cluster.scheduler.tasks))
        assert 0 < most < 30  # Dask forgets some a moment later
        assert sum(make_on_dask(shards, conf, address, 1)) == 60
        assert list(made) == []

    def test_a_client_that_does_not_close_does_no_harm(
        self, cluster, tmp_path, monkeypatch, caplog
    ):
        monkeypatch.setattr(dask_cluster, "_make", nothing)
        close = Client.close

        def close_late(self, *args, **options):
            close(self, *args, **options)
            raise TimeoutError("after 30 s")

        monkeypatch.setattr(Client, "close", close_late)
        made = make_on_dask(*work_of(3, tmp_path), cluster.scheduler_address, 1)
        assert sum(made) == 3
        (said,) = messages(caplog)
        assert said.startswith("Dask's Client did not close (TimeoutError: after 30 s)")

    def test_nj_is_the_number_of_workers(self):
        with dask_cluster._client("local", 1, []) as client:
            assert list(client.nthreads().values()) == [1]

    def test_no_worker_is_said(self, tmp_path, monkeypatch, caplog):
        monkeypatch.setattr(dask_cluster, "_make", nothing)
        monkeypatch.setattr(dask_cluster, "NOTICE", 0.5)
        with LocalCluster(
            n_workers=0, dashboard_address=None, processes=False
        ) as empty:
            address = empty.scheduler_address
            made = make_on_dask(*work_of(1, tmp_path), address, 1)
            while not (said := messages(caplog)):
                assert next(made) == 0
            assert re.fullmatch(
                f"--dask {address}: no worker for [0-9]+ s; waiting until there is one "
                rf"\(to start one: dask worker {address}\), or Ctrl-C",
                said[0],
            )
            empty.scale(1)
            assert sum(made) == 1


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
