"""Jobs as processes of this machine."""

import contextlib
import os
import shlex
import signal
import socket
import subprocess
import time
from collections import deque
from datetime import datetime

from espnet_ensemble.errors import EnsembleError
from espnet_ensemble.recipes.jobs.base import (
    FailedJob,
    JobsStopped,
    LoggedCommand,
    Submission,
    caught_signals,
)

#: Exit code of a command that cannot be started, as a shell has it.
NOT_STARTED = 127
#: Seconds that jobs have to end by themselves when they are stopped.
GRACE = 5.0
_POLL = 0.05


def run_local(
    submission: Submission, max_jobs_run: int | None = None
) -> list[FailedJob]:
    """Run jobs as processes, and wait for them.

    A log begins with the command, the time and the host, and ends with the exit code and
    the seconds it took.

    Args:
        submission: What to run.
        max_jobs_run: How many at a time; None: as many as there are processors.

    Returns:
        The jobs that failed, by number. Others go on when one fails.

    Raises:
        EnsembleError: If a log cannot be written.
        JobsStopped: On SIGINT, SIGTERM or SIGHUP, when the jobs and all that they have
            started have been stopped too.
    """
    waiting = deque(submission.jobs())
    at_once = max_jobs_run or len(os.sched_getaffinity(0))
    running: list[_Run] = []
    ended: list[_Run] = []
    with caught_signals() as signals:
        try:
            while waiting or running:
                if signals:
                    raise JobsStopped(signals[0])
                while waiting and len(running) < at_once:
                    running.append(_Run(waiting.popleft()))
                time.sleep(_POLL)
                for run in [run for run in running if run.code() is not None]:
                    running.remove(run)
                    run.finish()
                    ended.append(run)
        finally:
            _stop(running)
    ended.sort(key=lambda run: run.job.number or 0)
    return [
        FailedJob(run.job.log, f"exit code {code}", code, (run.job.log,))
        for run in ended
        if (code := run.code())
    ]


class _Run:
    """A job that has been started."""

    def __init__(self, job: LoggedCommand):
        self.job = job
        self.process = None
        self._start = time.monotonic()
        try:
            job.log.parent.mkdir(parents=True, exist_ok=True)
            # Arguments need not be UTF-8; Python has them with surrogates.
            self._log = open(job.log, "w", encoding="utf-8", errors="surrogateescape")
        except OSError as error:
            raise EnsembleError(
                f"{job.log}: expected a file that can be written, found: {error}"
            ) from error
        self._write(
            f"# {shlex.join(job.command)}\n"
            f"# Started at {_now()} on {socket.gethostname()}\n#\n"
        )
        try:
            self.process = subprocess.Popen(
                job.command,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                # With a process group of its own it can be stopped as a whole.
                start_new_session=True,
            )
        except OSError as error:
            self._write(f"{error}\n")

    def code(self) -> int | None:
        """Exit code as a shell has it; None: it still runs."""
        if self.process is None:
            return NOT_STARTED
        code = self.process.poll()
        return 128 - code if code is not None and code < 0 else code

    def finish(self) -> None:
        """End the log."""
        seconds = round(time.monotonic() - self._start)
        self._write(
            f"# Ended (code {self.code()}) at {_now()}, elapsed time {seconds} seconds\n"
        )
        self._log.close()

    def _write(self, text: str) -> None:
        self._log.write(text)
        self._log.flush()


def _stop(runs: list[_Run]) -> None:
    started = [run.process for run in runs if run.process is not None]
    _signal_groups(started, signal.SIGTERM)
    deadline = time.monotonic() + GRACE
    for process in started:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0, deadline - time.monotonic()))
    # Also where the first process has ended: what it started may still be there.
    _signal_groups(started, signal.SIGKILL)
    for process in started:
        process.wait()
    for run in runs:
        run.finish()


def _signal_groups(processes: list[subprocess.Popen], number: int) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)


def _now() -> str:
    return datetime.now().astimezone().isoformat(" ", "seconds")
