import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import soundfile
import torch
from cache_runs import everything
from repository import REPOSITORY
from slurm_stand_in import Slurm

from espnet_ensemble.feature_cache import CacheError, jobs
from espnet_ensemble.feature_cache.extract import ExtractConf, extract
from espnet_ensemble.feature_cache.jobs import make_planned
from espnet_ensemble.feature_cache.workers import Workers

TEMPLATE = REPOSITORY / "egs2" / "TEMPLATE" / "asr1"
SLURM_PL = f"slurm.pl --config {TEMPLATE}/conf/slurm.conf"
JOB_FILE = "feats/*/train/logdir/q/*.job"


@pytest.fixture
def conf(tiny_wavlm, tiny_hubert, monkeypatch):
    """A frontend over folders, one of which is named by a relative path."""
    folder, name = os.path.split(tiny_wavlm)
    monkeypatch.chdir(folder)
    return {"upstreams": [name, tiny_hubert]}


@pytest.fixture
def expected(data, conf, tmp_path):
    """What one process makes."""
    extract(data, conf, tmp_path / "expected", ExtractConf(shard_seconds=1e-3))
    return contents(tmp_path / "expected")


def contents(folder):
    """The bytes of all files, but for the cache's folder, and for logs."""
    files = everything(folder)
    return {path: files[path] for path in files if "/logdir/" not in path}


@pytest.fixture
def cmd(tmp_path, monkeypatch):
    """A recipe's commands in PATH, and a cluster."""
    slurm = Slurm(tmp_path / "slurm")
    path = [slurm.bin, TEMPLATE / "utils", Path(sys.executable).parent]
    monkeypatch.setenv("PATH", os.pathsep.join(map(str, path)), prepend=os.pathsep)
    monkeypatch.setattr(jobs, "POLL", 0.1)
    yield slurm
    slurm.close()


def on(cmd, nj=2):
    return ExtractConf(shard_seconds=1e-3, workers=Workers(nj, cmd=cmd))


def wait_for(condition, seconds=180):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_same_bytes(cmd, data, conf, tmp_path, expected):
    """One array of jobs for both members, with what the recipe's slurm.conf says."""
    extract(data, conf, tmp_path / "feats", on(f"{SLURM_PL} --mem 4G"))
    assert contents(tmp_path / "feats") == expected
    (submitted,) = cmd.submitted()
    assert submitted[:5] == ["--export=ALL", "--mem-per-cpu", "4G", "-p", "cpu"]
    assert "--array=1-2" in submitted
    (logdir,) = tmp_path.glob("feats/*/train/logdir")
    logs = [(logdir / f"extract.{job}.log").read_text() for job in (1, 2)]
    assert [log.count(" s in ") for log in logs] == [7, 7]
    assert not list(logdir.glob("plan.*"))


@pytest.mark.slow
def test_run_again_after_its_process_was_lost(
    cmd, data, conf, tmp_path, expected, capfd
):
    """Jobs stay in the queue meanwhile; the second run waits for what they make."""
    cmd.tell("hold")
    lost = start_extract(data, conf, tmp_path)
    wait_for(lambda: list(tmp_path.glob(JOB_FILE)))
    os.killpg(lost.pid, signal.SIGKILL)  # and slurm.pl with it
    lost.wait()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: (wait_for(cmd.was_asked), cmd.untell("hold")))
        extract(data, conf, tmp_path / "feats", on(SLURM_PL))
    assert contents(tmp_path / "feats") == expected
    assert len(cmd.submitted()) == 1
    said = "waiting for job 4242, which an earlier run has submitted"
    assert said in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_cancels_the_jobs(number, cmd, data, conf, tmp_path):
    cmd.tell("hold")
    process = start_extract(data, conf, tmp_path, stderr=subprocess.PIPE)
    wait_for(lambda: list(tmp_path.glob(JOB_FILE)))
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "extract: interrupted" in said
    assert cmd.cancelled() == ["4242"]


def start_extract(data, conf, tmp_path, **options):
    """Start ``extract`` in a process group of its own."""
    command = [sys.executable, "-m", "espnet_ensemble.bin.extract", "--cmd", SLURM_PL]
    command += ["--nj", "2", "--data_dir", str(data), "--shard_seconds", "0.001"]
    command += ["--frontend_conf", json.dumps(conf), "--cache_dir"]
    return subprocess.Popen(
        [*command, str(tmp_path / "feats")],
        start_new_session=True,
        text=True,
        # The tests themselves may run where it is ignored, as under nohup.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        **options,
    )


class TestPlans:
    """What jobs are told, and do, in this process: cmd writes down how it was called."""

    @pytest.fixture
    def note(self, tmp_path):
        """A command that notes its words and fails."""
        path = tmp_path / "note"
        path.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/words\nexit 3\n')
        path.chmod(0o755)
        return str(path)

    def plans(self, data, conf, cache_dir, cmd, nj):
        with pytest.raises(CacheError, match=r"failed \(exit code 3\)"):
            extract(data, conf, cache_dir, on(cmd, nj))
        return sorted(cache_dir.glob("*/train/logdir/plan.*.json"))

    @pytest.fixture(autouse=True)
    def impatience(self, monkeypatch):
        monkeypatch.setattr(jobs, "POLL", 0.02)

    def test_every_archive_is_made_by_one_job(
        self, note, data, conf, tmp_path, expected
    ):
        plans = self.plans(data, conf, tmp_path / "feats", note, 4)
        works = [json.loads(plan.read_text()) for plan in plans]
        shards = [[s for w in work for s in w["shards"]] for work in works]
        assert sorted(map(len, shards)) == [3, 3, 4, 4]
        assert len({s["archives"][0] for job in shards for s in job}) == 14
        for plan in plans:
            make_planned(plan, 0)
            make_planned(plan, 0)  # as a job that was requeued
        extract(data, conf, tmp_path / "feats", ExtractConf(shard_seconds=1e-3))
        assert contents(tmp_path / "feats") == expected

    def test_bad_audio_is_named_and_the_rest_is_kept(self, note, data, conf, tmp_path):
        path = tmp_path / "wav" / "d.wav"
        soundfile.write(path, torch.full((7999,), torch.nan), 16000, subtype="FLOAT")
        (plan,) = self.plans(data, conf, tmp_path / "feats", note, 1)
        with pytest.raises(CacheError, match=f"d: {path}: .*NaN"):
            make_planned(plan, 0)
        assert len(list(tmp_path.glob("feats/*/train/shards/*/*"))) == 3

    def test_the_command(self, note, data, conf, tmp_path):
        self.plans(data, conf, tmp_path / "JOBS", f"{note} --mem 4G", 99)
        *kaldi, log, python, m, module, ngpu, number, plan = (
            (tmp_path / "words").read_text().splitlines()
        )
        assert kaldi == ["--mem", "4G", "--gpu", "0", "JOB_=1:14"]
        assert log.endswith("/logdir/extract.JOB_.log") and "/JOBS/" in log
        assert [python, m, module] == [
            *(sys.executable, "-m", "espnet_ensemble.bin.extract_shards")
        ]
        assert (ngpu, number) == ("--ngpu", "0") and plan.endswith(".JOB_.json")

    def test_what_is_left_is_another_plan(self, note, data, conf, tmp_path):
        """Jobs of the first, in the queue still, do not read it."""
        (first,) = self.plans(data, conf, tmp_path / "feats", note, 1)
        before = first.read_text()
        tmp = tmp_path / "feats"
        (archive,) = json.loads(before)[0]["shards"][0]["archives"]
        shard = {
            **json.loads(before)[0],
            "shards": [json.loads(before)[0]["shards"][0]],
        }
        one = tmp_path / "one.json"
        one.write_text(json.dumps([shard]))
        make_planned(one, 0)
        part = Path(archive).with_name(
            ".000001.safetensors.01234567.tmp"
        )  # a job at work
        part.touch()
        plans = self.plans(data, conf, tmp, note, 1)
        assert len(plans) == 2 and first.read_text() == before
        (second,) = set(plans) - {first}
        assert archive not in second.read_text()
        assert part.exists()

    def test_no_such_command(self, data, conf, tmp_path):
        with pytest.raises(CacheError, match="--cmd no.pl: expected a command, found"):
            extract(data, conf, tmp_path / "feats", on("no.pl"))
        with pytest.raises(CacheError, match="--cmd a ': No closing quotation"):
            extract(data, conf, tmp_path / "feats", on("a '"))

    def test_jobs_that_do_nothing(self, data, conf, tmp_path, monkeypatch):
        monkeypatch.setattr(jobs, "FILE_WAIT", 0.1)
        with pytest.raises(
            CacheError, match=r"\.safetensors is not there; see .*/logdir/"
        ):
            extract(data, conf, tmp_path / "feats", on("true"))

    def test_no_gpu_in_the_job(self, tmp_path, monkeypatch):
        monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
        with pytest.raises(CacheError, match="expected a GPU in the job, found none"):
            make_planned(tmp_path / "plan.json", 1)


@pytest.mark.parametrize(
    "options,message",
    [
        ({"cmd": "slurm.pl", "ngpu": 4}, "ngpu: expected 0 or 1, the GPUs of each job"),
        ({"dask": "slurm", "ngpu": -1}, "ngpu: expected 0 or 1, the GPUs of each job"),
        ({"cmd": "slurm.pl", "dask": "local"}, "expected dask or cmd, found both"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(CacheError, match=message):
        Workers(**options)
