"""What one worker holds: the table of its replicas, its share of the object store, and its numbered log of changes.

Pure bookkeeping; where the bytes are is the caller's business (``body`` is opaque here) and so is locking. Invariants:

- A replica number is given once in a worker's life and never again.
- ``used + 2 * in_flight <= capacity``: bytes on their way count twice, as the argument and as the worker's own copy;
  open blocks use at most ``OPEN_SHARE`` of the capacity, and writers leave ``RESERVE`` of it for repair and drain.
- Each change of the table has the next number; a reader that misses one is told the whole truth instead.
- Orders below the highest epoch seen are refused; drops are refused while the metastore looks like another or an
  older one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from rayfs.core.checksum import block_crc
from rayfs.core.model import BlockId, BlockSum, WorkerAddress
from rayfs.core.orders import BlockChange, DropReplica, Held, ReportAnswer, SealBlock, WorkerReport
from rayfs.errors import NoSpace, RequestRefused

B = TypeVar("B")

LOG_LIMIT = 20_000
"""Changes that are kept for a master that is away; one that was away for longer gets a full report."""

CHANGES_PER_REPORT = 5_000
"""Changes in one heartbeat, so that a heartbeat stays small."""

OPEN_SHARE = 0.8
"""Largest part of the capacity that blocks of open files may have. Half would refuse one file of 1 GiB with three
copies on four nodes whose shares are 1.2 GB, with nothing else on them; what must stay free for repair is
``RESERVE``."""

RESERVE = 1 / 16
"""Part of the capacity that writers leave free, so that repair and drain find room on a full node."""


@dataclass(frozen=True, slots=True)
class Replica(Generic[B]):
    """One stored block: its number, its sums, its seal once the file is complete, and where its bytes are."""

    block: BlockId
    number: int
    sums: BlockSum
    crc: int
    body: B
    sealed: SealBlock | None

    def held(self) -> Held:
        """As the worker reports it."""
        return Held(self.block, self.number, self.sums.length, self.crc, self.sealed)


class Holdings(Generic[B]):
    """The replicas of one worker. ``capacity`` is the worker's share of its node's object store, in bytes."""

    def __init__(self, capacity: int, epoch: int, metastore_id: str) -> None:
        self.capacity = capacity
        self.used = 0
        self.in_flight = 0
        self.epoch = epoch
        self.metastore_id = metastore_id
        self.sequence = 0
        self._open = 0
        self._estranged: str | None = None
        self._replicas: dict[BlockId, Replica[B]] = {}
        self._last_number = 0
        self._log: deque[BlockChange] = deque(maxlen=LOG_LIMIT)
        self._last_change = 0
        self._acknowledged = 0
        self._full_wanted = True  # at first contact

    def __len__(self) -> int:
        return len(self._replicas)

    def __iter__(self) -> Iterator[Replica[B]]:
        return iter(tuple(self._replicas.values()))

    def get(self, block: BlockId) -> Replica[B] | None:
        """The replica of ``block`` that is held now."""
        return self._replicas.get(block)

    # --- admission ---------------------------------------------------------------------------------------------------

    def reserve(self, length: int, *, for_writer: bool) -> None:
        """Take room for ``length`` bytes on their way in, or raise ``NoSpace``; give it back with ``release``.

        ``for_writer``: the block of an open file, which is bounded more tightly than a copy or a closed file.
        """
        room = self.capacity * (1 - RESERVE) if for_writer else self.capacity
        if self.used + 2 * (self.in_flight + length) > room:
            raise NoSpace(
                f"the worker's share of its node's object store is full: {length} bytes more do not fit beside "
                f"{self.used} held and {self.in_flight} on their way, of {self.capacity}; wait for files to be "
                "persisted, or add a node"
            )
        if for_writer and self._open + self.in_flight + length > self.capacity * OPEN_SHARE:
            raise NoSpace(
                f"open files fill their part of the worker's share ({self._open} of {self.capacity} bytes); "
                "close some, write fewer at once, or add a node"
            )
        self.in_flight += length

    def release(self, length: int) -> None:
        """Give back what ``reserve`` took: the bytes are stored now, or will not come."""
        self.in_flight -= length

    # --- the table ---------------------------------------------------------------------------------------------------

    def keep(self, block: BlockId, sums: BlockSum, body: B, sealed: SealBlock | None) -> Replica[B]:
        """Record stored bytes as a new replica, in the place of an older one of the same block."""
        self.remove(block)
        self._last_number += 1
        replica = Replica(block, self._last_number, sums, block_crc(sums), body, sealed)
        self._replicas[block] = replica
        self.used += sums.length
        if sealed is None:
            self._open += sums.length
        self._record(block, replica.number, replica.held())
        return replica

    def seal(self, order: SealBlock) -> Replica[B] | None:
        """Mark a held block as part of a complete file; None if these bytes are not held. Sealing twice is one seal."""
        replica = self._replicas.get(order.block)
        if replica is None or (replica.sums.length, replica.crc) != (order.length, order.crc):
            return None
        if replica.sealed == order:
            return replica
        if replica.sealed is None:
            self._open -= replica.sums.length
        sealed = replace(replica, sealed=order)
        self._replicas[order.block] = sealed
        self._record(order.block, sealed.number, sealed.held())
        return sealed

    def drop(self, order: DropReplica) -> bool:
        """Forget exactly this replica; False, and nothing happens, when the block has another number or is not held."""
        replica = self._replicas.get(order.block)
        return replica is not None and replica.number == order.replica and self.remove(order.block)

    def remove(self, block: BlockId) -> bool:
        """Forget whatever replica of ``block`` is held."""
        replica = self._replicas.pop(block, None)
        if replica is None:
            return False
        self.used -= replica.sums.length
        if replica.sealed is None:
            self._open -= replica.sums.length
        self._record(block, replica.number, None)
        return True

    # --- orders and reports ------------------------------------------------------------------------------------------

    def admit(self, epoch: int, *, drops: bool = False) -> None:
        """Take an order's epoch as the floor, or raise ``RequestRefused`` for one below it, or for drops in doubt."""
        if epoch < self.epoch:
            raise RequestRefused(f"the order comes from epoch {epoch} and the cluster is in epoch {self.epoch} by now")
        self.epoch = epoch
        if drops and self._estranged:
            raise RequestRefused(f"nothing is dropped here: {self._estranged}; run `rayfs fsck`")

    def report(self, worker: WorkerAddress, pid: int) -> WorkerReport:
        """The next heartbeat: the changes that the master has not acknowledged, or everything."""
        first = self._acknowledged + 1
        full = None
        changes: tuple[BlockChange, ...] = ()
        if self._full_wanted or self._first_logged() > first:
            full, first = tuple(replica.held() for replica in self._replicas.values()), self._last_change
        else:
            skipped = first - self._first_logged()
            changes = tuple(self._log[at] for at in range(skipped, min(len(self._log), skipped + CHANGES_PER_REPORT)))
        return WorkerReport(
            worker=worker,
            pid=pid,
            capacity=self.capacity,
            used=self.used,
            blocks=len(self._replicas),
            first_change=first,
            changes=changes,
            full=full,
            metastore_id=self.metastore_id,
            sequence=self.sequence,
        )

    def acknowledge(self, answer: ReportAnswer) -> None:
        """Take the master's answer to a heartbeat; one from an older epoch is ignored."""
        if answer.epoch < self.epoch:
            return
        self.epoch = answer.epoch
        self._full_wanted = answer.send_full or answer.acknowledged > self._last_change
        self._acknowledged = min(answer.acknowledged, self._last_change)
        while self._log and self._log[0].number <= self._acknowledged:
            self._log.popleft()
        self._watch_metastore(answer)

    def _watch_metastore(self, answer: ReportAnswer) -> None:
        if self.metastore_id and answer.metastore_id != self.metastore_id:
            self._estranged = f"the metastore is {answer.metastore_id} and was {self.metastore_id}"
        elif answer.sequence < self.sequence:
            self._estranged = f"the metastore is at change {answer.sequence} and was at {self.sequence} before"
        else:
            self._estranged = None
            self.metastore_id, self.sequence = answer.metastore_id, answer.sequence

    def _first_logged(self) -> int:
        return self._log[0].number if self._log else self._last_change + 1

    def _record(self, block: BlockId, number: int, held: Held | None) -> None:
        self._last_change += 1
        self._log.append(BlockChange(self._last_change, block, number, held))
