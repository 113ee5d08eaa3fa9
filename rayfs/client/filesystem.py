"""``RayFileSystem``: RayFS as an fsspec file system, and what only RayFS has (states, replicas, persist, free, pin).

Paths come out as ``/a/b``; ``rayfs://a/b``, ``rayfs:///a/b``, ``a/b`` and ``/a/b`` go in. Instances are cheap, hold
no handles, pickle by their arguments and connect on first use, in whatever process they are then in. Only
``rayfs.errors`` come out, each of them also the builtin ``OSError`` that users of fsspec catch.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from fsspec.callbacks import DEFAULT_CALLBACK
from fsspec.spec import AbstractFileSystem
from fsspec.utils import stringify_path

from rayfs.client.address import strip_protocol
from rayfs.client.batch import Batch
from rayfs.client.connection import SILENCE_S, Connection, connection
from rayfs.client.controls import Controls
from rayfs.client.options import RPC_PATIENCE, ClientOptions, Config
from rayfs.client.reading import FileReader, ReadableFile
from rayfs.client.transfer import Workers
from rayfs.client.writing import CompressedWriter, TextWriter, WritableFile
from rayfs.core.model import FileStatus
from rayfs.core.operations import (
    ListDirectory,
    Listing,
    MakeDirectory,
    MetadataLoad,
    OpenForRead,
    ReadPlan,
    Remove,
    Rename,
    Touch,
)
from rayfs.core.options import WRITE_WAIT
from rayfs.errors import (
    FileExists,
    FileNotFound,
    InvalidArgument,
    IsADirectory,
    NotADirectory,
    RayFSError,
)

FSSPEC_OPTIONS = frozenset(
    {"asynchronous", "listings_expiry_time", "loop", "max_paths", "skip_instance_cache", "use_listings_cache"}
)
"""Storage options that are fsspec's own. Listings are never cached here."""

Info = dict[str, Any]


class RayFileSystem(Controls, AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """RayFS at ``address`` (default: ``RAYFS_ADDRESS``, ``RAY_ADDRESS``, or the cluster that ``rayfs start`` left).

    ``config`` is a directory with a ``rayfs.yaml`` or a mapping of properties; ``properties`` are property keys, or
    keywords such as ``write_type="THROUGH"`` and ``replication_durable=3`` (``rayfs.client.options.KEYWORDS``).
    """

    protocol = "rayfs"
    root_marker = "/"
    cachable = True

    def __init__(self, address: str | None = None, config: Config | None = None, **properties: Any) -> None:
        if self._cached:
            return
        super().__init__(**{name: value for name, value in properties.items() if name in FSSPEC_OPTIONS})
        self.address = address
        self._options = ClientOptions.load(
            config, {name: value for name, value in properties.items() if name not in FSSPEC_OPTIONS}
        )

    @property
    def _load(self) -> MetadataLoad:
        return self._options.metadata_load

    @property
    def connection(self) -> Connection:
        """This process's connection to the cluster, made on first use. ``ClusterUnreachable`` where there is none."""
        return connection(self.address, self._options.seconds(RPC_PATIENCE, SILENCE_S))

    # --- paths -------------------------------------------------------------------------------------------------------

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(each) for each in path]
        return strip_protocol(stringify_path(path))

    def unstrip_protocol(self, name: str) -> str:
        """The path as a URL: ``rayfs:///a/b``."""
        return f"rayfs://{self._strip_protocol(name)}"

    # --- looking -----------------------------------------------------------------------------------------------------

    def info(self, path: str, **_: Any) -> Info:
        """fsspec's description of a file or directory, with RayFS's own keys beside ``name``, ``size`` and ``type``."""
        return describe(self.status(path))

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """What is in a directory, by name; a file lists itself."""
        path = self._strip_protocol(path)
        rows: list[Info] = []
        after, more = "", True
        while more:
            listing: Listing = self.connection.query(ListDirectory(path, after, load=self._load))
            rows += [describe(status) for status in listing.entries]
            more = listing.more and bool(listing.entries)
            after = rows[-1]["name"].rpartition("/")[2] if rows else ""
        return rows if detail else [row["name"] for row in rows]

    def exists(self, path: str, **_: Any) -> bool:
        """Whether anything is at the path. A cluster that does not answer is an error, not a no."""
        return self._look(path) is not None

    def isfile(self, path: str) -> bool:
        """Whether a file is at the path."""
        found = self._look(path)
        return found is not None and found.type == "file"

    def isdir(self, path: str) -> bool:
        """Whether a directory is at the path."""
        found = self._look(path)
        return found is not None and found.type == "directory"

    def created(self, path: str) -> datetime:
        """When the file was created (UTC)."""
        return datetime.fromtimestamp(self.status(path).created, UTC)

    def modified(self, path: str) -> datetime:
        """When the file was last written or touched (UTC)."""
        return datetime.fromtimestamp(self.status(path).modified, UTC)

    def checksum(self, path: str) -> str | None:
        """``crc64nvme:`` and base64, as S3 prints it; None for a directory, and for a file that only S3 has so far."""
        return self.status(path).checksum

    def ukey(self, path: str) -> str:
        """Differs whenever the bytes at the path may differ."""
        status = self.status(path)
        return f"{status.file_id:x}-{status.generation}-{status.length}"

    def du(self, path: str, total: bool = True, maxdepth: int | None = None, withdirs: bool = False, **_: Any) -> Any:
        """Bytes in files at or below the path: in all, or by path."""
        found = self.find(path, maxdepth=maxdepth, withdirs=withdirs, detail=True)
        sizes = {name: info["size"] for name, info in found.items()}
        return sum(sizes.values()) if total else sizes

    def _look(self, path: str) -> FileStatus | None:
        try:
            return self.status(path)
        except (FileNotFound, NotADirectory):
            return None

    # --- files -------------------------------------------------------------------------------------------------------

    def open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        cache_options: Mapping[str, Any] | None = None,
        compression: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Open a file: ``rb``, ``wb`` (replaces a file when it is closed), ``xb`` (``FileExists`` if there is one),
        or text.

        For writing: the keywords of ``rayfs.client.options.KEYWORDS``; ``block_size`` in bytes. A file is published
        by a clean ``close()`` only; ``flush`` promises nothing. Appending and changing in place raise
        ``io.UnsupportedOperation``.
        """
        if "b" not in mode:
            text = {name: kwargs.pop(name) for name in ("encoding", "errors", "newline") if name in kwargs}
            binary = self.open(path, mode.replace("t", "") + "b", block_size, cache_options, compression, **kwargs)
            return io.TextIOWrapper(binary, **text) if "r" in mode else TextWriter(binary, **text)
        if compression is None or "r" in mode:
            return super().open(path, mode, block_size, cache_options, compression, **kwargs)
        from fsspec.compression import compr
        from fsspec.core import get_compression

        file = super().open(path, mode, block_size, cache_options, **kwargs)
        codec = get_compression(path, compression)
        return file if codec is None else CompressedWriter(compr[codec](file, mode=mode[0]), file)

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: Mapping[str, Any] | None = None,  # noqa: ARG002  # fsspec's signature; nothing is cached here
        **kwargs: Any,
    ) -> Any:
        if mode == "rb":
            return ReadableFile(self, path, self._reader(path))
        if mode not in ("wb", "xb"):
            raise io.UnsupportedOperation(
                f"{path}: mode {mode!r} changes a file in place, and files are written once; write it anew with 'wb'"
            )
        given = {**kwargs, "block_size": block_size} if block_size else kwargs
        link, properties = self.connection, self._options.of_call(given)
        if mode == "xb" and self._look(path) is not None:
            raise FileExists(f"{path} exists already; remove it, or write it with mode 'wb'", path)
        wait = {**properties.defaults, **properties.overrides}.get(WRITE_WAIT)
        return WritableFile(
            link,
            path,
            properties,
            overwrite=mode == "wb",
            autocommit=autocommit,
            write_wait_s=30.0 if wait is None else float(wait),
        )

    def _reader(self, path: str) -> FileReader:
        link = self.connection

        def plan() -> ReadPlan:
            found: ReadPlan = link.query(OpenForRead(path, self._load))
            return found

        return FileReader(plan(), Workers(link), plan)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        """Bytes ``[start, end)`` of a file; negative numbers count from its end."""
        reader = self._reader(self._strip_protocol(path))
        try:
            first, last, _step = slice(start, end).indices(reader.plan.length)
            return reader.read(first, last - first)
        finally:
            reader.close()

    def cat_ranges(
        self,
        paths: Sequence[str],
        starts: Sequence[int] | int,
        ends: Sequence[int] | int,
        max_gap: int | None = None,  # noqa: ARG002  # fsspec's signature; pieces are views of whole blocks here
        on_error: str = "return",
        **_: Any,
    ) -> list[Any]:
        """Byte ranges of files; each file is opened once."""
        starts = [starts] * len(paths) if isinstance(starts, int) else starts
        ends = [ends] * len(paths) if isinstance(ends, int) else ends
        if not len(paths) == len(starts) == len(ends):
            raise InvalidArgument("paths, starts and ends of cat_ranges must have the same length")
        readers: dict[str, FileReader] = {}
        found: list[Any] = []
        try:
            for path, start, end in zip(self._strip_protocol(list(paths)), starts, ends, strict=True):
                try:
                    reader = readers.get(path) or readers.setdefault(path, self._reader(path))
                    first, last, _step = slice(start, end).indices(reader.plan.length)
                    found.append(reader.read(first, last - first))
                except RayFSError as error:
                    if on_error != "return":
                        raise
                    found.append(error)
        finally:
            for reader in readers.values():
                reader.close()
        return found

    def pipe_file(self, path: str, value: Any, mode: str = "overwrite", **kwargs: Any) -> None:
        """Write a whole file; ``mode="create"`` raises ``FileExists`` if there is one."""
        with self.open(path, "xb" if mode == "create" else "wb", **kwargs) as file:
            file.write(value)

    def pipe(self, path: str | Mapping[str, Any], value: Any = None, **kwargs: Any) -> None:
        """Write one file, or a mapping of many, small ones in few exchanges."""
        if not isinstance(path, Mapping):
            self.pipe_file(path, value, **kwargs)
            return
        overwrite = kwargs.pop("mode", "overwrite") != "create"
        with Batch(self.connection, self._options.of_call(kwargs)) as batch:
            for name, body in path.items():
                if Batch.takes(memoryview(body).nbytes):
                    batch.add(self._strip_protocol(name), bytes(body), overwrite=overwrite)
                else:
                    mode = "overwrite" if overwrite else "create"
                    batch.run(partial(self.pipe_file, name, body, mode=mode, **kwargs))

    def put(
        self,
        lpath: Any,
        rpath: Any,
        recursive: bool = False,
        callback: Any = DEFAULT_CALLBACK,
        maxdepth: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Copy local files or trees in, small ones in few exchanges."""
        with Batch(self.connection, self._options.of_call(kwargs)) as batch:
            super().put(lpath, rpath, recursive, callback, maxdepth, batch=batch, **kwargs)

    def put_file(
        self,
        lpath: Any,
        rpath: Any,
        callback: Any = DEFAULT_CALLBACK,
        mode: str = "overwrite",
        batch: Batch | None = None,
        **kwargs: Any,
    ) -> None:
        """Copy one local file in; a local directory makes a directory."""
        if os.path.isdir(lpath):  # noqa: PTH112  # fsspec's local paths are texts
            self.makedirs(rpath, exist_ok=True)
            return
        size = os.path.getsize(lpath)  # noqa: PTH202  # as above
        if batch is not None and Batch.takes(size):
            with open(lpath, "rb") as source:  # noqa: PTH123  # as above
                body = source.read()
            batch.add(self._strip_protocol(rpath), body, overwrite=mode != "create")
            callback.set_size(size)
            callback.relative_update(size)
        elif batch is not None:
            batch.run(partial(self._put_file, lpath, rpath, callback, mode, **kwargs))
        else:
            self._put_file(lpath, rpath, callback, mode, **kwargs)

    def _put_file(self, lpath: Any, rpath: Any, callback: Any, mode: str, **kwargs: Any) -> None:
        with (
            open(lpath, "rb") as source,  # noqa: PTH123  # fsspec's local paths are texts
            self.open(rpath, "xb" if mode == "create" else "wb", **kwargs) as target,
        ):
            callback.set_size(source.seek(0, os.SEEK_END))
            source.seek(0)
            while piece := source.read(self.blocksize):
                target.write(piece)
                callback.relative_update(len(piece))

    def touch(self, path: str, truncate: bool = True, **kwargs: Any) -> None:
        """Make an empty file; with ``truncate`` false one that exists keeps its bytes and gets a new time."""
        if not truncate and self.exists(path):
            self.connection.execute(Touch(self._strip_protocol(path)))
        else:
            self.pipe_file(path, b"", **kwargs)

    def cp_file(self, path1: str, path2: str, **kwargs: Any) -> None:
        """Copy a file through this client; a directory makes a directory."""
        if self.isdir(path1):
            self.makedirs(path2, exist_ok=True)
            return
        with self.open(path1, "rb") as source, self.open(path2, "wb", **kwargs) as target:
            while piece := source.read(self.blocksize):
                target.write(piece)

    # --- the tree ----------------------------------------------------------------------------------------------------

    def mkdir(self, path: str, create_parents: bool = True, **_: Any) -> None:
        """Make a directory; ``FileExists`` if anything is at the path."""
        self.connection.execute(MakeDirectory(self._strip_protocol(path), parents=create_parents, exist_ok=False))

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Make a directory and its parents."""
        self.connection.execute(MakeDirectory(self._strip_protocol(path), parents=True, exist_ok=exist_ok))

    def rmdir(self, path: str) -> None:
        """Remove an empty directory."""
        if self.status(path).type != "directory":
            raise NotADirectory(
                f"{self._strip_protocol(path)} is a file; remove it with rm", self._strip_protocol(path)
            )
        self.connection.execute(Remove(self._strip_protocol(path)))

    def rm_file(self, path: str) -> None:
        """Remove a file."""
        if self.status(path).type == "directory":
            raise IsADirectory(f"{self._strip_protocol(path)} is a directory; remove it with rmdir, or rm -r", path)
        self.connection.execute(Remove(self._strip_protocol(path)))

    def rm(self, path: str | list[str], recursive: bool = False, maxdepth: int | None = None) -> None:
        """Remove files, or with ``recursive`` trees, each in one step. Patterns are expanded."""
        if maxdepth is not None:
            super().rm(path, recursive=recursive, maxdepth=maxdepth)
            return
        for each in self._matching(path):
            self.connection.execute(Remove(each, recursive=recursive))

    def mv(
        self,
        path1: Any,
        path2: Any,
        recursive: bool = False,  # noqa: ARG002  # fsspec's signature; a tree moves in one step as well
        maxdepth: int | None = None,  # noqa: ARG002  # as above
        overwrite: bool = True,
        **_: Any,
    ) -> None:
        """Move a file or a tree, in one step. A target that ends in ``/``, and one for several sources, is a directory.

        An existing file at the target is replaced, unless ``overwrite`` is false.
        """
        sources = self._matching(path1)
        many = not isinstance(path1, str) or sources != [self._strip_protocol(path1)]
        if isinstance(path2, list):
            targets = self._strip_protocol(path2)
        elif many or path2.endswith("/"):
            targets = [f"{self._strip_protocol(path2).rstrip('/')}/{source.rpartition('/')[2]}" for source in sources]
        else:
            targets = [self._strip_protocol(path2)]
        for source, target in zip(sources, targets, strict=True):
            self.connection.execute(Rename(source, target, overwrite=overwrite))

    def _matching(self, path: str | list[str]) -> list[str]:
        """Paths that a path, pattern or list of them names; a path that exists is never taken for a pattern."""
        found: list[str] = []
        for each in [path] if isinstance(path, str) else path:
            stripped = self._strip_protocol(each)
            if not any(sign in stripped for sign in "*?[") or self.exists(stripped):
                found.append(stripped)
                continue
            matches = self.glob(stripped)
            if not matches:
                raise FileNotFound(f"nothing matches {stripped}", stripped)
            found += matches
        return found


def describe(status: FileStatus) -> Info:
    """A status as fsspec's dictionary."""
    return {
        "name": status.path,
        "size": status.length,
        "type": status.type,
        "created": status.created,
        "mtime": status.modified,
        "persistence": str(status.persistence_state),
        "in_cache_percent": status.in_cache_percent,
        "replicas": min((len(block.replicas) for block in status.blocks), default=0),
        "generation": status.generation,
        "checksum": status.checksum,
        "etag": status.etag,
        "pinned": status.pinned,
    }


def connect(address: str | None = None, config: Config | None = None, **properties: Any) -> RayFileSystem:
    """The file system of the cluster at ``address``; see ``RayFileSystem``. Nothing is contacted before first use.

    Unknown or wrong properties raise ``InvalidProperty`` here.
    """
    return RayFileSystem(address, config, **properties)
