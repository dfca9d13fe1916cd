#!/usr/bin/env python3
"""Stand-ins for SLURM's commands, since there is no cluster where tests run.

``sbatch`` notes its arguments and starts a process that really runs the script, once for each
task of the array, all at the same time. ``squeue`` and ``scancel`` tell of them and end them as
SLURM 22.05 does. ``srun`` runs a command once for each node that sbatch was asked for.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ACTIVE = {"PENDING", "RUNNING"}
#: In names of files.
NO_ARRAY = "-"


class Slurm:
    """A cluster in a folder, for a test to look at and to break.

    Files by which it is told: ``refuse`` (jobs), ``idle`` (jobs succeed at once, without
    doing anything), ``hold`` (them in the queue), ``silent`` (squeue does not answer),
    ``forgetful`` (squeue knows no job that has ended).
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        (self.folder / "bin").mkdir(parents=True)
        self.bin = self.folder / "bin"
        for name in COMMANDS:
            shutil.copy(__file__, self.bin / name)
            (self.bin / name).chmod(0o755)

    def tell(self, name):
        (self.folder / name).touch()

    def untell(self, name):
        (self.folder / name).unlink()

    def was_asked(self):
        """Whether squeue was called."""
        return (self.folder / "asked").exists()

    def submitted(self):
        """The arguments of each sbatch."""
        calls = sorted(self.folder.glob("*.args"))
        return [json.loads(path.read_text()) for path in calls]

    def cancelled(self):
        """The arguments of each scancel."""
        path = self.folder / "scancel"
        return path.read_text().splitlines() if path.exists() else []

    def states(self):
        """Job and task -> state."""
        paths = self.folder.glob("*.state")
        return {path.stem: path.read_text() for path in paths}

    def end(self, task, state):
        """Let it end where it is: without leaving anything, if "PENDING" to run again."""
        write(self.folder / f"{task}.end", state)

    def close(self):
        for task, state in self.states().items():
            if state in ACTIVE:
                self.end(task, "CANCELLED")
        while ACTIVE.intersection(self.states().values()):
            time.sleep(0.02)


def write(path, text):
    """All at once, while others write files of the same task."""
    part = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    part.write_text(text)
    os.replace(part, path)


def sbatch(folder, args):
    number = 4242 + len(list(folder.glob("*.args")))
    if (folder / "refuse").exists():
        sys.exit("sbatch: error: invalid partition specified: cpu")
    (folder / f"{number}.args").write_text(json.dumps(args))
    shutil.copy(args[-1], folder / f"{number}.sh")  # the real one keeps it, too
    idle = (folder / "idle").exists()
    for task in tasks(args):
        write(folder / f"{number}_{task}.state", "COMPLETED" if idle else "PENDING")
        if idle:
            output = Path(option(args, "--output").replace("%a", str(task)))
            output.with_suffix(".exit").write_text("0\n")
    print(number if "--parsable" in args else f"Submitted batch job {number}")
    if idle:
        return
    subprocess.Popen(
        [sys.executable, __file__, "controller", str(folder), str(number)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def tasks(args):
    array = re.search(r"--array=(\d+)-(\d+)", " ".join(args))
    return range(int(array[1]), int(array[2]) + 1) if array else [NO_ARRAY]


def controller(number, folder):
    """Run the tasks of a job, end them as told, and note their states."""
    args = json.loads((folder / f"{number}.args").read_text())
    waiting, running = [f"{number}_{task}" for task in tasks(args)], {}
    while waiting or running:
        held = (folder / "hold").exists()
        for task in [] if held else waiting:
            running[task] = start(folder, number, task.partition("_")[2], args)
            write(folder / f"{task}.state", "RUNNING")
        waiting = waiting if held else []
        time.sleep(0.02)
        for task in [*waiting, *running]:
            process = running.get(task)
            order = folder / f"{task}.end"
            state = order.read_text() if order.exists() else None
            if state is None and process is not None and process.poll() is not None:
                state = "FAILED" if process.returncode else "COMPLETED"
            if state is None:
                continue
            if process is not None:
                kill(process)
                del running[task]
            order.unlink(missing_ok=True)
            waiting = [other for other in waiting if other != task]
            waiting += [task] if state == "PENDING" else []
            write(folder / f"{task}.state", state)


def kill(process):
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def start(folder, number, task, args):
    output = option(args, "--output").replace("%a", task).replace("%%", "%")
    env = {
        **os.environ,
        "SLURM_JOB_ID": str(number),
        "SLURM_NTASKS": option(args, "--nodes", "1"),
    }
    if task != NO_ARRAY:
        env["SLURM_ARRAY_TASK_ID"] = task
    with open(output, "a") as file:
        return subprocess.Popen(
            ["bash", folder / f"{number}.sh"],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )


def option(args, name, default=os.devnull):
    for word, following in zip(args, [*args[1:], ""], strict=True):
        if word == name:
            return following
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
    return default


def squeue(folder, args):
    (folder / "asked").touch()
    if (folder / "silent").exists():
        sys.exit(
            "slurm_load_jobs error: Unable to contact slurm controller (connect failure)"
        )
    number = option(args, "--jobs")
    paths = sorted(folder.glob(f"{number}_*.state"))
    states = {path.stem.partition("_")[2]: path.read_text() for path in paths}
    if (folder / "forgetful").exists():
        states = {task: state for task, state in states.items() if state in ACTIVE}
    if not states:
        sys.exit("slurm_load_jobs error: Invalid job id specified")
    for task, state in states.items():
        number = "N/A" if task == NO_ARRAY else task
        print(option(args, "--format").replace("%K", number).replace("%T", state))


def scancel(folder, args):
    with open(folder / "scancel", "a") as file:
        print(*args, file=file)
    for path in folder.glob(f"{args[-1]}_*.state"):
        if path.read_text() in ACTIVE:
            write(path.with_suffix(".end"), "CANCELLED")


def srun(folder, args):
    command = args[1:] if args[0].startswith("--export") else args
    ranks = [
        subprocess.Popen(command, env={**os.environ, "SLURM_PROCID": str(rank)})
        for rank in range(int(os.environ["SLURM_NTASKS"]))
    ]
    sys.exit(max(process.wait() for process in ranks))


COMMANDS = {"sbatch": sbatch, "squeue": squeue, "scancel": scancel, "srun": srun}

if __name__ == "__main__":
    if sys.argv[1:2] == ["controller"]:
        controller(int(sys.argv[3]), Path(sys.argv[2]))
    else:
        here = Path(__file__)
        COMMANDS[here.name](here.parent.parent, sys.argv[1:])
