"""What the console knows at one moment: the last snapshot, how old it is here, and whether more is coming. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from rayfs.admin.units import duration
from rayfs.console.derive.figures import clock
from rayfs.console.history import History
from rayfs.console.tones import Tone
from rayfs.core.snapshot import ClusterSnapshot

LATE_AFTER_S = 3.0
"""Age at which a picture is marked as late: two publications missed."""


@dataclass(slots=True)
class Picture:
    """``arrived_at`` is this machine's monotonic time when the snapshot was first seen; ages need no common clock."""

    history: History = field(default_factory=History)
    snapshot: ClusterSnapshot | None = None
    arrived_at: float = 0.0
    lost_reason: str | None = None
    retry_s: float = 0.0
    paused: bool = False

    def take(self, snapshot: ClusterSnapshot, now: float) -> None:
        """A snapshot came; one that is here already does not get younger by coming again."""
        self.lost_reason = None
        if self.history.add(snapshot):
            self.arrived_at = now
        self.snapshot = snapshot

    def age(self, now: float) -> tuple[str, Tone]:
        """The words for a panel's frame, and how bad they are."""
        if self.snapshot is None:
            return "no picture yet", "bad" if self.lost_reason else "dim"
        seconds = now - self.arrived_at
        old = f"{duration(round(seconds))} old"
        at = clock(self.snapshot.taken_at)
        if self.lost_reason:
            return f"source lost, showing {at}, {old}", "bad"
        if self.paused:
            return f"paused at {at}, {old}", "warn"
        return old, "warn" if seconds > LATE_AFTER_S else "dim"
