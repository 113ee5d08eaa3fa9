"""What the last minutes looked like: bounded rings of the figures that are drawn as sparklines. Pure."""

from __future__ import annotations

from collections import deque

from rayfs.admin.source import identity
from rayfs.core.snapshot import ClusterSnapshot

HISTORY_LENGTH = 240
"""Snapshots kept: four minutes at one a second, wider than any sparkline on a screen."""


class History:
    """Rings of the newest figures, oldest first. A snapshot that was added already is not added again."""

    def __init__(self, length: int = HISTORY_LENGTH) -> None:
        self.write_bytes_per_s: deque[float] = deque(maxlen=length)
        self.persist_bytes_per_s: deque[float] = deque(maxlen=length)
        self.dirty_bytes: deque[float] = deque(maxlen=length)
        self._last: tuple[int, float] | None = None

    def add(self, snapshot: ClusterSnapshot) -> bool:
        """Keep the figures of ``snapshot``; False when it is the one that was kept last."""
        if identity(snapshot) == self._last:
            return False
        self._last = identity(snapshot)
        self.write_bytes_per_s.append(snapshot.totals.write_bytes_per_s)
        self.persist_bytes_per_s.append(snapshot.totals.persist_bytes_per_s)
        self.dirty_bytes.append(float(snapshot.totals.dirty_bytes))
        return True
