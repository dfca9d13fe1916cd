import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from espnet2.bin import launch
from repository import REPOSITORY

from espnet_ensemble.bin.submit import main

TEMPLATE = REPOSITORY / "egs2" / "TEMPLATE" / "asr1"
LOCAL = ["--backend", "local"]
COMMAND = ["echo", "--gpu", "JOB", "--mem=1"]


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """An empty recipe folder, with its utils and this Python in PATH."""
    path = [str(TEMPLATE / "utils"), str(Path(sys.executable).parent)]
    monkeypatch.setenv("PATH", os.pathsep.join(path), prepend=os.pathsep)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "slurm.conf").symlink_to(TEMPLATE / "conf" / "slurm.conf")
    return tmp_path


def body(log):
    lines = Path(log).read_text().splitlines()
    return [line for line in lines if not line.startswith("#")]


def is_there(pid):
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # nobody may be there to bury it


@pytest.mark.parametrize(
    "words",
    [
        ["JOB=1:2", "{}/JOB.log", *COMMAND],
        ["--gpu", "1", "--max-jobs-run", "1", "JOB=1:2", "{}/JOB.log", *COMMAND],
        [
            "--name",
            "x",
            "JOB=1:2",
            "--mem",
            "4G",
            "--num-threads",
            "2",
            "{}/JOB.log",
            *COMMAND,
        ],
    ],
)
def test_options_go_before_the_log_and_around_the_array(words, tmp_path):
    main([*LOCAL, *(word.format(tmp_path) for word in words)])
    for job in "12":
        assert body(tmp_path / f"{job}.log") == [f"--gpu {job} --mem=1"]


@pytest.mark.parametrize("separator", ["--", "-"])
def test_dashes_are_the_command_s(separator, tmp_path):
    main([*LOCAL, f"{tmp_path}/log", "echo", separator, "--backend", "x"])
    assert body(tmp_path / "log") == [f"{separator} --backend x"]


def test_failed_jobs_are_named_with_the_end_of_their_logs(tmp_path, capsys):
    script = "seq 30; exit $((JOB % 2 * 7))"
    with pytest.raises(SystemExit) as exit_info:
        main([*LOCAL, "JOB=2:5", f"{tmp_path}/JOB.log", "bash", "-c", script])
    message = capsys.readouterr().err
    assert exit_info.value.code == 7
    assert message.startswith(
        f"submit: 2 job(s) failed\n{tmp_path}/3.log: exit code 7\n"
    )
    assert f"{tmp_path}/5.log: exit code 7\n" in message
    assert "\n30\n" in message and "\n5\n" not in message
    assert "2.log" not in message and "4.log" not in message


@pytest.mark.parametrize(
    "words,message",
    [
        ([], "expected a log file and a command"),
        (["x.log"], "expected a log file and a command"),
        (["JOB=1:2"], "expected a log file and a command"),
        (["JOB=1:2", "x.log", "true"], "x.log: expected JOB in the name of the log"),
        (["JOB=0:2", "JOB.log", "true"], "found 'JOB=0:2'"),
        (["--backend", "slurm", "x.log", "true"], "conf/slurm.conf: expected a file"),
    ],
)
def test_user_errors(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="1"):
        main([*LOCAL, *words])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [["--gpus", "1"], ["--gpu", "x"], ["--max_jobs_run", "0"], ["--backend", "sge"]],
)
def test_wrong_options(options, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([*LOCAL, *options, "x.log", "true"])


def wait_for(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_leaves_no_processes(number, recipe):
    """Not even those that jobs have started in the background, and will not go."""
    script = (
        "(trap '' INT TERM HUP; while :; do sleep 0.1; done) & "
        "echo $$ $! > JOB.tmp; mv JOB.tmp JOB.pid; wait"
    )
    submit = subprocess.Popen(
        ["run.pl", "--max-jobs-run", "2", "JOB=1:2", "JOB.log", "bash", "-c", script],
        stderr=subprocess.PIPE,
        text=True,
        # The tests themselves may run where it is ignored, as under nohup.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )
    files = [recipe / f"{job}.pid" for job in "12"]
    wait_for(lambda: all(file.exists() for file in files))
    pids = [int(pid) for file in files for pid in file.read_text().split()]
    assert len(pids) == 4 and all(map(is_there, pids))
    time.sleep(0.1)  # for the traps
    submit.send_signal(number)
    _, message = submit.communicate(timeout=20)
    assert submit.returncode == 128 + number
    assert f"submit: stopped by {number.name}, and so are the jobs" in message
    wait_for(lambda: not any(map(is_there, pids)))
    assert "# Ended (code 143)" in (recipe / "1.log").read_text()


def test_it_is_light():
    code = (
        "import sys, espnet_ensemble.bin.submit; "
        "print(*{'torch', 'numpy', 'espnet2'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout == "\n"


def test_launch_with_run_pl(recipe):
    command = ["--cmd", "run.pl --name exp/x.log", "--log", "exp/x.log"]
    for _ in range(2):
        launch.main([*command, "--ngpu", "0", "--", "echo", "a b"])
    expected = ["a b --ngpu 0 --multiprocessing_distributed True"]
    assert body("exp/x.log") == body("exp/x.1.log") == expected
    assert "echo 'a b'" in Path("exp/x.log").read_text()


def test_launch_fails_with_the_job(recipe, capfd):
    command = ["--cmd", "run.pl", "--log", "x.log", "--ngpu", "0"]
    with pytest.raises(RuntimeError, match="The last 1000 lines of x.log"):
        launch.main([*command, "--", "bash", "-c", "echo oops; exit 3"])
    assert "x.log: exit code 3" in capfd.readouterr().err


def test_launch_knows_that_run_pl_has_one_node(recipe):
    with pytest.raises(RuntimeError, match="run.pl doesn't support"):
        launch.main("--cmd run.pl --log x.log --num_nodes 2 -- echo".split())


@pytest.fixture
def cluster(recipe, monkeypatch):
    """Stand-ins for SLURM's commands, since there is no cluster here.

    ``sbatch`` notes its arguments and runs the script; ``srun`` runs a command once per
    node, that is, as often as sbatch was asked for nodes.
    """
    sbatch = """
        echo "$@" > sbatch.args
        echo 4242
        export SLURM_NTASKS=1
        while [ $# -gt 1 ]; do
            [ "$1" != --nodes ] || SLURM_NTASKS=$2
            shift
        done
        bash "$1"
    """
    srun = """
        [ "$1" = --export=ALL ] && shift
        for ((SLURM_PROCID = 0; SLURM_PROCID < SLURM_NTASKS; SLURM_PROCID++)); do
            export SLURM_PROCID
            "$@" || exit
        done
    """
    folder = recipe / "slurm"
    folder.mkdir()
    for name, code in {"sbatch": sbatch, "srun": srun}.items():
        (folder / name).write_text(f"#!/usr/bin/env bash\n{code}")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


@pytest.mark.parametrize("num_nodes", [1, 2])
def test_launch_with_slurm_pl(num_nodes, cluster):
    options = ["--cmd", "slurm.pl --name exp/x.log", "--log", "exp/x.log"]
    options += ["--ngpu", "2", "--num_nodes", str(num_nodes)]
    script = "echo ${SLURM_PROCID:-no srun} $*"
    launch.main([*options, "--", "bash", "-c", script, "bash", "--a", "''"])
    asked = Path("sbatch.args").read_text()
    assert "--job-name exp/x.log -p gpu --gres=gpu:2 --cpus-per-task 2" in asked
    printed = body("exp/x.log")
    if num_nodes == 1:
        assert printed == ["no srun --a '' --ngpu 2 --multiprocessing_distributed True"]
        assert "--nodes" not in asked
        return
    assert "--nodes 2 --ntasks-per-node 1" in asked
    distributed = "--multiprocessing_distributed true --dist_launcher slurm"
    assert len(printed) == 2
    for rank, line in enumerate(printed):
        assert line.startswith(f"{rank} --a '' --ngpu 2 {distributed}")


def source_cmd_sh(backend):
    env = {key: value for key, value in os.environ.items() if key != "cmd_backend"}
    script = f". {shlex.quote(str(TEMPLATE / 'cmd.sh'))} && env | grep _cmd= | sort"
    return subprocess.run(
        ["bash", "-euc", script],
        env={**env, **({"cmd_backend": backend} if backend else {})},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "backend,program", [(None, "run.pl"), ("local", "run.pl"), ("slurm", "slurm.pl")]
)
def test_cmd_sh(backend, program):
    names = ("cuda_cmd", "decode_cmd", "train_cmd")
    expected = "".join(f"{name}={program}\n" for name in names)
    assert source_cmd_sh(backend).stdout == expected
    assert os.access(TEMPLATE / "utils" / program, os.X_OK)


def test_cmd_sh_refuses_others():
    result = source_cmd_sh("sge")
    assert result.returncode == 1
    assert "expected local or slurm, found 'sge'" in result.stderr


@pytest.mark.parametrize("file", ["cmd.sh", "utils/run.pl", "utils/slurm.pl"])
def test_shellcheck(file):
    shellcheck = Path(sys.executable).parent / "shellcheck"
    result = subprocess.run(
        [shellcheck, TEMPLATE / file], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout
