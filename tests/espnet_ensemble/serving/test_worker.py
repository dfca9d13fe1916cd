import threading

import numpy as np
import pytest

from espnet_ensemble.serving.recordings import Recording
from espnet_ensemble.serving.worker import QueueFull, Stopped, Worker


def recording(seconds, name="a.wav"):
    return Recording(name, np.zeros(int(seconds * 100), np.float32), 100)


class Held:
    """Work that waits until it is let go, and notes what it got."""

    def __init__(self):
        self.began, self.go = threading.Event(), threading.Event()
        self.batches = []

    def work(self, recordings):
        self.batches.append([x.name for x in recordings])
        self.began.set()
        assert self.go.wait(10)
        return [x.name.upper() for x in recordings]

    def other(self, recordings):
        return self.work(recordings)


@pytest.fixture
def held():
    return Held()


@pytest.fixture
def worker(held):
    worker = Worker("test", batch_seconds=10, queue_seconds=20)
    yield worker
    held.go.set()
    worker.stop()


def busy(worker, held):
    """Give a worker something to do, so that what comes next waits."""
    first = worker.submit(recording(1, "first"), held.work)
    assert held.began.wait(10)
    return first


def test_what_waits_together_is_worked_on_together(worker, held):
    first = busy(worker, held)
    others = [worker.submit(recording(4, name), held.work) for name in "abc"]
    assert worker.waiting == 3
    held.go.set()
    assert [x.result(10) for x in (first, *others)] == ["FIRST", "A", "B", "C"]
    assert held.batches == [["first"], ["a", "b"], ["c"]]  # 10 seconds are a batch


def test_different_work_is_not_mixed_and_keeps_its_turn(worker, held):
    busy(worker, held)
    works = [held.work, held.other, held.work]
    futures = [
        worker.submit(recording(1, name), work)
        for name, work in zip("abc", works, strict=True)
    ]
    held.go.set()
    assert [x.result(10) for x in futures] == ["A", "B", "C"]
    assert held.batches == [["first"], ["a"], ["b"], ["c"]]


def test_a_full_queue_takes_no_more(worker, held):
    busy(worker, held)
    worker.submit(recording(15), held.work)
    with pytest.raises(QueueFull):
        worker.submit(recording(6), held.work)
    worker.submit(recording(5), held.work)


def test_one_recording_longer_than_the_queue_is_taken_when_nothing_waits(worker, held):
    held.go.set()
    assert worker.submit(recording(30), held.work).result(10) == "A.WAV"


def test_what_is_cancelled_in_time_is_not_worked_on(worker, held):
    busy(worker, held)
    cancelled = worker.submit(recording(1, "cancelled"), held.work)
    kept = worker.submit(recording(1, "kept"), held.work)
    assert cancelled.cancel()
    held.go.set()
    kept.result(10)
    assert held.batches == [["first"], ["kept"]]


def test_an_error_reaches_those_concerned_and_the_worker_goes_on(worker, held):
    def fail(recordings):
        raise RuntimeError("no memory")

    with pytest.raises(RuntimeError, match="no memory"):
        worker.submit(recording(1), fail).result(10)
    held.go.set()
    assert worker.submit(recording(1), held.work).result(10) == "A.WAV"
    assert worker.is_alive


def test_stopping_ends_the_work_at_hand_and_refuses_the_rest(worker, held):
    first = busy(worker, held)
    waiting = worker.submit(recording(1), held.work)
    stopping = threading.Thread(target=worker.stop)
    stopping.start()
    with pytest.raises(Stopped):
        waiting.result(10)
    held.go.set()
    stopping.join(10)
    assert first.result(10) == "FIRST"
    assert not worker.is_alive
    with pytest.raises(Stopped):
        worker.submit(recording(1), held.work)
