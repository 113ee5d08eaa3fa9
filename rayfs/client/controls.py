"""What RayFS has beside a file system: states, replicas, persist, free, pin, and properties of paths.

The half of ``RayFileSystem`` that fsspec knows nothing of. Each method is one exchange with the master, but for
``persist``, which asks until it is done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rayfs.client.connection import Connection
from rayfs.client.options import by_key
from rayfs.config import property_of
from rayfs.core.model import BlockStatus, FileStatus, HistoryEntry
from rayfs.core.operations import (
    AwaitPersisted,
    Free,
    GetHistory,
    GetPathProperties,
    GetStatus,
    MetadataLoad,
    Persist,
    PersistProgress,
    Pin,
    PropertyValue,
    SetPathProperties,
    SetReplication,
)
from rayfs.core.paths import is_within
from rayfs.errors import WaitTimedOut

POLL_S = 10.0
"""Longest time that the master keeps one question about persisting before it answers."""


class Controls:
    """Needs ``connection``, ``_load`` and ``_strip_protocol`` of the file system that it is part of."""

    @property
    def connection(self) -> Connection:
        """This process's connection to the cluster."""
        raise NotImplementedError

    @property
    def _load(self) -> MetadataLoad:
        raise NotImplementedError

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        raise NotImplementedError

    def status(self, path: str) -> FileStatus:
        """All that is known of a file or directory; the record of ``rayfs stat --json``."""
        found: FileStatus = self.connection.query(GetStatus(self._strip_protocol(path), self._load))
        return found

    def persist(self, path: str, wait: bool = True, timeout: float | None = None) -> int:
        """Have what is at or below ``path`` persisted now; how many files that is.

        Waits until the under store holds what the namespace says there, deletes and moves included. ``WaitTimedOut`` (a
        ``TimeoutError``) after ``timeout`` seconds; RayFS goes on in the background.
        """
        path = self._strip_protocol(path)
        files = int(self.connection.execute(Persist(path)) or 0)
        deadline = None if timeout is None else time.monotonic() + timeout
        while wait:
            left = POLL_S if deadline is None else max(0.0, min(POLL_S, deadline - time.monotonic()))
            progress = self.await_persisted([path], timeout=left)
            if progress.done:
                break
            if deadline is not None and time.monotonic() >= deadline:
                reason = "".join(f"; last failure: {name}: {why}" for name, why in list(progress.failures.items())[:1])
                raise WaitTimedOut(
                    f"after {timeout:g} s the under store still lacks {progress.waiting} files and "
                    f"{progress.pending_changes} deletes and moves at {path}{reason}; RayFS goes on in the background",
                    path,
                )
        return files

    def await_persisted(self, paths: Iterable[str], timeout: float = 0.0) -> PersistProgress:
        """How persisting goes at or below ``paths``: when it is done, or after ``timeout`` seconds (at most 10)."""
        wanted = tuple(self._strip_protocol(path) for path in paths)
        found: PersistProgress = self.connection.query(AwaitPersisted(wanted, min(timeout, POLL_S)))
        return found

    def free(self, path: str, recursive: bool = False, force: bool = False) -> int:
        """Drop cached copies of persisted files; how many files. ``Busy`` (EBUSY) for a dirty one, with ``force``
        too."""
        return int(self.connection.execute(Free(self._strip_protocol(path), recursive, force)) or 0)

    def pin(self, path: str) -> None:
        """Keep copies of what is and will be at or below ``path``."""
        self.connection.execute(Pin(self._strip_protocol(path), pinned=True))

    def unpin(self, path: str) -> None:
        """Take ``pin`` back."""
        self.connection.execute(Pin(self._strip_protocol(path), pinned=False))

    def set_replication(
        self,
        path: str,
        min: int | None = None,  # noqa: A002  # the names that users type (DESIGN section 8)
        max: int | None = None,  # noqa: A002  # as above
        recursive: bool = False,
    ) -> int:
        """Change the replication levels of files; how many. None leaves a level as it is, -1 for ``max`` is no
        limit."""
        request = SetReplication(self._strip_protocol(path), min, max, recursive)
        return int(self.connection.execute(request) or 0)

    def locations(self, path: str) -> tuple[BlockStatus, ...]:
        """A file's blocks, and the full ids of the nodes that hold each."""
        return self.status(path).blocks

    def history(self, path: str) -> tuple[HistoryEntry, ...]:
        """What happened to a file, oldest first."""
        found: tuple[HistoryEntry, ...] = self.connection.query(GetHistory(self._strip_protocol(path)))
        return found

    def path_properties(self, path: str, below: bool = False) -> dict[str, dict[str, PropertyValue]]:
        """Properties that ``path`` and its parents have, by path; with ``below`` those of all paths below it
        instead."""
        path = self._strip_protocol(path)
        found: dict[str, dict[str, PropertyValue]] = self.connection.query(GetPathProperties("/" if below else path))
        keep: Callable[[str, str], bool] = is_within if below else lambda each, at: is_within(at, each)
        return {each: properties for each, properties in found.items() if keep(each, path)}

    def set_path_properties(self, path: str, properties: Mapping[str, object]) -> None:
        """Set properties for what will be written at or below ``path``; None takes one away."""
        own = by_key({key: value for key, value in properties.items() if value is not None})
        gone = tuple(property_of(key).key for key, value in properties.items() if value is None)
        self.connection.execute(SetPathProperties(self._strip_protocol(path), own, gone))
