"""Makes the snapshot that the master publishes: totals kept as things change, and bounded lists of what needs a
look.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import islice

from rayfs.core import paths
from rayfs.core.lifecycle import FileState
from rayfs.core.model import BlockId
from rayfs.core.reconcile import Reconciler
from rayfs.core.records import FileBody, KeyRow
from rayfs.core.snapshot import (
    LIST_LIMIT,
    ClusterSnapshot,
    LostRow,
    NodeCounts,
    NodeRow,
    PersistRow,
    ReplicationRow,
    Totals,
)
from rayfs.core.state import Node, State

RATE_WINDOW_S = 10.0
"""Seconds over which rates are smoothed (exponentially weighted)."""

STANDSTILL_BYTES_PER_S = 4096.0
"""Smoothed rate below which nothing moves: a weighted mean decays and never reaches zero."""

DURABLE_ONE = (
    "some dirty files have a durable replication of 1 (the default, as in Alluxio): the loss of one node loses them "
    "until they are persisted; set rayfs.user.file.replication.durable=2 or more"
)
GCS_IN_MEMORY = (
    "Ray's control service keeps its state in memory: if it is lost, every node and all replicas go with it; "
    "start the cluster with `rayfs start`, or set RAY_gcs_storage=rocksdb on the head"
)


def some(number: int, noun: str) -> str:
    """``1 file``, ``2 files``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


@dataclass(slots=True)
class Rates:
    """Smoothed rates out of counters that only grow."""

    at: float = 0.0
    persisted: int = 0
    written: int = 0
    persist_per_s: float = 0.0
    write_per_s: float = 0.0

    def update(self, now: float, persisted: int, written: int) -> None:
        """Take the counters' new values."""
        if self.at and now > self.at:
            weight = min(1.0, (now - self.at) / RATE_WINDOW_S)
            self.persist_per_s += weight * ((persisted - self.persisted) / (now - self.at) - self.persist_per_s)
            self.write_per_s += weight * ((written - self.written) / (now - self.at) - self.write_per_s)
        self.at, self.persisted, self.written = now, persisted, written


@dataclass(slots=True)
class Facts:
    """What does not change while a master lives."""

    version: str
    cluster_id: str
    under_store: str
    head_node_id: str
    gcs_persistent: bool
    config: dict[str, str | int | float | bool | None] = field(default_factory=dict)


class Picture:
    """Takes snapshots of a state; cost grows with nodes and with what is pending, not with files."""

    def __init__(self, state: State, reconciler: Reconciler, facts: Facts, started_at: float) -> None:
        self.state = state
        self.reconciler = reconciler
        self.facts = facts
        self.started_at = started_at
        self.rates = Rates()
        self._lost_since: dict[int, float] = {}

    def take(self, now: float) -> ClusterSnapshot:
        """The cluster now."""
        counters = self.state.counters
        self.rates.update(now, counters.persisted_bytes_total, counters.written_bytes_total)
        lost = self._lost(now)
        rows = list(self.state.rows.values())
        totals = self._totals(now, rows, lost)
        warnings = [] if self.facts.gcs_persistent else [GCS_IN_MEMORY]
        if any(b.options.durable < 2 for b in self._some_dirty(rows)):
            warnings.append(DURABLE_ONE)
        return ClusterSnapshot(
            taken_at=now,
            epoch=self.state.epoch,
            sequence=self.state.sequence,
            version=self.facts.version,
            cluster_id=self.facts.cluster_id,
            under_store=self.facts.under_store,
            started_at=self.started_at,
            gcs_persistent=self.facts.gcs_persistent,
            totals=totals,
            nodes=tuple(self._node(node, now) for node in self.state.nodes.values()),
            persists=self._persists(rows, now),
            replication=self._replication(),
            lost=lost,
            events=tuple(self.state.log),
            warnings=tuple(warnings),
            config=self.facts.config,
        )

    def _some_dirty(self, rows: list[KeyRow]) -> Iterable[FileBody]:
        bodies = (self.state.body(row.wanted) for row in islice(rows, LIST_LIMIT) if row.wanted is not None)
        return (body for body in bodies if body is not None and body.state is FileState.DIRTY)

    # --- totals and the verdict --------------------------------------------------------------------------------------

    def _totals(self, now: float, rows: list[KeyRow], lost: tuple[LostRow, ...]) -> Totals:
        counters = self.state.counters
        live = [node for node in self.state.nodes.values() if node.worker is not None and not node.suspect]
        nodes = NodeCounts(
            live=len(live),
            lost=len(self.state.nodes) - len(live),
            draining=sum(1 for node in self.state.nodes.values() if node.draining),
        )
        wanted = [self.state.body(row.wanted) if row.wanted is not None else None for row in rows]
        dirty = [b for b in wanted if b is not None and b.dirty_since is not None and b.state is FileState.DIRTY]
        oldest = min((b.dirty_since for b in dirty if b.dirty_since is not None), default=None)
        capacity, used = sum(node.capacity for node in live), sum(node.used for node in live)
        growth = self.rates.write_per_s - self.rates.persist_per_s
        totals = Totals(
            nodes=nodes,
            capacity_bytes=capacity,
            used_bytes=used,
            files=counters.files,
            dirty_bytes=counters.dirty_bytes,
            dirty_files=counters.dirty_files,
            cache_only_bytes=counters.cached_bytes,
            cache_only_files=counters.cached_files,
            pending_changes=sum(1 for b in wanted if b is None or b.state is FileState.PERSISTED),
            pending_persists=sum(
                1 for b in wanted if b is not None and b.state in (FileState.DIRTY, FileState.THROUGH)
            ),
            persisting=len(self.reconciler.in_flight) + len(self.reconciler.uploads),
            failed_persists=sum(1 for row in rows if row.failures and row.wanted is not None),
            under_replicated_blocks=len(self.state.blocks.under),
            over_replicated_blocks=len(self.state.blocks.over),
            lost_files=len(lost),
            oldest_dirty_s=None if oldest is None else max(0.0, now - oldest),
            persist_bytes_per_s=round(self.rates.persist_per_s, 1),
            write_bytes_per_s=round(self.rates.write_per_s, 1),
            time_to_safe_s=self._time_to_safe(counters.dirty_bytes),
            time_to_full_s=(capacity - used) / growth if growth > 1 and capacity > used else None,
        )
        state, reasons = self._verdict(totals, now)
        return replace(totals, state=state, reasons=reasons)

    def _time_to_safe(self, dirty_bytes: int) -> float | None:
        if not dirty_bytes:
            return 0.0
        return dirty_bytes / self.rates.persist_per_s if self.rates.persist_per_s > STANDSTILL_BYTES_PER_S else None

    def _verdict(self, totals: Totals, now: float) -> tuple[str, tuple[str, ...]]:
        """One word and its reasons, the worst first: lost, at-risk, degraded, persisting, safe."""
        last_copy = sum(1 for live in self.state.blocks.under.values() if live == 1)
        found: list[tuple[str, str]] = []
        if totals.lost_files:
            found.append(("lost", f"{some(totals.lost_files, 'file')} with blocks that have no live copy"))
        if last_copy:
            found.append(("at-risk", f"{some(last_copy, 'block')} down to one live copy and below the target"))
        if self.state.parked:
            found.append(("at-risk", f"{some(len(self.state.parked), 'file')} parked after an unforeseen event"))
        if not totals.nodes.live:
            found.append(("at-risk", "no worker is alive"))
        if totals.under_replicated_blocks:
            found.append(
                ("degraded", f"{some(totals.under_replicated_blocks, 'block')} with fewer copies than the target")
            )
        if totals.nodes.lost:
            found.append(("degraded", f"{some(totals.nodes.lost, 'node')} lost or silent"))
        if totals.failed_persists:
            found.append(("degraded", f"{some(totals.failed_persists, 'file')} not persisted at the last try"))
        if self.state.in_grace(now):
            found.append(("degraded", "the master has restarted and waits for workers to register"))
        if totals.dirty_files or totals.pending_changes:
            owed = [(totals.dirty_files, "dirty file"), (totals.pending_changes, "change")]
            parts = [some(number, noun) for number, noun in owed if number]
            found.append(("persisting", f"{' and '.join(parts)} to be persisted"))
        return (found[0][0], tuple(reason for _, reason in found)) if found else ("safe", ())

    # --- lists -------------------------------------------------------------------------------------------------------

    def _lost(self, now: float) -> tuple[LostRow, ...]:
        if self.state.in_grace(now):
            return ()
        blocks_of: dict[int, list[BlockId]] = {}
        for block, live in self.state.blocks.under.items():
            if not live:
                blocks_of.setdefault(block.file_id, []).append(block)
        self._lost_since = {file_id: since for file_id, since in self._lost_since.items() if file_id in blocks_of}
        lost = []
        for file_id, blocks in islice(blocks_of.items(), LIST_LIMIT):
            body = self.state.body(file_id)
            if body is not None and self.state.is_lost(file_id, body, now):
                nodes = sorted({node for block in blocks for node in self.state.blocks.last_on.get(block, ())})
                since = self._lost_since.setdefault(file_id, now)
                lost.append(LostRow(self.state.path(file_id) or "", body.length, max(0.0, now - since), tuple(nodes)))
        return tuple(lost)

    def _node(self, node: Node, now: float) -> NodeRow:
        persister = any(p.address.node_id == node.node_id for p in self.state.persisters.values())
        if node.worker is None:
            state = "lost"
        else:
            state = "suspect" if node.suspect else "draining" if node.draining else "live"
        return NodeRow(
            node_id=node.node_id,
            host=node.host,
            state=state,
            heartbeat_age_s=round(max(0.0, now - node.heard), 3),
            capacity_bytes=node.capacity if node.worker is not None else 0,
            used_bytes=node.used,
            dirty_bytes=self.state.blocks.dirty_on.get(node.node_id, 0),
            blocks=len(self.state.blocks.by_node.get(node.node_id, ())),
            persister="up" if persister else "down",
            restarts=node.restarts,
            is_head=node.node_id == self.facts.head_node_id,
            last_copies=self.state.blocks.sole_on.get(node.node_id, 0),
        )

    def _persists(self, rows: list[KeyRow], now: float) -> tuple[PersistRow, ...]:
        worst = heapq.nsmallest(LIST_LIMIT, rows, key=lambda row: (row.attempt is None, -row.failures, row.since))
        return tuple(self._persist(row, now) for row in worst)

    def _persist(self, row: KeyRow, now: float) -> PersistRow:
        body = None if row.wanted is None else self.state.body(row.wanted)
        upload = self.reconciler.uploads.get(row.key)
        running = row.key in self.reconciler.in_flight or upload is not None
        kind = "copy" if body is not None and body.state is FileState.PERSISTED else "upload"
        copies = 0
        if body is not None and row.wanted is not None:
            copies = min(map(self.state.blocks.live_count, self.state.block_ids(row.wanted, body)), default=0)
        never = body is not None and body.state is FileState.DIRTY and body.persist_at is None
        due = max(row.next_at, body.persist_at or 0.0) if body is not None else row.next_at
        return PersistRow(
            path=(self.state.path(row.wanted) if row.wanted is not None else None) or paths.path_of(row.key),
            key=row.key,
            kind=kind if body is not None else "delete",
            state="running" if running else "failed" if row.failures else "waiting",
            length=body.length if body is not None else 0,
            live_copies=copies,
            attempts=row.attempts,
            last_error=row.last_error,
            next_attempt_s=None if running or never else max(0.0, due - now),
            age_s=max(0.0, now - row.since),
            parts_done=len(upload.sent) if upload is not None else 0,
            parts_total=len(upload.parts) if upload is not None else 0,
        )

    def _replication(self) -> tuple[ReplicationRow, ...]:
        worst: dict[int, tuple[int, int]] = {}
        for blocks in (self.state.blocks.under, self.state.blocks.over):
            for block, live in islice(blocks.items(), 10 * LIST_LIMIT):
                count, fewest = worst.get(block.file_id, (0, live))
                worst[block.file_id] = (count + 1, min(fewest, live))
        rows = []
        for file_id, (count, live) in heapq.nsmallest(LIST_LIMIT, worst.items(), key=lambda item: item[1][1]):
            body = self.state.body(file_id)
            need = self.state.need(BlockId(file_id, 0))
            if body is not None and need is not None:
                cause = "lost" if live == 0 else "node lost or silent" if live < need.least else "more than needed"
                rows.append(ReplicationRow(self.state.path(file_id) or "", body.length, live, need.least, count, cause))
        return tuple(rows)
