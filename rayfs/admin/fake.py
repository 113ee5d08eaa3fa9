"""The fake source: pictures of a simulated cluster, the same for the same seed, with every field filled in and moving.

For ``python -m rayfs.console --fake SEED``, for the console's tests, and for whoever wants to see every state without
breaking a real cluster. One ``snapshot()`` is one second of simulated time.
"""

from __future__ import annotations

from rayfs.admin.fake_cluster import BLOCK_BYTES, NODE_BYTES, FakeCluster, FakeFile
from rayfs.admin.units import count
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

START_S = 1_772_352_000.0
"""Simulated time of the first picture: 2026-03-01 08:00 UTC."""

MOMENTS = {"writing": 15, "repairing": 36, "throttled": 58, "lost": 85, "healed": 98, "safe": 175}
"""Seconds after the start at which each trouble of the script is in full view."""

SMOOTHING = 0.3
"""Weight of the newest second in the shown rates, as the master's moving averages do."""

_CONFIG: dict[str, str | int | float | bool | None] = {
    "rayfs.user.file.writetype.default": "ASYNC_THROUGH",
    "rayfs.user.file.replication.durable": 2,
    "rayfs.user.block.size.bytes.default": "64MB",
    "rayfs.persist.concurrency": 4,
    "rayfs.worker.store.share": 0.8,
    "rayfs.worker.on.head": True,
    "rayfs.underfs.s3.endpoint": None,
}


class FakeSource:
    """``nodes`` is at least 5: the script needs them. ``start`` is the simulated time of the first picture."""

    name = "fake"

    def __init__(self, seed: int, *, nodes: int = 5, start: float = START_S) -> None:
        if nodes < 5:
            raise ValueError("the fake cluster's script needs at least 5 nodes")
        self._cluster = FakeCluster(seed, nodes, start)
        self._started_at = start
        self._write_rate = 0.0
        self._persist_rate = 0.0
        self.description = f"a simulated cluster, seed {seed}"

    def advance(self, seconds: int) -> FakeSource:
        """Let time pass without taking pictures."""
        for _ in range(seconds):
            cluster = self._cluster
            cluster.step()
            self._write_rate = _smooth(self._write_rate, cluster.written_last)
            self._persist_rate = _smooth(self._persist_rate, cluster.uploaded_last)
        return self

    def snapshot(self) -> ClusterSnapshot:
        """The picture one second later."""
        self.advance(1)
        cluster = self._cluster
        nodes = self._nodes()
        persists = self._persists()
        replication = self._replication()
        lost = self._lost()
        return ClusterSnapshot(
            taken_at=cluster.now,
            epoch=3,
            sequence=cluster.second,
            version="0.1.0",
            cluster_id=f"{cluster.seed:08x}-simulated",
            under_store="s3://warehouse/rayfs",
            started_at=self._started_at,
            gcs_persistent=True,
            totals=self._totals(nodes, persists, lost),
            nodes=nodes[:LIST_LIMIT],
            persists=persists[:LIST_LIMIT],
            replication=replication[:LIST_LIMIT],
            lost=lost[:LIST_LIMIT],
            events=tuple(cluster.events),
            warnings=("The metastore's disk is 91% full; free space on the head node.",) if cluster.throttled else (),
            config=dict(_CONFIG),
        )

    def _nodes(self) -> tuple[NodeRow, ...]:
        cluster = self._cluster
        held = [[0, 0, 0] for _ in cluster.nodes]  # dirty bytes, blocks, last copies
        for file in cluster.files.values():
            for index, holders in enumerate(file.replicas):
                live = [holder for holder in holders if cluster.live({holder})]
                for holder in live:
                    held[holder][0] += file.block_bytes(index)
                    held[holder][1] += 1
                    held[holder][2] += len(live) == 1
        return tuple(
            NodeRow(
                node_id=node.node_id,
                host=node.host,
                state=cluster.state_of(node),
                heartbeat_age_s=cluster.silence(node),
                capacity_bytes=NODE_BYTES,
                used_bytes=dirty + node.cached,
                dirty_bytes=dirty,
                blocks=blocks + node.cached // BLOCK_BYTES,
                persister="down" if node.silent_since is not None else "up",
                restarts=node.restarts,
                is_head=index == 0,
                last_copies=last,
            )
            for index, (node, (dirty, blocks, last)) in enumerate(zip(cluster.nodes, held, strict=True))
        )

    def _live_copies(self, file: FakeFile) -> int:
        return min((self._cluster.live(holders) for holders in file.replicas), default=file.target)

    def _persists(self) -> tuple[PersistRow, ...]:
        now = self._cluster.now
        rows = [
            PersistRow(
                path=file.path,
                key=f"rayfs{file.path}",
                kind="upload",
                state="running" if file.running else "failed" if file.last_error else "waiting",
                length=file.length,
                live_copies=self._live_copies(file),
                attempts=file.attempts + file.running,
                last_error=file.last_error,
                next_attempt_s=None if file.next_attempt_at is None else max(0.0, file.next_attempt_at - now),
                age_s=now - file.created_at,
                parts_done=file.uploaded // BLOCK_BYTES,
                parts_total=len(file.replicas),
            )
            for file in self._cluster.files.values()
        ]
        rows += [
            PersistRow(
                change.path, f"rayfs{change.path}", change.kind, "waiting", 0, 0, 0, None, None, now - change.created_at
            )
            for change in self._cluster.changes
        ]
        order = {"running": 0, "failed": 1, "waiting": 2}
        return tuple(sorted(rows, key=lambda row: (order[row.state], row.live_copies, -row.age_s)))

    def _replication(self) -> tuple[ReplicationRow, ...]:
        rows = []
        for file in self._cluster.files.values():
            counts = [self._cluster.live(holders) for holders in file.replicas]
            wrong = [live for live in counts if live != file.target]
            if wrong:
                live = min(counts) if min(counts) < file.target else max(counts)
                cause = "node lost" if live < file.target else "node returned with its replicas"
                rows.append(ReplicationRow(file.path, file.length, live, file.target, len(wrong), cause))
        return tuple(sorted(rows, key=lambda row: (row.live, row.path)))

    def _lost(self) -> tuple[LostRow, ...]:
        cluster = self._cluster
        return tuple(
            LostRow(
                path=file.path,
                length=file.length,
                since_s=cluster.now - file.lost_since,
                missing_nodes=tuple(cluster.nodes[i].node_id for i in sorted(set[int]().union(*file.replicas))),
            )
            for file in cluster.files.values()
            if file.lost_since is not None
        )

    def _totals(
        self, nodes: tuple[NodeRow, ...], persists: tuple[PersistRow, ...], lost: tuple[LostRow, ...]
    ) -> Totals:
        cluster = self._cluster
        counts = NodeCounts(
            live=sum(node.state in ("live", "draining") for node in nodes),
            lost=sum(node.state in ("suspect", "lost") for node in nodes),
            draining=sum(node.state == "draining" for node in nodes),
        )
        blocks = [(live, file.target) for file, _, live in cluster.blocks()]
        under = sum(live < target for live, target in blocks)
        dirty = sum(file.length for file in cluster.files.values())
        working = [node for node in nodes if node.state in ("live", "draining")]
        capacity, used = sum(node.capacity_bytes for node in working), sum(node.used_bytes for node in working)
        failed = sum(row.last_error is not None for row in persists)
        growth = 2 * (self._write_rate - self._persist_rate)
        state, reasons = _verdict(len(lost), sum(live == 1 for live, _ in blocks), under, counts.lost, failed, dirty)
        return Totals(
            state=state,
            reasons=reasons,
            nodes=counts,
            capacity_bytes=capacity,
            used_bytes=used,
            files=cluster.persisted_files + len(cluster.files) + 14,
            dirty_bytes=dirty,
            dirty_files=len(cluster.files),
            cache_only_bytes=14 * (32 << 20),
            cache_only_files=14,
            pending_changes=len(cluster.changes),
            pending_persists=sum(row.kind == "upload" for row in persists),
            persisting=sum(row.state == "running" for row in persists),
            failed_persists=failed,
            under_replicated_blocks=under,
            over_replicated_blocks=sum(live > target for live, target in blocks),
            lost_files=len(lost),
            oldest_dirty_s=max((row.age_s for row in persists if row.kind == "upload"), default=None),
            persist_bytes_per_s=self._persist_rate,
            write_bytes_per_s=self._write_rate,
            time_to_safe_s=dirty / self._persist_rate if self._persist_rate > (1 << 20) else 0.0 if not dirty else None,
            time_to_full_s=(capacity - used) / growth if growth > (1 << 20) else None,
        )


def _smooth(average: float, newest: int) -> float:
    moved = average + SMOOTHING * (newest - average)
    return moved if moved > 1024 else 0.0


def _verdict(
    lost: int, last_copies: int, under: int, lost_nodes: int, failed: int, dirty: int
) -> tuple[str, tuple[str, ...]]:
    """The word and its reasons, worst first."""
    reasons = [
        text
        for number, text in (
            (lost, f"{count(lost, 'file')} lost: no copy is left"),
            (last_copies, f"{count(last_copies, 'dirty block')} with one copy left"),
            (under, f"{count(under, 'block')} under-replicated"),
            (lost_nodes, f"{count(lost_nodes, 'node')} lost"),
            (failed, f"{count(failed, 'file')} whose last persist failed"),
        )
        if number
    ]
    if lost:
        return "lost", tuple(reasons)
    if last_copies:
        return "at-risk", tuple(reasons)
    if reasons:
        return "degraded", tuple(reasons)
    return ("persisting" if dirty else "safe"), ()
