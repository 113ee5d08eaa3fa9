"""What a client asks of the master, and the answers.

Mutations travel in a ``Request``, which makes them executed once: the master keeps, durably, the answer to each
sequence that the client has not confirmed. Queries change nothing and carry no session. An answer is the named type or
a ``RayFSError`` value that the client raises.

Invariant: every type here is a frozen value that pickles without Ray.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from rayfs.core.model import Block, BlockId, BlockSum, FileStatus, PersistenceState, Stored, WorkerAddress, WriteType

PropertyValue = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class ClientProperties:
    """``rayfs.user.*`` values of one request: those from files and environment, and those given by connect, -D or the
    call.

    A path's own properties (``rayfs pathconf``) lie between the two.
    """

    defaults: Mapping[str, PropertyValue] = field(default_factory=dict)
    overrides: Mapping[str, PropertyValue] = field(default_factory=dict)


# --- mutations -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CreateFile:
    """Open a file for writing that nobody else sees yet. Parents are made at publication. Answer: ``OpenedFile``."""

    path: str
    properties: ClientProperties
    overwrite: bool
    writer_node: str  # Ray node id of the client, first choice for a replica
    blocks_ahead: int = 2


@dataclass(frozen=True, slots=True)
class OpenedFile:
    """``targets[i]`` are the workers for block i. ``write_type`` is the effective one: a shortfall may have changed
    it.
    """

    file_id: int
    block_size: int
    write_type: WriteType
    targets: tuple[tuple[WorkerAddress, ...], ...]


@dataclass(frozen=True, slots=True)
class AllocateBlocks:
    """Targets for more blocks, or a replacement: ``avoid`` names workers (incarnations) that failed this writer.

    ``keep`` holds, for a replacement of one block, the workers that have it already. Answer: ``BlockTargets``; for a
    replacement the targets are only the additional workers.
    """

    file_id: int
    first_index: int
    count: int
    writer_node: str
    avoid: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BlockTargets:
    """Answer to ``AllocateBlocks``: one tuple of workers for each block asked for."""

    targets: tuple[tuple[WorkerAddress, ...], ...]


@dataclass(frozen=True, slots=True)
class WrittenBlock:
    """The writer's word on one block: where to ask. It counts for nothing until the workers confirm it."""

    index: int
    length: int
    crc: int
    workers: tuple[WorkerAddress, ...]


@dataclass(frozen=True, slots=True)
class Published:
    """A file that is acknowledged: from now on the promises hold for it."""

    path: str
    file_id: int
    generation: int
    persistence_state: PersistenceState


@dataclass(frozen=True, slots=True)
class CompleteFile:
    """Seal and publish. Answer: ``Published``, once N holders of each block have answered and the record is durable."""

    file_id: int
    blocks: tuple[WrittenBlock, ...]


@dataclass(frozen=True, slots=True)
class AbandonFile:
    """The writer failed: forget the open file and drop its blocks. Answer: None. Unknown files are not an error."""

    file_id: int


@dataclass(frozen=True, slots=True)
class RenewLease:
    """The writer is alive. Answer: None, or ``LeaseLost``."""

    file_id: int


@dataclass(frozen=True, slots=True)
class SmallFile:
    """A whole file that rides inside a request: ``body`` at most ``SMALL_FILE_BYTES``."""

    path: str
    body: bytes
    crc: int
    overwrite: bool = True


@dataclass(frozen=True, slots=True)
class WriteFiles:
    """Store, seal and publish small files in one exchange. Answer: ``tuple[Published | RayFSError, ...]`` in order."""

    files: tuple[SmallFile, ...]
    properties: ClientProperties
    writer_node: str


@dataclass(frozen=True, slots=True)
class MakeDirectory:
    """Answer: None. Without ``parents`` the parent must exist; without ``exist_ok`` the path must not."""

    path: str
    parents: bool = True
    exist_ok: bool = True


@dataclass(frozen=True, slots=True)
class Rename:
    """Move a file or a tree. An existing file at ``target`` is replaced only with ``overwrite``. Answer: None."""

    source: str
    target: str
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class Remove:
    """Delete a file, or with ``recursive`` a tree. Answer: None."""

    path: str
    recursive: bool = False


@dataclass(frozen=True, slots=True)
class Touch:
    """Set the modification time of a file or directory that exists. Answer: None."""

    path: str


@dataclass(frozen=True, slots=True)
class Persist:
    """Ask that what is at or below ``path`` goes to the under store now (MUST_CACHE files too). Answer: files asked
    for.
    """

    path: str
    cached: bool = True  # MUST_CACHE files too


@dataclass(frozen=True, slots=True)
class Free:
    """Drop the cached copies of persisted files at or below ``path``. Dirty: ``Busy``, with force too. Answer: files
    freed.
    """

    path: str
    recursive: bool = False
    force: bool = False


@dataclass(frozen=True, slots=True)
class Pin:
    """Pin or unpin a file, or a directory with all that is and will be in it. Answer: None."""

    path: str
    pinned: bool


@dataclass(frozen=True, slots=True)
class SetReplication:
    """Change min and max (None leaves one as it is). Answer: files changed."""

    path: str
    minimum: int | None = None
    maximum: int | None = None
    recursive: bool = False


@dataclass(frozen=True, slots=True)
class SetPathProperties:
    """Set properties (None is a value: never, no limit) for a path and what is below it, and remove some. Answer:
    None.
    """

    path: str
    properties: Mapping[str, PropertyValue]
    remove: tuple[str, ...] = ()


Mutation = (
    CreateFile
    | AllocateBlocks
    | CompleteFile
    | AbandonFile
    | RenewLease
    | WriteFiles
    | MakeDirectory
    | Rename
    | Remove
    | Touch
    | Persist
    | Free
    | Pin
    | SetReplication
    | SetPathProperties
)


@dataclass(frozen=True, slots=True)
class Request:
    """A mutation, executed once. ``sequence`` starts at 1 in each session; all up to ``confirmed`` have been
    answered.
    """

    session: str
    sequence: int
    confirmed: int
    operation: Mutation


# --- queries ---------------------------------------------------------------------------------------------------------


class MetadataLoad(StrEnum):
    """When the under store is asked what it holds: once per directory, at each query, or never."""

    ONCE = "ONCE"
    ALWAYS = "ALWAYS"
    NEVER = "NEVER"


@dataclass(frozen=True, slots=True)
class GetStatus:
    """Answer: ``FileStatus`` or ``FileNotFound``."""

    path: str
    load: MetadataLoad = MetadataLoad.ONCE


@dataclass(frozen=True, slots=True)
class ListDirectory:
    """Answer: ``Listing``, sorted by name, without block details; a file lists itself. ``after`` is a name,
    exclusive.
    """

    path: str
    after: str = ""
    limit: int = 10_000
    load: MetadataLoad = MetadataLoad.ONCE


@dataclass(frozen=True, slots=True)
class Listing:
    """``more`` says that another page follows the last entry."""

    entries: tuple[FileStatus, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class OpenForRead:
    """Answer: ``ReadPlan``."""

    path: str
    load: MetadataLoad = MetadataLoad.ONCE


@dataclass(frozen=True, slots=True)
class ReadBlock:
    """A block and the workers that hold a live replica of it now."""

    id: BlockId
    block: Block
    holders: tuple[WorkerAddress, ...]


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """How to read one file. ``stored`` is set only where the under store holds *this* file.

    ``blocks`` is empty for a file that only the under store has. ``missing_nodes`` names where lost replicas were.
    """

    path: str
    file_id: int
    generation: int
    length: int
    block_size: int
    blocks: tuple[ReadBlock, ...]
    stored: Stored | None
    missing_nodes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GetHistory:
    """Answer: ``tuple[HistoryEntry, ...]``, oldest first."""

    path: str


@dataclass(frozen=True, slots=True)
class GetPathProperties:
    """Answer: ``dict[path, dict[key, value]]`` of the path and its parents, or of all for ``/``."""

    path: str


@dataclass(frozen=True, slots=True)
class AwaitPersisted:
    """Answer, at the latest after ``timeout_s`` (at most 10): ``PersistProgress`` of what is at or below the paths."""

    paths: tuple[str, ...]
    timeout_s: float = 0.0


@dataclass(frozen=True, slots=True)
class PersistProgress:
    """``waiting`` files and changes are not in the under store yet; ``failures`` are the last errors, by path
    (bounded).
    """

    files: int
    waiting: int
    waiting_bytes: int
    pending_changes: int
    failures: Mapping[str, str]

    @property
    def done(self) -> bool:
        """Whether the under store holds what the namespace says."""
        return self.waiting == 0 and self.pending_changes == 0


@dataclass(frozen=True, slots=True)
class GetSnapshot:
    """Answer: ``rayfs.core.snapshot.ClusterSnapshot``."""


@dataclass(frozen=True, slots=True)
class GetServers:
    """Answer: ``dict`` of ``workers`` (WorkerAddress) and ``persisters`` (PersisterAddress) that are live now."""


Query = (
    GetStatus | ListDirectory | OpenForRead | GetHistory | GetPathProperties | AwaitPersisted | GetSnapshot | GetServers
)


SMALL_FILE_BYTES = 64 << 10
"""Files up to this size take the short way (``WriteFiles``): an actor call carries up to 100 KiB inline (Ray 2.60)."""


@dataclass(frozen=True, slots=True)
class StoreBlock:
    """A writer's or a master's request to a worker, apart from the bytes: which block, and the sums it must have."""

    block: BlockId
    sums: BlockSum


@dataclass(frozen=True, slots=True)
class Receipt:
    """A worker's word that it holds a block: replica numbers are new on each store and never reused in an
    incarnation.
    """

    block: BlockId
    replica: int
    incarnation: str


@dataclass(frozen=True, slots=True)
class FetchedBlock:
    """A worker's answer to ``fetch``: which replica, its sums, and the bytes.

    ``body`` is the bytes of a block that lives in the worker's heap, or a list of one Ray object reference: inside the
    list it is borrowed and not resolved on the way, so the reader pulls it from the worker's plasma without a copy.
    """

    replica: int
    sums: BlockSum
    body: bytes | list[Any]
