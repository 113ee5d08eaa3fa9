"""What clients do to the namespace besides writing files: directories, renames, deletes, persist, free, pins, levels.

Each method is one request: it checks everything first and then changes the state, so that a refusal leaves nothing
behind. A directory operation first takes in the children that only the under store knows (``MetadataNeeded``).
"""

from __future__ import annotations

from collections.abc import Sequence

from rayfs.core import paths
from rayfs.core.effects import MetadataNeeded
from rayfs.core.keytable import KeyTable
from rayfs.core.lifecycle import FileEvent, FileState
from rayfs.core.model import BlockId, Stored, WriteOptions, WriteType
from rayfs.core.operations import (
    Free,
    MakeDirectory,
    MetadataLoad,
    Persist,
    Pin,
    Remove,
    Rename,
    SetPathProperties,
    SetReplication,
    Touch,
)
from rayfs.core.orders import StoreEntry
from rayfs.core.publication import Publication
from rayfs.core.records import ROOT_ID, FileBody, Inode, PathRecord, Table
from rayfs.core.state import State
from rayfs.errors import (
    Busy,
    DirectoryNotEmpty,
    FileExists,
    FileNotFound,
    InvalidArgument,
    InvalidPath,
    IsADirectory,
    NotADirectory,
)


class Tree:
    """Operations on paths. Needs publication to unlink files and the reconciler to tell it which keys changed."""

    def __init__(self, state: State, publication: Publication, keys: KeyTable) -> None:
        self.state = state
        self.publication = publication
        self.keys = keys

    # --- finding -----------------------------------------------------------------------------------------------------

    def find(self, path: str, load: MetadataLoad = MetadataLoad.ONCE) -> Inode:
        """The inode at a path; asks for the under store's listing where only that can tell."""
        path = paths.normalize(path)
        inode = self.state.namespace.find(path)
        if inode is not None:
            return inode
        if load is not MetadataLoad.NEVER:
            self.need_metadata(path)
        return self.state.namespace.get(path)

    def need_metadata(self, path: str) -> None:
        """Raise ``MetadataNeeded`` if the deepest existing ancestor may have children that only the under store
        knows.
        """
        node = self.state.namespace.root
        for ancestor in paths.parents(path)[1:]:
            below = self.state.namespace.child(node, paths.split(ancestor)[1])
            if below is None:
                if not node.loaded:
                    raise MetadataNeeded(self.state.namespace.path_of(node), recursive=False)
                return
            if not below.is_directory:
                return
            node = below

    def load_below(self, inode: Inode) -> None:
        """Raise ``MetadataNeeded`` unless everything below a directory is in the namespace."""
        for below in self.state.namespace.walk(inode):
            if below.is_directory and not below.loaded:
                raise MetadataNeeded(self.state.namespace.path_of(below), recursive=True)

    def take_listing(self, directory: str, entries: Sequence[StoreEntry], recursive: bool, now: float) -> None:
        """Take in what the under store lists; a key's row, and what the namespace has already, outrank the listing."""
        top = self.state.namespace.find(directory)
        if top is None or not top.is_directory:
            return
        if top.loaded and not recursive:
            self._refresh(top, entries, now)
        for entry in entries:
            name = entry.name.rstrip("/")
            if name:
                self._take_entry(directory, name, entry, recursive, now)
        for inode in self.state.namespace.walk(top) if recursive else (top,):
            if inode.is_directory and not inode.loaded:
                inode.loaded = True
                self.state.inode_changed(inode)

    def _refresh(self, directory: Inode, entries: Sequence[StoreEntry], now: float) -> None:
        """A directory is listed again: files that others changed or removed there leave the namespace.

        Only files whose bytes are the store's alone: what RayFS has in its cache or on its way is left to the
        reconciler. The new form of a changed one comes in with the rest of the listing.
        """
        listed = {entry.name: entry.etag for entry in entries}
        for name, child in list(self.state.namespace.children[directory.id].items()):
            inode = self.state.namespace.inodes[child]
            body = inode.body
            if body is None or body.state is not FileState.PERSISTED or body.stored is None:
                continue
            key = paths.key_of(self.state.namespace.path_of(inode))
            if body.stored.key != key or key in self.state.rows or listed.get(name) == body.stored.etag:
                continue
            message = f"{paths.path_of(key)} was changed or removed in the under store by somebody else"
            self.state.event(now, "warning", "foreign-object", message, path=paths.path_of(key))
            self.publication.unlink_file(inode, now, "changed in the under store", vacate=False)

    def _take_entry(self, directory: str, name: str, entry: StoreEntry, recursive: bool, now: float) -> None:
        try:
            path = paths.normalize(f"{directory}/{name}")
            existing = self.state.namespace.find(path)
            if existing is not None or (entry.etag is not None and paths.key_of(path) in self.state.rows):
                return
            if entry.etag is None or entry.name.endswith("/"):
                self._found_directory(path, recursive, now)
                return
            parent = self._found_directory(paths.split(path)[0], recursive, now)
        except (InvalidPath, NotADirectory, FileExists) as problem:
            self.state.event(now, "warning", "unusable-key", f"{entry.name} in the under store is left out: {problem}")
            return
        body = FileBody(FileState.PERSISTED, WriteOptions(WriteType.THROUGH), length=entry.length)
        body.stored = Stored(paths.key_of(path), entry.etag)
        body.generation = self.state.next_sequence()
        modified = entry.modified or now
        inode = Inode(self.state.new_id(), parent.id, paths.split(path)[1], modified, modified, body, parent.pinned)
        self.state.namespace.add(inode)
        self.state.count(body, 1)

    def _found_directory(self, path: str, loaded: bool, now: float) -> Inode:
        known = self.state.namespace.find(path)
        inode = known or self.state.namespace.make_directories(path, now, self.state.new_id)
        if not inode.is_directory:
            raise NotADirectory(f"{path} is a file in RayFS", path)
        if known is None:
            inode.loaded = loaded
            self.state.inode_changed(inode)
        return inode

    # --- directories -------------------------------------------------------------------------------------------------

    def make_directory(self, operation: MakeDirectory, now: float) -> None:
        """``mkdir``, with parents or without."""
        path = paths.normalize(operation.path)
        paths.check_storable(path, self.state.limits.prefix_bytes)
        existing = self.state.namespace.find(path)
        if existing is not None:
            if not existing.is_directory or not operation.exist_ok:
                raise FileExists(f"{path} exists already", path)
            return
        parent, _ = paths.split(path)
        above = self.state.namespace.find(parent)
        if above is None and not operation.parents:
            raise FileNotFound(f"the parent of {path} does not exist; make it too (-p at the shell)", path)
        inode = self.state.namespace.make_directories(path, now, self.state.new_id)
        inode.pinned = self.state.namespace.inodes[inode.parent].pinned

    def rename(self, operation: Rename, now: float) -> None:
        """Move a file or a tree in one commit; the under store follows."""
        source, target = paths.normalize(operation.source), paths.normalize(operation.target)
        paths.check_storable(target, self.state.limits.prefix_bytes)
        inode = self.find(source)
        if inode.id == ROOT_ID or target == "/":
            raise InvalidPath("the root directory cannot be moved or replaced", source)
        if source == target:
            return
        if paths.is_within(target, source):
            raise InvalidPath(f"{source} cannot be moved into itself", source)
        if inode.is_directory:
            self.load_below(inode)
        existing = self.state.namespace.find(target)
        if existing is None:
            self.need_metadata(target)
        replaced = self._check_replaced(inode, existing, target, operation.overwrite)
        moves = [(below, self.state.namespace.path_of(below)) for below in self.state.namespace.walk(inode)]
        longest = max((old for _, old in moves), key=lambda old: len(old.encode()))
        paths.check_storable(target + longest[len(source) :], self.state.limits.prefix_bytes)
        self._link_at(inode, existing, target, now)
        for below, old in moves:
            if below.body is not None:
                self._renamed(below, below.body, old, replaced if below is inode else None, now)

    def _link_at(self, inode: Inode, existing: Inode | None, target: str, now: float) -> None:
        """Put the inode in the place of what is at the target; raises before anything is changed."""
        parent = self.state.namespace.find(paths.split(target)[0])
        if parent is not None and not parent.is_directory:
            raise NotADirectory(f"{paths.split(target)[0]} is a file; choose another target", target)
        if existing is not None and existing.is_directory:
            self.state.namespace.unlink(existing, now)
        elif existing is not None:
            self.publication.unlink_file(existing, now, "replaced by a rename", vacate=False)
        directory, name = self.state.namespace.ensure_parent(target, now, self.state.new_id)
        self.state.namespace.move(inode, directory, name, now)

    def _check_replaced(self, inode: Inode, existing: Inode | None, target: str, overwrite: bool) -> Stored | None:
        if existing is None or existing is inode:
            return None
        if existing.is_directory:
            if not inode.is_directory:
                raise IsADirectory(f"{target} is a directory; name the file in it", target)
            self.load_below(existing)
            if self.state.namespace.children[existing.id] or not overwrite:
                raise FileExists(f"{target} exists already; remove it first", target)
            return None
        if inode.is_directory:
            raise NotADirectory(f"{target} is a file; a directory cannot replace it", target)
        if not overwrite:
            raise FileExists(f"{target} exists already; remove it, or move with overwrite", target)
        assert existing.body is not None
        return existing.body.stored

    def _renamed(self, inode: Inode, body: FileBody, old: str, replaced: Stored | None, now: float) -> None:
        new = self.state.namespace.path_of(inode)
        body.generation = self.state.next_sequence()
        self.state.transition(inode.id, body, FileEvent.RENAMED, now, f"from {old}")
        old_key, new_key = paths.key_of(old), paths.key_of(new)
        stored = body.stored
        self.keys.moved(inode.id, stored, new_key, now)
        self.keys.vacate(old_key, stored, inode.id, now)
        if body.state in (FileState.DIRTY, FileState.PERSISTED):
            self.keys.occupy(new_key, inode.id, now, replaced)
        elif replaced is not None:
            self.keys.vacate(new_key, replaced, None, now)

    def remove(self, operation: Remove, now: float) -> None:
        """Delete a file or a tree; the under store follows."""
        inode = self.find(operation.path)
        if inode.id == ROOT_ID:
            raise InvalidPath("the root directory cannot be removed", "/")
        if inode.is_directory:
            self.load_below(inode)
            if self.state.namespace.children[inode.id] and not operation.recursive:
                path = self.state.namespace.path_of(inode)
                raise DirectoryNotEmpty(f"{path} is not empty; remove it recursively (-r at the shell)", path)
        for below in reversed(list(self.state.namespace.walk(inode))):
            if below.is_directory:
                self.state.namespace.unlink(below, now)
            else:
                self.publication.unlink_file(below, now, "removed")

    def touch(self, operation: Touch, now: float) -> None:
        """Set the modification time."""
        inode = self.find(operation.path)
        inode.modified = now
        self.state.inode_changed(inode)

    # --- files -------------------------------------------------------------------------------------------------------

    def _files(self, path: str) -> list[tuple[Inode, FileBody]]:
        top = self.find(path)
        return [(inode, inode.body) for inode in self.state.namespace.walk(top) if inode.body is not None]

    def persist(self, operation: Persist, now: float) -> int:
        """Ask that everything at or below the path goes to the under store now. Returns the files that were asked
        for.
        """
        asked = 0
        for inode, body in self._files(operation.path):
            if body.state is not FileState.DIRTY and not (body.state is FileState.CACHED and operation.cached):
                continue
            asked += 1
            first = body.state is FileState.CACHED
            body.persist_at = now
            if first:
                body.dirty_since = now
            self.state.transition(inode.id, body, FileEvent.ASK_PERSIST, now)
            key = paths.key_of(self.state.namespace.path_of(inode))
            row = self.keys.occupy(key, inode.id, now) if first else self.state.rows.get(key)
            if row is not None and not first:
                row.next_at = now
                self.keys.schedule(row, now)
        return asked

    def free(self, operation: Free, now: float) -> int:
        """Drop the cached copies of persisted files. A dirty one is refused, with force too, before anything is
        dropped.
        """
        top = self.find(operation.path)
        if top.is_directory and not operation.recursive:
            path = self.state.namespace.path_of(top)
            raise IsADirectory(f"{path} is a directory; free it recursively (-R at the shell)", path)
        files = self._files(operation.path)
        for inode, body in files:
            path = self.state.namespace.path_of(inode)
            if body.state is not FileState.PERSISTED:
                raise Busy(
                    f"{path} is {body.state.value.lower()} and its copies are the only ones; persist it first", path
                )
            if inode.pinned and not operation.force:
                raise Busy(f"{path} is pinned; unpin it, or free it with force", path)
        freed: list[BlockId] = []
        count = 0
        for inode, body in files:
            blocks = [block for block in self.state.block_ids(inode.id, body) if self.state.blocks.replicas.get(block)]
            if blocks:
                count += 1
                freed += blocks
                self.state.note(inode.id, body, FileEvent.FREED, now)
        self.publication.drop_blocks(freed)
        return count

    def pin(self, operation: Pin, now: float) -> None:
        """Pin or unpin a path and everything below it."""
        del now
        for inode in self.state.namespace.walk(self.find(operation.path)):
            if inode.pinned != operation.pinned:
                inode.pinned = operation.pinned
                self.state.inode_changed(inode)

    def set_replication(self, operation: SetReplication, now: float) -> int:
        """Change the minimum and maximum of files."""
        minimum, maximum = operation.minimum, operation.maximum
        if (minimum is not None and minimum < 0) or (maximum is not None and maximum < -1):
            raise InvalidArgument("min takes a whole number from 0 up, max from -1 (no limit) up")
        top = self.find(operation.path)
        if top.is_directory and not operation.recursive:
            path = self.state.namespace.path_of(top)
            raise IsADirectory(f"{path} is a directory; set the level recursively (-R at the shell)", path)
        changed = 0
        for inode, body in self._files(operation.path):
            low = body.options.replication_min if minimum is None else minimum
            high = body.options.replication_max if maximum is None else maximum
            if 0 <= high < low:
                raise InvalidArgument(f"max {high} is below min {low}; raise one or lower the other")
            old = body.options
            body.options = WriteOptions(
                old.write_type,
                old.durable,
                low,
                high,
                old.shortfall,
                old.write_wait_s,
                old.persist_wait_s,
                old.block_size,
            )
            self.state.transition(inode.id, body, FileEvent.CLIENT_CHANGE, now, f"replication min {low} max {high}")
            self.state.blocks.recheck_all(self.state.block_ids(inode.id, body))
            changed += 1
        return changed

    def set_path_properties(self, operation: SetPathProperties, now: float) -> None:
        """Set properties of a path that need not exist yet."""
        del now
        path = paths.normalize(operation.path)
        values = {**self.state.path_properties.get(path, {}), **operation.properties}
        values = {key: value for key, value in values.items() if key not in operation.remove}
        if values:
            self.state.path_properties[path] = values
            self.state.changed(Table.PATH_PROPERTIES, path, PathRecord(path, values))
        elif self.state.path_properties.pop(path, None) is not None:
            self.state.dropped(Table.PATH_PROPERTIES, path)
