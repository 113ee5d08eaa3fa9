"""Reading a file: block by block from its holders, verified, or from the under store where that holds this very file.

The logic (``FileReader``) asks a ``Source`` for bytes and knows nothing of Ray. Invariants: no byte is handed out
that does not have the checksum it was written with (each 1 MiB chunk that is touched; a whole block where it comes
from the under store); a reader never goes over to another file at the same path; a rotten or dead holder means the
next one.
"""

from __future__ import annotations

import io
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING, Any, Protocol

from rayfs.core.checksum import CHUNK, block_crc, crc64
from rayfs.core.model import BlockId, BlockSum, Stored, WorkerAddress
from rayfs.core.operations import ReadBlock, ReadPlan
from rayfs.errors import ChecksumMismatch, DataUnavailable, FileNotFound, RayFSError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

KEPT_BLOCKS = 2
"""Blocks that an open file keeps in place: the one being read, and the one before or after it."""

REPLANS = 4
REPLAN_PAUSE_S = 0.5
"""How often, and how long apart, the master is asked again when no holder gave a block: a copy may just have moved."""

RECOVERY_REPLANS = 40
"""The same where the master knows no node that ever held the block: it has just started, and its workers report
again."""

STORE_WINDOW = 8 << 20
"""Bytes read ahead from the under store while a file that only it holds is read in order."""

BUFFER_BYTES = 128 << 10
"""Buffer of the file object: what makes reading single bytes and lines cheap."""


class Delivery(Protocol):
    """A block's bytes as a holder has them."""

    @property
    def sums(self) -> BlockSum:
        """What the holder says the chunks' checksums are."""

    @property
    def view(self) -> memoryview:
        """The bytes, in place."""


class Source(Protocol):
    """Where bytes come from."""

    def order(self, holders: Sequence[WorkerAddress]) -> list[WorkerAddress]:
        """Holders in the order in which to ask them."""

    def is_local(self, holder: WorkerAddress) -> bool:
        """Whether asking costs no transfer."""

    def fetch(self, holder: WorkerAddress, block: BlockId) -> Delivery:
        """A block from one holder; a ``RayFSError`` where it cannot give it."""

    def report_rotten(self, holder: WorkerAddress, block: BlockId) -> None:
        """Say that a holder's copy is not what was written."""

    def read_stored(self, stored: Stored, offset: int, length: int) -> memoryview:
        """A range of an object in the under store, if it still is that object."""


@dataclass
class _OpenBlock:
    """A block in hand. ``verified`` holds the chunks that were checked; None where the whole block was."""

    holder: WorkerAddress | None
    sums: BlockSum | None
    view: memoryview
    verified: set[int] | None = field(default_factory=set)

    def is_sound(self, start: int, stop: int) -> bool:
        """Whether the chunks under ``[start, stop)`` are what was written."""
        if self.verified is None or self.sums is None:
            return True
        for chunk in range(start // CHUNK, -(-stop // CHUNK)):
            if chunk not in self.verified:
                if crc64(self.view[chunk * CHUNK : (chunk + 1) * CHUNK]) != self.sums.chunks[chunk]:
                    return False
                self.verified.add(chunk)
        return True


class FileReader:
    """Verified ranges of one file. Not for several threads at once.

    ``replan`` asks the master again how to read the path.
    """

    def __init__(
        self,
        plan: ReadPlan,
        source: Source,
        replan: Callable[[], ReadPlan],
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.plan = plan
        self._source = source
        self._replan = replan
        self._pause = pause
        self._open: OrderedDict[int, _OpenBlock] = OrderedDict()
        self._bad: set[tuple[str, int]] = set()  # (worker's actor, block) whose copy is rotten
        self._end = 0  # where the last read ended
        self._window: tuple[int, memoryview] = (0, memoryview(b""))
        self._ahead: tuple[int, Future[_OpenBlock | None]] | None = None
        self._threads: ThreadPoolExecutor | None = None

    def pieces(self, offset: int, length: int) -> Iterator[memoryview]:
        """The bytes from ``offset`` on, at most ``length`` and not beyond the end; the views stay valid while held."""
        end = min(offset + max(0, length), self.plan.length)
        while offset < end:
            if self.plan.blocks:
                index, start = divmod(offset, self.plan.block_size)
                stop = min(start + end - offset, self.plan.blocks[index].block.length)
                piece = self._piece(index, start, stop)
                if offset == self._end and stop >= self.plan.block_size // 2:
                    self._read_ahead(index + 1)
            else:
                piece = self._stored_piece(offset, end - offset)
            offset += len(piece)
            self._end = offset
            yield piece

    def read(self, offset: int, length: int) -> bytes:
        """The same, joined."""
        return b"".join(self.pieces(offset, length))

    def close(self) -> None:
        """Let go of everything."""
        self._open.clear()
        self._window = (0, memoryview(b""))
        self._ahead = None
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None

    # --- blocks ------------------------------------------------------------------------------------------------------

    def _piece(self, index: int, start: int, stop: int) -> memoryview:
        while True:
            block = self._open.get(index) or self._take_ahead(index) or self._find(index)
            if block.is_sound(start, stop):
                self._open[index] = block
                self._open.move_to_end(index)
                while len(self._open) > KEPT_BLOCKS:
                    self._open.popitem(last=False)
                return block.view[start:stop]
            self._open.pop(index, None)
            if block.holder is not None:
                self._reject(block.holder, index)

    def _find(self, index: int) -> _OpenBlock:
        """The block from a holder or the under store; asks the master again where neither has it."""
        for again in count(1):
            wanted = self.plan.blocks[index]
            found = self._from_holders(wanted, index)
            if found is not None:
                return found
            if self.plan.stored is not None:
                return self._from_store(self.plan.stored, wanted, index)
            is_known = bool(wanted.holders or self.plan.missing_nodes)
            if again > (REPLANS if is_known else RECOVERY_REPLANS):
                break
            self._pause(REPLAN_PAUSE_S)
            if not self._refresh():
                break
        missing = ", ".join(node[:6] for node in self.plan.missing_nodes) or "unknown"
        raise DataUnavailable(
            f"no live copy of block {index} of {self.plan.path} is left and the under store does not hold this file "
            f"(copies were on nodes: {missing}); it is readable again when one of them comes back",
            self.plan.path,
        )

    def _from_holders(self, wanted: ReadBlock, index: int) -> _OpenBlock | None:
        for holder in self._source.order(wanted.holders):
            if (holder.actor_name, index) in self._bad:
                continue
            try:
                found = self._source.fetch(holder, wanted.id)
            except RayFSError:
                continue
            whole = found.sums.length == len(found.view) == wanted.block.length
            if whole and block_crc(found.sums) == wanted.block.crc:
                return _OpenBlock(holder, found.sums, found.view)
            self._reject(holder, index)
        return None

    def _reject(self, holder: WorkerAddress, index: int) -> None:
        self._bad.add((holder.actor_name, index))
        self._source.report_rotten(holder, self.plan.blocks[index].id)

    def _from_store(self, stored: Stored, wanted: ReadBlock, index: int) -> _OpenBlock:
        """A whole block from the under store: less than that could not be verified."""
        view = self._source.read_stored(stored, index * self.plan.block_size, wanted.block.length)
        if len(view) != wanted.block.length or crc64(view) != wanted.block.crc:
            raise ChecksumMismatch(
                f"the under store's object {stored.key} does not have the bytes of {self.plan.path}, block {index}; "
                "see `rayfs fsck`",
                self.plan.path,
            )
        return _OpenBlock(None, None, view, verified=None)

    def _refresh(self) -> bool:
        """Ask how to read the path now; False where it is another file by now, or none."""
        try:
            plan = self._replan()
        except FileNotFound:
            return False
        same_object = plan.stored is not None and plan.stored == self.plan.stored
        if plan.file_id != self.plan.file_id and not same_object:
            return False
        if len(plan.blocks) != len(self.plan.blocks):  # only the under store knows it by now; our checksums still hold
            plan = replace(plan, blocks=tuple(replace(block, holders=()) for block in self.plan.blocks))
        self.plan = replace(plan, block_size=self.plan.block_size)
        return True

    # --- reading ahead -----------------------------------------------------------------------------------------------

    def _read_ahead(self, following: int) -> None:
        """Begin to fetch the next block of a file that is read in order, unless this node has it."""
        if self._ahead is not None or following in self._open or following >= len(self.plan.blocks):
            return
        wanted = self.plan.blocks[following]
        if not wanted.holders or any(self._source.is_local(holder) for holder in wanted.holders):
            return
        if self._threads is None:
            self._threads = ThreadPoolExecutor(1, thread_name_prefix="rayfs-ahead")
        self._ahead = (following, self._threads.submit(self._from_holders, wanted, following))

    def _take_ahead(self, index: int) -> _OpenBlock | None:
        if self._ahead is None:
            return None
        following, future = self._ahead
        self._ahead = None
        if following == index:
            return future.result()
        future.cancel()
        return None

    # --- files that only the under store holds -----------------------------------------------------------------------

    def _stored_piece(self, offset: int, length: int) -> memoryview:
        start, window = self._window
        if not start <= offset < start + len(window):
            if self.plan.stored is None:
                raise DataUnavailable(f"nothing holds {self.plan.path} any more", self.plan.path)
            ahead = STORE_WINDOW if offset == self._end else CHUNK
            size = min(max(min(length, STORE_WINDOW), ahead), self.plan.length - offset)
            start, window = offset, self._source.read_stored(self.plan.stored, offset, size)
            if len(window) != size:
                raise DataUnavailable(f"the under store cut {self.plan.stored.key} short", self.plan.path)
            self._window = (start, window)
        return window[offset - start : offset - start + length]


class _Raw(io.RawIOBase):
    """Position and ``readinto`` over a ``FileReader``."""

    def __init__(self, reader: FileReader) -> None:
        super().__init__()
        self.reader = reader
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.reader.plan.length}.get(whence)
        if base is None:
            raise ValueError(f"whence is {whence}; it takes 0, 1 or 2")
        if base + offset < 0:
            raise ValueError(f"cannot seek to {base + offset}, before the start of the file")
        self._position = base + offset
        return self._position

    def readinto(self, target: WriteableBuffer) -> int:
        view = memoryview(target).cast("B")
        filled = 0
        for piece in self.reader.pieces(self._position, len(view)):
            view[filled : filled + len(piece)] = piece
            filled += len(piece)
        self._position += filled
        return filled

    def readall(self) -> bytes:
        body = self.reader.read(self._position, self.reader.plan.length)
        self._position += len(body)
        return body

    def close(self) -> None:
        if not self.closed:
            super().close()
            self.reader.close()


class ReadableFile(io.BufferedReader):
    """A binary file that is being read: the same file until it is closed, whatever happens at its path.

    Pickles as (file system, path): it is opened again where it is unpickled, at the same position.
    """

    def __init__(self, fs: Any, path: str, reader: FileReader) -> None:
        super().__init__(_Raw(reader), BUFFER_BYTES)
        self.fs = fs
        self.path = path
        self.size = reader.plan.length

    @property
    def name(self) -> str:
        """The path."""
        return self.path

    @property
    def mode(self) -> str:
        """As ``open`` was given it."""
        return "rb"

    def __reduce__(self) -> Any:
        return _open_again, (self.fs, self.path, self.tell())


def _open_again(fs: Any, path: str, position: int) -> Any:
    file = fs.open(path, "rb")
    file.seek(position)
    return file
