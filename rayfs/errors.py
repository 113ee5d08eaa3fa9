"""Every error that RayFS raises, as one tree under ``RayFSError``.

Known by all rooms. Each class is also the builtin ``OSError`` (or ``ValueError``) that callers of file systems already
catch, carries a sentence that says what is wrong and what to do next, and survives pickling (Ray sends errors between
processes).

    RayFSError (OSError)
    ├── FileNotFound (FileNotFoundError)        ├── NoSpace               ENOSPC, retryable
    ├── FileExists (FileExistsError)            ├── ReplicationShortfall  EAGAIN, retryable
    ├── IsADirectory (IsADirectoryError)        ├── DataUnavailable       EIO, retryable
    ├── NotADirectory (NotADirectoryError)      ├── ChecksumMismatch      EIO
    ├── DirectoryNotEmpty  ENOTEMPTY            ├── UnderStoreError       EIO
    ├── AccessDenied (PermissionError)          │   └── UnderStoreUnavailable  retryable
    ├── InvalidArgument (ValueError)            ├── WaitTimedOut (TimeoutError)  retryable
    │   ├── InvalidPath                         ├── ClusterUnreachable (ConnectionError)  retryable
    │   └── InvalidProperty                     ├── RequestRefused  EPERM
    ├── Busy  EBUSY                             │   └── UnknownSession
    └── LeaseLost  ESTALE

Invariant: a message of a retryable error contains ``RAYFS_RETRYABLE``, which Ray Data's ``retried_io_errors`` can
match.
"""

from __future__ import annotations

import errno
from typing import Any, ClassVar

RETRYABLE_TOKEN = "RAYFS_RETRYABLE"  # noqa: S105  # a token in messages, not a secret


class RayFSError(OSError):
    """Root of the tree. ``message`` is one sentence for a person; ``path`` the RayFS path it is about, if any."""

    code: ClassVar[int] = errno.EIO
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, path: str | None = None) -> None:
        if self.retryable and RETRYABLE_TOKEN not in message:
            message = f"{message} [{RETRYABLE_TOKEN}]"
        super().__init__(self.code, message, path)
        self.message = message
        self.path = path

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message, self.path)


class FileNotFound(RayFSError, FileNotFoundError):
    """No file or directory at the path."""

    code = errno.ENOENT


class FileExists(RayFSError, FileExistsError):
    """Something is at the path already and overwriting was not asked for."""

    code = errno.EEXIST


class IsADirectory(RayFSError, IsADirectoryError):
    """A file was needed and the path is a directory."""

    code = errno.EISDIR


class NotADirectory(RayFSError, NotADirectoryError):
    """A directory was needed and the path, or one of its parents, is a file."""

    code = errno.ENOTDIR


class DirectoryNotEmpty(RayFSError):
    """A directory with children was to be removed without ``recursive``."""

    code = errno.ENOTEMPTY


class AccessDenied(RayFSError, PermissionError):
    """The under store or a local file refused access."""

    code = errno.EACCES


class InvalidArgument(RayFSError, ValueError):
    """A value that can never work; the message names the nearest one that does."""

    code = errno.EINVAL


class InvalidPath(InvalidArgument):
    """A path that RayFS or S3 cannot hold."""


class InvalidProperty(InvalidArgument):
    """An unknown property key, or a value that its key does not take."""


class Busy(RayFSError):
    """Refused because the file is dirty: persist it first."""

    code = errno.EBUSY


class NoSpace(RayFSError):
    """No room for the bytes within the time allowed."""

    code = errno.ENOSPC
    retryable = True


class ReplicationShortfall(RayFSError):
    """Fewer nodes than the durable replication asks for, and the shortfall policy is FAIL."""

    code = errno.EAGAIN
    retryable = True


class DataUnavailable(RayFSError):
    """No live replica holds the bytes and the under store does not have this file; names the missing nodes."""

    code = errno.EIO
    retryable = True


class ChecksumMismatch(RayFSError):
    """Bytes that do not have the checksum they were written with."""

    code = errno.EIO


class UnderStoreError(RayFSError):
    """The under store gave a definite refusal (missing bucket, bad credentials, precondition failed)."""

    code = errno.EIO


class UnderStoreUnavailable(UnderStoreError):
    """The under store did not answer, or asked to slow down; another try may work."""

    retryable = True


class WaitTimedOut(RayFSError, TimeoutError):
    """A bounded wait ended before what was waited for."""

    code = errno.ETIMEDOUT
    retryable = True


class ClusterUnreachable(RayFSError, ConnectionError):
    """No RayFS cluster answers at the address."""

    code = errno.ECONNREFUSED
    retryable = True


class RequestRefused(RayFSError):
    """Refused as unsafe or as stale: a session that is unknown, a request already confirmed, a prefix owned by
    another.
    """

    code = errno.EPERM


class UnknownSession(RequestRefused):
    """The master does not know the client's session; nothing was executed."""


class LeaseLost(RayFSError):
    """The open file's lease ended or was taken over; nothing of it was published."""

    code = errno.ESTALE
