"""A local directory as an under store: for trying RayFS out, and for tests that need no S3.

The directory must be seen by every node (one machine, or a shared file system with ``flock``). It behaves as S3 does
where the rest of RayFS relies on it:

- An object appears whole or not at all: it is written below ``.rayfs/.local/tmp``, synced, and renamed.
- Conditions hold: look, decide and rename happen under one ``flock``.
- An ETag names one write: it is made of inode, size and modification time, and each write sets its own time in
  nanoseconds.
- File id and checksum are kept in a sidecar below ``.rayfs/.local/objects`` whose name has key *and* ETag. It is
  written before the rename, so a crash leaves at worst a sidecar of an object that never was, and a file that somebody
  else changed or put there has no sidecar and is a stranger's.
- A key ``a/`` (a directory marker) is the directory ``a`` with a sidecar; a directory that has neither a sidecar nor
  children goes away with its last object, as a common prefix does.

What it cannot do: hold ``a`` and ``a/b`` as objects at once, or a name over 255 bytes. Both are refused with a
sentence.
"""

# ruff: noqa: ARG002  (multipart is part of the interface and not of a directory)

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rayfs.core.checksum import CHUNK, crc64, to_base64
from rayfs.core.orders import Condition, FoundObject, SentPart, StoreEntry
from rayfs.core.paths import RESERVED
from rayfs.errors import FileNotFound, InvalidPath, UnderStoreError, UnderStoreUnavailable
from rayfs.understore.base import ListingPage, PreconditionFailed

if TYPE_CHECKING:
    from typing_extensions import Buffer

OWN = f"{RESERVED}/.local"
"""Directory of this module's own files, below the root; no key of RayFS's is there, and no listing shows it."""

PAGE = 1000
"""Entries on one page of a listing, as S3 has it."""

STALE_S = 24 * 3600.0
"""Age in seconds at which an unfinished write below ``tmp`` is a dead process's, and ``check`` removes it."""


class LocalStore:
    """A directory of this machine; see ``UnderStore`` for the methods."""

    multipart = False
    minimum_part = 0
    maximum_parts = 1

    def __init__(self, directory: str) -> None:
        self._root = Path(directory)
        self.uri = self._root.as_uri()
        self._own = self._root / OWN

    # --- writing -----------------------------------------------------------------------------------------------------

    def put(
        self, key: str, body: Sequence[Buffer], *, length: int, crc: int, file_id: int, condition: Condition | None
    ) -> FoundObject:
        buffers = [memoryview(buffer).cast("B") for buffer in body]
        actual = 0
        for buffer in buffers:
            actual = crc64(buffer, actual)
        if actual != crc or sum(map(len, buffers)) != length:
            raise UnderStoreError(
                f"The bytes for {key} are not the ones that were written (CRC64NVME {to_base64(actual)}, expected "
                f"{to_base64(crc)}); nothing was stored: take another replica.",
                key,
            )
        with self._errors("writing", key):
            if key.endswith("/"):
                return self._put_marker(key, length, file_id, condition)
            with self._temporary() as (path, descriptor):
                for buffer in buffers:
                    _write_all(descriptor, buffer)
                return self._publish(path, descriptor, key, crc, file_id, condition)

    def _publish(
        self, path: Path, descriptor: int, key: str, crc: int | None, file_id: int, condition: Condition | None
    ) -> FoundObject:
        """Sync the temporary file and give it its key, if the condition holds."""
        os.utime(descriptor, ns=(now := time.time_ns(), now))
        os.fsync(descriptor)
        status = os.fstat(descriptor)
        found = FoundObject(_etag(status), status.st_size, crc, file_id)
        target = self._path(key)
        with self._locked():
            self._require(key, condition)
            self._describe(key, found)
            _make_directories(target.parent)
            path.replace(target)
            _sync_directory(target.parent)
            self._forget(key, but=found.etag)
        return found

    def _put_marker(self, key: str, length: int, file_id: int, condition: Condition | None) -> FoundObject:
        if length:
            raise UnderStoreError(
                f"{key} is a directory's marker and must be empty; a local directory cannot hold it.", key
            )
        with self._locked():
            self._require(key, condition)
            path = self._path(key)
            _make_directories(path)
            found = FoundObject(f"{path.stat().st_ino:x}-{time.time_ns():x}", 0, 0, file_id)
            self._describe(key, found)
            self._forget(key, but=found.etag)
        return found

    def copy(
        self, source: str, source_etag: str, key: str, *, file_id: int, condition: Condition | None
    ) -> FoundObject:
        with self._errors("copying to", key):
            origin = self.head(source)
            if origin is None or origin.etag != source_etag:
                raise _source_gone(source, source_etag)
            if source.endswith("/"):
                return self._put_marker(key, 0, file_id, condition)
            with self._temporary() as (path, descriptor), _opened(self._path(source)) as reader:
                if reader is None or _etag(os.fstat(reader)) != source_etag:
                    raise _source_gone(source, source_etag)
                crc = 0
                while chunk := os.read(reader, CHUNK):
                    crc = crc64(chunk, crc)
                    _write_all(descriptor, memoryview(chunk))
                if _etag(os.fstat(reader)) != source_etag or origin.crc not in (None, crc):
                    raise _source_gone(source, source_etag)
                return self._publish(path, descriptor, key, origin.crc, file_id, condition)

    def delete(self, key: str, etag: str | None) -> None:
        with self._errors("deleting", key), self._locked():
            found = self.head(key)
            if found is None:
                return
            if etag is not None and found.etag != etag:
                raise PreconditionFailed(
                    f"{self.uri}/{key} holds ETag {found.etag}, not {etag}; it was not deleted.", key
                )
            path = self._path(key)
            self._forget(key)
            if not key.endswith("/"):
                path.unlink(missing_ok=True)
                path = path.parent
            self._prune(path)

    def _prune(self, directory: Path) -> None:
        """Remove directories that hold nothing and have no marker, upwards."""
        while directory != self._root and self._root in directory.parents:
            if self._marker(f"{directory.relative_to(self._root)}/") is not None:
                return
            try:
                directory.rmdir()
            except OSError:
                return
            directory = directory.parent

    # --- looking -----------------------------------------------------------------------------------------------------

    def head(self, key: str) -> FoundObject | None:
        path = self._path(key)
        with self._errors("looking at", key):
            if key.endswith("/"):
                return self._marker(key) if path.is_dir() else None
            with suppress(FileNotFoundError, NotADirectoryError):
                status = path.stat()
                if path.is_file():
                    described = self._described(key, _etag(status))
                    return described or FoundObject(_etag(status), status.st_size, None, None)
            self._require_root()
            return None

    def read(self, key: str, *, offset: int, length: int, etag: str | None) -> bytes:
        with self._errors("reading", key), _opened(self._path(key)) as descriptor:
            if descriptor is None:
                self._require_root()
                raise FileNotFound(f"There is no object {self.uri}/{key}.", key)
            if etag is not None and _etag(os.fstat(descriptor)) != etag:
                raise PreconditionFailed(f"{self.uri}/{key} no longer has ETag {etag}.", key)
            pieces, left = [], length
            while left > 0 and (piece := os.pread(descriptor, left, offset + length - left)):
                pieces.append(piece)
                left -= len(piece)
            return b"".join(pieces)

    def list(self, prefix: str, *, recursive: bool = False, token: str | None = None) -> ListingPage:
        self._require_root()
        base = self._path(prefix) if prefix else self._root
        entries: list[StoreEntry] = []
        with self._errors("listing", prefix):
            for entry in self._entries(prefix, base, "", recursive, token or ""):
                if len(entries) == PAGE:
                    return ListingPage(tuple(entries), entries[-1].name)
                entries.append(entry)
        return ListingPage(tuple(entries), None)

    def _entries(self, prefix: str, base: Path, below: str, recursive: bool, after: str) -> Iterator[StoreEntry]:
        """Entries whose name comes after ``after``, in the order of their UTF-8 bytes, as S3 lists them."""
        marker = self.head(prefix + below) if prefix + below else None
        if marker is not None and (below > after or not (below or after)):
            yield StoreEntry(below, 0, marker.etag, (base / below).stat().st_mtime)
        try:
            children = [
                (f"{child.name}/" if child.is_dir() else child.name, child) for child in os.scandir(base / below)
            ]
        except (FileNotFoundError, NotADirectoryError):
            return
        for name, child in sorted(children, key=lambda pair: pair[0].encode(errors="surrogateescape")):
            full = below + name
            if (not prefix and full == f"{RESERVED}/") or prefix + full == f"{OWN}/":
                continue
            if name.endswith("/") and recursive:
                if full > after or after.startswith(full):
                    yield from self._entries(prefix, base, full, recursive, after)
            elif full > after:
                status = None if name.endswith("/") else child.stat()
                yield (
                    StoreEntry(full, status.st_size, _etag(status), status.st_mtime)
                    if status
                    else StoreEntry(full, 0, None, 0.0)
                )

    def check(self) -> None:
        """The directory is there and can be written; leftovers of dead writers are removed."""
        with self._errors("using", ""):
            self._require_root()
            with self._temporary(), self._locked():
                pass
            for path in (self._own / "tmp").iterdir():
                with suppress(FileNotFoundError):
                    if time.time() - path.stat().st_mtime > STALE_S:
                        path.unlink()

    # --- multipart: a whole file is written at once ------------------------------------------------------------------

    def begin_upload(self, key: str, *, file_id: int) -> str:
        raise UnderStoreError("A local directory takes whole objects only; use put.", key)

    def send_part(
        self, key: str, upload_id: str, part: int, body: Sequence[Buffer], *, length: int, crc: int
    ) -> SentPart:
        raise UnderStoreError("A local directory takes whole objects only; use put.", key)

    def finish_upload(
        self,
        key: str,
        upload_id: str,
        parts: Sequence[SentPart],
        *,
        length: int,
        crc: int,
        condition: Condition | None,
    ) -> FoundObject:
        raise UnderStoreError("A local directory takes whole objects only; use put.", key)

    def abort_upload(self, key: str, upload_id: str) -> None:
        """There is none, and one that is gone is not an error."""

    def uploads(self, key: str) -> Sequence[str]:
        return ()

    # --- sidecars, locks and paths -----------------------------------------------------------------------------------

    def _require(self, key: str, condition: Condition | None) -> None:
        """``PreconditionFailed`` when the key does not hold what the condition says. Under the lock."""
        found = self.head(key)
        if condition is not None and (found.etag if found else None) != condition.etag:
            holds = f"ETag {found.etag}" if found else "nothing"
            raise PreconditionFailed(
                f"{self.uri}/{key} holds {holds}, which is not what it was last known to hold.", key
            )

    def _sidecars(self, key: str) -> Path:
        digest = hashlib.sha256(key.encode(errors="surrogateescape")).hexdigest()
        return self._own / "objects" / digest[:2] / digest[2:]

    def _describe(self, key: str, found: FoundObject) -> None:
        path = self._sidecars(key) / found.etag
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"key": key, "length": found.length, "crc": found.crc, "file_id": found.file_id})
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            _write_all(descriptor, memoryview(text.encode()))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        _sync_directory(path.parent)

    def _described(self, key: str, etag: str) -> FoundObject | None:
        try:
            known = json.loads((self._sidecars(key) / etag).read_bytes())
            crc, file_id = known["crc"], known["file_id"]
            if known["key"] != key or not isinstance(crc, int | None) or not isinstance(file_id, int | None):
                return None
            return FoundObject(etag, int(known["length"]), crc, file_id)
        except (OSError, ValueError, KeyError, TypeError):  # none, or torn by a crash: the object is a stranger's
            return None

    def _marker(self, key: str) -> FoundObject | None:
        with suppress(OSError):
            for path in self._sidecars(key).iterdir():
                found = self._described(key, path.name)
                if found is not None:
                    return found
        return None

    def _forget(self, key: str, *, but: str | None = None) -> None:
        """Remove the key's sidecars, also those of writes that died."""
        directory = self._sidecars(key)
        with suppress(FileNotFoundError):
            for path in list(directory.iterdir()):
                if path.name != but:
                    path.unlink()
            if but is None:
                directory.rmdir()

    def _path(self, key: str) -> Path:
        parts = key.removesuffix("/").split("/")
        if any(part in ("", ".", "..") for part in parts) or "\0" in key:
            raise InvalidPath(
                f"{key!r} is no name that a local directory can hold: it has an empty, '.' or '..' part.", key
            )
        return self._root.joinpath(*parts)

    def _require_root(self) -> None:
        if not self._root.is_dir():
            raise UnderStoreError(f"The under store's directory {self._root} does not exist on this node: create it.")

    @contextmanager
    def _temporary(self) -> Iterator[tuple[Path, int]]:
        self._require_root()
        path = self._own / "tmp" / uuid.uuid4().hex
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            yield path, descriptor
        finally:
            os.close(descriptor)
            path.unlink(missing_ok=True)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One at a time, over processes and threads: ``flock`` belongs to the open file; each call opens its own."""
        self._require_root()
        self._own.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._own / "lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def _errors(self, doing: str, key: str) -> Iterator[None]:
        """The operating system's errors as ours. Each comes before the rename, so nothing has changed, but for EIO."""
        try:
            yield
        except (UnderStoreError, FileNotFound, InvalidPath):
            raise
        except OSError as error:
            reason = error.strerror or type(error).__name__
            if error.errno in (errno.EIO, errno.ESTALE, errno.ETIMEDOUT):
                raise UnderStoreUnavailable(f"{doing} {self.uri}/{key} failed: {reason}.", key) from error
            if error.errno in (errno.EEXIST, errno.ENOTDIR, errno.EISDIR):
                raise UnderStoreError(
                    f"{doing} {self.uri}/{key} failed: a local directory cannot hold a file and a directory of one "
                    "name; remove one of them, or use S3.",
                    key,
                ) from error
            hint = {errno.ENOSPC: "make room", errno.EDQUOT: "make room", errno.ENAMETOOLONG: "use a shorter name"}
            todo = hint.get(error.errno or 0, "check the permissions of the directory on this node")
            raise UnderStoreError(f"{doing} {self.uri}/{key} failed: {reason}; {todo}.", key) from error


def _etag(status: os.stat_result) -> str:
    return f"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}"


def _source_gone(source: str, etag: str) -> FileNotFound:
    return FileNotFound(f"The object that was to be copied is gone or has changed ({source}, ETag {etag}).", source)


@contextmanager
def _opened(path: Path) -> Iterator[int | None]:
    """A descriptor to read the file, or None where there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        yield None
        return
    try:
        yield None if path.is_dir() else descriptor
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, buffer: memoryview) -> None:
    while buffer:
        buffer = buffer[os.write(descriptor, buffer) :]


def _make_directories(path: Path) -> None:
    """Make it and its parents, each on stable storage."""
    if not path.is_dir():
        _make_directories(path.parent)
        path.mkdir(exist_ok=True)
        _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
