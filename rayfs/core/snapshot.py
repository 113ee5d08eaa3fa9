"""Frozen pictures of the cluster that the master publishes once a second; CLI and console stand on them.

Everything is a plain value that encodes to JSON; bytes and seconds are numbers, ids are full Ray node ids. Lists are
bounded (``LIST_LIMIT``), their totals are in ``Totals``, so the cost of a snapshot does not grow with the number of
files.
"""

from __future__ import annotations

from dataclasses import dataclass, field

LIST_LIMIT = 200
"""Rows of any list in a snapshot; totals count all."""


@dataclass(frozen=True, slots=True)
class NodeCounts:
    """Nodes by state."""

    live: int = 0
    lost: int = 0
    draining: int = 0


@dataclass(frozen=True, slots=True)
class Totals:
    """The figures of ``rayfs status --json`` (DESIGN section 8). ``None`` times mean "not known" or "never"."""

    state: str = "safe"  # safe, persisting, degraded, at-risk, lost, down
    reasons: tuple[str, ...] = ()
    nodes: NodeCounts = field(default_factory=NodeCounts)
    capacity_bytes: int = 0
    used_bytes: int = 0
    files: int = 0
    dirty_bytes: int = 0
    dirty_files: int = 0
    cache_only_bytes: int = 0
    cache_only_files: int = 0
    pending_changes: int = 0
    pending_persists: int = 0
    persisting: int = 0
    failed_persists: int = 0
    under_replicated_blocks: int = 0
    over_replicated_blocks: int = 0
    lost_files: int = 0
    oldest_dirty_s: float | None = None
    persist_bytes_per_s: float = 0.0
    write_bytes_per_s: float = 0.0
    time_to_safe_s: float | None = None
    time_to_full_s: float | None = None


@dataclass(frozen=True, slots=True)
class NodeRow:
    """One node. ``state``: live, suspect, draining, lost. ``heartbeat_age_s`` since its worker's last word."""

    node_id: str
    host: str
    state: str
    heartbeat_age_s: float
    capacity_bytes: int
    used_bytes: int
    dirty_bytes: int
    blocks: int
    persister: str  # up, down
    restarts: int = 0
    is_head: bool = False
    last_copies: int = 0  # dirty blocks of which this node holds the only live replica


@dataclass(frozen=True, slots=True)
class PersistRow:
    """One key that the under store does not hold as wanted. ``kind``: upload, copy, delete. ``state``: waiting,
    running, failed.
    """

    path: str
    key: str
    kind: str
    state: str
    length: int
    live_copies: int
    attempts: int
    last_error: str | None
    next_attempt_s: float | None
    age_s: float
    parts_done: int = 0
    parts_total: int = 0


@dataclass(frozen=True, slots=True)
class ReplicationRow:
    """One file whose live replicas are not at its target. ``live`` is the fewest of any of its blocks."""

    path: str
    length: int
    live: int
    target: int
    blocks: int
    cause: str


@dataclass(frozen=True, slots=True)
class LostRow:
    """A LOST file by name, and the nodes that held what is missing."""

    path: str
    length: int
    since_s: float
    missing_nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EventRow:
    """One line of the cluster's log. ``level``: info, warning, error. ``number`` counts up without gaps."""

    number: int
    at: float
    level: str
    kind: str
    message: str
    path: str | None = None
    node_id: str | None = None


@dataclass(frozen=True, slots=True)
class ClusterSnapshot:
    """One atomic picture. ``taken_at`` is the master's clock (seconds since the epoch)."""

    taken_at: float
    epoch: int
    sequence: int
    version: str
    cluster_id: str
    under_store: str
    started_at: float
    gcs_persistent: bool
    totals: Totals
    nodes: tuple[NodeRow, ...] = ()
    persists: tuple[PersistRow, ...] = ()
    replication: tuple[ReplicationRow, ...] = ()
    lost: tuple[LostRow, ...] = ()
    events: tuple[EventRow, ...] = ()
    warnings: tuple[str, ...] = ()
    config: dict[str, str | int | float | bool | None] = field(default_factory=dict)


SNAPSHOT_KEY = b"snapshot"
"""Key in the GCS key-value store, namespace ``rayfs``: the newest snapshot as JSON."""
