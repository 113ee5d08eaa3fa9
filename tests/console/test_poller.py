"""The poller: one fetch at a time, overlaps dropped, back-off, and no wait for a source that does not answer."""

from __future__ import annotations

import queue
import threading

import pytest

from rayfs.admin.fake import FakeSource
from rayfs.console.poller import BACK_OFF_MAX_S, Poller, SnapshotArrived, SourceLost
from rayfs.errors import ClusterUnreachable

PATIENCE_S = 20


class Gated:
    """A source that answers when a test lets it."""

    name, description = "gated", "a slow cluster"

    def __init__(self) -> None:
        self.fake = FakeSource(1)
        self.asked, self.may_answer = threading.Semaphore(0), threading.Semaphore(0)
        self.running, self.most_at_once, self.fails_with = 0, 0, None

    def snapshot(self):
        self.running += 1
        self.most_at_once = max(self.most_at_once, self.running)
        self.asked.release()
        assert self.may_answer.acquire(timeout=PATIENCE_S)
        self.running -= 1
        if self.fails_with:
            raise self.fails_with
        return self.fake.snapshot()


@pytest.fixture
def polled():
    source, posted = Gated(), queue.Queue()
    pollers = []

    def start(interval):
        poller = Poller(source, posted.put, interval)
        pollers.append(poller)
        poller.start()
        return poller

    yield source, posted, start
    for poller in pollers:
        poller.stop()
    for _ in range(10):
        source.may_answer.release()


def test_a_refresh_asked_for_while_one_runs_is_dropped(polled):
    source, posted, start = polled
    poller = start(None)
    assert source.asked.acquire(timeout=PATIENCE_S)
    assert [poller.refresh() for _ in range(5)] == [False] * 5
    assert poller.dropped == 5
    source.may_answer.release()
    assert isinstance(posted.get(timeout=PATIENCE_S), SnapshotArrived)
    assert poller.refresh()
    source.may_answer.release()
    assert isinstance(posted.get(timeout=PATIENCE_S), SnapshotArrived)
    assert posted.empty()
    assert source.most_at_once == 1


def test_pictures_come_by_themselves_at_the_interval(polled):
    source, posted, start = polled
    start(0.01)
    for _ in range(4):
        source.may_answer.release()
        assert isinstance(posted.get(timeout=PATIENCE_S), SnapshotArrived)


def test_a_paused_poller_fetches_only_when_asked(polled):
    source, posted, start = polled
    poller = start(0.01)
    assert source.asked.acquire(timeout=PATIENCE_S)
    poller.paused = True
    source.may_answer.release()
    posted.get(timeout=PATIENCE_S)
    assert not source.asked.acquire(timeout=0.3)
    assert poller.refresh()
    assert source.asked.acquire(timeout=PATIENCE_S)


@pytest.mark.parametrize("error", [ClusterUnreachable("Nothing answers."), RuntimeError("a surprise")])
def test_failures_are_reported_with_their_reason_and_back_off_to_a_bound(polled, error):
    source, posted, start = polled
    source.fails_with = error
    poller = start(1.0)
    waits = []
    for _ in range(7):
        source.may_answer.release()
        message = posted.get(timeout=PATIENCE_S)
        assert isinstance(message, SourceLost)
        assert message.reason in ("Nothing answers.", "RuntimeError: a surprise")
        waits.append(message.retry_s)
        poller.refresh()
    assert waits == sorted(waits)
    assert waits[:3] == [2.0, 4.0, 8.0]
    assert waits[-1] == BACK_OFF_MAX_S
    source.fails_with = None
    source.may_answer.release()
    assert isinstance(posted.get(timeout=PATIENCE_S), SnapshotArrived)
    assert poller._pause_s() == 1.0


def test_stopping_does_not_wait_for_a_source_that_does_not_answer(polled):
    source, posted, start = polled
    poller = start(1.0)
    assert source.asked.acquire(timeout=PATIENCE_S)
    poller.stop()
    assert posted.empty()
