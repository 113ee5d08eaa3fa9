"""Files that are written through: published once the under store has them, and their writers wait for it.

Invariant: what the writer is told is true. A definite refusal ends the write; while a request is unanswered the file
stays until that is settled, also when its writer's patience has ended, and the key is then driven back to what the
namespace says.
"""

from __future__ import annotations

from rayfs.core import paths
from rayfs.core.batch import Batch
from rayfs.core.keytable import KeyTable
from rayfs.core.lifecycle import FileEvent, FileState
from rayfs.core.model import Stored, WriteType
from rayfs.core.operations import Published
from rayfs.core.publication import Publication
from rayfs.core.records import Inode, OpenFile
from rayfs.core.state import State
from rayfs.errors import RayFSError, UnderStoreError, UnderStoreUnavailable


class ThroughWrites:
    """Open files whose writers wait for the under store, by file id."""

    def __init__(self, state: State, publication: Publication, keys: KeyTable) -> None:
        self.state = state
        self.publication = publication
        self.keys = keys
        self.waiting: dict[int, tuple[Batch, int]] = {}
        self.began: dict[int, float] = {}
        self.queue: list[int] = []  # those whose key is taken by another such file

    def attach(self, file_id: int, batch: Batch, position: int, now: float) -> None:
        """A writer waits for this file: from now on, for as long as its patience lasts."""
        self.waiting[file_id] = (batch, position)
        self.began[file_id] = now

    def begin(self, opened: OpenFile, batch: Batch, position: int, now: float) -> None:
        """The workers have the bytes: upload them, and answer when the under store has them."""
        self.state.transition(opened.id, opened.body, FileEvent.WRITE_THROUGH, now)
        self.attach(opened.id, batch, position, now)
        self.occupy(opened, now)

    def occupy(self, opened: OpenFile, now: float) -> None:
        """Upload before publication. One such file per key at a time: the next one waits its turn."""
        key = paths.key_of(opened.path)
        row = self.state.rows.get(key)
        if (
            row is not None
            and row.wanted is not None
            and row.wanted != opened.id
            and row.wanted in self.state.open_files
        ):
            self.queue.append(opened.id)
            return
        existing = self.state.namespace.find(opened.path)
        replaced = None if existing is None or existing.body is None else existing.body.stored
        self.keys.occupy(key, opened.id, now, replaced)

    def stored(self, file_id: int, stored: Stored, now: float) -> None:
        """The under store has the file: publish it and tell its writer."""
        opened = self.state.open_files[file_id]
        opened.body.stored = stored
        existing = self.state.namespace.find(opened.path)
        try:
            if opened.given_up and not self._only_stored(existing):
                # Its writer was told that it failed, and what the namespace has can be put back.
                raise UnderStoreError(
                    f"{opened.path} reached the under store after its writer had given up", opened.path
                )
            answer: Published | RayFSError = self.publication.publish(opened, FileEvent.PUBLISH_STORED, now)
            if opened.body.options.write_type is WriteType.THROUGH and not opened.body.options.replication_min:
                self.publication.drop_blocks(self.state.block_ids(opened.id, opened.body))
        except RayFSError as error:
            self.publication.discard(opened, now, str(error))
            self._restore(stored, file_id, existing, now)
            answer = error
        self._tell(file_id, answer)
        self._next_through(now)

    def _only_stored(self, existing: Inode | None) -> bool:
        """Whether a published file had its only whole copy at the key that was just overwritten."""
        if existing is None or existing.body is None or existing.body.stored is None:
            return False
        return bool(self.state.missing_blocks(existing.id, existing.body)) or not existing.body.blocks

    def _restore(self, landed: Stored | None, file_id: int, existing: Inode | None, now: float) -> None:
        """Drive a key back to what the namespace says after a file for it was not published."""
        if existing is not None and existing.body is not None and existing.body.state is not FileState.CACHED:
            key = paths.key_of(self.state.namespace.path_of(existing))
            if landed is not None and existing.body.state is FileState.PERSISTED and existing.body.stored is not None:
                existing.body.stored = None
                existing.body.persist_at = existing.body.dirty_since = now
                self.state.transition(existing.id, existing.body, FileEvent.OVERWRITTEN_IN_STORE, now)
            self.keys.occupy(key, existing.id, now, landed)
        elif landed is not None:
            self.keys.vacate(landed.key, landed, file_id, now)

    def failed(self, file_id: int, reason: str, definite: bool, now: float) -> None:
        """A failed try: a definite one ends the write, others do when the writer's patience has ended."""
        opened = self.state.open_files.get(file_id)
        if opened is None:
            return
        row = self.state.rows[paths.key_of(opened.path)]
        if not definite and now - self.began.get(file_id, 0.0) <= opened.body.options.write_wait_s:
            return
        message = f"{opened.path} could not be written to the under store and was not published: {reason}"
        self._tell(file_id, (UnderStoreError if definite else UnderStoreUnavailable)(message, opened.path))
        if row.attempt is not None:
            opened.given_up = True  # a request may still land: the file stays until that is known
            self.state.body_changed(file_id)
            return
        self._give_up(opened, reason, now)

    def tick(self, now: float) -> None:
        """The patience of writers ends also while a request hangs: they are told, and the key is settled later."""
        for file_id in list(self.waiting):
            opened = self.state.open_files.get(file_id)
            if opened is None or now - self.began[file_id] <= opened.body.options.write_wait_s:
                continue
            opened.given_up = True
            self.state.body_changed(file_id)
            patience = opened.body.options.write_wait_s
            message = (
                f"the under store did not take {opened.path} within {patience:.0f} s (rayfs.user.file.write.wait.max), "
                "so it was not published; `rayfs status` shows what the store answers"
            )
            self._tell(file_id, UnderStoreUnavailable(message, opened.path))

    def wanted(self, file_id: int, now: float) -> bool:
        """Whether a file may be sent (again); one whose writer was told that it failed ends here instead."""
        opened = self.state.open_files.get(file_id)
        if opened is not None and opened.given_up:
            self._give_up(opened, "its writer had given up", now)
            return False
        return True

    def _give_up(self, opened: OpenFile, reason: str, now: float) -> None:
        key = paths.key_of(opened.path)
        self.publication.discard(opened, now, reason)
        self._restore(None, opened.id, self.state.namespace.find(opened.path), now)
        row = self.state.rows.get(key)
        if row is not None and row.wanted == opened.id:
            self.keys.vacate(key, None, None, now)
        self._next_through(now)

    def _tell(self, file_id: int, answer: Published | RayFSError) -> None:
        waiting = self.waiting.pop(file_id, None)
        self.began.pop(file_id, None)
        if waiting is not None:
            batch, position = waiting
            batch.finish(position, answer, self.state.effects)

    def _next_through(self, now: float) -> None:
        queue, self.queue = self.queue, []
        for file_id in queue:
            if file_id in self.state.open_files:
                self.occupy(self.state.open_files[file_id], now)
