"""Fetches snapshots on one thread, so that a slow cluster never holds up a key.

Knows a source and a place to post to; nothing of screens. Invariants: at most one fetch runs at a time; a refresh asked
for while one runs is dropped; after failures the interval doubles up to ``BACK_OFF_MAX_S`` until one
succeeds. The thread is a daemon: quitting does not wait for a cluster that does not answer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from textual.message import Message

from rayfs.admin.source import AdminSource
from rayfs.core.snapshot import ClusterSnapshot
from rayfs.errors import RETRYABLE_TOKEN, RayFSError

BACK_OFF_MAX_S = 10.0
"""Longest pause between attempts: a cluster that is back shows within this time."""


class SnapshotArrived(Message):
    """A picture came."""

    def __init__(self, snapshot: ClusterSnapshot) -> None:
        super().__init__()
        self.snapshot = snapshot


class SourceLost(Message):
    """No picture could be had; ``reason`` is one sentence, ``retry_s`` the time to the next attempt."""

    def __init__(self, reason: str, retry_s: float) -> None:
        super().__init__()
        self.reason = reason
        self.retry_s = retry_s


class Poller:
    """Posts ``SnapshotArrived`` or ``SourceLost`` each ``interval`` seconds; None: only when ``refresh`` asks."""

    def __init__(self, source: AdminSource, post: Callable[[Message], object], interval: float | None = 1.0) -> None:
        self._source = source
        self._post = post
        self._interval = interval
        self._wake = threading.Condition()
        self._asked = True  # the first picture comes at once
        self._fetching = False
        self._stopped = False
        self._paused = False
        self._failures = 0
        self.dropped = 0

    def start(self) -> None:
        """Begin, with a first fetch at once."""
        threading.Thread(target=self._run, name="rayfs-console-poller", daemon=True).start()

    def stop(self) -> None:
        """No fetch begins after this."""
        with self._wake:
            self._stopped = True
            self._wake.notify()

    @property
    def paused(self) -> bool:
        """Whether only ``refresh`` fetches."""
        return self._paused

    @paused.setter
    def paused(self, paused: bool) -> None:
        with self._wake:
            self._paused = paused
            self._wake.notify()

    def refresh(self) -> bool:
        """Fetch now, without waiting for the interval or the back-off. False: one is running, this one is dropped."""
        with self._wake:
            if self._fetching or self._asked:
                self.dropped += 1
                return False
            self._asked = True
            self._wake.notify()
            return True

    def _run(self) -> None:
        while self._wait_until_due():
            message = self._fetch()
            with self._wake:
                self._fetching = False
            self._post(message)

    def _wait_until_due(self) -> bool:
        """Claim the next fetch; False when stopped."""
        due = time.monotonic() + (self._pause_s() or 0.0)
        with self._wake:
            while not self._stopped and not self._asked:
                resting = self._paused or self._interval is None
                rest = None if resting else due - time.monotonic()
                if rest is not None and rest <= 0:
                    break
                self._wake.wait(rest)
            self._asked, self._fetching = False, True
            return not self._stopped

    def _pause_s(self) -> float | None:
        if self._interval is None:
            return None
        return min(self._interval * (1 << self._failures), max(BACK_OFF_MAX_S, self._interval))

    def _fetch(self) -> Message:
        try:
            snapshot = self._source.snapshot()
        except RayFSError as error:
            self._failures = min(self._failures + 1, 16)
            return SourceLost(error.message.removesuffix(f" [{RETRYABLE_TOKEN}]"), self._pause_s() or 0.0)
        except Exception as error:  # noqa: BLE001 - whatever a source raises is shown, and the next attempt comes
            self._failures = min(self._failures + 1, 16)
            return SourceLost(f"{type(error).__name__}: {error}", self._pause_s() or 0.0)
        self._failures = 0
        return SnapshotArrived(snapshot)
