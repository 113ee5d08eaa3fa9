"""What the master orders of workers and persisters, and what they answer.

Every order travels with the master's epoch; whoever takes an order refuses one below the highest epoch it has seen (its
floor). Orders that drop name the replica number, so that a late one cannot hit a repaired copy.
"""

from __future__ import annotations

from dataclasses import dataclass

from rayfs.core.model import Block, BlockId, BlockSum, PersisterAddress, Stored, WorkerAddress

# --- workers ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SealBlock:
    """Mark a held block as part of a complete file: what a rebuild of a lost metastore needs to know."""

    block: BlockId
    length: int
    crc: int
    file_length: int
    file_blocks: int
    sequence: int


@dataclass(frozen=True, slots=True)
class PutSealed:
    """Store and seal a small file's only block: the bytes ride in the order."""

    seal: SealBlock
    sums: BlockSum
    body: bytes


@dataclass(frozen=True, slots=True)
class CopyBlock:
    """Make a replica by pulling from ``source``; it is sealed as ``seal`` says."""

    seal: SealBlock
    source: WorkerAddress


@dataclass(frozen=True, slots=True)
class DropReplica:
    """Drop exactly this replica; another number on the same block is left alone."""

    block: BlockId
    replica: int


@dataclass(frozen=True, slots=True)
class Held:
    """One replica as its worker reports it. ``sealed`` is None for a block of an open file."""

    block: BlockId
    replica: int
    length: int
    crc: int
    sealed: SealBlock | None


@dataclass(frozen=True, slots=True)
class BlockChange:
    """A numbered change of what a worker holds: ``held`` is None for a replica that went."""

    number: int
    block: BlockId
    replica: int
    held: Held | None


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """A heartbeat, or with ``full`` the whole truth (at registration, and when the master saw a gap).

    ``first_change`` is the number of the first change in ``changes``; a full report has the number of the last one.
    ``metastore_id`` and ``sequence`` are the highest the worker has seen in orders.
    """

    worker: WorkerAddress
    pid: int
    capacity: int
    used: int
    blocks: int
    first_change: int
    changes: tuple[BlockChange, ...]
    full: tuple[Held, ...] | None
    metastore_id: str = ""
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class ReportAnswer:
    """``acknowledged``: last change taken; ``send_full``: the master wants a full report; ``epoch``: the sender's
    floor.
    """

    epoch: int
    acknowledged: int
    send_full: bool
    metastore_id: str
    sequence: int


# --- persisters ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Condition:
    """Precondition of a write: the ETag that the key must have, or None for "the key must not exist"."""

    etag: str | None


@dataclass(frozen=True, slots=True)
class SourceBlock:
    """A block to upload and the workers that hold it, nearest first."""

    block: BlockId
    length: int
    crc: int
    holders: tuple[WorkerAddress, ...]


@dataclass(frozen=True, slots=True)
class PutObject:
    """Send a whole object of these blocks in one PUT. ``crc`` is the object's. ``condition`` None: unconditional."""

    attempt: int
    key: str
    file_id: int
    blocks: tuple[SourceBlock, ...]
    length: int
    crc: int
    condition: Condition | None


@dataclass(frozen=True, slots=True)
class BeginUpload:
    """Start a multipart upload. Answer: ``Answered`` with ``upload_id``."""

    attempt: int
    key: str
    file_id: int


@dataclass(frozen=True, slots=True)
class SendPart:
    """Send one part (numbers start at 1) made of whole blocks. Answer: ``Answered`` with the part's ``etag``."""

    attempt: int
    key: str
    upload_id: str
    part: int
    blocks: tuple[SourceBlock, ...]
    length: int
    crc: int


@dataclass(frozen=True, slots=True)
class SentPart:
    """A part that the store has confirmed."""

    part: int
    etag: str
    crc: int


@dataclass(frozen=True, slots=True)
class FinishUpload:
    """Complete a multipart upload; the answer's ``found`` is the object as the store then describes it."""

    attempt: int
    key: str
    file_id: int
    upload_id: str
    parts: tuple[SentPart, ...]
    length: int
    crc: int
    condition: Condition | None


@dataclass(frozen=True, slots=True)
class CopyObject:
    """Server-side copy after a rename. ``source`` names the object and the ETag it must still have."""

    attempt: int
    key: str
    file_id: int
    source: Stored
    length: int
    crc: int | None
    condition: Condition | None


@dataclass(frozen=True, slots=True)
class DeleteObject:
    """Delete the object if it still has this ETag (None: whatever it is)."""

    attempt: int
    key: str
    etag: str | None


@dataclass(frozen=True, slots=True)
class SettleKey:
    """Find out what the store holds at ``key`` after an attempt without an answer.

    A persister that knows the attempt (running or done) answers with its result once it has one. Otherwise multipart
    uploads at exactly this key are aborted (``upload_id``, or all of ours where it is not known) and the key is asked.
    """

    attempt: int
    key: str
    upload_id: str | None
    multipart: bool


StoreOrder = PutObject | BeginUpload | SendPart | FinishUpload | CopyObject | DeleteObject | SettleKey


@dataclass(frozen=True, slots=True)
class FoundObject:
    """An object as the under store describes it. ``file_id`` from its metadata, None for a stranger's."""

    etag: str
    length: int
    crc: int | None
    file_id: int | None


@dataclass(frozen=True, slots=True)
class Answered:
    """The store's definite word. ``found`` None after a write means "the key holds nothing" (delete, settle)."""

    found: FoundObject | None = None
    upload_id: str | None = None
    etag: str | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """A definite no: nothing changed at the key. ``precondition``: the key does not hold what the condition said."""

    reason: str
    precondition: bool = False
    throttled: bool = False
    source_missing: bool = False  # no holder gave the bytes, or the copy's source has changed
    not_sent: bool = False  # the store could not be reached at all; another try may work


@dataclass(frozen=True, slots=True)
class Unanswered:
    """No answer: the request may or may not take effect, also later."""

    reason: str


StoreAnswer = Answered | Refused | Unanswered


@dataclass(frozen=True, slots=True)
class StoreEntry:
    """One line of an under store listing: a name below the asked directory; ``etag`` None for a common prefix."""

    name: str
    length: int
    etag: str | None
    modified: float


__all__ = [
    "Answered", "BeginUpload", "Block", "BlockChange", "Condition", "CopyBlock", "CopyObject", "DeleteObject",
    "DropReplica", "FinishUpload", "FoundObject", "Held", "PersisterAddress", "PutObject", "PutSealed", "Refused",
    "ReportAnswer", "SealBlock", "SendPart", "SentPart", "SettleKey", "SourceBlock", "StoreAnswer", "StoreEntry",
    "StoreOrder", "Unanswered", "WorkerReport",
]  # fmt: skip
