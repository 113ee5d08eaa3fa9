"""Publication: how a file becomes visible at its path, and how it leaves.

The write path publishes what the workers have confirmed, the through path what the under store has confirmed.
Invariant: a path shows one whole file at any time; what a file leaves behind (replicas, a key) is ordered away or
handed to the reconciler here.
"""

from __future__ import annotations

from collections import deque

from rayfs.core import paths
from rayfs.core.effects import CallWorker
from rayfs.core.keytable import KeyTable
from rayfs.core.lifecycle import PERSISTENCE, FileEvent
from rayfs.core.model import BlockId
from rayfs.core.operations import Published
from rayfs.core.orders import DropReplica
from rayfs.core.records import Inode, OpenFile, Table
from rayfs.core.state import State
from rayfs.errors import FileExists


class Publication:
    """Links and unlinks files."""

    def __init__(self, state: State, keys: KeyTable) -> None:
        self.state = state
        self.keys = keys
        self.removed: deque[tuple[float, list[BlockId]]] = (
            deque()
        )  # blocks of files that are gone, dropped after a grace

    def discard(self, opened: OpenFile, now: float, why: str) -> None:
        """An open file ends without being published: nothing of it stays."""
        self.state.transition(opened.id, opened.body, FileEvent.ABANDON, now, why)
        del self.state.open_files[opened.id]
        self.state.dropped(Table.OPEN_FILES, str(opened.id))
        count = max(opened.allocated, len(opened.body.blocks))
        self.drop_blocks([BlockId(opened.id, index) for index in range(count)])

    def drop_blocks(self, blocks: list[BlockId]) -> None:
        """Order the replicas of blocks that no file has any more to be dropped."""
        orders: dict[str, list[DropReplica]] = {}
        for block in blocks:
            for node, replica in self.state.blocks.forget(block).items():
                orders.setdefault(node, []).append(DropReplica(block, replica.number))
        for node, drops in orders.items():
            worker = self.state.worker(node)
            if worker is not None:
                self.state.effects.append(CallWorker(worker, "drop", tuple(drops)))

    def check_target(self, opened: OpenFile) -> Inode | None:
        """What is at the file's path now; raises where it may not be replaced."""
        self.state.namespace.check_parents(opened.path)
        existing = self.state.namespace.find(opened.path)
        if existing is not None and not opened.body.overwrite:
            raise FileExists(
                f"{opened.path} was created by another writer meanwhile; write with overwrite to replace it",
                opened.path,
            )
        return existing

    def publish(self, opened: OpenFile, event: FileEvent, now: float) -> Published:
        """Make the file visible at its path in the place of what was there. Raises where the path was taken
        meanwhile.
        """
        existing = self.check_target(opened)
        key = paths.key_of(opened.path)
        body = opened.body
        replaced = None if existing is None or existing.body is None else existing.body.stored
        parent, name = self.state.namespace.ensure_parent(opened.path, now, self.state.new_id)
        if existing is not None:
            self.unlink_file(existing, now, "replaced by a newer file", vacate=False)
        pinned = parent.pinned
        inode = Inode(opened.id, parent.id, name, created=now, modified=now, body=body, pinned=pinned)
        del self.state.open_files[opened.id]
        self.state.dropped(Table.OPEN_FILES, str(opened.id))
        self.state.namespace.add(inode)
        self.state.namespace.touched(parent, now)
        body.generation = self.state.next_sequence()
        self.state.counters.written_bytes_total += body.length
        if event is FileEvent.PUBLISH_DIRTY:
            wait = body.options.persist_wait_s
            body.persist_at = None if wait is None else now + wait
            body.dirty_since = now
        self.state.count(body, 1)
        self.state.transition(inode.id, body, event, now, f"generation {body.generation}")
        if event is FileEvent.PUBLISH_DIRTY:
            self.keys.occupy(key, inode.id, now, replaced)
        elif event is FileEvent.PUBLISH_CACHED and existing is not None:
            self.keys.vacate(key, replaced, existing.id, now)
        return Published(opened.path, inode.id, body.generation, PERSISTENCE[body.state])

    def unlink_file(self, inode: Inode, now: float, why: str, *, vacate: bool = True) -> None:
        """Take a published file out of the namespace; its blocks stay a while for those who have it open."""
        body = inode.body
        assert body is not None
        path = self.state.namespace.path_of(inode)
        blocks = self.state.block_ids(inode.id, body)
        self.state.transition(inode.id, body, FileEvent.REMOVE, now, why)
        self.state.count(body, -1)
        self.state.namespace.unlink(inode, now)
        self.state.parked.pop(inode.id, None)
        self.removed.append((now + self.state.limits.replaced_block_grace_s, blocks))
        self.state.departing.add(inode.id)
        self.state.blocks.recheck_all(blocks)
        stored = body.stored
        if vacate:
            self.keys.vacate(paths.key_of(path), stored, inode.id, now)
        self.keys.source_free(inode.id, now)

    def tick(self, now: float) -> None:
        """Blocks of removed files go when nobody can have them open any more."""
        while self.removed and self.removed[0][0] <= now:
            blocks = self.removed.popleft()[1]
            self.state.departing.difference_update(block.file_id for block in blocks)
            self.drop_blocks(blocks)
