"""One worker for each model: it does together what several people ask for."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from espnet_ensemble.serving.recordings import Recording

#: Makes a result of each recording.
Work = Callable[[list[Recording]], Sequence[Any]]

_log = logging.getLogger(__name__)


class QueueFull(Exception):
    """So much waits already that there is no place for more."""


class Stopped(Exception):
    """The worker has ended, and takes nothing on."""


@dataclass(frozen=True)
class _Job:
    recording: Recording
    work: Work
    result: Future = field(default_factory=Future)


class Worker:
    """A thread, the only one that uses a model, and what waits for it.

    Recordings that wait at the same time are worked on together, so that the model has
    full batches: the first that came, and those after it that want the same work, up to
    ``batch_seconds``.

    Args:
        name: What the thread is called.
        batch_seconds: Seconds of speech that are worked on together, unless one recording
            alone is longer.
        queue_seconds: Seconds of speech that may wait, unless one recording alone is
            longer.

    Example:
        >>> import numpy as np
        >>> worker = Worker("durations")
        >>> one_second = Recording("a.wav", np.zeros(16000, np.float32), 16000)
        >>> durations = worker.submit(one_second, lambda xs: [x.duration for x in xs])
        >>> durations.result()
        1.0
        >>> worker.stop()
    """

    def __init__(
        self, name: str, batch_seconds: float = 60.0, queue_seconds: float = 3600.0
    ):
        self._batch_seconds, self._queue_seconds = batch_seconds, queue_seconds
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Number of recordings that nobody works on yet."""
        return len(self._jobs)

    @property
    def is_alive(self) -> bool:
        """Whether it still works."""
        return self._thread.is_alive()

    def submit(self, recording: Recording, work: Work) -> Future:
        """Queue a recording.

        Args:
            recording: The recording.
            work: What is done with it, in the worker's thread. Recordings share a call
                where theirs is equal.

        Returns:
            The recording's result, in the future. If that is cancelled before the work
            begins, it is not done.

        Raises:
            QueueFull: If too much waits already.
            Stopped: If the worker has ended.
        """
        job = _Job(recording, work)
        with self._changed:
            if self._stopped or not self.is_alive:
                raise Stopped
            waiting = sum(job.recording.duration for job in self._jobs)
            if waiting and waiting + recording.duration > self._queue_seconds:
                raise QueueFull
            self._jobs.append(job)
            self._changed.notify()
        return job.result

    def stop(self) -> None:
        """End the work at hand, and refuse what waits."""
        with self._changed:
            self._stopped = True
            refused = list(self._jobs)
            self._jobs.clear()
            self._changed.notify()
        for job in refused:
            if job.result.set_running_or_notify_cancel():
                job.result.set_exception(Stopped())
        self._thread.join()

    def _run(self) -> None:
        while jobs := self._next_jobs():
            wanted = [job for job in jobs if job.result.set_running_or_notify_cancel()]
            if wanted:
                _do(wanted)

    def _next_jobs(self) -> list[_Job]:
        """Wait for jobs that can be done together; none: it is the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._stopped)
            jobs: list[_Job] = []
            seconds = 0.0
            while self._jobs and self._jobs[0].work == (jobs or self._jobs)[0].work:
                seconds += self._jobs[0].recording.duration
                if jobs and seconds > self._batch_seconds:
                    break
                jobs.append(self._jobs.popleft())
            return jobs


def _do(jobs: list[_Job]) -> None:
    try:
        results = jobs[0].work([job.recording for job in jobs])
    except Exception as error:  # of the model: the worker outlives it
        _log.exception("%s", jobs[0].recording.name)
        for job in jobs:
            job.result.set_exception(error)
        return
    for job, result in zip(jobs, results, strict=True):
        job.result.set_result(result)
