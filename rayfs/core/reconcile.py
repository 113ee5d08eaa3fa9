"""Drives what the under store holds to what the namespace says, one settled attempt per key at a time.

Rows exist only while a key is not known to hold what is wanted; ``persistqueue`` orders them. An attempt is in the row,
and so committed, before its order leaves. Invariants: at most one attempt per key; no attempt starts while an earlier
one is unsettled; a file is PERSISTED only after the store's own answer agreed with ours.
"""

from __future__ import annotations

from typing import Protocol

from rayfs.core import keyrows
from rayfs.core.checksum import file_crc
from rayfs.core.effects import CallPersister
from rayfs.core.keyrows import Action
from rayfs.core.keytable import KeyTable
from rayfs.core.lifecycle import FileEvent, FileState
from rayfs.core.model import BlockId, Stored
from rayfs.core.orders import (
    Answered,
    BeginUpload,
    CopyObject,
    DeleteObject,
    FinishUpload,
    PutObject,
    Refused,
    SendPart,
    SentPart,
    SettleKey,
    SourceBlock,
    StoreAnswer,
    StoreOrder,
    Unanswered,
)
from rayfs.core.records import Attempt, AttemptKind, FileBody, KeyRow
from rayfs.core.state import Persister, State
from rayfs.core.uploads import Upload


class ThroughWriters(Protocol):
    """What the reconciler tells the write path about files whose writers wait for the under store."""

    def stored(self, file_id: int, stored: Stored, now: float) -> None: ...

    def failed(self, file_id: int, reason: str, definite: bool, now: float) -> None: ...

    def wanted(self, file_id: int, now: float) -> bool: ...


class Reconciler:
    """Keeps the rows and their attempts. ``enabled`` False holds all requests (before the prefix is ours, safe mode).

    ``writers`` is set right after both are made: each needs the other.
    """

    writers: ThroughWriters

    def __init__(self, state: State, keys: KeyTable) -> None:
        self.state = state
        self.keys = keys
        self.enabled = False
        self.in_flight: dict[str, StoreOrder] = {}  # by key: the order of a single-request attempt
        self.uploads: dict[str, Upload] = {}

    # --- the queue ---------------------------------------------------------------------------------------------------

    def dispatch(self, now: float) -> None:
        """Send what may be sent now."""
        self.keys.queue.refill(now)
        for key in self.keys.queue.now_due(now):
            if (row := self.state.rows.get(key)) is not None:
                self.keys.schedule(row, now)
        if not self.enabled:
            return
        for key in list(self.uploads):
            self._send_parts(key, now)
        while (ready := self.keys.queue.next()) is not None:
            row = self.state.rows.get(ready)
            if row is not None and ready not in self.keys.busy:
                self._start(row, now)

    # --- starting an attempt -----------------------------------------------------------------------------------------

    def _start(self, row: KeyRow, now: float) -> None:
        body = self.keys.body_of(row)
        limits = self.state.limits
        action = keyrows.next_action(
            row,
            body,
            source_of_other=row.known is not None and self.keys.is_source(row),
            part_size=max(limits.part_size, limits.minimum_part) if limits.multipart else None,
        )
        if action is Action.SETTLED:
            self._done(row)
        elif action is Action.WAIT:
            return
        elif action is Action.SETTLE:
            attempt = row.attempt
            assert attempt is not None
            multipart = attempt.kind is AttemptKind.MULTIPART
            order = SettleKey(attempt.id, row.key, attempt.upload_id, multipart)
            self._send(row, order, self.keys.queue.pick(prefer=attempt.persister))
        elif action in (Action.PUT, Action.MULTIPART):
            assert body is not None
            assert row.wanted is not None
            if self.writers.wanted(row.wanted, now):
                self._start_upload(row, row.wanted, body, action, now)
        elif action is Action.COPY:
            assert body is not None
            assert body.stored is not None
            assert row.wanted is not None
            self._begin(row, AttemptKind.COPY, row.wanted, now)
            assert row.attempt is not None
            self._send(
                row,
                CopyObject(
                    row.attempt.id, row.key, row.wanted, body.stored, body.length, body.crc, keyrows.condition_of(row)
                ),
                self.keys.queue.pick(),
            )
        else:
            assert row.known is not None
            self._begin(row, AttemptKind.DELETE, None, now)
            assert row.attempt is not None
            self._send(row, DeleteObject(row.attempt.id, row.key, row.known.etag), self.keys.queue.pick())

    def _start_upload(self, row: KeyRow, file_id: int, body: FileBody, action: Action, now: float) -> None:
        missing = self.state.missing_blocks(file_id, body)
        if missing:
            if not self.state.in_grace(now):
                nodes = sorted({node for block in missing for node in self.state.blocks.last_on.get(block, ())})
                where = ", ".join("n" + node[:6] for node in nodes) or "nodes that are gone"
                row.last_error = f"{len(missing)} of {len(body.blocks)} blocks have no live copy (last on {where})"
            row.next_at = now + 1.0
            self.keys.schedule(row, now)
            return
        near = self._nodes_of(file_id, body)
        if action is Action.PUT:
            self._begin(row, AttemptKind.PUT, file_id, now)
            assert row.attempt is not None
            sources = tuple(self._source(block) for block in self.state.block_ids(file_id, body))
            condition = keyrows.condition_of(row)
            put = PutObject(row.attempt.id, row.key, file_id, sources, body.length, body.crc or 0, condition)
            self._send(row, put, self.keys.queue.pick(near=near))
        else:
            self._begin(row, AttemptKind.MULTIPART, file_id, now)
            assert row.attempt is not None
            self._send(row, BeginUpload(row.attempt.id, row.key, file_id), self.keys.queue.pick(near=near))
        self.state.note(file_id, body, FileEvent.UPLOAD_STARTED, now, f"attempt {row.attempts} at {row.key}")

    def _begin(self, row: KeyRow, kind: AttemptKind, file_id: int | None, now: float) -> None:
        row.attempts += 1
        row.attempt = Attempt(self.state.new_id(), kind, file_id, now, persister="")

    def _send(self, row: KeyRow, order: StoreOrder, persister: Persister) -> None:
        assert row.attempt is not None
        if not isinstance(order, SettleKey):
            row.attempt.persister = persister.address.incarnation
        self.in_flight[row.key] = order
        self.keys.busy.add(row.key)
        self.state.row_changed(row)
        self._call(persister, order)

    def _call(self, persister: Persister, order: StoreOrder) -> None:
        persister.running += 1
        if isinstance(order, PutObject | SendPart):
            self.keys.queue.spend(order.length)
        self.state.effects.append(CallPersister(persister.address, order))

    def _nodes_of(self, file_id: int, body: FileBody) -> dict[str, int]:
        near: dict[str, int] = {}
        for block, record in zip(self.state.block_ids(file_id, body), body.blocks, strict=True):
            for node in self.state.blocks.holders(block):
                near[node] = near.get(node, 0) + record.length
        return near

    def _source(self, block: BlockId) -> SourceBlock:
        body = self.state.body(block.file_id)
        assert body is not None
        record = body.blocks[block.index]
        holders = self.state.addresses(self.state.trusted(self.state.blocks.holders(block)))
        return SourceBlock(block, record.length, record.crc, holders)

    # --- multipart ---------------------------------------------------------------------------------------------------

    def _send_parts(self, key: str, now: float) -> None:
        row, upload = self.state.rows[key], self.uploads[key]
        attempt = row.attempt
        assert attempt is not None
        assert attempt.upload_id is not None
        body = self.state.body(upload.file_id)
        if row.wanted != upload.file_id or body is None:
            if not upload.sending:
                self._give_up_upload(row, "the file was replaced or removed during its upload", now)
            return
        while (part := upload.next_part()) is not None and self.keys.queue.slots() > 0:
            near: dict[str, int] = {}
            for block in part.blocks:
                for node in self.state.blocks.holders(block):
                    near[node] = near.get(node, 0) + body.blocks[block.index].length
            persister = self.keys.queue.pick(near=near)
            sources = tuple(self._source(block) for block in part.blocks)
            crc = file_crc([body.blocks[block.index] for block in part.blocks])
            upload.take(part.part, persister.address.incarnation)
            self._call(persister, SendPart(attempt.id, key, attempt.upload_id, part.part, sources, part.length, crc))
        if upload.complete and not upload.finishing and self.keys.queue.slots() > 0:
            upload.finishing = True
            self._call(
                self.keys.queue.pick(prefer=attempt.persister),
                FinishUpload(
                    attempt.id, key, upload.file_id, attempt.upload_id, upload.in_order(), body.length, body.crc or 0,
                    keyrows.condition_of(row),
                ),
            )  # fmt: skip

    def _give_up_upload(self, row: KeyRow, reason: str, now: float) -> None:
        """Abort and ask what the key holds: the upload may have been completed by then."""
        self.uploads.pop(row.key, None)
        self.keys.busy.discard(row.key)
        assert row.attempt is not None
        row.attempt.unsettled = True
        row.next_at = now
        if row.wanted == row.attempt.file_id:
            row.last_error = reason
        self.state.row_changed(row)
        self.keys.schedule(row, now)

    # --- answers -----------------------------------------------------------------------------------------------------

    def answered(self, incarnation: str, order: StoreOrder, answer: StoreAnswer, now: float) -> None:
        """A persister's answer to one order; one for an attempt that is over changes nothing."""
        persister = self.state.persisters.get(incarnation)
        if persister is not None:
            persister.running = max(0, persister.running - 1)
        self._pace(answer)
        row = self.state.rows.get(order.key)
        if row is None or row.attempt is None or row.attempt.id != order.attempt:
            return
        if isinstance(order, SendPart):
            self._part_answered(row, order, answer, now)
            return
        if isinstance(order, FinishUpload):
            self.uploads.pop(row.key, None)
        elif self.in_flight.get(row.key) != order:
            return
        self.in_flight.pop(row.key, None)
        self.keys.busy.discard(row.key)
        if isinstance(answer, Unanswered):
            self._unanswered(row, answer.reason, now)
        elif isinstance(answer, Refused):
            self._refused(row, order, answer, now)
        elif isinstance(order, BeginUpload):
            self._upload_begun(row, answer, now)
        else:
            self._settled(row, order, answer, now)

    def _pace(self, answer: StoreAnswer) -> None:
        if isinstance(answer, Unanswered) or (isinstance(answer, Refused) and answer.throttled):
            self.keys.queue.throttled()  # many stores that are too busy close connections and never say SlowDown
        elif isinstance(answer, Answered):
            self.keys.queue.succeeded()

    def _upload_begun(self, row: KeyRow, answer: Answered, now: float) -> None:
        attempt = row.attempt
        assert attempt is not None
        assert attempt.file_id is not None
        attempt.upload_id = answer.upload_id
        self.state.row_changed(row)
        body = self.state.body(attempt.file_id)
        if body is None or row.wanted != attempt.file_id:
            self._give_up_upload(row, "the file was replaced or removed during its upload", now)
            return
        limits = self.state.limits
        parts = keyrows.plan_parts(
            attempt.file_id, body.blocks, max(limits.part_size, limits.minimum_part), limits.maximum_parts
        )
        self.keys.busy.add(row.key)
        self.uploads[row.key] = Upload(attempt.file_id, {p.part: p for p in parts}, [p.part for p in parts])

    def _part_answered(self, row: KeyRow, order: SendPart, answer: StoreAnswer, now: float) -> None:
        upload = self.uploads.get(row.key)
        if upload is None:
            return
        if isinstance(answer, Answered) and answer.etag is not None:
            upload.confirmed(SentPart(order.part, answer.etag, order.crc))
            return
        reason = answer.reason if isinstance(answer, Refused | Unanswered) else "the store gave no ETag"
        row.last_error = f"part {order.part} of {len(upload.parts)}: {reason}"
        if not upload.failed(order.part):
            self._failure(row, row.last_error, definite=False, now=now)
            self._give_up_upload(row, row.last_error, now)

    def _unanswered(self, row: KeyRow, reason: str, now: float) -> None:
        assert row.attempt is not None
        row.attempt.unsettled = True
        self._failure(row, reason, definite=False, now=now)

    def _refused(self, row: KeyRow, order: StoreOrder, answer: Refused, now: float) -> None:
        assert row.attempt is not None
        if answer.precondition or isinstance(order, FinishUpload | SettleKey):
            # What the key holds is not what we thought (or the upload must be aborted): ask before anything else.
            row.attempt.unsettled = True
        else:
            row.attempt = None
        definite = not (answer.throttled or answer.precondition or answer.source_missing or answer.not_sent)
        self._failure(row, answer.reason, definite=definite, now=now, again_at_once=answer.precondition)

    def _failure(self, row: KeyRow, reason: str, *, definite: bool, now: float, again_at_once: bool = False) -> None:
        limits = self.state.limits
        row.failures += 1
        row.last_error = reason
        wait = keyrows.backoff_s(row.failures, limits.retry_initial_s, limits.retry_max_s, self.state.rng)
        row.next_at = now if again_at_once and row.failures <= 2 else now + wait
        body = self.keys.body_of(row)
        if body is not None and row.wanted is not None:
            self.state.note(row.wanted, body, FileEvent.UPLOAD_FAILED, now, reason)
            if row.failures == 1 or row.failures % 10 == 0:
                self.state.event(now, "warning", "persist-failed", reason, path=self.state.path(row.wanted))
        self.state.row_changed(row)
        self.keys.schedule(row, now)
        if body is not None and row.wanted is not None and body.state is FileState.THROUGH:
            self.writers.failed(row.wanted, reason, definite and row.attempt is None, now)

    def _settled(self, row: KeyRow, order: StoreOrder, answer: Answered, now: float) -> None:
        """The store's definite word on what the key holds."""
        attempt = row.attempt
        assert attempt is not None
        asked_only = isinstance(order, SettleKey)
        row.attempt = None
        row.known = keyrows.as_known(answer.found)
        self.state.row_changed(row)
        found = answer.found
        body = self.keys.body_of(row)
        if body is not None and row.wanted is not None:
            problem = keyrows.disagreement(found, row.wanted, body)
            mine = found is not None and found.file_id == row.wanted
            if problem is None and (mine or not asked_only) and (attempt.file_id == row.wanted or mine):
                assert found is not None
                self._landed(row, row.wanted, body, keyrows.as_stored(row.key, found), now)
                return
            if attempt.file_id == row.wanted and not asked_only:
                self._failure(row, problem or "the store's answer does not name this file", definite=False, now=now)
                return
            if asked_only and self._is_strangers(row):
                self._stranger(row, body, now)
                return
        if (
            body is None
            and asked_only
            and found is not None
            and attempt.kind is AttemptKind.DELETE
            and self._is_strangers(row)
        ):
            message = f"{row.key} was changed by somebody else, so it is not deleted; `rayfs ls` shows it again"
            self.state.event(now, "warning", "foreign-object", message)
            self._done(row)
            return
        row.next_at = min(row.next_at, now) if not row.failures else row.next_at
        self.keys.schedule(row, now)

    def _is_strangers(self, row: KeyRow) -> bool:
        return row.known is not None and row.known.file_id is None

    def _stranger(self, row: KeyRow, body: FileBody, now: float) -> None:
        """Somebody else's object is at the key: replaced only if the file was made to overwrite, and never in
        silence.
        """
        if body.overwrite:
            message = f"an object that RayFS did not write is at {row.key}; it is being replaced as the writer asked"
            self.state.event(now, "warning", "foreign-object", message, path=self.state.path(row.wanted or 0))
            row.next_at = now
            self.keys.schedule(row, now)
            return
        assert row.known is not None
        row.known = None  # keep the condition If-None-Match: it is refused until the stranger's object is gone
        self._failure(
            row,
            f"an object that RayFS did not write is at {row.key}: remove it, or write the file again with overwrite",
            definite=True,
            now=now,
        )

    def _landed(self, row: KeyRow, file_id: int, body: FileBody, stored: Stored, now: float) -> None:
        moved = body.state is FileState.PERSISTED
        body.stored = stored
        self._done(row)
        self.state.counters.persisted_bytes_total += body.length
        if body.state is FileState.THROUGH:
            self.writers.stored(file_id, stored, now)
            return
        body.dirty_since = None
        event = FileEvent.MOVED_IN_STORE if moved else FileEvent.STORED
        self.state.transition(file_id, body, event, now, f"{stored.key} etag {stored.etag}")
        self.keys.source_free(file_id, now)

    def _done(self, row: KeyRow) -> None:
        self.uploads.pop(row.key, None)
        self.keys.forget(row)

    # --- persisters come and go --------------------------------------------------------------------------------------

    def persister_gone(self, incarnation: str, now: float) -> None:
        """A persister died: what it was at work on is unsettled, parts of it are sent again by others."""
        self.state.persisters.pop(incarnation, None)
        for key, order in list(self.in_flight.items()):
            row = self.state.rows.get(key)
            if row is not None and row.attempt is not None and row.attempt.persister == incarnation:
                self.answered(incarnation, order, Unanswered("the persister died during the request"), now)
        for key, upload in list(self.uploads.items()):
            row = self.state.rows[key]
            for part in [part for part, sender in upload.sending.items() if sender == incarnation]:
                upload.failed(part)
            if upload.finishing and row.attempt is not None and row.attempt.persister == incarnation:
                self._give_up_upload(row, "the persister died while completing the upload", now)
