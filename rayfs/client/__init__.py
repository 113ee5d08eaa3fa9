"""The file system that people use: an fsspec file system, its file objects, and the exchange with master and workers.

May know ``rayfs.core``'s types, ``rayfs.config`` and the actors' names; no front end, no metastore, no under store
(what only S3 holds is read through a persister). Invariants: nothing is published but by a clean ``close()``; bytes
that are handed out have the checksum they were written with; no actor handle is pickled.

Importing this package loads neither Ray nor fsspec: names resolve on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rayfs.client.arrow import arrow_filesystem
    from rayfs.client.connection import Connection
    from rayfs.client.filesystem import RayFileSystem, connect

__all__ = ["Connection", "RayFileSystem", "arrow_filesystem", "connect"]

_HOMES = {
    "Connection": "connection",
    "RayFileSystem": "filesystem",
    "arrow_filesystem": "arrow",
    "connect": "filesystem",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"rayfs.client.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'rayfs.client' has no attribute {name!r}")
