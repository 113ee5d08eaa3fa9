"""One key of the under store: from what it holds and what is wanted there to the next thing to do.

Pure decisions about a single row; ``reconcile`` keeps the rows, their order and their attempts.

    known == wanted                      -> SETTLED (the row goes)
    an attempt that ended unanswered     -> SETTLE  (before anything else: it may have landed)
    wanted nothing, known something      -> DELETE  (if-match; waits while a live file's bytes are still there)
    wanted F, F has its bytes elsewhere  -> COPY    (if-match on both sides)
    wanted F, F dirty                    -> PUT or MULTIPART (if-none-match, or if-match of what is known)
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from rayfs.core.lifecycle import FileState
from rayfs.core.model import Block, BlockId, Stored
from rayfs.core.orders import Condition, FoundObject
from rayfs.core.records import FileBody, KeyRow, Known


class Action(StrEnum):
    """What a row needs next."""

    SETTLED = "settled"
    SETTLE = "settle"
    DELETE = "delete"
    COPY = "copy"
    PUT = "put"
    MULTIPART = "multipart"
    WAIT = "wait"


def next_action(row: KeyRow, wanted: FileBody | None, *, source_of_other: bool, part_size: int | None) -> Action:
    """The next action of a row without an attempt in flight.

    ``source_of_other``: what the key holds is still the only stored copy of a file that has moved away. ``part_size``
    None: the store takes objects of any size in one request.
    """
    if row.attempt is not None and row.attempt.unsettled:
        return Action.SETTLE
    if row.wanted is None or wanted is None:
        if row.known is None:
            return Action.SETTLED
        return Action.WAIT if source_of_other else Action.DELETE
    if wanted.stored is not None and wanted.stored.key == row.key and wanted.state is FileState.PERSISTED:
        return Action.SETTLED
    if source_of_other:
        return Action.WAIT
    if wanted.state is FileState.PERSISTED:
        return Action.COPY
    if wanted.state in (FileState.DIRTY, FileState.THROUGH):
        single = part_size is None or wanted.length <= part_size or len(wanted.blocks) < 2
        return Action.PUT if single else Action.MULTIPART
    return Action.WAIT


def condition_of(row: KeyRow) -> Condition:
    """Every write says what it expects to replace: nothing, or the object last known."""
    return Condition(None if row.known is None else row.known.etag)


def disagreement(found: FoundObject | None, file_id: int, body: FileBody) -> str | None:
    """Why the store's answer is not this file, or None when it is."""
    if found is None:
        return "the store says that it holds nothing after the upload"
    if found.length != body.length:
        return f"the store says {found.length} bytes and the file has {body.length}"
    if found.crc is not None and body.crc is not None and found.crc != body.crc:
        return f"the store's checksum {found.crc:016x} is not the file's {body.crc:016x}"
    if found.file_id is not None and found.file_id != file_id:
        return f"the store holds file {found.file_id:x} and not {file_id:x}"
    return None


def as_known(found: FoundObject | None) -> Known | None:
    """The store's word as a row keeps it."""
    return None if found is None else Known(found.etag, found.file_id, found.length)


def as_stored(key: str, found: FoundObject) -> Stored:
    """Where a file's bytes are from now on."""
    return Stored(key, found.etag)


def backoff_s(failures: int, initial_s: float, bound_s: float, rng: random.Random) -> float:
    """Exponential with half jitter and an upper bound ("Exponential Backoff And Jitter", AWS Architecture Blog, 2015).

    Not a library's, because the core may use neither a clock nor a random source of its own.
    """
    full = min(bound_s, initial_s * 2.0 ** min(failures - 1, 30))
    return full * (0.5 + rng.random() / 2)


@dataclass(frozen=True, slots=True)
class PlannedPart:
    """A run of whole blocks that is one part of a multipart upload."""

    part: int
    blocks: tuple[BlockId, ...]
    length: int


def plan_parts(file_id: int, blocks: Sequence[Block], part_size: int, maximum_parts: int) -> list[PlannedPart]:
    """Cut a file into parts of whole blocks of at least ``part_size`` bytes (but the last), at most
    ``maximum_parts``.
    """
    total = sum(block.length for block in blocks)
    least = max(part_size, -(-total // maximum_parts))
    parts: list[PlannedPart] = []
    run: list[BlockId] = []
    size = 0
    for index, block in enumerate(blocks):
        run.append(BlockId(file_id, index))
        size += block.length
        if size >= least or index == len(blocks) - 1:
            parts.append(PlannedPart(len(parts) + 1, tuple(run), size))
            run, size = [], 0
    return parts
