"""A small simulated cluster with a script of troubles, for the console's demo and tests. Pure: seeded, no clock.

Each ``step`` is one second. A cycle of ``CYCLE_S`` goes through a writing job, a dying node and its repair, a throttled
store, a drained node, the loss of both copies of some files, their return, and a quiet end with everything persisted.

Invariant: every figure of a snapshot is derived from the files and nodes here, so totals and lists agree.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from rayfs.core.snapshot import LIST_LIMIT, EventRow

CYCLE_S = 180
BLOCK_BYTES = 64 << 20
NODE_BYTES = 12 << 30
WRITE_BYTES_PER_S = 230 << 20
UPLOAD_BYTES_PER_S = 190 << 20
UPLOADS_AT_ONCE = 4
REPAIRS_PER_STEP = 3
SUSPECT_AFTER_S = 3.0
LOST_AFTER_S = 6.0
TRIM_AFTER_S = 4.0
THROTTLED = "The under store at https://s3.example asked to slow down at PUT (503 SlowDown). [RAYFS_RETRYABLE]"
FOREIGN = (
    "The under store at https://s3.example refused PUT (412 PreconditionFailed): an object that RayFS did not write is "
    "at this key; remove it or rename the file."
)


@dataclass(slots=True)
class FakeFile:
    """A dirty file: ``replicas[i]`` are the nodes (by index) that hold block i, dead ones included."""

    path: str
    length: int
    target: int
    created_at: float
    replicas: list[set[int]]
    attempts: int = 0
    last_error: str | None = None
    next_attempt_at: float | None = None
    uploaded: int = 0
    running: bool = False
    lost_since: float | None = None

    def block_bytes(self, index: int) -> int:
        """Length of one block: the last one may be short."""
        return min(BLOCK_BYTES, self.length - index * BLOCK_BYTES)


@dataclass(slots=True)
class FakeNode:
    """One node. ``silent_since`` is set while it is dead or frozen; ``cached`` are bytes of persisted files."""

    node_id: str
    host: str
    silent_since: float | None = None
    draining: bool = False
    returned_at: float | None = None
    restarts: int = 0
    cached: int = 0


@dataclass(slots=True)
class FakeChange:
    """A delete or a move that the store has not seen yet."""

    path: str
    kind: str
    created_at: float


@dataclass(slots=True)
class FakeCluster:
    """The state and its one-second step."""

    seed: int
    node_count: int
    now: float
    nodes: list[FakeNode] = field(default_factory=list)
    files: dict[str, FakeFile] = field(default_factory=dict)
    changes: list[FakeChange] = field(default_factory=list)
    events: deque[EventRow] = field(default_factory=lambda: deque(maxlen=LIST_LIMIT))
    second: int = 0
    persisted_files: int = 0
    written_last: int = 0
    allowance: int = 0
    uploaded_last: int = 0
    throttled: bool = False
    writing: bool = True
    event_number: int = 0
    rng: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        for number in range(self.node_count):
            self.nodes.append(FakeNode(self.rng.randbytes(28).hex(), f"10.0.{number // 250}.{number % 250 + 1}"))
        self.log("info", "cluster", f"Cluster started with {self.node_count} nodes.")

    def step(self) -> None:
        """One second passes."""
        self.now += 1.0
        self.second += 1
        self._follow_script(self.second % CYCLE_S)
        self._write()
        self._watch_nodes()
        self._find_lost()
        self._repair()
        self._upload()
        if self.changes and not self.throttled and self.now - self.changes[0].created_at > 5:
            self.changes.pop(0)

    # --- what the pictures ask -----------------------------------------------------------------------------------

    def state_of(self, node: FakeNode) -> str:
        """live, suspect, draining or lost, by how long the node has been silent."""
        silent = self.silence(node)
        if silent >= LOST_AFTER_S:
            return "lost"
        if silent >= SUSPECT_AFTER_S:
            return "suspect"
        return "draining" if node.draining else "live"

    def silence(self, node: FakeNode) -> float:
        """Seconds since the node's last heartbeat."""
        return 0.4 if node.silent_since is None else self.now - node.silent_since + 0.4

    def live(self, holders: set[int]) -> int:
        """How many of ``holders`` are not lost."""
        return sum(self.state_of(self.nodes[index]) != "lost" for index in holders)

    def blocks(self) -> Iterator[tuple[FakeFile, int, int]]:
        """Every block as file, index and live copies."""
        for file in self.files.values():
            for index, holders in enumerate(file.replicas):
                yield file, index, self.live(holders)

    def log(self, level: str, kind: str, message: str, *, path: str | None = None, node_id: str | None = None) -> None:
        """One line in the cluster's log."""
        self.event_number += 1
        self.events.append(EventRow(self.event_number, self.now, level, kind, message, path, node_id))

    # --- the script ----------------------------------------------------------------------------------------------

    def _follow_script(self, second: int) -> None:
        act = {
            1: self._start_job,
            12: self._change_paths,
            30: lambda: self._silence(2),
            45: self._throttle,
            62: lambda: self._return(2, empty=True),
            68: self._end_throttle,
            70: lambda: self._drain(4),
            75: self._meet_foreign_object,
            76: lambda: self._silence(1, 3),
            96: lambda: self._return(1, empty=False),
            102: lambda: self._return(3, empty=True),
            104: self._end_job,
        }.get(second)
        if act:
            act()

    def _start_job(self) -> None:
        self.writing = True

    def _end_job(self) -> None:
        self.writing = self.nodes[4].draining = False
        for file in self.files.values():
            file.last_error = None if file.last_error == FOREIGN else file.last_error

    def _change_paths(self) -> None:
        self.changes.append(FakeChange("/out/run-0/part-00003.parquet", "delete", self.now))
        self.changes.append(FakeChange("/out/table", "copy", self.now))

    def _throttle(self) -> None:
        self.throttled = True
        self.log("warning", "throttled", "The under store asked to slow down; upload rate lowered.")

    def _end_throttle(self) -> None:
        self.throttled = False
        self.log("info", "throttled", "The under store answers again; upload rate recovers.")

    def _drain(self, index: int) -> None:
        self.nodes[index].draining = True
        self.log("info", "drain", "Drain of a node began.", node_id=self.nodes[index].node_id)

    def _meet_foreign_object(self) -> None:
        path = f"/out/checkpoint-{self.second}/weights.bin"
        self._add_file(path, 320 << 20, {1, 3}, FOREIGN)
        self.log("error", "persist", f"Attempt 3 failed: {FOREIGN}", path=path)

    def _silence(self, *indexes: int) -> None:
        for index in indexes:
            self.nodes[index].silent_since = self.now
            self.nodes[index].cached = 0

    def _return(self, index: int, *, empty: bool) -> None:
        node = self.nodes[index]
        node.silent_since, node.returned_at = None, self.now
        if empty:
            node.restarts += 1
            for file in self.files.values():
                for holders in file.replicas:
                    holders.discard(index)
        what = "came back empty, as a new worker" if empty else "answers again with its replicas"
        self.log("info", "node", f"A node {what}.", node_id=node.node_id)

    # --- writing, repair, upload ---------------------------------------------------------------------------------

    def _write(self) -> None:
        self.allowance = min(self.allowance + WRITE_BYTES_PER_S, 3 * WRITE_BYTES_PER_S) if self.writing else 0
        self.written_last = 0
        while self.allowance > 0:
            length = self.rng.choice((180, 256, 90, 384, 4, 0)) * (1 << 20) + self.rng.randrange(4096)
            job, part = self.second // 40 + 1, self.rng.randrange(100_000)
            self._add_file(
                f"/out/run-{job}/date=2026-03-{job + 1:02d}/part-{part:05d}.parquet", length, self._choose(2)
            )
            self.written_last += length
            self.allowance -= max(length, 32 << 20)

    def _choose(self, count: int) -> set[int]:
        usable = [index for index, node in enumerate(self.nodes) if self.state_of(node) == "live"]
        return set(self.rng.sample(usable, min(count, len(usable))))

    def _add_file(self, path: str, length: int, holders: set[int], error: str | None = None) -> None:
        blocks = -(-length // BLOCK_BYTES)
        file = FakeFile(path, length, 2, self.now, [set(holders) for _ in range(blocks)], last_error=error)
        if error:
            file.attempts, file.next_attempt_at = 3, self.now + 40
        self.files[path] = file

    def _watch_nodes(self) -> None:
        for node in self.nodes:
            if node.silent_since == self.now - LOST_AFTER_S:
                self.log(
                    "error", "node", "A node is lost; its replicas are repaired from others.", node_id=node.node_id
                )

    def _find_lost(self) -> None:
        for file in self.files.values():
            gone = any(self.live(holders) == 0 for holders in file.replicas)
            if gone and file.lost_since is None:
                file.lost_since = self.now
                self.log("error", "lost", "No copy is left of a file that is not persisted.", path=file.path)
            elif not gone and file.lost_since is not None:
                file.lost_since = None
                self.log("info", "healed", "A lost file has a copy again.", path=file.path)

    def _repair(self) -> None:
        budget = REPAIRS_PER_STEP
        for file, index, live in sorted(self.blocks(), key=lambda block: block[2]):
            holders = file.replicas[index]
            if 0 < live < file.target and budget:
                spare = self._choose(len(self.nodes)) - holders
                if spare:
                    holders.add(min(spare))
                    budget -= 1
                    if index == len(file.replicas) - 1:
                        self.log("info", "repair", f"Repaired to {file.target} copies.", path=file.path)
            elif live > file.target and all(
                node.returned_at is None or self.now - node.returned_at > TRIM_AFTER_S for node in self.nodes
            ):
                holders.discard(max(holders))

    def _upload(self) -> None:
        self.uploaded_last = 0
        ready = sorted(
            (file for file in self.files.values() if self._may_upload(file)),
            key=lambda file: (not file.running, min((self.live(h) for h in file.replicas), default=9), file.created_at),
        )[:UPLOADS_AT_ONCE]
        for file in self.files.values():
            file.running = file in ready
        share = UPLOAD_BYTES_PER_S // max(1, len(ready)) + self.rng.randrange(8 << 20)
        for file in ready:
            if self.throttled and self.rng.random() < 0.8:
                self._fail(file)
                continue
            sent = min(share, file.length - file.uploaded)
            file.uploaded += sent
            self.uploaded_last += sent
            if file.uploaded >= file.length:
                self._persisted(file)

    def _may_upload(self, file: FakeFile) -> bool:
        waits = file.next_attempt_at is not None and file.next_attempt_at > self.now
        return not waits and file.lost_since is None and file.last_error != FOREIGN and file.created_at < self.now - 1

    def _fail(self, file: FakeFile) -> None:
        file.attempts += 1
        file.last_error, file.running, file.uploaded = THROTTLED, False, 0
        file.next_attempt_at = self.now + min(60.0, 2.0**file.attempts) * self.rng.uniform(0.8, 1.2)
        self.log("warning", "persist", f"Attempt {file.attempts} failed: {THROTTLED}", path=file.path)

    def _persisted(self, file: FakeFile) -> None:
        del self.files[file.path]
        self.persisted_files += 1
        keeper = next((index for holders in file.replicas for index in sorted(holders) if self.live({index})), None)
        if keeper is not None:
            node = self.nodes[keeper]
            node.cached = min(node.cached + file.length, NODE_BYTES // 3)
        self.log("info", "persisted", "The under store holds it; copies trimmed to one.", path=file.path)
