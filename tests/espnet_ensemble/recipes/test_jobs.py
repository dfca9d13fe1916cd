import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from repository import REPOSITORY

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.recipes.jobs import slurm
from espnet_ensemble.recipes.jobs.base import JobArray, Submission
from espnet_ensemble.recipes.jobs.local import run_local
from espnet_ensemble.recipes.jobs.slurm import SlurmConf, run_slurm

CONF = REPOSITORY / "egs2" / "TEMPLATE" / "asr1" / "conf" / "slurm.conf"
# Prints its arguments, one per line, in a form that shows spaces and empty strings.
SHOW = [sys.executable, "-c", "import sys; print(*map(repr, sys.argv[1:]), sep='\\n')"]


def body(log):
    """What a command has printed."""
    lines = Path(log).read_text().splitlines()
    return [line for line in lines if not line.startswith("#")]


def wait_for(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    "text", ["JOB=0:3", "JOB=3:1", "JOB=1:", "JOB=", "JOB=a", "JOB=1:2:3", "JOB=-1"]
)
def test_array_that_is_none(text):
    with pytest.raises(EnsembleError, match=f"1 <= first <= last; found '{text}'"):
        JobArray.parse(text)


def test_array_of_one():
    assert JobArray.parse("x_1=7") == JobArray("x_1", 7, 7)
    assert JobArray.parse("lr=0.1/train.log") is None


def test_jobs_that_cannot_be():
    with pytest.raises(EnsembleError, match="a log file and a command"):
        Submission("x.log", [])
    with pytest.raises(
        EnsembleError, match="x.log: expected JOB in the name of the log"
    ):
        Submission("x.log", ["true"], JobArray("JOB", 1, 2))
    assert len(Submission("x.log", ["true"], JobArray("JOB", 2, 2)).jobs()) == 1


class TestLocal:
    def test_variable_is_replaced_everywhere_and_arguments_survive(self, tmp_path):
        arguments = ["a b", "", "JOB-xJOB", "$HOME", '"', "'", "|", "*", "--", "é"]
        submission = Submission(
            f"{tmp_path}/JOB/x.JOB.log", [*SHOW, *arguments], JobArray("JOB", 2, 4)
        )
        assert run_local(submission) == []
        for job in "234":
            expected = [repr(word.replace("JOB", job)) for word in arguments]
            assert body(tmp_path / job / f"x.{job}.log") == expected

    def test_log_has_command_times_and_exit_code(self, tmp_path):
        command = ["bash", "-c", "echo out; echo err >&2; sleep 1; exit 3"]
        (failure,) = run_local(Submission(f"{tmp_path}/log", command))
        assert failure.code == 3
        header, started, _, *printed, ended = (
            (tmp_path / "log").read_text().splitlines()
        )
        assert shlex.split(header[2:]) == command
        assert started.startswith("# Started at ") and os.uname().nodename in started
        assert printed == ["out", "err"]
        assert ended.startswith("# Ended (code 3) at ")
        assert ended.endswith(", elapsed time 1 seconds")

    def test_failed_jobs_are_named_and_the_others_go_on(self, tmp_path):
        script = "seq 100; [ JOB != 1 ] && [ JOB != 3 ]"
        submission = Submission(
            f"{tmp_path}/JOB.log", ["bash", "-c", script], JobArray("JOB", 1, 4)
        )
        failures = run_local(submission, max_jobs_run=1)
        assert [failure.log.name for failure in failures] == ["1.log", "3.log"]
        assert body(tmp_path / "4.log") == [str(number) for number in range(1, 101)]
        shown = str(failures[1]).splitlines()
        assert shown[0] == f"{tmp_path}/3.log: exit code 1"
        assert shown[2:-1] == [str(number) for number in range(82, 101)]

    def test_no_such_command(self, tmp_path):
        (failure,) = run_local(Submission(f"{tmp_path}/log", ["no-such-command"]))
        assert failure.code == 127 and "no-such-command" in body(tmp_path / "log")[0]

    def test_killed(self, tmp_path):
        (failure,) = run_local(
            Submission(f"{tmp_path}/log", ["bash", "-c", "kill -9 $$"])
        )
        assert failure.code == 137

    def test_no_such_folder_can_be_made(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(
            EnsembleError, match=f"{tmp_path}/file/x.log: expected a file"
        ):
            run_local(Submission(f"{tmp_path}/file/x.log", ["true"]))

    @pytest.mark.parametrize(
        "max_jobs_run,expected",
        [(1, 1), (5, 5), (None, min(5, len(os.sched_getaffinity(0))))],
    )
    def test_max_jobs_run(self, max_jobs_run, expected, tmp_path):
        """Each job counts those that run; while fewer run than may, it waits."""
        script = (
            f"cd {tmp_path}; touch run.JOB; until [ -e seen ]; do "
            f"n=$(ls | grep -c ^run); echo $n; [ $n -ge {expected} ] && touch seen; "
            "sleep 0.02; done; sleep 0.1; ls | grep -c ^run; rm run.JOB"
        )
        command = ["bash", "-c", script]
        submission = Submission(f"{tmp_path}/JOB.log", command, JobArray("JOB", 1, 5))
        assert run_local(submission, max_jobs_run) == []
        counts = [int(n) for job in range(1, 6) for n in body(tmp_path / f"{job}.log")]
        assert max(counts) == expected


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Stand-ins for SLURM's commands, first in PATH, since there is no cluster here.

    ``sbatch`` notes its arguments and really runs the script, once for each task of the
    array, with SLURM_ARRAY_TASK_ID set and the output where --output says. Like the real
    one it does not flush the number it prints. By a file it is told to refuse jobs, to
    kill task 2, or to wait as if the job were queued. ``scancel`` notes its arguments.
    """
    sbatch = """
        import os, pathlib, re, subprocess, sys, time
        here = pathlib.Path(__file__).parent
        (here / "sbatch.args").write_text("\\n".join(sys.argv[1:]))
        if (here / "refuse").exists():
            sys.exit("sbatch: error: invalid partition specified: cpu")
        print("4242")
        while (here / "queue").exists():
            time.sleep(0.05)
        args = " ".join(sys.argv)
        array = re.search(r"--array=(\\d+)-(\\d+)", args)
        tasks = range(int(array[1]), int(array[2]) + 1) if array else [None]
        env = dict(os.environ)
        output = re.search(r"--output=(.+?) --error", args)[1]
        codes = []
        for task in tasks:
            env["SLURM_ARRAY_TASK_ID"] = str(task)
            path = output.replace("%a", str(task)).replace("%%", "%")
            with open(path, "a") as file:
                if task == 2 and (here / "kill").exists():
                    file.write("slurmstepd: error: DUE TO TIME LIMIT\\n")
                    codes.append(1)
                    continue
                job = ["bash", sys.argv[-1]]
                run = subprocess.run(job, env=env, stdout=file, stderr=file)
                codes.append(run.returncode)
        sys.exit(max(codes))
    """
    scancel = """
        import pathlib, sys
        args = pathlib.Path(__file__).parent / "scancel.args"
        args.write_text(" ".join(sys.argv[1:]))
    """
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name, code in {"sbatch": sbatch, "scancel": scancel}.items():
        code = code.replace("\n        ", "\n")
        (folder / name).write_text(f"#!{sys.executable}\n{code}")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    monkeypatch.setattr(slurm, "FILE_WAIT", 0.5)
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def no_terminals(monkeypatch):
    """A machine without pseudo-terminals."""

    def openpty():
        raise OSError("out of pty devices")

    monkeypatch.setattr("pty.openpty", openpty)


class TestSlurm:
    def test_array(self, cluster, tmp_path):
        (tmp_path / "path.sh").write_text("export FROM_PATH_SH=1\n")
        arguments = ["a b", "", "JOB-xJOB", "$HOME", '"', "'", "${JOB}", "--", "100%"]
        submission = Submission(
            "50% x/s.JOB.log", [*SHOW, *arguments], JobArray("JOB", 3, 4)
        )
        options = {"name": "a name", "gpu": "2", "num_threads": "4", "mem": "0"}
        assert (
            run_slurm(submission, SlurmConf.read(CONF), options, max_jobs_run=1) == []
        )
        for job in "34":
            expected = [repr(word.replace("JOB", job)) for word in arguments]
            assert body(f"50% x/s.{job}.log") == expected
        output = f"{tmp_path}/50%% x/q/s.JOB.log.%a.out"
        assert (cluster / "sbatch.args").read_text().split("\n") == [
            *["--export=ALL", "--job-name", "a name"],
            *["-p", "gpu", "--gres=gpu:2", "--cpus-per-task", "2"],
            *["--cpus-per-task", "4", "--parsable", "--wait", "--array=3-4%1"],
            *[f"--output={output}", f"--error={output}"],
            "50% x/q/s.JOB.log.sh",
        ]

    def test_one_job_in_the_recipe_s_environment(self, cluster, tmp_path):
        (tmp_path / "path.sh").write_text("export FROM_PATH_SH=1\n")
        submission = Submission("train.log", ["bash", "-c", "echo $FROM_PATH_SH $PWD"])
        assert run_slurm(submission, SlurmConf.read(CONF), {}) == []
        assert body("train.log") == [f"1 {tmp_path}"]
        args = (cluster / "sbatch.args").read_text()
        assert "--array" not in args and "-p\ncpu\n" in args

    def test_failed_jobs_are_named(self, cluster):
        command = ["bash", "-c", "echo this is JOB; exit $((JOB == 2 ? 5 : 0))"]
        submission = Submission("JOB.log", command, JobArray("JOB", 1, 3))
        (failure,) = run_slurm(submission, SlurmConf.read(CONF), {})
        assert (str(failure.log), failure.code) == ("2.log", 5)
        assert "this is 2" in str(failure)

    def test_job_that_disappears(self, cluster):
        conf = SlurmConf.read(CONF)
        submission = Submission("JOB.log", ["true"], JobArray("JOB", 1, 3))
        assert run_slurm(submission, conf, {}) == []
        (cluster / "kill").touch()  # now with the files of the first time around
        (failure,) = run_slurm(submission, conf, {})
        assert str(failure.log) == "2.log" and failure.code == 1
        assert "no exit code in q/JOB.log.2.exit: it was killed" in str(failure)
        assert "DUE TO TIME LIMIT" in str(failure)

    def test_jobs_are_refused(self, cluster, capfd):
        (cluster / "refuse").touch()
        with pytest.raises(
            EnsembleError, match="found exit code 1 and no job number: sbatch"
        ):
            run_slurm(Submission("x.log", ["true"]), SlurmConf.read(CONF), {})
        assert "invalid partition" in capfd.readouterr().err

    def test_no_sbatch(self, tmp_path, monkeypatch):
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(
            EnsembleError, match="slurm.conf: .*'sbatch', which does not start"
        ):
            run_slurm(Submission(f"{tmp_path}/x", ["true"]), SlurmConf.read(CONF), {})

    def test_without_pseudo_terminals_jobs_run(self, cluster, no_terminals):
        submission = Submission("JOB.log", ["echo", "JOB"], JobArray("JOB", 1, 2))
        assert run_slurm(submission, SlurmConf.read(CONF), {}) == []
        assert body("2.log") == ["2"]

    def test_without_pseudo_terminals_jobs_cannot_be_cancelled(
        self, cluster, no_terminals, monkeypatch
    ):
        monkeypatch.setattr(slurm, "_ID_WAIT", 0.2)
        (cluster / "queue").touch()
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
        with pytest.raises(EnsembleError, match="/dev/pts, .* see squeue for the jobs"):
            run_slurm(Submission("x.log", ["true"]), SlurmConf.read(CONF), {})
        assert not (cluster / "scancel.args").exists()

    @pytest.mark.skipif(not os.path.exists("/dev/pts/ptmx"), reason="needs /dev/pts")
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_signal_cancels_the_job(self, number, cluster):
        (cluster / "queue").touch()
        options = ["--backend", "slurm", "--config", str(CONF)]
        submit = subprocess.Popen(
            [sys.executable, "-m", "espnet_ensemble.bin.submit", *options, "x", "true"],
            stderr=subprocess.PIPE,
            text=True,
        )
        wait_for((cluster / "sbatch.args").exists)
        submit.send_signal(number)
        _, message = submit.communicate(timeout=20)
        assert submit.returncode == 128 + number
        assert f"stopped by {number.name}" in message
        assert (cluster / "scancel.args").read_text() == "4242"


class TestSlurmConf:
    def read(self, tmp_path, text):
        (tmp_path / "slurm.conf").write_text(text)
        return SlurmConf.read(tmp_path / "slurm.conf")

    def test_espnet_s_format(self, tmp_path):
        conf = self.read(
            tmp_path,
            "# comment\ncommand sbatch --export=PATH\n\n"
            "option mem=* --mem-per-cpu $0\noption mem=0   # Do not add anything\n"
            "default gpu=0\noption gpu=0 -p cpu\n"
            "option gpu=* -p gpu --gres=gpu:$0 -c $0  # Recommend more\n",
        )
        assert conf.command == ["sbatch", "--export=PATH"]
        assert conf.arguments({}) == ["-p", "cpu"]
        gpu = ["-p", "gpu", "--gres=gpu:4", "-c", "4"]
        assert conf.arguments({"gpu": "4", "mem": "0"}) == gpu
        assert conf.arguments({"gpu": "4", "mem": "2G"}) == [
            "--mem-per-cpu",
            "2G",
            *gpu,
        ]

    def test_option_without_a_line(self, tmp_path):
        conf = self.read(tmp_path, "command sbatch\noption mem=0\n")
        with pytest.raises(
            EnsembleError, match="'option time=2', as --time 2 is asked for"
        ):
            conf.arguments({"time": "2"})
        with pytest.raises(EnsembleError, match="'option mem=2G', as"):
            conf.arguments({"mem": "2G"})

    @pytest.mark.parametrize(
        "line",
        [
            "command",
            "option gpu",
            "option gpu= -p cpu",
            "default gpu=0 1",
            "gpu=0 -p x",
        ],
    )
    def test_line_that_is_none(self, line, tmp_path):
        with pytest.raises(
            EnsembleError, match=f"slurm.conf:2: expected .* found '{line}'"
        ):
            self.read(tmp_path, f"command sbatch\n{line}\n")

    def test_unclosed_quote(self, tmp_path):
        with pytest.raises(EnsembleError, match="slurm.conf:1: expected"):
            self.read(tmp_path, "command sbatch --comment 'a b\n")

    def test_no_command(self, tmp_path):
        with pytest.raises(EnsembleError, match="expected a line 'command sbatch ...'"):
            self.read(tmp_path, "default gpu=0\n")
        with pytest.raises(EnsembleError, match="none.conf: expected a file"):
            SlurmConf.read(tmp_path / "none.conf")
