"""Jobs in the queue of a SLURM cluster, submitted with ``sbatch``.

Which of its options an option such as ``--gpu`` becomes is in a file, since clusters
differ:

.. code-block:: none

    command sbatch --export=ALL           # the command
    option mem=* --mem-per-cpu $0         # if there is a value; $0 stands for it
    option gpu=0 -p cpu                   # if it has this value
    default gpu=0                         # if it is not given
"""

import contextlib
import os
import pty
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.recipes.jobs.base import (
    FailedJob,
    JobsStopped,
    LoggedCommand,
    Submission,
    caught_signals,
)

#: Seconds for a file that a node has written to appear here; NFS looks for new files
#: once in a minute.
FILE_WAIT = 60.0
_POLL = 0.1
_ID_WAIT = 5.0

_SCRIPT = """\
#!/usr/bin/env bash
# Submitted with: {submitted}
cd {folder} || exit 1
if [ -f path.sh ]; then
    . ./path.sh
fi
{command}
code=$?
# All of it or nothing, and only when the job has ended: who waits for it reads it at once.
echo "${{code}}" > {exit_file}.tmp && mv {exit_file}.tmp {exit_file}
exit "${{code}}"
"""


@dataclass(frozen=True)
class SlurmConf:
    """How jobs are submitted.

    Attributes:
        path: The file that says so.
        command: ``sbatch`` and what it is always given.
        options: Name of an option -> value, or ``*`` for any -> arguments of sbatch.
        defaults: Name of an option -> value where it is not given.

    Example:
        >>> path = getfixture("tmp_path") / "slurm.conf"
        >>> _ = path.write_text("command sbatch\\noption gpu=* -p gpu --gres=gpu:$0")
        >>> SlurmConf.read(path).arguments({"gpu": "2"})
        ['-p', 'gpu', '--gres=gpu:2']
    """

    path: Path
    command: list[str]
    options: dict[str, dict[str, list[str]]]
    defaults: dict[str, str]

    @classmethod
    def read(cls, path: Path) -> "SlurmConf":
        """Read a file of such lines as above.

        Raises:
            EnsembleError: If it is missing, has no command, or a line of another
                kind.
        """
        try:
            lines = Path(path).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise EnsembleError(
                f"{path}: expected a file in UTF-8, found: {error}"
            ) from error
        command: list[str] = []
        options: dict[str, dict[str, list[str]]] = {}
        defaults: dict[str, str] = {}
        for number, text in enumerate(lines, start=1):
            line = _Line.parse(text, f"{path}:{number}")
            if line.kind == "command":
                command = line.arguments
            elif line.kind == "option":
                options.setdefault(line.name, {})[line.value] = line.arguments
            elif line.kind == "default":
                defaults[line.name] = line.value
        if not command:
            raise EnsembleError(
                f"{path}: expected a line 'command sbatch ...', found none"
            )
        return cls(Path(path), command, options, defaults)

    def arguments(self, options: dict[str, str]) -> list[str]:
        """Translate options into those of ``sbatch``, in the order of the file.

        Raises:
            EnsembleError: If the file does not say what an option, or its value, becomes.
        """
        options = {**self.defaults, **options}
        arguments = {}
        for name, value in options.items():
            values = self.options.get(name, {})
            chosen = values.get(value, values.get("*"))
            if chosen is None:
                raise EnsembleError(
                    f"{self.path}: expected a line 'option {name}=*' or "
                    f"'option {name}={value}', as --{name} {value} is asked for"
                )
            arguments[name] = [word.replace("$0", value) for word in chosen]
        return [word for name in self.options for word in arguments.get(name, [])]


@dataclass(frozen=True)
class _Line:
    """A line of the file.

    Attributes:
        kind: Its first word: command, option or default; "" where there is none.
        name: Of the option.
        value: Of the option; ``*`` for any.
        arguments: Those of sbatch.
    """

    kind: str = ""
    name: str = ""
    value: str = ""
    arguments: list[str] = field(default_factory=list)

    @classmethod
    def parse(cls, text: str, where: str) -> "_Line":
        """Read a line, without its comment.

        Args:
            text: The line.
            where: Its file and number, for the message.

        Raises:
            EnsembleError: If it is of no such kind.
        """
        try:
            return cls._parse(text.partition("#")[0].split(maxsplit=1))
        except ValueError as error:
            raise EnsembleError(
                f"{where}: expected 'command sbatch ...', 'option name=value ...', "
                f"'option name=* ... $0' or 'default name=value', found {text!r}"
            ) from error

    @classmethod
    def _parse(cls, words: list[str]) -> "_Line":
        if not words:
            return cls()
        kind, rest = words
        if kind == "command":
            return cls(kind, arguments=shlex.split(rest))
        setting, *arguments = shlex.split(rest)
        name, _, value = setting.partition("=")
        if not (name and value):
            raise ValueError(setting)
        if kind == "option" or (kind == "default" and not arguments):
            return cls(kind, name, value, arguments)
        raise ValueError(kind)


def run_slurm(
    submission: Submission,
    conf: SlurmConf,
    options: dict[str, str],
    max_jobs_run: int | None = None,
) -> list[FailedJob]:
    """Run jobs in the queue, and wait for them.

    The batch script, what SLURM itself prints, and a file with the exit code of each job
    are in a folder ``q`` beside the (first) log. On its node, a job is run by
    :func:`~espnet_ensemble.recipes.jobs.local.run_local`, in the working directory, after its
    ``path.sh`` if there is one.

    Args:
        submission: What to run; an array becomes a job array.
        conf: How to submit.
        options: What was asked for, such as ``{"gpu": "1"}``.
        max_jobs_run: How many of an array at a time; None: the cluster decides.

    Returns:
        The jobs that failed, by number, also those that have left no exit code.

    Raises:
        EnsembleError: If the jobs cannot be submitted.
        JobsStopped: On SIGINT, SIGTERM or SIGHUP, when the jobs have been cancelled.
    """
    base = _base(submission)
    arguments = [*conf.command, *conf.arguments(options)]
    arguments += _own_arguments(submission, base, max_jobs_run)
    jobs = submission.jobs()
    try:
        _prepare(jobs, base)
        Path(f"{base}.sh").write_text(
            _script(submission, base, arguments),
            encoding="utf-8",
            errors="surrogateescape",
        )
    except OSError as error:
        raise EnsembleError(f"expected to be able to write there: {error}") from error
    with caught_signals() as signals:
        _submit(arguments, conf, signals)
        _wait_for_files([_file(base, job, "exit") for job in jobs], signals)
    return [failed for job in jobs if (failed := _failed(job, base))]


def _base(submission: Submission) -> Path:
    first = submission.jobs()[0].log
    return first.parent / "q" / Path(submission.log).name


def _own_arguments(
    submission: Submission, base: Path, max_jobs_run: int | None
) -> list[str]:
    arguments = ["--parsable", "--wait"]
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


def _prepare(jobs: list[LoggedCommand], base: Path) -> None:
    """Make the folders, and remove what an earlier run has left."""
    base.parent.mkdir(parents=True, exist_ok=True)
    for job in jobs:
        for path in (job.log, _file(base, job, "exit"), _file(base, job, "out")):
            path.unlink(missing_ok=True)


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


def _submit(arguments: list[str], conf: SlurmConf, signals: list[int]) -> None:
    """Run sbatch, which waits for the jobs; what they exit with is not its business."""
    output, stdout = _open_output()
    try:
        process = _start(arguments, stdout, conf)
        while process.poll() is None and not signals:
            time.sleep(_POLL)
        if signals:
            _cancel(process, output)
            raise JobsStopped(signals[0])
        if not _read(output):
            raise EnsembleError(
                f"expected sbatch to accept the jobs, found exit code "
                f"{process.returncode} and no job number: {shlex.join(arguments)}"
            )
    finally:
        os.close(stdout)
        os.close(output)


def _open_output() -> tuple[int, int]:
    """Open what sbatch's output goes through: its end for us, and sbatch's.

    Into a pipe, sbatch prints the job's number only when the job has ended; on a terminal
    at once. It is needed to cancel the job, and for that alone: where the machine has no
    pseudo-terminals (a container without /dev/pts), jobs run all the same.
    """
    try:
        output, stdout = pty.openpty()
    except OSError:
        output, stdout = os.pipe()
    os.set_blocking(output, False)
    return output, stdout


def _start(arguments: list[str], stdout: int, conf: SlurmConf) -> subprocess.Popen:
    try:
        return subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            # Ctrl-C is for us, who cancel the job.
            start_new_session=True,
        )
    except OSError as error:
        raise EnsembleError(
            f"{conf.path}: expected a command that submits jobs to SLURM, found "
            f"{arguments[0]!r}, which does not start here ({error.strerror}); submit from "
            "a machine of the cluster, or use cmd_backend=local"
        ) from error


def _cancel(sbatch: subprocess.Popen, output: int) -> None:
    """Cancel the jobs, as soon as their number is known.

    Raises:
        EnsembleError: If that fails.
    """
    deadline = time.monotonic() + _ID_WAIT
    printed = _read(output)
    while not printed and sbatch.poll() is None and time.monotonic() < deadline:
        time.sleep(_POLL)
        printed = _read(output)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(sbatch.pid, signal.SIGTERM)
    sbatch.wait()
    if not printed:
        raise EnsembleError(
            "stopped before sbatch gave a job number (without pseudo-terminals, "
            "/dev/pts, it does so at the end): see squeue for the jobs, and cancel them "
            "with scancel"
        )
    number, _, cluster = printed.partition(";")
    scancel = ["scancel", *([f"--clusters={cluster}"] if cluster else []), number]
    try:
        subprocess.run(scancel, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise EnsembleError(
            f"stopped, but the jobs may still be queued: {shlex.join(scancel)}: {error}"
        ) from error


def _read(output: int) -> str:
    try:
        return os.read(output, 1024).decode().strip()
    except OSError:  # nothing is there
        return ""


def _wait_for_files(paths: list[Path], signals: list[int]) -> None:
    deadline = time.monotonic() + FILE_WAIT
    while not signals:
        # Listing the folder makes NFS look for new files.
        os.listdir(paths[0].parent)
        if all(path.exists() for path in paths) or time.monotonic() > deadline:
            return
        time.sleep(_POLL)
    raise JobsStopped(signals[0])


def _failed(job: LoggedCommand, base: Path) -> FailedJob | None:
    exit_file = _file(base, job, "exit")
    if not exit_file.exists():
        reason = (
            f"no exit code in {exit_file}: it was killed (time limit, memory, scancel), "
            "or its node was lost"
        )
        return FailedJob(job.log, reason, 1, (job.log, _file(base, job, "out")))
    code = int(exit_file.read_text(encoding="utf-8"))
    if code == 0:
        return None
    return FailedJob(job.log, f"exit code {code}", code, (job.log,))
