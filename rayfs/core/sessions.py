"""Requests are executed once: per session, the answers that the client has not confirmed yet, kept durably.

A repeat is answered from here. A sequence that is confirmed already, or a session nobody knows, is refused and never
executed: a delayed duplicate of a delete must not hit a newer file. Bounds: ``SESSIONS`` sessions, ``OUTSTANDING``
answers in each.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from rayfs import errors
from rayfs.core.model import PersistenceState, WorkerAddress, WriteType
from rayfs.core.operations import BlockTargets, OpenedFile, Published, Request
from rayfs.core.records import SessionRecord
from rayfs.errors import RayFSError, RequestRefused, UnknownSession

SESSIONS = 10_000
OUTSTANDING = 256

Answer = object


class Sessions:
    """All sessions. ``changed`` and ``dropped`` are told of each durable change."""

    def __init__(self, changed: Callable[[SessionRecord], None], dropped: Callable[[SessionRecord], None]) -> None:
        self.records: dict[str, SessionRecord] = {}
        self._changed = changed
        self._dropped = dropped

    def open(self, session: str, now: float) -> None:
        """Begin a session; the one that was silent longest makes room where the bound is met."""
        if len(self.records) >= SESSIONS:
            oldest = min(self.records.values(), key=lambda record: record.heard)
            del self.records[oldest.id]
            self._dropped(oldest)
        self.records[session] = SessionRecord(session, confirmed=0, heard=now)
        self._changed(self.records[session])

    def replay(self, request: Request, now: float) -> Answer | None:
        """The answer this request already has, or None when it is to be executed; raises ``RequestRefused``,
        ``UnknownSession``.
        """
        record = self.records.get(request.session)
        if record is None:
            raise UnknownSession(f"unknown session {request.session}: nothing was executed; connect again")
        record.heard = now
        known = record.answers.get(request.sequence)
        if known is not None:
            return decode(known)
        if request.sequence <= record.confirmed:
            raise RequestRefused(
                f"request {request.sequence} of session {request.session} was confirmed already and is not repeated"
            )
        if len(record.answers) - max(0, request.confirmed - record.confirmed) >= OUTSTANDING:
            raise RequestRefused(f"session {request.session} has {OUTSTANDING} unconfirmed answers; confirm some first")
        return None

    def answered(self, request: Request, answer: Answer) -> None:
        """Keep the answer, and forget those that the client has confirmed."""
        record = self.records.get(request.session)
        if record is None:  # it made room for another session meanwhile; the client will be refused if it repeats
            return
        if request.confirmed > record.confirmed:
            record.confirmed = request.confirmed
            for sequence in [sequence for sequence in record.answers if sequence <= record.confirmed]:
                del record.answers[sequence]
        record.answers[request.sequence] = encode(answer)
        self._changed(record)


def _plain(answer: Answer) -> object:
    match answer:
        case None | int():
            return answer
        case Published():
            return ["published", answer.path, answer.file_id, answer.generation, answer.persistence_state.value]
        case RayFSError():
            return ["error", type(answer).__name__, answer.message, answer.path]
        case OpenedFile():
            return [
                "opened",
                answer.file_id,
                answer.block_size,
                answer.write_type.value,
                _plain_targets(answer.targets),
            ]
        case BlockTargets():
            return ["targets", _plain_targets(answer.targets)]
        case tuple():
            return ["many", *[_plain(part) for part in answer]]
    raise TypeError(f"an answer of type {type(answer).__name__} cannot be kept")


def _plain_targets(targets: tuple[tuple[WorkerAddress, ...], ...]) -> list[list[list[str]]]:
    return [[[w.node_id, w.actor_name, w.incarnation, w.host] for w in block] for block in targets]


def _restore_targets(plain: list[list[list[str]]]) -> tuple[tuple[WorkerAddress, ...], ...]:
    return tuple(tuple(WorkerAddress(*worker) for worker in block) for block in plain)


def _restore(plain: object) -> Answer:
    if not isinstance(plain, list):
        return plain
    kind, *rest = plain
    if kind == "published":
        return Published(rest[0], rest[1], rest[2], PersistenceState(rest[3]))
    if kind == "error":
        error: type[RayFSError] = getattr(errors, rest[0])
        return error(rest[1], rest[2])
    if kind == "opened":
        return OpenedFile(rest[0], rest[1], WriteType(rest[2]), _restore_targets(rest[3]))
    if kind == "targets":
        return BlockTargets(_restore_targets(rest[0]))
    return tuple(_restore(part) for part in rest)


NONE = json.dumps(["none"])


def encode(answer: Answer) -> str:
    """An answer as text for the metastore; no pickle. None is told apart from "no answer"."""
    return NONE if answer is None else json.dumps(_plain(answer), separators=(",", ":"))


class Nothing:
    """The kept answer ``None``, which ``replay`` must tell from "not answered yet"."""


def decode(text: str) -> Answer:
    """Inverse of ``encode``; None comes back as ``Nothing``."""
    return Nothing() if text == NONE else _restore(json.loads(text))
