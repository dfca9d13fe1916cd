import os
import shlex
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from repository import REPOSITORY
from slurm_stand_in import Slurm

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.recipes.jobs import slurm
from espnet_ensemble.recipes.jobs.base import JobArray, Submission
from espnet_ensemble.recipes.jobs.local import run_local
from espnet_ensemble.recipes.jobs.slurm import run_slurm
from espnet_ensemble.recipes.jobs.slurm_conf import SlurmConf

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
    """Stand-ins for SLURM's commands, first in PATH, and a working directory."""
    slurm = Slurm(tmp_path / "slurm")
    monkeypatch.setenv("PATH", str(slurm.bin), prepend=os.pathsep)
    monkeypatch.chdir(tmp_path)
    yield slurm
    slurm.close()


@pytest.fixture(autouse=True)
def impatience(monkeypatch):
    for name, seconds in (("FILE_WAIT", 0.5), ("FILE_POLL", 0.02), ("QUEUE_POLL", 0.1)):
        monkeypatch.setattr(slurm, name, seconds)


@contextmanager
def meanwhile(function):
    """Run it beside what is in the block."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(function)
        yield
        future.result()


ARRAY = Submission("JOB.log", ["echo", "JOB"], JobArray("JOB", 1, 3))
SLEEP = Submission("JOB.log", ["sleep", "30"], JobArray("JOB", 1, 3))


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
        (submitted,) = cluster.submitted()
        assert submitted == [
            *["--export=ALL", "--job-name", "a name"],
            *["-p", "gpu", "--gres=gpu:2", "--cpus-per-task", "2"],
            *["--cpus-per-task", "4", "--parsable", "--array=3-4%1"],
            *[f"--output={output}", f"--error={output}"],
            "50% x/q/s.JOB.log.sh",
        ]

    def test_one_job_in_the_recipe_s_environment(self, cluster, tmp_path):
        (tmp_path / "path.sh").write_text("export FROM_PATH_SH=1\n")
        submission = Submission("train.log", ["bash", "-c", "echo $FROM_PATH_SH $PWD"])
        assert run_slurm(submission, SlurmConf.read(CONF), {}) == []
        assert body("train.log") == [f"1 {tmp_path}"]
        (submitted,) = cluster.submitted()
        assert submitted[1:3] == ["-p", "cpu"]
        assert not any(word.startswith("--array") for word in submitted)

    def test_srun_gets_the_cores_of_the_job(self, cluster, monkeypatch):
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", "8")  # as it is in a job
        command = ["bash", "-c", "echo $SRUN_CPUS_PER_TASK"]
        run_slurm(Submission("x.log", command), SlurmConf.read(CONF), {})
        assert body("x.log") == ["8"]

    def test_failed_jobs_are_named(self, cluster):
        command = ["bash", "-c", "echo this is JOB; exit $((JOB == 2 ? 5 : 0))"]
        submission = Submission("JOB.log", command, JobArray("JOB", 1, 3))
        (failure,) = run_slurm(submission, SlurmConf.read(CONF), {})
        assert (str(failure.log), failure.code) == ("2.log", 5)
        assert "this is 2" in str(failure)

    @pytest.mark.parametrize("state", ["TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL"])
    def test_a_job_that_dies_is_named_with_what_slurm_says(self, state, cluster):
        Path("q").mkdir()
        Path("q/JOB.log.2.exit").write_text("0\n")  # of an earlier run
        command = ["bash", "-c", "echo at work; [ JOB != 2 ] || sleep 30"]
        submission = Submission("JOB.log", command, JobArray("JOB", 1, 2))

        def die():
            wait_for(lambda: Path("2.log").exists() and body("2.log"))
            cluster.end("4242_2", state)

        with meanwhile(die):
            (failure,) = run_slurm(submission, SlurmConf.read(CONF), {})
        assert str(failure.log) == "2.log" and failure.code == 1
        assert f"no exit code in q/JOB.log.2.exit: SLURM says {state}" in str(failure)
        assert "at work" in str(failure)

    def test_a_job_that_was_cancelled_in_the_queue(self, cluster):
        cluster.tell("hold")

        def cancel_one():
            wait_for(lambda: len(cluster.states()) == 3)
            cluster.end("4242_1", "CANCELLED")
            wait_for(lambda: cluster.states()["4242_1"] == "CANCELLED")
            cluster.untell("hold")

        with meanwhile(cancel_one):
            (failure,) = run_slurm(ARRAY, SlurmConf.read(CONF), {})
        assert str(failure.log) == "1.log" and "SLURM says CANCELLED" in str(failure)

    def test_slurm_forgets_jobs_that_have_ended(self, cluster):
        cluster.tell("forgetful")

        def die():
            wait_for(lambda: cluster.states().get("4242_-") == "RUNNING")
            cluster.end("4242_-", "TIMEOUT")

        with meanwhile(die):
            submission = Submission("x.log", ["sleep", "30"])
            (failure,) = run_slurm(submission, SlurmConf.read(CONF), {})
        assert "it was killed (time limit, memory, scancel), or its node" in str(
            failure
        )

    def test_a_job_that_is_requeued_from_a_lost_node_is_waited_for(self, cluster):
        script = "[ JOB != 2 ] || [ -e again ] || { touch again; sleep 30; }; echo JOB"
        command, array = ["bash", "-c", script], JobArray("JOB", 1, 3)

        def lose_node():
            wait_for(Path("again").exists)
            cluster.tell("hold")
            cluster.end("4242_2", "PENDING")
            wait_for(lambda: cluster.states()["4242_2"] == "PENDING")
            time.sleep(0.8)  # longer than files are waited for
            cluster.untell("hold")

        with meanwhile(lose_node):
            submission = Submission("JOB.log", command, array)
            assert run_slurm(submission, SlurmConf.read(CONF), {}) == []
        assert body("2.log") == ["2"]

    def test_slurm_that_does_not_answer_says_nothing_of_jobs(self, cluster, caplog):
        cluster.tell("hold")
        cluster.tell("silent")

        def recover():
            wait_for(cluster.was_asked)
            time.sleep(0.2)  # for the answer
            cluster.untell("silent")
            cluster.untell("hold")

        with meanwhile(recover):
            assert run_slurm(ARRAY, SlurmConf.read(CONF), {}) == []
        said = (
            "SLURM does not say where job 4242 is; asking again in 0 s: slurm_load_jobs"
        )
        assert said in caplog.text

    def test_jobs_are_refused(self, cluster, capfd):
        cluster.tell("refuse")
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

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    def test_signal_cancels_the_jobs(self, number, cluster, tmp_path):
        submit = start_submit(CONF, number)
        wait_for((tmp_path / "q" / "JOB.log.job").exists)
        submit.send_signal(number)
        _, message = submit.communicate(timeout=20)
        assert submit.returncode == 128 + number
        assert f"stopped by {number.name}" in message
        assert cluster.cancelled() == ["4242"]
        wait_for(lambda: set(cluster.states().values()) == {"CANCELLED"})
        assert not (tmp_path / "q" / "JOB.log.job").exists()

    def test_jobs_outlive_who_has_submitted_them_and_are_found_again(
        self, cluster, tmp_path, caplog
    ):
        cluster.tell("hold")
        submit_and_get_lost(CONF, tmp_path)

        def run_and_die():
            time.sleep(0.5)
            cluster.untell("hold")
            wait_for(lambda: set(cluster.states().values()) == {"RUNNING"})
            for number, state in enumerate(["COMPLETED", "COMPLETED", "TIMEOUT"], 1):
                if state == "COMPLETED":
                    (tmp_path / "q" / f"JOB.log.{number}.exit").write_text("0\n")
                cluster.end(f"4242_{number}", state)

        with meanwhile(run_and_die):
            (failure,) = run_slurm(SLEEP, SlurmConf.read(CONF), {})
        assert str(failure.log) == "3.log" and "SLURM says TIMEOUT" in str(failure)
        assert len(cluster.submitted()) == 1
        said = (
            "waiting for job 4242, which an earlier run has submitted; to end it: scan"
        )
        assert said in caplog.text

    def test_others_are_submitted_when_the_earlier_ones_have_ended(
        self, cluster, tmp_path
    ):
        submit_and_get_lost(CONF, tmp_path)

        def end():
            time.sleep(0.5)
            assert len(cluster.submitted()) == 1
            for number in (1, 2, 3):
                cluster.end(f"4242_{number}", "CANCELLED")

        with meanwhile(end):
            assert run_slurm(ARRAY, SlurmConf.read(CONF), {}) == []
        assert len(cluster.submitted()) == 2 and body("3.log") == ["3"]

    def test_one_that_has_ended_is_not_waited_for(self, cluster, tmp_path):
        (tmp_path / "q").mkdir()
        (tmp_path / "q" / "JOB.log.job").write_text("17\n")
        assert run_slurm(ARRAY, SlurmConf.read(CONF), {}) == []
        assert len(cluster.submitted()) == 1


def start_submit(conf, number=signal.SIGINT):
    """Start ``submit`` with the jobs of SLEEP, in a process."""
    command = [sys.executable, "-m", "espnet_ensemble.bin.submit", "--backend", "slurm"]
    return subprocess.Popen(
        [*command, "--config", str(conf), "JOB=1:3", "JOB.log", "sleep", "30"],
        stderr=subprocess.PIPE,
        text=True,
        # The tests themselves may run where it is ignored, as under nohup.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )


def submit_and_get_lost(conf, folder):
    submit = start_submit(conf)
    wait_for((folder / "q" / "JOB.log.job").exists)
    submit.kill()
    submit.communicate()


@pytest.mark.skipif(
    "TEST_SLURM_CONF" not in os.environ,
    reason="needs a SLURM cluster: TEST_SLURM_CONF names a slurm.conf for it",
)
class TestSlurmItself:
    """What the stand-ins are to be like."""

    @pytest.fixture
    def conf(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        return SlurmConf.read(os.environ["TEST_SLURM_CONF"])

    def test_array(self, conf):
        script = "echo this is JOB; exit $((JOB == 2 ? 5 : 0))"
        array = JobArray("JOB", 1, 3)
        submission = Submission("50% x/JOB.log", ["bash", "-c", script], array)
        (failure,) = run_slurm(submission, conf, {"name": "a b"}, max_jobs_run=2)
        assert (str(failure.log), failure.code) == ("50% x/2.log", 5)
        assert body("50% x/3.log") == ["this is 3"]

    def test_cancelled(self, conf):
        script = "scancel $SLURM_JOB_ID; sleep 30"
        (failure,) = run_slurm(Submission("x.log", ["bash", "-c", script]), conf, {})
        assert "SLURM says CANCELLED" in str(failure)

    def test_requeued(self, conf):
        script = (
            "[ -e again ] || { touch again; scontrol requeue $SLURM_JOB_ID; sleep 30; }"
        )
        assert run_slurm(Submission("x.log", ["bash", "-c", script]), conf, {}) == []

    def test_signal_cancels_the_jobs(self, conf, tmp_path):
        submit = start_submit(conf.path)
        wait_for((tmp_path / "q" / "JOB.log.job").exists)
        number = (tmp_path / "q" / "JOB.log.job").read_text().strip()
        submit.send_signal(signal.SIGINT)
        submit.communicate(timeout=20)
        squeue = ["squeue", "--noheader", f"--jobs={number}"]
        wait_for(lambda: not subprocess.run(squeue, capture_output=True).stdout)

    def test_jobs_are_found_again(self, conf, tmp_path, caplog):
        submit_and_get_lost(conf.path, tmp_path)
        assert run_slurm(SLEEP, conf, {}) == []
        assert "waiting for job" in caplog.text


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
