"""What the backends have in common: jobs, failures, and signals that stop them."""

import contextlib
import dataclasses
import os
import re
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Optional

#: How much of the log of a failed job is shown.
TAIL_LINES = 20
_TAIL_BYTES = 1 << 16


from espnet_ensemble.errors import EnsembleError


class JobError(EnsembleError):
    """The jobs cannot be run as asked."""


class Stopped(Exception):
    """A signal stopped the jobs.

    Attributes:
        signal: Which.
    """

    def __init__(self, number: int):
        self.signal = signal.Signals(number)
        super().__init__(f"stopped by {self.signal.name}")


class Array(NamedTuple):
    """Numbers of jobs, from first to last, and the word that stands for them."""

    variable: str
    first: int
    last: int

    @classmethod
    def parse(cls, text: str) -> Optional["Array"]:
        """Read ``JOB=1:n``, or ``JOB=n`` for one job.

        Returns:
            None if the text is something else, such as the name of a log.

        Raises:
            JobError: If it looks like an array, but is none.

        Example:
            >>> Array.parse("JOB=1:4")
            Array(variable='JOB', first=1, last=4)
            >>> Array.parse("exp/train.log") is None
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
            raise JobError(
                f"expected {match[1]}=first:last, or {match[1]}=number, with "
                f"1 <= first <= last; found {text!r}"
            )
        return cls(match[1], first, last)


class Job(NamedTuple):
    """One command; ``number`` is None where there is no array."""

    number: int | None
    log: Path
    command: list[str]


@dataclasses.dataclass(frozen=True)
class Jobs:
    """A command, or an array of commands that differ in a number.

    Attributes:
        log: File for standard output and error. In it, and in the command, the array's
            variable stands for the number wherever it occurs.
        command: The program and its arguments. No shell looks at them.
        array: The numbers; None: one command, as it is.

    Raises:
        JobError: If there is no command, or several jobs would share a log.

    Example:
        >>> jobs = Jobs("JOB.log", ["echo", "job JOB"], Array("JOB", 1, 2))
        >>> [(str(job.log), job.command) for job in jobs.expand()]
        [('1.log', ['echo', 'job 1']), ('2.log', ['echo', 'job 2'])]
    """

    log: str
    command: Sequence[str]
    array: Array | None = None

    def __post_init__(self):
        if not self.log or not self.command:
            raise JobError("expected a log file and a command")
        array = self.array
        if array and array.first < array.last and array.variable not in self.log:
            raise JobError(
                f"{self.log}: expected {array.variable} in the name of the log, so that "
                "each job has its own"
            )

    def expand(self) -> list[Job]:
        """The jobs, by number."""
        if self.array is None:
            return [Job(None, Path(self.log), list(self.command))]
        variable, first, last = self.array
        jobs = []
        for number in range(first, last + 1):
            log, *command = (
                word.replace(variable, str(number))
                for word in (self.log, *self.command)
            )
            jobs.append(Job(number, Path(log), command))
        return jobs


class Failure(NamedTuple):
    """A job that failed: how, the exit code to pass on, and the files that say more."""

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
