"""Records as text: JSON by msgspec, decoded into exactly the type that the table holds. Never pickle."""

from __future__ import annotations

import msgspec

from rayfs.core.records import (
    Inode,
    KeyRow,
    NodeRecord,
    OpenFile,
    PathRecord,
    Record,
    SessionRecord,
    Setting,
    Table,
)

TYPES: dict[Table, type[Record]] = {
    Table.INODES: Inode,
    Table.OPEN_FILES: OpenFile,
    Table.KEY_ROWS: KeyRow,
    Table.SESSIONS: SessionRecord,
    Table.PATH_PROPERTIES: PathRecord,
    Table.NODES: NodeRecord,
    Table.SETTINGS: Setting,
}

_ENCODER = msgspec.json.Encoder()
_DECODERS = {table: msgspec.json.Decoder(kind) for table, kind in TYPES.items()}


def encode(record: Record) -> bytes:
    """A record as it is now."""
    return _ENCODER.encode(record)


def decode(table: Table, text: bytes) -> Record:
    """The record; ``msgspec.ValidationError`` (a ``ValueError``) where the text is not one."""
    return _DECODERS[table].decode(text)
