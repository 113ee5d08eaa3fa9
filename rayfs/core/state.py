"""The master's whole state, and the few ways in which it changes.

Decisions live in the modules around it (``writing``, ``tree``, ``reconcile``, ``replication``); this one keeps what
they share consistent: a file's state changes only through ``transition``, and every durable record that changed is in
``changes`` at the end of an event.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field

from rayfs.core.blockmap import BlockMap, Need
from rayfs.core.effects import Effect
from rayfs.core.lifecycle import FileEvent, FileState, remember, step
from rayfs.core.model import BlockId, HistoryEntry, PersisterAddress, WorkerAddress
from rayfs.core.namespace import Namespace
from rayfs.core.placement import Room
from rayfs.core.records import (
    ROOT_ID,
    FileBody,
    Inode,
    KeyRow,
    NodeRecord,
    OpenFile,
    PathRecord,
    Record,
    SessionRecord,
    Setting,
    Table,
)
from rayfs.core.sessions import Sessions
from rayfs.core.snapshot import EventRow

NO_LIMIT = 1 << 30


@dataclass(frozen=True, slots=True)
class Limits:
    """The servers' own settings that decisions depend on; seconds and bytes."""

    heartbeat_timeout_s: float = 3.0
    repair_grace_s: float = 2.0
    repairs_per_node: int = 4
    recovery_grace_s: float = 15.0
    unknown_block_grace_s: float = 60.0
    replaced_block_grace_s: float = 60.0
    seal_timeout_s: float = 2.0
    lease_max_s: float = 3600.0
    persist_concurrency: int = 8
    retry_initial_s: float = 0.5
    retry_max_s: float = 60.0
    part_size: int = 64 << 20
    minimum_part: int = 5 << 20
    maximum_parts: int = 10_000
    multipart: bool = True
    prefix_bytes: int = 0
    files_max: int = 10_000_000
    persist_bytes_per_s: float | None = None


@dataclass(slots=True)
class Node:
    """A node with its worker as last heard. Lost when ``worker`` is None."""

    node_id: str
    host: str
    worker: WorkerAddress | None
    heard: float
    pid: int = 0
    capacity: int = 0
    used: int = 0
    promised: int = 0  # bytes of placements since the last heartbeat
    acknowledged: int = 0  # last change number taken
    draining: bool = False
    suspect: bool = False
    restarts: int = 0
    lost_at: float | None = None


@dataclass(slots=True)
class Persister:
    """A live persister and the orders it is at work on."""

    address: PersisterAddress
    running: int = 0


@dataclass(slots=True)
class Counters:
    """Totals kept as files change, so that a snapshot costs nothing per file."""

    files: int = 0
    dirty_files: int = 0
    dirty_bytes: int = 0
    cached_files: int = 0
    cached_bytes: int = 0
    persisted_bytes_total: int = 0
    written_bytes_total: int = 0


@dataclass
class State:
    """Everything the core knows. ``strict`` turns an illegal transition into an exception (tests) instead of a parked
    file.
    """

    epoch: int
    rng: random.Random
    limits: Limits = field(default_factory=Limits)
    strict: bool = True
    sequence: int = 0
    grace_until: float = 0.0

    def __post_init__(self) -> None:
        self.changes: dict[tuple[Table, str], Record | None] = {}
        self.effects: list[Effect] = []
        self.namespace = Namespace(self.inode_changed, lambda inode: self.dropped(Table.INODES, str(inode.id)))
        self.open_files: dict[int, OpenFile] = {}
        self.blocks = BlockMap(self.need, self.dirty_size)
        self.nodes: dict[str, Node] = {}
        self.known_nodes: dict[str, NodeRecord] = {}
        self.persisters: dict[str, Persister] = {}
        self.rows: dict[str, KeyRow] = {}
        self.sessions = Sessions(
            lambda record: self.changed(Table.SESSIONS, record.id, record),
            lambda record: self.dropped(Table.SESSIONS, record.id),
        )
        self.path_properties: dict[str, dict[str, str | int | float | bool | None]] = {}
        self.settings: dict[str, str] = {}
        self.counters = Counters()
        self.log: deque[EventRow] = deque(maxlen=500)
        self.departing: set[int] = set()  # removed files whose blocks stay a moment for those who have them open
        self.parked: dict[int, str] = {}
        self._logged = 0
        self._ids = 0

    # --- durable changes ---------------------------------------------------------------------------------------------

    def changed(self, table: Table, key: str, record: Record) -> None:
        """The record goes into this event's commit as it is at the event's end."""
        self.changes[(table, key)] = record

    def dropped(self, table: Table, key: str) -> None:
        """The record leaves the metastore in this event's commit."""
        self.changes[(table, key)] = None

    def inode_changed(self, inode: Inode) -> None:
        """``changed`` for an inode."""
        self.changed(Table.INODES, str(inode.id), inode)

    def body_changed(self, file_id: int) -> None:
        """``changed`` for whichever record carries the file's body."""
        if file_id in self.open_files:
            self.changed(Table.OPEN_FILES, str(file_id), self.open_files[file_id])
        elif file_id in self.namespace.inodes:
            self.inode_changed(self.namespace.inodes[file_id])

    def row_changed(self, row: KeyRow) -> None:
        """``changed`` for a key row."""
        self.changed(Table.KEY_ROWS, row.key, row)

    def set(self, name: str, value: str) -> None:
        """Keep a named fact."""
        self.settings[name] = value
        self.changed(Table.SETTINGS, name, Setting(name, value))

    def next_sequence(self) -> int:
        """The next number in the order of all published changes; never reused."""
        self.sequence += 1
        return self.sequence

    def new_id(self) -> int:
        """A file id nobody had before, also not in a life of the master that ended before it could write it down."""
        self._ids += 1
        return (self.epoch << 32) | self._ids

    # --- loading -----------------------------------------------------------------------------------------------------

    def load(self, record: Record, now: float) -> None:
        """Take in one durable record after a restart."""
        match record:
            case Inode():
                self.namespace.load(record)
                if record.body is not None:
                    self.count(record.body, 1)
            case OpenFile():
                record.heard = now
                self.open_files[record.id] = record
            case KeyRow():
                if record.attempt is not None:
                    record.attempt.unsettled = True
                record.next_at = min(record.next_at, now + self.limits.retry_max_s)
                self.rows[record.key] = record
            case SessionRecord():
                record.heard = now
                self.sessions.records[record.id] = record
            case PathRecord():
                self.path_properties[record.path] = record.properties
            case NodeRecord():
                self.known_nodes[record.node_id] = record
            case Setting():
                self.settings[record.name] = record.value

    def begin(self, now: float) -> None:
        """After loading: a root if there is none, and the grace period in which nothing is dropped or called lost."""
        if ROOT_ID not in self.namespace.inodes:
            self.namespace.add(Inode(ROOT_ID, ROOT_ID, "", created=now, modified=now))
        self.grace_until = now + self.limits.recovery_grace_s if self.known_nodes else now

    # --- files -------------------------------------------------------------------------------------------------------

    def body(self, file_id: int) -> FileBody | None:
        """The body of a published or open file."""
        inode = self.namespace.inodes.get(file_id)
        if inode is not None:
            return inode.body
        opened = self.open_files.get(file_id)
        return None if opened is None else opened.body

    def path(self, file_id: int) -> str | None:
        """The path of a published or open file."""
        inode = self.namespace.inodes.get(file_id)
        if inode is not None:
            return self.namespace.path_of(inode)
        opened = self.open_files.get(file_id)
        return None if opened is None else opened.path

    def block_ids(self, file_id: int, body: FileBody) -> list[BlockId]:
        """The ids of a file's blocks in order."""
        return [BlockId(file_id, index) for index in range(len(body.blocks))]

    def note(self, file_id: int, body: FileBody, event: FileEvent, now: float, detail: str = "") -> None:
        """A step in a file's life that is not worth a durable write of its own (it rides along with the next one)."""
        self._step(file_id, body, event, now, detail)

    def transition(self, file_id: int, body: FileBody, event: FileEvent, now: float, detail: str = "") -> None:
        """The only way in which a file's state changes: checks the table, keeps the history, the totals and the
        needs.
        """
        before = body.state
        after = self._step(file_id, body, event, now, detail)
        if after is not before:
            published = file_id in self.namespace.inodes
            if published:
                self.count(body, -1)
            body.state = after
            if published:
                self.count(body, 1)
            self.blocks.recheck_all(self.block_ids(file_id, body))
        self.body_changed(file_id)

    def _step(self, file_id: int, body: FileBody, event: FileEvent, now: float, detail: str) -> FileState:
        subject = f"file {file_id:x} at {self.path(file_id)}"
        try:
            after = step(body.state, event, body.history, subject)
        except AssertionError as problem:
            if self.strict:
                raise
            self.parked[file_id] = str(problem)
            self.event(now, "error", "parked", str(problem), path=self.path(file_id))
            return body.state
        remember(body.history, HistoryEntry(now, event.value, detail))
        return after

    def count(self, body: FileBody, sign: int) -> None:
        """Add a published file to the totals, or take it out."""
        counters = self.counters
        counters.files += sign
        if body.state is FileState.DIRTY:
            counters.dirty_files += sign
            counters.dirty_bytes += sign * body.length
        elif body.state is FileState.CACHED:
            counters.cached_files += sign
            counters.cached_bytes += sign * body.length

    def need(self, block: BlockId) -> Need | None:
        """How many live replicas a block is to have now (table in DESIGN section 2)."""
        body = self.body(block.file_id)
        if body is None:
            return None
        options = body.options
        match body.state:
            case FileState.THROUGH:
                return Need(1, NO_LIMIT)
            case FileState.CACHED:
                target = max(1, options.replication_min)
                return Need(target, target)
            case FileState.DIRTY:
                target = max(1, options.durable, options.replication_min)
                return Need(target, target)
            case FileState.PERSISTED:
                target = max(1, options.replication_min)
                return Need(target if self.blocks.live_count(block) else 0, target)
        return None

    def dirty_size(self, block: BlockId) -> int:
        """Bytes of a block that the under store does not have yet, 0 for any other block."""
        body = self.body(block.file_id)
        if body is None or body.state is not FileState.DIRTY or block.index >= len(body.blocks):
            return 0
        return body.blocks[block.index].length

    def missing_blocks(self, file_id: int, body: FileBody) -> list[BlockId]:
        """Blocks of a file of which no live replica is known."""
        return [block for block in self.block_ids(file_id, body) if not self.blocks.live_count(block)]

    def is_lost(self, file_id: int, body: FileBody, now: float) -> bool:
        """LOST, derived: bytes that only the cache has, and the cache has not; never within the grace period."""
        if body.state not in (FileState.DIRTY, FileState.CACHED) or self.in_grace(now):
            return False
        return bool(self.missing_blocks(file_id, body))

    # --- cluster -----------------------------------------------------------------------------------------------------

    def in_grace(self, now: float) -> bool:
        """Whether known workers may still register after a restart of the master."""
        if now >= self.grace_until:
            return False
        return any(node not in self.nodes for node in self.known_nodes)

    def rooms(self) -> list[Room]:
        """Nodes that may take new replicas."""
        return [
            Room(node.node_id, node.capacity - node.used - node.promised)
            for node in self.nodes.values()
            if node.worker is not None and not node.suspect and not node.draining
        ]

    def trusted(self, node_ids: list[str]) -> list[str]:
        """Nodes in the order in which to ask them: one that is silent may be dead, and waiting for it costs seconds."""
        return sorted(node_ids, key=lambda node_id: self.nodes[node_id].suspect)

    def worker(self, node_id: str) -> WorkerAddress | None:
        """The live worker of a node."""
        node = self.nodes.get(node_id)
        return None if node is None else node.worker

    def addresses(self, node_ids: list[str]) -> tuple[WorkerAddress, ...]:
        """The workers of those nodes that have one."""
        found = [self.worker(node_id) for node_id in node_ids]
        return tuple(worker for worker in found if worker is not None)

    def event(
        self, now: float, level: str, kind: str, message: str, path: str | None = None, node_id: str | None = None
    ) -> None:
        """A line in the cluster's bounded log."""
        self._logged += 1
        self.log.append(EventRow(self._logged, now, level, kind, message, path, node_id))
