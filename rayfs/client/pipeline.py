"""Blocks on their way from a writer to its workers: a few at a time, each to all its workers at once.

Knows nothing of Ray and nothing of files: a ``Courier`` carries a block to workers, ``allocate`` asks the master for
targets. Invariants: at most ``in_flight`` blocks are on their way; a worker that failed this writer is not given
another block of it; the first block that cannot be stored ends the writer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

from rayfs.core.checksum import block_crc, sum_block
from rayfs.core.model import BlockId, BlockSum, WorkerAddress
from rayfs.core.operations import AllocateBlocks, BlockTargets, OpenedFile, Receipt, StoreBlock, WrittenBlock
from rayfs.errors import NoSpace, RayFSError

if TYPE_CHECKING:
    from typing_extensions import Buffer

IN_FLIGHT_BYTES = 128 << 20
MOST_IN_FLIGHT = 4
"""Blocks on their way: ``IN_FLIGHT_BYTES`` of them (two of the default size, as many in the workers' books again), at
least one and at most ``MOST_IN_FLIGHT``, beyond which more threads only wait for the same memory."""

AHEAD = 8
"""Blocks whose targets are asked for at once."""

FULL_PAUSE_S = 0.5
"""How long a writer waits before it tries again, where workers are full or a new master does not know them yet."""


class Courier(Protocol):
    """Carries blocks to workers."""

    def put(self, body: Buffer) -> Any:
        """A parcel with a copy of ``body``."""

    def store(
        self, targets: Sequence[WorkerAddress], request: StoreBlock, parcel: Any
    ) -> Mapping[WorkerAddress, Receipt | RayFSError]:
        """Each target's answer; an error for one that gave none."""


def blocks_in_flight(block_size: int) -> int:
    """How many blocks of ``block_size`` bytes a writer has on their way at once."""
    return max(1, min(MOST_IN_FLIGHT, IN_FLIGHT_BYTES // block_size))


class BlockSender:
    """Gets each block of one file onto as many workers as the master asks for, replacing those that fail.

    ``write_wait_s`` bounds how long a block waits for workers that have room.
    """

    def __init__(
        self,
        courier: Courier,
        allocate: Callable[[AllocateBlocks], BlockTargets],
        opened: OpenedFile,
        writer_node: str,
        write_wait_s: float,
    ) -> None:
        self._courier = courier
        self._allocate = allocate
        self._file_id = opened.file_id
        self._writer_node = writer_node
        self._write_wait_s = write_wait_s
        self._planned: dict[int, tuple[WorkerAddress, ...]] = dict(enumerate(opened.targets))
        self._unplanned = len(opened.targets)  # the first block that nobody has asked targets for
        self._failed: set[str] = set()
        self._lock = threading.Lock()
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """The writer gave up: a block that waits for room stops waiting."""
        self._cancelled.set()

    def send(self, index: int, sums: BlockSum, parcel: Any) -> WrittenBlock:
        """Store one block; the workers that confirmed it. ``NoSpace`` where no worker took it in time.

        With fewer workers than asked for the block goes on: whether that is enough is for the master to say at
        ``close``.
        """
        request = StoreBlock(BlockId(self._file_id, index), sums)
        holders: list[WorkerAddress] = []
        refused: dict[str, RayFSError] = {}  # by incarnation, since the last wait for room
        deadline = time.monotonic() + self._write_wait_s
        last: RayFSError = NoSpace(f"no worker takes block {index} now; `rayfs status` shows the nodes")
        targets = self._first_targets(index) or self._replacements(index, holders, refused, deadline)
        while targets and not self._cancelled.is_set():
            answers = self._courier.store(targets, request, parcel)
            failed = {w.incarnation: error for w, error in answers.items() if isinstance(error, RayFSError)}
            holders += [worker for worker, answer in answers.items() if isinstance(answer, Receipt)]
            if not failed:
                break
            refused.update(failed)
            last = next(iter(failed.values()))
            with self._lock:
                self._failed.update(i for i, error in failed.items() if not isinstance(error, NoSpace))
            targets = self._replacements(index, holders, refused, deadline)
        if not holders:
            raise last
        return WrittenBlock(index, sums.length, block_crc(sums), tuple(holders))

    def _first_targets(self, index: int) -> tuple[WorkerAddress, ...]:
        with self._lock:
            while index not in self._planned:
                first, avoid = self._unplanned, tuple(sorted(self._failed))
                more = self._allocate(AllocateBlocks(self._file_id, first, AHEAD, self._writer_node, avoid)).targets
                self._planned.update(enumerate(more, first))
                self._unplanned += len(more)
            planned = self._planned.pop(index)
            good = tuple(worker for worker in planned if worker.incarnation not in self._failed)
        return good if len(good) == len(planned) else good + self._ask_more(index, good, ())

    def _replacements(
        self, index: int, holders: Sequence[WorkerAddress], refused: dict[str, RayFSError], deadline: float
    ) -> tuple[WorkerAddress, ...]:
        """Other workers for those that refused; waits where those were full, or where the block has no worker."""
        while True:
            more = self._ask_more(index, holders, refused)
            may_help = not holders or any(isinstance(error, NoSpace) for error in refused.values())
            if more or not may_help or time.monotonic() >= deadline or self._cancelled.wait(FULL_PAUSE_S):
                return more
            refused.clear()

    def _ask_more(self, index: int, have: Sequence[WorkerAddress], refused: Iterable[str]) -> tuple[WorkerAddress, ...]:
        with self._lock:
            avoid = tuple(sorted(self._failed.union(refused)))
        keep = tuple(worker.incarnation for worker in have)
        return self._allocate(AllocateBlocks(self._file_id, index, 1, self._writer_node, avoid, keep)).targets[0]


class BlockPipeline:
    """Takes a file's blocks in order and has them sent by a few threads. Not for several writing threads at once."""

    def __init__(
        self, put: Callable[[Buffer], Any], send: Callable[[int, BlockSum, Any], WrittenBlock], in_flight: int
    ) -> None:
        self._put = put
        self._send = send
        self._room = threading.BoundedSemaphore(in_flight)
        self._threads = ThreadPoolExecutor(in_flight, thread_name_prefix="rayfs-blocks")
        self._sent: list[Future[WrittenBlock]] = []
        self._failure: BaseException | None = None

    def submit(self, body: Buffer) -> None:
        """Take the next block, waiting for room. ``body`` may be used again as soon as this returns.

        Raises the error of a block before this one that could not be stored.
        """
        self._room.acquire()
        if self._failure is not None:
            self._room.release()
            raise self._failure
        try:
            sums, parcel = sum_block(body), self._put(body)
            self._sent.append(self._threads.submit(self._run, len(self._sent), sums, parcel))
        except BaseException:
            self._room.release()
            raise

    def finish(self) -> tuple[WrittenBlock, ...]:
        """All blocks, once each has been confirmed; raises the first error."""
        try:
            return tuple(future.result() for future in self._sent)
        finally:
            self.cancel()

    def cancel(self) -> None:
        """Take no more blocks and start no more sending. Does not wait, so that a finalizer may call it."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _run(self, index: int, sums: BlockSum, parcel: Any) -> WrittenBlock:
        try:
            return self._send(index, sums, parcel)
        except BaseException as failure:
            self._failure = self._failure or failure
            raise
        finally:
            self._room.release()
