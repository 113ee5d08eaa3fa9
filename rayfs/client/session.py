"""Requests that are executed once, over calls that may be lost: the client's half of the exactly-once protocol.

A mutation is a (session, sequence); it is repeated unchanged until an answer comes, and the master answers a repeat
from its log. A request that was possibly executed is never sent again under another session. Knows nothing of Ray:
``send`` makes one try and raises ``NoAnswer``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tenacity import RetryCallState, Retrying, retry_if_exception_type, wait_random_exponential
from tenacity.wait import wait_base

from rayfs.core.operations import Mutation, Request
from rayfs.errors import ClusterUnreachable, RayFSError, RequestRefused, UnknownSession

OUTSTANDING = 64
"""Requests of one process that may be on their way at once; the master keeps at most 256 unconfirmed answers."""

WINDOW = 200
"""Sequences from the oldest that waits to the newest. While one waits for long (a file that is written through), the
answers after it stay unconfirmed; beyond this the others go on in a new session."""

FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 2.0
"""Back-off between two tries: random, up to these bounds (the master is back some 6 s after a crash)."""


class NoAnswer(Exception):
    """Nothing came back from one try: the request may or may not have been, or may still be, executed."""


class Patience:
    """Repeats a question until it is answered, or nobody has been heard for ``silence_s`` seconds.

    ``alive`` is asked after each try without an answer: a master that works on a long request is not a silent one.
    """

    def __init__(
        self,
        silence_s: float,
        alive: Callable[[], bool],
        wait: wait_base | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._silence_s = silence_s
        self._alive = alive
        self._clock = clock
        self._wait = wait or wait_random_exponential(multiplier=FIRST_WAIT_S, max=LONGEST_WAIT_S)

    def ask(self, question: Callable[[], Any]) -> Any:
        """The answer of the first try that has one; ``ClusterUnreachable`` when patience ends."""
        heard = self._clock()

        def given_up(_: RetryCallState) -> bool:
            nonlocal heard
            if self._alive():
                heard = self._clock()
            return self._clock() - heard >= self._silence_s

        def give_up(state: RetryCallState) -> Any:
            reason = state.outcome.exception() if state.outcome else None
            raise ClusterUnreachable(
                f"RayFS's master has not answered for {self._silence_s:g} s ({reason}); see `rayfs status`"
            )

        retrying = Retrying(
            retry=retry_if_exception_type(NoAnswer), stop=given_up, wait=self._wait, retry_error_callback=give_up
        )
        return retrying(question)


@dataclass
class _Session:
    id: str
    last: int = 0
    outstanding: set[int] = field(default_factory=set)

    def confirmed(self) -> int:
        """The highest sequence up to which nobody waits for an answer any more."""
        return min(self.outstanding) - 1 if self.outstanding else self.last


class Session:
    """One process's session with one master; safe to use from many threads."""

    def __init__(self, open_session: Callable[[], str], send: Callable[[Request], object], patience: Patience) -> None:
        self._open_session = open_session
        self._send = send
        self._patience = patience
        self._lock = threading.Lock()
        self._room = threading.BoundedSemaphore(OUTSTANDING)
        self._current: _Session | None = None

    def execute(self, operation: Mutation) -> Any:
        """Have ``operation`` executed once and return its answer; an answer that is an error is raised.

        ``ClusterUnreachable`` when no answer came for too long: then it may or may not have been executed.
        """
        with self._room:
            session = self._session(None)
            try:
                return self._execute_in(session, operation)
            except UnknownSession:
                return self._execute_in(self._session(session), operation)

    def _session(self, stale: _Session | None) -> _Session:
        """The session to use; a new one in the place of ``stale``, unless another thread has made it already."""
        with self._lock:
            current = self._current
            if current is None or current is stale or current.last - current.confirmed() >= WINDOW:
                current = self._current = _Session(self._patience.ask(self._open_session))
            return current

    def _execute_in(self, session: _Session, operation: Mutation) -> Any:
        with self._lock:
            session.last += 1
            sequence = session.last
            session.outstanding.add(sequence)
        tries = 0

        def once() -> object:
            nonlocal tries
            tries += 1
            with self._lock:
                request = Request(session.id, sequence, session.confirmed(), operation)
            return self._send(request)

        try:
            answer = self._patience.ask(once)
        finally:
            # Also without an answer: nobody will ask again, and a confirmed request is never executed late.
            with self._lock:
                session.outstanding.discard(sequence)
        if isinstance(answer, UnknownSession) and tries > 1:
            raise RequestRefused(
                "the master has forgotten this client's session, so it is not known whether "
                f"{type(operation).__name__} was executed; look, and repeat it if it was not"
            )
        if isinstance(answer, RayFSError):
            raise answer
        return answer
