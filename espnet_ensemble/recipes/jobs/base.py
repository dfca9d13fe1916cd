"""What the backends have in common: jobs, failures, and signals that stop them."""

import contextlib
import os
import re
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from espnet_ensemble.errors import EnsembleError

#: How much of the log of a failed job is shown.
TAIL_LINES = 20
_TAIL_BYTES = 1 << 16


class JobsStopped(Exception):
    """A signal stopped the jobs.

    Attributes:
        signal: Which.
    """

    def __init__(self, number: int):
        self.signal = signal.Signals(number)
        super().__init__(f"stopped by {self.signal.name}")


@dataclass(frozen=True)
class JobArray:
    """Numbers of jobs, from first to last, and the word that stands for them."""

    variable: str
    first: int
    last: int

    @classmethod
    def parse(cls, text: str) -> Optional["JobArray"]:
        """Read ``JOB=1:n``, or ``JOB=n`` for one job.

        Returns:
            None if the text is something else, such as the name of a log.

        Raises:
            EnsembleError: If it looks like an array, but is none.

        Example:
            >>> JobArray.parse("JOB=1:4")
            JobArray(variable='JOB', first=1, last=4)
            >>> JobArray.parse("exp/train.log") is None
            True
        """
        match = re.fullmatch(r"([A-Za-z_]\w*)=([^/]*)", text)
        if not match:
            return None
        numbers = re.fullmatch(r"([0-9]+)(?::([0-9]+))?", match[2])
        first, last = (
            (int(n or numbers[1]) for n in numbers.groups()) if numbers else (0, 0)
        )
        if not 1 <= first <= last:
            raise EnsembleError(
                f"expected {match[1]}=first:last, or {match[1]}=number, with "
                f"1 <= first <= last; found {text!r}"
            )
        return cls(match[1], first, last)


@dataclass(frozen=True)
class LoggedCommand:
    """One job.

    Attributes:
        number: Its number in the array; None where there is none.
        log: File for standard output and error.
        command: The program and its arguments.
    """

    number: int | None
    log: Path
    command: list[str]


@dataclass(frozen=True)
class Submission:
    """A command, or an array of commands that differ in a number.

    Attributes:
        log: File for standard output and error. In it, and in the command, the array's
            variable stands for the number wherever it occurs.
        command: The program and its arguments. No shell looks at them.
        array: The numbers; None: one command, as it is.

    Raises:
        EnsembleError: If there is no command, or several jobs would share a log.

    Example:
        >>> array = JobArray("JOB", 1, 2)
        >>> submission = Submission("JOB.log", ["echo", "job JOB"], array)
        >>> [(str(job.log), job.command) for job in submission.jobs()]
        [('1.log', ['echo', 'job 1']), ('2.log', ['echo', 'job 2'])]
    """

    log: str
    command: Sequence[str]
    array: JobArray | None = None

    def __post_init__(self):
        if not self.log or not self.command:
            raise EnsembleError("expected a log file and a command")
        array = self.array
        if array and array.first < array.last and array.variable not in self.log:
            raise EnsembleError(
                f"{self.log}: expected {array.variable} in the name of the log, so that "
                "each job has its own"
            )

    def jobs(self) -> list[LoggedCommand]:
        """List the jobs, by number."""
        if self.array is None:
            return [LoggedCommand(None, Path(self.log), list(self.command))]
        numbers = range(self.array.first, self.array.last + 1)
        return [self._job(self.array.variable, number) for number in numbers]

    def _job(self, variable: str, number: int) -> LoggedCommand:
        log, *command = (
            word.replace(variable, str(number)) for word in (self.log, *self.command)
        )
        return LoggedCommand(number, Path(log), command)


@dataclass(frozen=True)
class FailedJob:
    """A job that failed.

    Attributes:
        log: Of the job.
        reason: How it failed.
        code: The exit code to pass on.
        files: Those that say more; the end of each is shown.
    """

    log: Path
    reason: str
    code: int
    files: tuple[Path, ...]

    def __str__(self) -> str:
        parts = [f"{self.log}: {self.reason}"]
        for file in self.files:
            parts += [f"--- the end of {file}", _tail(file)]
        return "\n".join(parts)


@contextlib.contextmanager
def caught_signals() -> Iterator[list[int]]:
    """Collect the signals that ask to stop, instead of being stopped by them.

    To look at the list where it is safe to stop leaves no moment at which a job has been
    started and nobody knows of it.
    """
    signals = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as under nohup
        signals.append(signal.SIGHUP)
    caught = []
    before = {
        number: signal.signal(number, lambda number, _: caught.append(number))
        for number in signals
    }
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tail(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except OSError as error:
        return f"({error.strerror})"
    return "\n".join(text.splitlines()[-TAIL_LINES:])
