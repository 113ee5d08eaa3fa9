"""Leases of files that this process is writing, and the files that it gave up, on one background thread.

A writer that is only slow keeps its file; one that is collected as garbage cannot wait for the master where it stands
(the collector may run anywhere, with any lock held), so that it leaves a note here. Everything that a collected
writer calls is free of locks.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from rayfs.core.operations import AbandonFile, Mutation, RenewLease
from rayfs.errors import LeaseLost, RayFSError

logger = logging.getLogger(__name__)

RENEWAL_S = 15.0
"""Silence of a writer after which its lease is renewed; the master lets others take it over after 60 s (DESIGN
section 4)."""

LOOK_S = 1.0
"""How often the thread looks for leases to renew while files are open."""


@dataclass(eq=False)
class Lease:
    """One open file: when the master last heard of it (monotonic), and the error that ended it."""

    file_id: int
    heard: float = field(default_factory=time.monotonic)
    lost: LeaseLost | None = None

    def check(self) -> None:
        """Raise ``LeaseLost`` if the file has been taken away."""
        if self.lost is not None:
            raise self.lost


class LeaseKeeper:
    """``execute`` sends a mutation to the master."""

    def __init__(self, execute: Callable[[Mutation], object], renewal_s: float = RENEWAL_S) -> None:
        self._execute = execute
        self._renewal_s = renewal_s
        self._held: dict[int, Lease] = {}
        self._notes: queue.SimpleQueue[tuple[int, Callable[[], None]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def hold(self, file_id: int) -> Lease:
        """Keep the lease of a file that was just created, until ``release``."""
        lease = self._held[file_id] = Lease(file_id)
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="rayfs-leases", daemon=True)
                self._thread.start()
        self._notes.put(None)  # the thread may be waiting for anything to do at all
        return lease

    def release(self, lease: Lease) -> None:
        """The file was completed or abandoned."""
        self._held.pop(lease.file_id, None)

    def abandon_later(self, lease: Lease, cancel: Callable[[], None]) -> None:
        """Give the file up without waiting, after ``cancel`` has stopped its sending; safe in a finalizer."""
        self.release(lease)
        self._notes.put((lease.file_id, cancel))

    def _run(self) -> None:
        while True:
            try:
                note = self._notes.get(timeout=min(LOOK_S, self._renewal_s) if self._held else None)
            except queue.Empty:
                note = None
            if note is not None:
                self._abandon(*note)
            now = time.monotonic()
            for lease in list(self._held.values()):
                if now - lease.heard >= self._renewal_s:
                    self._renew(lease)

    def _renew(self, lease: Lease) -> None:
        try:
            self._execute(RenewLease(lease.file_id))
            lease.heard = time.monotonic()
        except LeaseLost as lost:
            lease.lost = lost
            self.release(lease)
        except RayFSError as error:
            logger.warning("the lease of open file %x could not be renewed: %s", lease.file_id, error)

    def _abandon(self, file_id: int, cancel: Callable[[], None]) -> None:
        cancel()
        try:
            self._execute(AbandonFile(file_id))
        except RayFSError as error:
            # Its lease ends by itself then.
            logger.warning("open file %x could not be abandoned: %s", file_id, error)
