"""Requests are executed once: what the client repeats, confirms and gives up."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from tenacity import wait_none

from rayfs.client.session import WINDOW, NoAnswer, Patience, Session
from rayfs.core.operations import Request, Touch
from rayfs.errors import ClusterUnreachable, FileNotFound, RequestRefused, UnknownSession


class Master:
    """Answers by ``answer``, and keeps what it was sent."""

    def __init__(self, answer: Callable[[Request], object]) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        self.sessions = (f"session-{number}" for number in itertools.count(1))

    def send(self, request: Request) -> object:
        self.requests.append(request)
        return self.answer(request)

    def client(self, alive: bool = True, silence_s: float = 60.0, clock: Callable[[], float] | None = None) -> Session:
        patience = Patience(silence_s, lambda: alive, wait_none(), clock or itertools.count().__next__)
        return Session(lambda: next(self.sessions), self.send, patience)


def test_sequences_count_up_and_answered_ones_are_confirmed() -> None:
    master = Master(lambda request: request.sequence)
    client = master.client()
    assert [client.execute(Touch("/a")) for _ in range(3)] == [1, 2, 3]
    assert [request.confirmed for request in master.requests] == [0, 1, 2]


@pytest.mark.scenario("M2")
def test_a_lost_answer_is_asked_for_with_the_same_request() -> None:
    tries = iter([NoAnswer("lost"), NoAnswer("lost"), None])

    def answer(_: Request) -> object:
        if (outcome := next(tries)) is not None:
            raise outcome
        return "done"

    master = Master(answer)
    assert master.client().execute(Touch("/a")) == "done"
    assert len(master.requests) == 3
    assert len(set(master.requests)) == 1


def test_an_error_is_an_answer() -> None:
    master = Master(lambda _: FileNotFound("no /a", "/a"))
    with pytest.raises(FileNotFound):
        master.client().execute(Touch("/a"))
    assert len(master.requests) == 1


@pytest.mark.scenario("M2")
def test_a_new_request_of_a_forgotten_session_is_sent_once_in_a_new_one() -> None:
    master = Master(lambda request: UnknownSession("who?") if request.session == "session-1" else "done")
    assert master.client().execute(Touch("/a")) == "done"
    assert [request.session for request in master.requests] == ["session-1", "session-2"]


@pytest.mark.scenario("M2")
def test_a_request_that_may_have_been_executed_never_goes_to_another_session() -> None:
    tries = itertools.count()

    def answer(_: Request) -> object:
        if next(tries) == 0:
            raise NoAnswer("lost")
        return UnknownSession("who?")

    master = Master(answer)
    with pytest.raises(RequestRefused, match="not known whether"):
        master.client().execute(Touch("/a"))
    assert {request.session for request in master.requests} == {"session-1"}


def test_a_silent_master_ends_patience_and_the_request_is_never_executed_later() -> None:
    silent = True

    def answer(request: Request) -> object:
        if silent:
            raise NoAnswer("silence")
        return request.confirmed

    client = Master(answer).client(alive=False, silence_s=5.0)
    with pytest.raises(ClusterUnreachable, match="has not answered"):
        client.execute(Touch("/a"))
    silent = False
    assert client.execute(Touch("/b")) == 1  # the first is confirmed, so that the master refuses it from now on


def test_a_master_that_works_for_long_is_waited_for() -> None:
    tries = itertools.count()

    def answer(_: Request) -> object:
        if next(tries) < 50:
            raise NoAnswer("still at it")
        return "done"

    assert Master(answer).client(alive=True, silence_s=5.0).execute(Touch("/a")) == "done"


def test_while_one_request_waits_the_others_go_on_beyond_the_window() -> None:
    slow, release = threading.Event(), threading.Event()

    def answer(request: Request) -> object:
        if request.operation == Touch("/slow"):
            slow.set()
            release.wait(30)
        return "done"

    master = Master(answer)
    client = master.client()
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(client.execute, Touch("/slow"))
        assert slow.wait(30)
        for _ in range(WINDOW + 10):
            assert client.execute(Touch("/a")) == "done"
        release.set()
        assert waiting.result() == "done"
    window = [request.sequence - request.confirmed for request in master.requests]
    assert max(window) <= WINDOW + 1
    assert {request.session for request in master.requests} == {"session-1", "session-2"}
