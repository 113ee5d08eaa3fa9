"""The tree of files and directories that people see.

Holds inodes and their links; knows nothing of replicas or of the under store. Every change of an inode goes through
``changed`` so that the caller can make it durable. Invariant: each linked inode has one parent and one name, and
``children`` mirrors that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rayfs.core import paths
from rayfs.core.records import ROOT_ID, Inode
from rayfs.errors import (
    DirectoryNotEmpty,
    FileExists,
    FileNotFound,
    InvalidPath,
    IsADirectory,
    NotADirectory,
)


class Namespace:
    """Inodes by id, children by directory. ``changed(inode)`` and ``dropped(inode)`` are told of every durable
    change.
    """

    def __init__(self, changed: Callable[[Inode], None], dropped: Callable[[Inode], None]) -> None:
        self.inodes: dict[int, Inode] = {}
        self.children: dict[int, dict[str, int]] = {}
        self._changed = changed
        self._dropped = dropped

    def load(self, inode: Inode) -> None:
        """Take in an inode that is durable already (recovery); its parent may come later."""
        self.inodes[inode.id] = inode
        if inode.is_directory:
            self.children.setdefault(inode.id, {})
        if inode.id != ROOT_ID:
            self.children.setdefault(inode.parent, {})[inode.name] = inode.id

    def add(self, inode: Inode) -> None:
        """Link a new inode under its parent."""
        self.load(inode)
        self._changed(inode)

    @property
    def root(self) -> Inode:
        return self.inodes[ROOT_ID]

    def child(self, directory: Inode, name: str) -> Inode | None:
        """The child with that name, or None."""
        found = self.children[directory.id].get(name)
        return None if found is None else self.inodes[found]

    def find(self, path: str) -> Inode | None:
        """The inode at a normal path, or None; a file among the parents is None as well."""
        node = self.root
        for part in path[1:].split("/") if path != "/" else ():
            if not node.is_directory:
                return None
            below = self.child(node, part)
            if below is None:
                return None
            node = below
        return node

    def get(self, path: str) -> Inode:
        """The inode at a normal path or ``FileNotFound``."""
        node = self.find(path)
        if node is None:
            raise FileNotFound(f"there is no file or directory {path}; `rayfs ls` shows what is there", path)
        return node

    def path_of(self, inode: Inode) -> str:
        """The path at which an inode is linked."""
        names = []
        while inode.id != ROOT_ID:
            names.append(inode.name)
            inode = self.inodes[inode.parent]
        return "/" + "/".join(reversed(names))

    def linked(self, inode: Inode) -> bool:
        """Whether the inode is still in the tree."""
        return self.inodes.get(inode.id) is inode

    def walk(self, inode: Inode) -> Iterator[Inode]:
        """The inode and all below it, parents before children."""
        yield inode
        if inode.is_directory:
            for child in list(self.children[inode.id].values()):
                yield from self.walk(self.inodes[child])

    def check_parents(self, path: str) -> None:
        """Raise ``NotADirectory`` where a parent of ``path`` is a file, ``IsADirectory`` where the path is one
        itself.
        """
        node = self.root
        if path == "/":
            raise IsADirectory("/ is the root directory; give the path of a file", path)
        for part in path[1:].split("/"):
            if not node.is_directory:
                where = self.path_of(node)
                raise NotADirectory(f"{where} is a file, so {path} cannot be below it; choose another path", path)
            below = self.child(node, part)
            if below is None:
                return
            node = below
        if node.is_directory:
            raise IsADirectory(f"{path} is a directory; give the path of a file", path)

    def make_directories(self, path: str, now: float, new_id: Callable[[], int]) -> Inode:
        """The directory at ``path``, made with its parents where missing. A directory made here is ``loaded``."""
        node = self.root
        for part in path[1:].split("/") if path != "/" else ():
            if not node.is_directory:
                raise NotADirectory(
                    f"{self.path_of(node)} is a file, so nothing can be below it; choose another path", path
                )
            below = self.child(node, part)
            if below is None:
                below = Inode(new_id(), node.id, part, created=now, modified=now, loaded=node.loaded)
                self.add(below)
                self.touched(node, now)
            node = below
        if not node.is_directory:
            raise FileExists(f"{path} is a file; a directory cannot have its name", path)
        return node

    def touched(self, directory: Inode, now: float) -> None:
        """A child came or went. The time is kept in memory only: it is not worth a durable write per file."""
        directory.modified = max(directory.modified, now)

    def unlink(self, inode: Inode, now: float) -> None:
        """Take one inode (a file, or a directory that has no children) out of the tree."""
        if inode.is_directory and self.children[inode.id]:
            raise DirectoryNotEmpty(f"{self.path_of(inode)} is not empty; remove it recursively", self.path_of(inode))
        parent = self.inodes[inode.parent]
        del self.children[parent.id][inode.name]
        self.children.pop(inode.id, None)
        del self.inodes[inode.id]
        self.touched(parent, now)
        self._dropped(inode)

    def move(self, inode: Inode, directory: Inode, name: str, now: float) -> None:
        """Link the inode under another parent and name. The target must be free and not below the inode."""
        node: Inode = directory
        while node.id != ROOT_ID:
            if node is inode:
                raise InvalidPath(f"{self.path_of(inode)} cannot be moved into itself", self.path_of(inode))
            node = self.inodes[node.parent]
        old_parent = self.inodes[inode.parent]
        del self.children[old_parent.id][inode.name]
        inode.parent, inode.name = directory.id, name
        self.children[directory.id][name] = inode.id
        self.touched(old_parent, now)
        self.touched(directory, now)
        self._changed(inode)

    def ensure_parent(self, path: str, now: float, new_id: Callable[[], int]) -> tuple[Inode, str]:
        """The directory a new path goes into, made where missing, and the path's name."""
        parent, name = paths.split(path)
        return self.make_directories(parent, now, new_id), name
