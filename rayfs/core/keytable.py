"""The keys of the under store that are not known to hold what the namespace wants there.

The namespace's side of persisting: who is wanted at a key, what it was last known to hold, and when it is due. Carrying
it out is ``reconcile``'s. Invariants: a row goes when its key is settled; the bytes of a file that moved away stay
where they are until they have been copied (``sources``).
"""

from __future__ import annotations

from rayfs.core.lifecycle import FileState
from rayfs.core.model import Stored
from rayfs.core.paths import key_of
from rayfs.core.persistqueue import PersistQueue
from rayfs.core.records import FileBody, KeyRow, Known, Table
from rayfs.core.state import State


class KeyTable:
    """The rows, in the order of ``queue``. ``busy`` are keys with a request on its way: their answer schedules them."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.queue = PersistQueue(state.limits, state.persisters)
        self.busy: set[str] = set()
        self.sources: dict[int, str] = {}  # file -> key that holds its bytes though the file is elsewhere now

    def occupy(self, key: str, file_id: int, now: float, replaced: Stored | None = None) -> KeyRow:
        """The namespace wants this file at ``key``; ``replaced`` is what the file before it had stored."""
        row = self.state.rows.get(key)
        if row is None:
            known = Known(replaced.etag, None, 0) if replaced is not None and replaced.key == key else None
            row = self.state.rows[key] = KeyRow(key, known, file_id, since=now)
        if row.wanted != file_id:
            row.wanted, row.since = file_id, now
            row.failures, row.attempts, row.last_error = 0, 0, None
        row.next_at = now
        self.state.row_changed(row)
        self.schedule(row, now)
        return row

    def vacate(self, key: str, stored: Stored | None, owner: int | None, now: float) -> None:
        """The namespace wants nothing at ``key`` any more; ``stored`` is what the file that left had in the store."""
        row = self.state.rows.get(key)
        if row is None:
            if stored is None or stored.key != key:
                return
            row = self.state.rows[key] = KeyRow(key, Known(stored.etag, owner, 0), None, since=now)
        row.wanted, row.next_at, row.since = None, now, now
        row.failures, row.last_error = 0, None
        if row.attempt is None and row.known is None:
            self.forget(row)
            return
        self.state.row_changed(row)
        self.schedule(row, now)

    def moved(self, file_id: int, stored: Stored | None, now_at: str, now: float) -> None:
        """The file was renamed while its bytes are at ``stored.key``: nothing may destroy them before they are
        copied.
        """
        if stored is not None and stored.key != now_at:
            self.sources[file_id] = stored.key
        else:
            self.source_free(file_id, now)

    def source_free(self, file_id: int, now: float) -> None:
        """The file no longer needs the bytes at its old key."""
        key = self.sources.pop(file_id, None)
        row = self.state.rows.get(key) if key is not None else None
        if row is not None:
            self.schedule(row, now)

    def reload(self, now: float) -> None:
        """After a restart: every row again, and which keys are sources of files that moved."""
        for inode in self.state.namespace.inodes.values():
            if inode.body is not None and inode.body.stored is not None and self.state.rows:
                path = self.state.namespace.path_of(inode)
                if inode.body.stored.key != key_of(path):
                    self.sources[inode.id] = inode.body.stored.key
        for row in self.state.rows.values():
            self.schedule(row, now)

    def schedule(self, row: KeyRow, now: float) -> None:
        """Put the row where it belongs: ready, or later."""
        if row.key in self.busy:
            return  # its answer will schedule it
        due = row.next_at
        body = self.body_of(row)
        if body is not None and body.state is FileState.DIRTY and not (row.attempt and row.attempt.unsettled):
            if body.persist_at is None:
                return  # never by itself; `persist` sets a time
            due = max(due, body.persist_at)
        urgent = 0 if body is not None and body.state is FileState.THROUGH else 1
        self.queue.add(row.key, due, (urgent, self._live_copies(row, body), row.since), now)

    def body_of(self, row: KeyRow) -> FileBody | None:
        """The file that is wanted at the key."""
        return None if row.wanted is None else self.state.body(row.wanted)

    def _live_copies(self, row: KeyRow, body: FileBody | None) -> int:
        if body is None or row.wanted is None:
            return 1 << 20
        counts = [self.state.blocks.live_count(block) for block in self.state.block_ids(row.wanted, body)]
        return min(counts, default=1 << 20)

    def is_source(self, row: KeyRow) -> bool:
        """Whether what the key holds is the only stored copy of a file that has moved away."""
        return any(key == row.key and file_id != row.wanted for file_id, key in self.sources.items())

    def forget(self, row: KeyRow) -> None:
        """The key is settled."""
        self.state.rows.pop(row.key, None)
        self.busy.discard(row.key)
        self.state.dropped(Table.KEY_ROWS, row.key)
