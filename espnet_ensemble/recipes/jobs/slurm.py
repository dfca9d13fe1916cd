"""Jobs in the queue of a SLURM cluster: ``sbatch``, ``squeue``, ``scancel``."""

import logging
import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.files import write_text
from espnet_ensemble.recipes.jobs.base import (
    FailedJob,
    JobsStopped,
    LoggedCommand,
    Submission,
    caught_signals,
)
from espnet_ensemble.recipes.jobs.slurm_conf import SlurmConf

#: Seconds for a file that a node has written to appear here; NFS looks for new files
#: once in a minute.
FILE_WAIT = 60.0
#: Seconds from one look for files to the next.
FILE_POLL = 1.0
#: Seconds from one question to SLURM to the next: its controller answers all users.
QUEUE_POLL = 30.0
_ENDED = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL"),
    *("OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT"),
}
_NO_SUCH_JOB = "Invalid job id"

_log = logging.getLogger(__name__)

_SCRIPT = """\
#!/usr/bin/env bash
# Submitted with: {submitted}
cd {folder} || exit 1
# From SLURM 22.05 on, srun does not ask for the cores that sbatch was asked for.
[ -z "${{SLURM_CPUS_PER_TASK:-}}" ] || export SRUN_CPUS_PER_TASK=${{SLURM_CPUS_PER_TASK}}
if [ -f path.sh ]; then
    . ./path.sh
fi
{command}
code=$?
# All of it or nothing, and only when the job has ended: who waits for it reads it at once.
echo "${{code}}" > {exit_file}.tmp && mv {exit_file}.tmp {exit_file}
exit "${{code}}"
"""


def run_slurm(
    submission: Submission,
    conf: SlurmConf,
    options: dict[str, str],
    max_jobs_run: int | None = None,
) -> list[FailedJob]:
    """Run jobs in the queue, and wait for them.

    The batch script, the job's number, what SLURM itself prints, and a file with the exit
    code of each job are in a folder ``q`` beside the (first) log. On its node, a job is run
    by :func:`~espnet_ensemble.recipes.jobs.local.run_local`, in the working directory, after
    its ``path.sh`` if there is one.

    Jobs do not need the process that has submitted them. If it is lost, and called again
    while they are in the queue, it waits for them; where other jobs are asked for by now, it
    submits those then.

    Args:
        submission: What to run; an array becomes a job array.
        conf: How to submit.
        options: What was asked for, such as ``{"gpu": "1"}``.
        max_jobs_run: How many of an array at a time; None: the cluster decides.

    Returns:
        The jobs that failed, by number, also those that have left no exit code.

    Raises:
        EnsembleError: If the jobs cannot be submitted, or not be cancelled.
        JobsStopped: On SIGINT, SIGTERM or SIGHUP, when the jobs have been cancelled.
    """
    base = _base(submission)
    arguments = [*conf.command, *conf.arguments(options)]
    arguments += _own_arguments(submission, base, max_jobs_run)
    jobs = submission.jobs()
    script = _script(submission, base, arguments)
    with caught_signals() as signals:
        queued = _QueuedJobs.earlier(base)
        if queued:
            _log.warning(
                "waiting for job %s, which an earlier run has submitted; to end it: %s",
                queued.number,
                shlex.join(queued.command("scancel")),
            )
        if queued and not _has_text(Path(f"{base}.sh"), script):
            queued.wait(_exit_files(base, jobs), signals)
            queued = None
        if not queued:
            _prepare(jobs, base, script)
            queued = _QueuedJobs.submit(arguments, conf, base)
        states = queued.wait(_exit_files(base, jobs), signals)
    return [failed for job in jobs if (failed := _failed(job, base, states))]


def _base(submission: Submission) -> Path:
    first = submission.jobs()[0].log
    return first.parent / "q" / Path(submission.log).name


def _own_arguments(
    submission: Submission, base: Path, max_jobs_run: int | None
) -> list[str]:
    arguments = ["--parsable"]
    # A percent sign begins a placeholder of sbatch's.
    output = str(base.absolute()).replace("%", "%%")
    if submission.array:
        at_once = f"%{max_jobs_run}" if max_jobs_run else ""
        arguments.append(
            f"--array={submission.array.first}-{submission.array.last}{at_once}"
        )
        output += ".%a"
    return [*arguments, f"--output={output}.out", f"--error={output}.out", f"{base}.sh"]


def _file(base: Path, job: LoggedCommand, kind: str) -> Path:
    number = "" if job.number is None else f".{job.number}"
    return Path(f"{base}{number}.{kind}")


def _exit_files(base: Path, jobs: list[LoggedCommand]) -> list[Path]:
    return [_file(base, job, "exit") for job in jobs]


def _has_text(path: Path, text: str) -> bool:
    try:
        return path.read_bytes() == os.fsencode(text)
    except OSError:
        return False


def _prepare(jobs: list[LoggedCommand], base: Path, script: str) -> None:
    """Make the folders, remove what an earlier run has left, and write the script.

    Raises:
        EnsembleError: If that cannot be written.
    """
    try:
        base.parent.mkdir(parents=True, exist_ok=True)
        for job in jobs:
            for path in (job.log, _file(base, job, "exit"), _file(base, job, "out")):
                path.unlink(missing_ok=True)
        Path(f"{base}.sh").write_bytes(os.fsencode(script))
    except OSError as error:
        raise EnsembleError(f"expected to be able to write there: {error}") from error


def _script(submission: Submission, base: Path, submitted: list[str]) -> str:
    command = [sys.executable, "-m", "espnet_ensemble.bin.submit", "--backend", "local"]
    program, exit_file = shlex.join(command), shlex.quote(str(base))
    if submission.array:
        program += f' {submission.array.variable}="${{SLURM_ARRAY_TASK_ID}}"'
        exit_file += '."${SLURM_ARRAY_TASK_ID}"'
    return _SCRIPT.format(
        submitted=shlex.join(submitted),
        folder=shlex.quote(os.getcwd()),
        command=f"{program} {shlex.join([submission.log, *submission.command])}",
        exit_file=f"{exit_file}.exit",
    )


@dataclass(frozen=True)
class _QueuedJobs:
    """A job, or a job array, that was submitted.

    Attributes:
        number: What SLURM calls it.
        cluster: Where it is, if there are several; "": the only one.
        file: Has the number until all has ended.
    """

    number: str
    cluster: str
    file: Path

    @classmethod
    def submit(cls, arguments: list[str], conf: SlurmConf, base: Path) -> "_QueuedJobs":
        """Run sbatch.

        Raises:
            EnsembleError: If it does not start, or accepts no jobs.
        """
        try:
            sbatch = subprocess.run(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                encoding="utf-8",
                # Ctrl-C is for us: the job it submits is cancelled when its number is known.
                start_new_session=True,
                check=False,
            )
        except OSError as error:
            raise EnsembleError(
                f"{conf.path}: expected a command that submits jobs to SLURM, found "
                f"{arguments[0]!r}, which does not start here ({error.strerror}); submit "
                "from a machine of the cluster, or use cmd_backend=local"
            ) from error
        if sbatch.returncode or not sbatch.stdout.strip():
            raise EnsembleError(
                f"expected sbatch to accept the jobs, found exit code "
                f"{sbatch.returncode} and {sbatch.stdout.strip() or 'no job number'}: "
                f"{shlex.join(arguments)}"
            )
        file = Path(f"{base}.job")
        write_text(file, sbatch.stdout)
        return cls._parse(sbatch.stdout, file)

    @classmethod
    def earlier(cls, base: Path) -> Optional["_QueuedJobs"]:
        """What an earlier run has submitted, if that is in the queue still."""
        file = Path(f"{base}.job")
        if not file.exists():
            return None
        queued = cls._parse(file.read_text(encoding="utf-8"), file)
        return queued if _is_active(queued.states()) else None

    @classmethod
    def _parse(cls, printed: str, file: Path) -> "_QueuedJobs":
        number, _, cluster = printed.strip().partition(";")
        return cls(number, cluster, file)

    def command(self, program: str, *arguments: str) -> list[str]:
        """A command of SLURM's about them."""
        cluster = [f"--clusters={self.cluster}"] if self.cluster else []
        jobs = [f"--jobs={self.number}"] if program == "squeue" else [self.number]
        return [program, *cluster, *arguments, *jobs]

    def states(self) -> dict[str, str] | None:
        """Ask the queue: number in the array, or "N/A" -> state, such as "RUNNING".

        Returns:
            None if SLURM does not answer, which says nothing of the jobs. A job that has
            ended is forgotten in time (``MinJobAge``).
        """
        squeue = subprocess.run(
            self.command(
                "squeue", "--noheader", "--array", "--states=all", "--format=%K %T"
            ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            start_new_session=True,
            check=False,
        )
        if squeue.returncode == 0:
            lines = [line.split() for line in squeue.stdout.splitlines()]
            return {line[0]: line[1] for line in lines if len(line) == 2}
        if _NO_SUCH_JOB in squeue.stderr:
            return {}
        _log.warning(
            "SLURM does not say where job %s is; asking again in %.0f s: %s",
            self.number,
            QUEUE_POLL,
            squeue.stderr.strip(),
        )
        return None

    def wait(self, exit_files: list[Path], signals: list[int]) -> dict[str, str]:
        """Wait until all jobs have left their files, or the queue has them no more.

        Returns:
            Number in the array, or "N/A" -> the last state that was seen.

        Raises:
            JobsStopped: On a signal, when they have been cancelled.
            EnsembleError: If that fails.
        """
        seen: dict[str, str] = {}
        is_active = True
        while is_active and not self._wait_for_files(exit_files, QUEUE_POLL, signals):
            states = self.states()
            seen.update(states or {})
            is_active = _is_active(states)
        if not is_active:
            self._wait_for_files(exit_files, FILE_WAIT, signals)
        self.file.unlink(missing_ok=True)
        return seen

    def _wait_for_files(
        self, paths: list[Path], seconds: float, signals: list[int]
    ) -> bool:
        """Whether all are there, at the latest after some seconds."""
        deadline = time.monotonic() + seconds
        while not signals:
            # Listing the folder makes NFS look for new files.
            names = set(os.listdir(paths[0].parent))
            if all(path.name in names for path in paths):
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(FILE_POLL)
        self._cancel()
        raise JobsStopped(signals[0])

    def _cancel(self) -> None:
        scancel = self.command("scancel")
        try:
            subprocess.run(scancel, check=True, start_new_session=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise EnsembleError(
                f"stopped, but the jobs may still be queued: {shlex.join(scancel)}: "
                f"{error}"
            ) from error
        self.file.unlink(missing_ok=True)


def _is_active(states: dict[str, str] | None) -> bool:
    return states is None or not _ENDED.issuperset(states.values())


def _failed(job: LoggedCommand, base: Path, states: dict[str, str]) -> FailedJob | None:
    exit_file = _file(base, job, "exit")
    if not exit_file.exists():
        state = states.get("N/A" if job.number is None else str(job.number))
        reason = (
            "it was killed (time limit, memory, scancel), or its node was lost"
            if state is None
            else f"SLURM says {state}"
        )
        files = (job.log, _file(base, job, "out"))
        return FailedJob(job.log, f"no exit code in {exit_file}: {reason}", 1, files)
    code = int(exit_file.read_text(encoding="utf-8"))
    if code == 0:
        return None
    return FailedJob(job.log, f"exit code {code}", code, (job.log,))
