"""The file object that is written to: nothing of it is seen by anybody before a clean ``close()``.

Small files are kept in memory and go to the master in one exchange at ``close``; larger ones go to the workers block
by block while they are written. Whatever ends a writer in another way (an exception in its ``with``, ``discard()``,
the garbage collector, the process's death) publishes nothing and leaves what was at the path before.
"""

from __future__ import annotations

import contextlib
import io
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from rayfs.client.connection import Connection
from rayfs.client.leases import Lease
from rayfs.client.pipeline import BlockPipeline, BlockSender, blocks_in_flight
from rayfs.client.transfer import Workers
from rayfs.core.checksum import crc64
from rayfs.core.operations import (
    SMALL_FILE_BYTES,
    AbandonFile,
    AllocateBlocks,
    BlockTargets,
    ClientProperties,
    CompleteFile,
    CreateFile,
    OpenedFile,
    Published,
    SmallFile,
)
from rayfs.errors import RayFSError

if TYPE_CHECKING:
    from typing_extensions import Buffer


class Upload:
    """A file too large for one exchange: its blocks, its lease, and how it ends."""

    def __init__(self, connection: Connection, create: CreateFile, write_wait_s: float) -> None:
        self._connection = connection
        opened: OpenedFile = connection.execute(create)
        self._file_id = opened.file_id
        self._lease: Lease = connection.leases.hold(opened.file_id)
        workers = Workers(connection)
        self._sender = BlockSender(workers, self._allocate, opened, connection.node_id, write_wait_s)
        self._pipeline = BlockPipeline(workers.put, self._sender.send, blocks_in_flight(opened.block_size))
        self._block = np.empty(opened.block_size, dtype=np.uint8)  # memory is taken as it is written to
        self._filled = 0

    def write(self, body: memoryview) -> None:
        """Take bytes in; whole blocks go out without passing through the buffer."""
        size = len(self._block)
        while body:
            self._lease.check()
            if self._filled == 0 and len(body) >= size:
                self._pipeline.submit(body[:size])
                body = body[size:]
                continue
            count = min(size - self._filled, len(body))
            self._block[self._filled : self._filled + count] = np.frombuffer(body[:count], dtype=np.uint8)
            self._filled += count
            body = body[count:]
            if self._filled == size:
                self._flush()

    def complete(self) -> Published:
        """Send the rest, wait for every block, and have the master publish the file."""
        if self._filled:
            self._flush()
        blocks = self._pipeline.finish()
        self._lease.check()
        published: Published = self._connection.execute(CompleteFile(self._file_id, blocks))
        self._connection.leases.release(self._lease)
        return published

    def abandon(self) -> None:
        """Give the file up, now. The lease ends it where the master cannot be told."""
        self._cancel()
        self._connection.leases.release(self._lease)
        with contextlib.suppress(RayFSError):
            self._connection.execute(AbandonFile(self._file_id))

    def abandon_later(self) -> None:
        """Give the file up without waiting for anything; for finalizers."""
        self._connection.leases.abandon_later(self._lease, self._cancel)

    def _flush(self) -> None:
        self._pipeline.submit(self._block[: self._filled].data)
        self._filled = 0

    def _cancel(self) -> None:
        self._sender.cancel()
        self._pipeline.cancel()

    def _allocate(self, request: AllocateBlocks) -> BlockTargets:
        targets: BlockTargets = self._connection.execute(request)
        self._lease.heard = time.monotonic()
        return targets


class WritableFile(io.BufferedIOBase):
    """A binary file that is being written. ``flush`` promises nothing; ``close`` is what makes the file.

    ``close`` raises what went wrong, and then nothing was published. With ``autocommit`` false (an fsspec transaction)
    ``close`` only ends the writing, and ``commit`` publishes.
    """

    def __init__(
        self,
        connection: Connection,
        path: str,
        properties: ClientProperties,
        *,
        overwrite: bool = True,
        autocommit: bool = True,
        write_wait_s: float = 30.0,
    ) -> None:
        super().__init__()
        self._upload: Upload | None = None
        self._connection = connection
        self._create = CreateFile(path, properties, overwrite, connection.node_id)
        self._write_wait_s = write_wait_s
        self._autocommit = autocommit
        self._small = bytearray()
        self._position = 0
        self._ended = False
        self._broken: BaseException | None = None
        self.published: Published | None = None
        self.path = self.name = path
        self.mode = "wb" if overwrite else "xb"

    def writable(self) -> bool:
        """Always; a closed file raises on ``write``."""
        return True

    def tell(self) -> int:
        """Bytes written so far."""
        return self._position

    def write(self, body: Buffer) -> int:
        """Take all of ``body``. Raises the error of an earlier block that could not be stored."""
        if self.closed:
            raise ValueError(f"{self.path} is closed")
        view = memoryview(body).cast("B")
        try:
            if self._upload is None and self._position + len(view) <= SMALL_FILE_BYTES:
                self._small += view
            else:
                if self._upload is None:
                    self._upload = Upload(self._connection, self._create, self._write_wait_s)
                    self._upload.write(memoryview(bytes(self._small)))
                    self._small.clear()
                self._upload.write(view)
        except BaseException as error:
            self._broken = error  # whoever goes on after this must not publish a file with a hole
            raise
        self._position += len(view)
        return len(view)

    def close(self) -> None:
        """Publish the file (once): when this returns it is there for everybody, as safe as its write type says."""
        if self.closed:
            return
        if _left_by_an_exception():
            self.discard()
            return
        super().close()
        if self._autocommit:
            self.commit()

    def commit(self) -> None:
        """Publish what was written; for fsspec's transactions, after ``close``."""
        if self._ended:
            return
        try:
            self.published = self._publish()
        except BaseException:
            self.discard()
            raise
        self._ended = True

    def discard(self) -> None:
        """End without publishing anything."""
        super().close()
        if not self._ended:
            self._ended = True
            self._small.clear()
            if self._upload is not None:
                self._upload.abandon()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def __del__(self) -> None:
        # Never publishes: nobody can tell a file that was forgotten from one whose writer failed.
        if not getattr(self, "_ended", True):
            self._ended = True
            if self._upload is not None:
                self._upload.abandon_later()

    def __reduce__(self) -> Any:
        raise TypeError(f"{self.path} is open for writing and cannot be pickled; open it where it is written")

    def _publish(self) -> Published:
        if self._broken is not None:
            raise self._broken
        if self._upload is not None:
            return self._upload.complete()
        create, body = self._create, bytes(self._small)
        file = SmallFile(create.path, body, crc64(body), create.overwrite)
        return self._connection.small_files.write(file, create.properties)


class TextWriter(io.TextIOWrapper):
    """Text over a file that is being written; unlike its base it publishes only by a clean ``close()``."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def discard(self) -> None:
        """End without publishing anything."""
        _discard(self.buffer)

    def __del__(self) -> None:
        """In the place of the base's, which would close, and so publish; the file below gives itself up."""


class CompressedWriter(io.BufferedIOBase):
    """A codec over a file that is being written: closing it ends the codec, then publishes the file."""

    def __init__(self, codec: Any, file: WritableFile) -> None:
        super().__init__()
        self._codec = codec
        self._file = file

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, body: Buffer) -> int:
        """Compress and write."""
        written: int = self._codec.write(body)
        return written

    def close(self) -> None:
        """End the compressed stream and publish the file."""
        if not self.closed:
            try:
                self._codec.close()
            except BaseException:
                self.discard()
                raise
            super().close()
            self._file.close()

    def discard(self) -> None:
        """End without publishing anything."""
        with contextlib.suppress(Exception):
            self._codec.close()
        super().close()
        self._file.discard()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def __del__(self) -> None:
        """In the place of the base's, which would close, and so publish; the file below gives itself up."""


def _discard(file: Any) -> None:
    if isinstance(file, WritableFile | CompressedWriter):
        file.discard()


def _left_by_an_exception() -> bool:
    """Whether fsspec's ``OpenFile`` is closing this file because the body of its ``with`` raised.

    ``with fsspec.open(url, "wb")`` closes the file alike after an exception and without one (fsspec 2026.9,
    ``OpenFile.__exit__``), which would publish half a file; only its frame knows the difference.
    """
    core = sys.modules.get("fsspec.core")
    closing = sys._getframe(1).f_back  # noqa: SLF001  # the caller of ``close``; None when that is a C++ thread (pyarrow)
    leaving = closing.f_back if closing is not None else None
    return (
        core is not None
        and closing is not None
        and leaving is not None
        and closing.f_code is core.OpenFile.close.__code__
        and leaving.f_code is core.OpenFile.__exit__.__code__
        and any(leaving.f_locals.get("args", ()))
    )
