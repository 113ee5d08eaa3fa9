"""The durable records: what the metastore keeps, and nothing else of the core's state survives a crash of the master.

Records are mutable while the core owns them; a commit takes their encoding at the end of the event that changed them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from rayfs.core.lifecycle import FileState
from rayfs.core.model import Block, HistoryEntry, Stored, WriteOptions
from rayfs.core.operations import PropertyValue

ROOT_ID = 1


class Table(StrEnum):
    """One table of the metastore for each kind of record."""

    INODES = "inodes"
    OPEN_FILES = "open_files"
    KEY_ROWS = "key_rows"
    SESSIONS = "sessions"
    PATH_PROPERTIES = "path_properties"
    NODES = "nodes"
    SETTINGS = "settings"


@dataclass(slots=True)
class FileBody:
    """What makes an inode a file. ``generation`` is 0 until it is published. ``crc`` None: only the under store knows
    it.
    """

    state: FileState
    options: WriteOptions
    length: int = 0
    crc: int | None = None
    blocks: list[Block] = field(default_factory=list)
    generation: int = 0
    overwrite: bool = False
    stored: Stored | None = None
    persist_at: float | None = None
    dirty_since: float | None = None
    history: list[HistoryEntry] = field(default_factory=list)


@dataclass(slots=True)
class Inode:
    """A file or a directory. ``loaded``: every child that the under store knows is in the namespace already."""

    id: int
    parent: int
    name: str
    created: float
    modified: float
    body: FileBody | None = None
    pinned: bool = False
    loaded: bool = False

    @property
    def is_directory(self) -> bool:
        return self.body is None


@dataclass(slots=True)
class OpenFile:
    """A file that is being written: its future inode id and body, and the path it asks for.

    ``allocated``: blocks below this index may exist on workers. ``given_up``: written through, and its writer was told
    that it failed while a request to the under store was still unanswered.
    """

    id: int
    path: str
    body: FileBody
    writer_node: str
    opened: float
    heard: float
    allocated: int = 0
    given_up: bool = False


@dataclass(slots=True)
class Known:
    """What the under store was last known to hold at a key: an object (``file_id`` None: a stranger's)."""

    etag: str
    file_id: int | None
    length: int


class AttemptKind(StrEnum):
    """What a request to the under store is for."""

    PUT = "put"
    MULTIPART = "multipart"
    COPY = "copy"
    DELETE = "delete"
    SETTLE = "settle"


@dataclass(slots=True)
class Attempt:
    """The one request in flight at a key, committed before it is sent. ``unsettled``: it ended without an answer."""

    id: int
    kind: AttemptKind
    file_id: int | None
    started: float
    persister: str  # incarnation that it was sent to
    upload_id: str | None = None
    unsettled: bool = False


@dataclass(slots=True)
class KeyRow:
    """A key of the under store that is not known to hold what the namespace wants there.

    ``wanted`` is a file id, or None for "nothing". ``known`` None: the key is believed to hold nothing.
    """

    key: str
    known: Known | None
    wanted: int | None
    since: float
    attempt: Attempt | None = None
    attempts: int = 0
    failures: int = 0
    last_error: str | None = None
    next_at: float = 0.0


@dataclass(slots=True)
class SessionRecord:
    """Answers that a client has not confirmed yet, by sequence (encoded by ``rayfs.core.sessions``)."""

    id: str
    confirmed: int
    heard: float
    answers: dict[int, str] = field(default_factory=dict)


@dataclass(slots=True)
class PathRecord:
    """Properties set by ``rayfs pathconf`` on one path."""

    path: str
    properties: dict[str, PropertyValue]


@dataclass(slots=True)
class NodeRecord:
    """A node whose worker has registered; after a restart the master waits for those it knew."""

    node_id: str
    host: str


@dataclass(slots=True)
class Setting:
    """One named fact: the prefix that this cluster owns, whether persisting has begun."""

    name: str
    value: str


Record = Inode | OpenFile | KeyRow | SessionRecord | PathRecord | NodeRecord | Setting
