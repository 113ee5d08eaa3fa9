"""Blocks on their way to workers: how many, what a failed worker leads to, and what a full one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from rayfs.client import pipeline
from rayfs.client.pipeline import BlockPipeline, BlockSender, blocks_in_flight
from rayfs.core.checksum import block_crc, sum_block
from rayfs.core.model import BlockSum, WorkerAddress, WriteType
from rayfs.core.operations import AllocateBlocks, BlockTargets, OpenedFile, Receipt, StoreBlock, WrittenBlock
from rayfs.errors import LeaseLost, NoSpace, RayFSError, WaitTimedOut

WAIT_S = 30
MIB = 1 << 20


def worker(name: str) -> WorkerAddress:
    return WorkerAddress(f"node-{name}", f"worker-{name}", name)


A, B, C, D = (worker(name) for name in "abcd")


class Cluster:
    """Workers that store, or answer what ``trouble`` says; a master that hands out ``spares`` in order."""

    def __init__(
        self, spares: Sequence[WorkerAddress] = (), trouble: dict[str, list[RayFSError]] | None = None
    ) -> None:
        self.spares = list(spares)
        self.trouble = trouble or {}
        self.asked: list[AllocateBlocks] = []
        self.sent: list[tuple[int, str]] = []

    def put(self, body: object) -> object:
        return bytes(body)  # type: ignore[call-overload]  # any buffer

    def store(
        self, targets: Sequence[WorkerAddress], request: StoreBlock, parcel: object
    ) -> dict[WorkerAddress, Receipt | RayFSError]:
        assert parcel == b"body"
        self.sent += [(request.block.index, target.incarnation) for target in targets]
        return {
            target: troubles.pop(0)
            if (troubles := self.trouble.get(target.incarnation))
            else Receipt(request.block, 1, target.incarnation)
            for target in targets
        }

    def allocate(self, request: AllocateBlocks) -> BlockTargets:
        self.asked.append(request)
        if request.count > 1:
            return BlockTargets(((A, B),) * request.count)
        usable = [spare for spare in self.spares if spare.incarnation not in (*request.avoid, *request.keep)]
        return BlockTargets((tuple(usable[: 2 - len(request.keep)]),))

    def sender(
        self, write_wait_s: float = 0.0, targets: tuple[tuple[WorkerAddress, ...], ...] = ((A, B), (A, B))
    ) -> BlockSender:
        opened = OpenedFile(7, MIB, WriteType.ASYNC_THROUGH, targets)
        return BlockSender(self, self.allocate, opened, "node-a", write_wait_s)


def send(sender: BlockSender, index: int) -> WrittenBlock:
    return sender.send(index, sum_block(b"body"), b"body")


def test_a_block_goes_to_all_its_workers() -> None:
    cluster = Cluster()
    written = send(cluster.sender(), 0)
    assert written == WrittenBlock(0, 4, block_crc(sum_block(b"body")), (A, B))
    assert cluster.asked == []


def test_targets_of_further_blocks_are_asked_for_many_at_a_time() -> None:
    cluster = Cluster()
    sender = cluster.sender()
    assert [send(sender, index).workers for index in range(6)] == [(A, B)] * 6
    assert [(request.first_index, request.count) for request in cluster.asked] == [(2, pipeline.AHEAD)]


@pytest.mark.scenario("W10")
@pytest.mark.scenario("W9")
def test_a_failed_worker_is_replaced_and_gets_no_other_block() -> None:
    cluster = Cluster(spares=[C], trouble={"b": [WaitTimedOut("stalled")]})
    sender = cluster.sender()
    assert set(send(sender, 0).workers) == {A, C}
    assert set(send(sender, 1).workers) == {A, C}
    assert cluster.sent.count((1, "b")) == 0
    first, second = cluster.asked
    assert (first.avoid, first.keep) == (("b",), ("a",))
    assert (second.avoid, second.keep) == (("b",), ("a",))


def test_a_replacement_that_fails_is_replaced_too() -> None:
    cluster = Cluster(spares=[C, D], trouble={"b": [WaitTimedOut("stalled")], "c": [WaitTimedOut("stalled")]})
    assert set(send(cluster.sender(), 0).workers) == {A, D}


def test_without_a_replacement_the_block_goes_on_with_the_workers_it_has() -> None:
    cluster = Cluster(trouble={"b": [WaitTimedOut("stalled")]})
    assert send(cluster.sender(write_wait_s=60), 0).workers == (A,)


def test_a_block_that_nobody_took_is_an_error() -> None:
    cluster = Cluster(trouble={"a": [WaitTimedOut("stalled")], "b": [WaitTimedOut("stalled")]})
    with pytest.raises(WaitTimedOut):
        send(cluster.sender(), 0)


@pytest.mark.scenario("W11")
def test_a_full_worker_is_passed_over_for_this_block_and_asked_again_for_the_next() -> None:
    cluster = Cluster(spares=[C], trouble={"b": [NoSpace("full")]})
    sender = cluster.sender()
    assert set(send(sender, 0).workers) == {A, C}
    assert send(sender, 1).workers == (A, B)


@pytest.mark.scenario("W17")
def test_where_all_workers_are_full_the_writer_waits_for_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "FULL_PAUSE_S", 0)
    full = [NoSpace("full")] * 3
    cluster = Cluster(spares=[A, B], trouble={"a": list(full), "b": list(full)})
    assert set(send(cluster.sender(write_wait_s=60), 0).workers) == {A, B}


@pytest.mark.scenario("W17")
def test_a_writer_waits_no_longer_than_it_was_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "FULL_PAUSE_S", 0)
    full = [NoSpace("full")] * 1000
    cluster = Cluster(spares=[A, B], trouble={"a": list(full), "b": list(full)})
    with pytest.raises(NoSpace):
        send(cluster.sender(write_wait_s=0), 0)


@pytest.mark.scenario("M1")
def test_a_writer_waits_for_a_new_master_to_know_its_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "FULL_PAUSE_S", 0)
    cluster = Cluster()
    sender = cluster.sender(write_wait_s=60, targets=((),))
    monkeypatch.setattr(sender, "_allocate", late(cluster, [A, B]))
    assert set(send(sender, 0).workers) == {A, B}


def late(cluster: Cluster, workers: list[WorkerAddress]) -> Callable[[AllocateBlocks], BlockTargets]:
    """A master to whom the workers come back after it was asked three times."""

    def allocate(request: AllocateBlocks) -> BlockTargets:
        if len(cluster.asked) == 3:
            cluster.spares = workers
        return cluster.allocate(request)

    return allocate


@pytest.mark.parametrize(("size", "blocks"), [(1, 4), (64 << 20, 2), (100 << 20, 1), (1 << 30, 1)])
def test_the_blocks_on_their_way_are_bounded_in_bytes(size: int, blocks: int) -> None:
    assert blocks_in_flight(size) == blocks


class Gate:
    """A ``send`` that holds each block until it is let go."""

    def __init__(self) -> None:
        self.running = threading.Semaphore(0)
        self.release = threading.Semaphore(0)
        self.most, self._now, self._lock = 0, 0, threading.Lock()

    def send(self, index: int, sums: BlockSum, parcel: object) -> WrittenBlock:
        assert parcel == bytes([index])
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
        self.running.release()
        assert self.release.acquire(timeout=WAIT_S)
        with self._lock:
            self._now -= 1
        return WrittenBlock(index, sums.length, block_crc(sums), (A,))


def test_a_writer_is_held_up_when_enough_blocks_are_on_their_way() -> None:
    gate = Gate()
    blocks = BlockPipeline(bytes, gate.send, in_flight=2)
    with ThreadPoolExecutor(1) as threads:
        writer = threads.submit(lambda: [blocks.submit(bytes([n])) for n in range(6)])
        assert gate.running.acquire(timeout=WAIT_S)
        assert gate.running.acquire(timeout=WAIT_S)
        assert not writer.done()
        gate.release.release(6)
        writer.result(WAIT_S)
    assert [block.index for block in blocks.finish()] == list(range(6))
    assert gate.most == 2


def failing(error: RayFSError) -> Callable[[int, BlockSum, object], WrittenBlock]:
    def send(index: int, sums: BlockSum, parcel: object) -> WrittenBlock:
        raise error

    return send


def test_the_error_of_a_block_reaches_the_writer_and_the_end() -> None:
    blocks = BlockPipeline(bytes, failing(LeaseLost("gone")), in_flight=1)
    blocks.submit(b"a")
    with pytest.raises(LeaseLost):
        blocks.submit(b"b")
    with pytest.raises(LeaseLost):
        blocks.finish()


def test_the_buffer_may_be_used_again_at_once() -> None:
    parcels: list[object] = []

    def send(index: int, sums: BlockSum, parcel: object) -> WrittenBlock:
        parcels.append(parcel)
        return WrittenBlock(index, sums.length, block_crc(sums), (A,))

    blocks = BlockPipeline(bytes, send, in_flight=1)
    buffer = bytearray(b"first")
    blocks.submit(buffer)
    buffer[:] = b"other"
    blocks.submit(buffer)
    assert [block.crc for block in blocks.finish()] == [block_crc(sum_block(body)) for body in (b"first", b"other")]
    assert parcels == [b"first", b"other"]
