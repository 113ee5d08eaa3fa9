"""Answers to queries: what clients and operators may see of the state. Changes nothing."""

from __future__ import annotations

from rayfs.core import checksum, paths
from rayfs.core.lifecycle import PERSISTENCE, FileState
from rayfs.core.model import (
    BlockStatus,
    FileStatus,
    HistoryEntry,
    PersistenceState,
    PersistStatus,
    Replication,
)
from rayfs.core.operations import (
    AwaitPersisted,
    ListDirectory,
    Listing,
    MetadataLoad,
    OpenForRead,
    PersistProgress,
    PropertyValue,
    ReadBlock,
    ReadPlan,
)
from rayfs.core.records import FileBody, Inode
from rayfs.core.state import State
from rayfs.core.tree import Tree
from rayfs.errors import IsADirectory

FAILURES_SHOWN = 20


class Views:
    """Reads of the namespace and of what is known about its files."""

    def __init__(self, state: State, tree: Tree) -> None:
        self.state = state
        self.tree = tree

    def status(self, inode: Inode, now: float, *, blocks: bool = True) -> FileStatus:
        """The record of ``stat --json``; without ``blocks`` the short form that listings use."""
        path = self.state.namespace.path_of(inode)
        body = inode.body
        if body is None:
            return FileStatus(
                path, "directory", 0, inode.id, 0, PersistenceState.NOT_PERSISTED,
                created=inode.created, modified=inode.modified, pinned=inode.pinned,
            )  # fmt: skip
        options = body.options
        lost = self.state.is_lost(inode.id, body, now)
        return FileStatus(
            path=path,
            type="file",
            length=body.length,
            file_id=inode.id,
            generation=body.generation,
            persistence_state=PersistenceState.LOST if lost else PERSISTENCE[body.state],
            write_type=options.write_type,
            checksum=None if body.crc is None else checksum.render(body.crc),
            replication=Replication(options.durable, options.replication_min, options.replication_max),
            in_cache_percent=self._in_cache(inode.id, body),
            blocks=self._blocks(inode.id, body) if blocks else (),
            persist=self._persist(path, body, now),
            created=inode.created,
            modified=inode.modified,
            pinned=inode.pinned,
            block_size=options.block_size,
            etag=None if body.stored is None else body.stored.etag,
            key=None if body.stored is None else body.stored.key,
        )

    def _in_cache(self, file_id: int, body: FileBody) -> float:
        if not body.length:
            return 100.0
        ids = self.state.block_ids(file_id, body)
        held = sum(b.length for i, b in zip(ids, body.blocks, strict=True) if self.state.blocks.live_count(i))
        return round(100.0 * held / body.length, 1)

    def _blocks(self, file_id: int, body: FileBody) -> tuple[BlockStatus, ...]:
        ids = self.state.block_ids(file_id, body)
        return tuple(
            BlockStatus(str(i), b.length, checksum.render(b.crc), tuple(self.state.blocks.holders(i)))
            for i, b in zip(ids, body.blocks, strict=True)
        )

    def _persist(self, path: str, body: FileBody, now: float) -> PersistStatus:
        row = self.state.rows.get(paths.key_of(path))
        age = None if body.dirty_since is None else max(0.0, now - body.dirty_since)
        if row is None:
            return PersistStatus(age_s=age)
        due = (
            row.next_at
            if body.state is not FileState.DIRTY or body.persist_at is None
            else max(row.next_at, body.persist_at)
        )
        never = body.state is FileState.DIRTY and body.persist_at is None
        waiting = None if row.attempt is not None or never else max(0.0, due - now)
        return PersistStatus(row.attempts, row.last_error, waiting, age)

    def listing(self, operation: ListDirectory, now: float) -> Listing:
        """One page of a directory's children by name; a file lists itself."""
        inode = self.tree.find(operation.path, operation.load)
        if not inode.is_directory:
            return Listing((self.status(inode, now, blocks=False),), more=False)
        if not inode.loaded and operation.load is not MetadataLoad.NEVER:
            self.tree.need_metadata(self.state.namespace.path_of(inode).rstrip("/") + "/*")
        names = sorted(name for name in self.state.namespace.children[inode.id] if name > operation.after)
        limit = max(1, min(operation.limit, 10_000))
        children = self.state.namespace.children[inode.id]
        entries = [
            self.status(self.state.namespace.inodes[children[name]], now, blocks=False) for name in names[:limit]
        ]
        return Listing(tuple(entries), more=len(names) > limit)

    def read_plan(self, operation: OpenForRead) -> ReadPlan:
        """Where a file's bytes are now."""
        inode = self.tree.find(operation.path, operation.load)
        path = self.state.namespace.path_of(inode)
        body = inode.body
        if body is None:
            raise IsADirectory(f"{path} is a directory; give the path of a file", path)
        ids = self.state.block_ids(inode.id, body)
        missing = sorted({node for block in ids for node in self.state.blocks.last_on.get(block, ())})
        return ReadPlan(
            path=path,
            file_id=inode.id,
            generation=body.generation,
            length=body.length,
            block_size=body.options.block_size,
            blocks=tuple(
                ReadBlock(i, b, self.state.addresses(self.state.trusted(self.state.blocks.holders(i))))
                for i, b in zip(ids, body.blocks, strict=True)
            ),
            stored=body.stored if body.state is FileState.PERSISTED else None,
            missing_nodes=tuple(missing),
        )

    def history(self, path: str) -> tuple[HistoryEntry, ...]:
        """What happened to a file, oldest first; a directory has only its creation."""
        inode = self.tree.find(path)
        if inode.body is None:
            return (HistoryEntry(inode.created, "created"),)
        return tuple(inode.body.history)

    def path_properties(self, path: str) -> dict[str, dict[str, PropertyValue]]:
        """Properties set on the path and its parents; for the root, all that are set."""
        path = paths.normalize(path)
        if path == "/":
            return {key: dict(value) for key, value in self.state.path_properties.items()}
        found = {at: self.state.path_properties.get(at) for at in paths.parents(path)}
        return {at: dict(values) for at, values in found.items() if values}

    def progress(self, operation: AwaitPersisted) -> PersistProgress:
        """What is not in the under store yet, of the files and changes at or below the paths."""
        wanted = [self._existing(path) for path in operation.paths]
        files = waiting = size = changes = 0
        failures: dict[str, str] = {}
        for row in self.state.rows.values():
            path = paths.path_of(row.key)
            if not any(paths.is_within(path, top) for top in wanted):
                continue
            files += 1
            body = None if row.wanted is None else self.state.body(row.wanted)
            if body is not None and body.state is FileState.DIRTY:
                waiting += 1
                size += body.length
            elif body is None or body.state is FileState.PERSISTED:
                changes += 1
            if row.last_error is not None and row.failures and len(failures) < FAILURES_SHOWN:
                failures[path] = row.last_error
        return PersistProgress(files, waiting, size, changes, failures)

    def _existing(self, path: str) -> str:
        """A path that is in the namespace, or whose removal the under store has not seen yet."""
        path = paths.normalize(path)
        known = self.state.namespace.find(path) is not None
        if not known and not any(paths.is_within(paths.path_of(key), path) for key in self.state.rows):
            self.tree.find(path)
        return path
