"""Which keys are to be worked on, in which order, how many at a time, and by which persister.

Order: writers that wait, then by risk (fewest live copies), then oldest. Rows that are not due wait in a heap by time.
The rate is shared: a throttled store halves everybody's window, each success widens it a little (additive increase,
multiplicative decrease: Chiu and Jain, 1989).
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping

from rayfs.core.state import Limits, Persister

WINDOW_MIN = 1.0
WINDOW_START = 2.0
"""Requests per persister before anything is known of the store: 16 parts of 64 MiB at once make SeaweedFS close
connections, and answers widen the window within seconds."""

CUT_PAUSE_S = 1.0
"""Requests that were under way together fail together; they are one sign of congestion, not many."""

Risk = tuple[int, int, float]
"""0 for a writer that waits else 1, live copies of the scarcest block, waiting since (seconds since the epoch)."""


class PersistQueue:
    """Keys that are due and keys that are not yet; ``window`` is the number of requests each persister may have
    running.
    """

    def __init__(self, limits: Limits, persisters: Mapping[str, Persister]) -> None:
        self.limits = limits
        self.persisters = persisters
        self.window = min(WINDOW_START, float(limits.persist_concurrency))
        self._allowance = limits.persist_bytes_per_s or 0.0
        self._refilled = 0.0
        self._now = 0.0
        self._cut = -CUT_PAUSE_S
        self._later: list[tuple[float, str]] = []
        self._ready: list[tuple[Risk, str]] = []
        self._queued: set[str] = set()

    def add(self, key: str, due: float, risk: Risk, now: float) -> None:
        """Put a key where it belongs; one that is ready already stays where it is."""
        if due > now:
            heapq.heappush(self._later, (due, key))
        elif key not in self._queued:
            self._queued.add(key)
            heapq.heappush(self._ready, (risk, key))

    def now_due(self, now: float) -> list[str]:
        """Keys whose time has come; the caller adds those again that still need it."""
        due = []
        while self._later and self._later[0][0] <= now:
            due.append(heapq.heappop(self._later)[1])
        return due

    def next(self) -> str | None:
        """The most urgent key, taken out; None when there is none or no persister may take more."""
        if not self._ready or self.slots() <= 0:
            return None
        _, key = heapq.heappop(self._ready)
        self._queued.discard(key)
        return key

    def refill(self, now: float) -> None:
        """Time has passed: the bandwidth limit allows more, at most one second's worth at once (a token bucket)."""
        self._now = now
        rate = self.limits.persist_bytes_per_s
        if rate is not None:
            self._allowance = min(rate, self._allowance + rate * max(0.0, now - self._refilled))
            self._refilled = now

    def spend(self, size: int) -> None:
        """``size`` bytes are on their way; a request larger than the bucket is paid for by the wait after it."""
        self._allowance -= size

    def slots(self) -> int:
        """Requests that may be started now."""
        if self.limits.persist_bytes_per_s is not None and self._allowance <= 0:
            return 0
        running = sum(persister.running for persister in self.persisters.values())
        free = self.limits.persist_concurrency * len(self.persisters) - running
        allowed = max(1, int(self.window * len(self.persisters))) - running
        return min(free, allowed)

    def throttled(self) -> None:
        """The store asked to slow down, or did not answer."""
        if self._now - self._cut >= CUT_PAUSE_S:
            self._cut = self._now
            self.window = max(WINDOW_MIN, self.window / 2)

    def succeeded(self) -> None:
        """The store did what was asked."""
        self.window = min(float(self.limits.persist_concurrency), self.window + 1 / max(1.0, self.window))

    def pick(self, near: Mapping[str, int] | None = None, prefer: str = "") -> Persister:
        """The persister that knows the attempt, else a free one near the bytes (bytes by node), else the least busy."""
        if prefer in self.persisters:
            return self.persisters[prefer]
        bytes_at = near or {}
        free = [p for p in self.persisters.values() if p.running < self.limits.persist_concurrency]
        return max(free, key=lambda p: (bytes_at.get(p.address.node_id, 0) > 0, -p.running, p.address.incarnation))
