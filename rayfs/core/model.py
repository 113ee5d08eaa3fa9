"""The nouns of RayFS: ids, files, blocks, replicas and the options a file is written with.

Plain frozen values (mutable only where the core owns them), shared by every room. Sizes are bytes, times are seconds
since the epoch, checksums are CRC64NVME as unsigned integers (``rayfs.core.checksum`` renders them).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

NAMESPACE = "rayfs"
"""Ray namespace of every RayFS actor, and the GCS key-value namespace of the snapshot."""


class WriteType(StrEnum):
    """Where the bytes are when ``close()`` returns (DESIGN section 2)."""

    MUST_CACHE = "MUST_CACHE"
    CACHE_THROUGH = "CACHE_THROUGH"
    THROUGH = "THROUGH"
    ASYNC_THROUGH = "ASYNC_THROUGH"


class PersistenceState(StrEnum):
    """What the under store has of a file. LOST is derived, never stored."""

    NOT_PERSISTED = "NOT_PERSISTED"
    TO_BE_PERSISTED = "TO_BE_PERSISTED"
    PERSISTED = "PERSISTED"
    LOST = "LOST"


class Shortfall(StrEnum):
    """What happens when N nodes cannot be had."""

    WRITE_THROUGH = "WRITE_THROUGH"
    FAIL = "FAIL"


class BlockId(NamedTuple):
    """A block is named by its file and its position; printed ``<file id in hex>.<index>``."""

    file_id: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which nobody asks of a block id

    def __str__(self) -> str:
        return f"{self.file_id:x}.{self.index}"


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """How one file is written; resolved per request from call, client, path and defaults, never from the servers'
    values.

    ``persist_wait_s`` None means never by itself. ``replication_max`` -1 means no limit.
    """

    write_type: WriteType = WriteType.ASYNC_THROUGH
    durable: int = 1
    replication_min: int = 0
    replication_max: int = -1
    shortfall: Shortfall = Shortfall.WRITE_THROUGH
    write_wait_s: float = 30.0
    persist_wait_s: float | None = 0.0
    block_size: int = 64 << 20

    @property
    def replicas_at_close(self) -> int:
        """Replicas that must exist when ``close()`` returns (table in DESIGN section 2)."""
        if self.write_type is WriteType.THROUGH:
            return 0
        if self.write_type is WriteType.MUST_CACHE:
            return max(1, self.replication_min)
        return max(1, self.durable, self.replication_min)


@dataclass(frozen=True, slots=True)
class BlockSum:
    """Length of a block and the checksum of each 1 MiB of it; ``rayfs.core.checksum.block_crc`` combines them."""

    length: int
    chunks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a complete file as the namespace records it."""

    length: int
    crc: int


@dataclass(frozen=True, slots=True)
class Stored:
    """Where a file's bytes are in the under store; apart from the path, so that a rename is one commit."""

    key: str
    etag: str


@dataclass(frozen=True, slots=True)
class WorkerAddress:
    """A worker process: the node it serves, its Ray actor name, and its incarnation (one life of the process)."""

    node_id: str
    actor_name: str
    incarnation: str
    host: str = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class PersisterAddress:
    """A persister process on a node."""

    node_id: str
    actor_name: str
    incarnation: str


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One transition of a file: when, what happened, and a short detail for a person."""

    at: float
    event: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Replication:
    """Replication levels of a file, as ``stat --json`` shows them."""

    durable: int
    min: int
    max: int


@dataclass(frozen=True, slots=True)
class BlockStatus:
    """One block in a file's status: ``replicas`` are full Ray node ids."""

    id: str
    length: int
    checksum: str
    replicas: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PersistStatus:
    """How persisting a file goes: None where there is nothing to say."""

    attempts: int = 0
    last_error: str | None = None
    next_attempt_s: float | None = None
    age_s: float | None = None


@dataclass(frozen=True, slots=True)
class FileStatus:
    """The record of ``rayfs stat --json`` and ``fs.status()`` (DESIGN section 8). Directories have length 0 and no
    blocks.
    """

    path: str
    type: str  # "file" or "directory", as fsspec says
    length: int
    file_id: int
    generation: int
    persistence_state: PersistenceState
    write_type: WriteType | None = None
    checksum: str | None = None
    replication: Replication | None = None
    in_cache_percent: float = 0.0
    blocks: tuple[BlockStatus, ...] = ()
    persist: PersistStatus = field(default_factory=PersistStatus)
    created: float = 0.0
    modified: float = 0.0
    pinned: bool = False
    block_size: int = 0
    etag: str | None = None
    key: str | None = None
