"""Worker processes on two real Ray nodes, without a master: what they keep, hand out, copy and refuse."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from rayfs.actors import launch
from rayfs.actors.local import LocalNodes
from rayfs.actors.names import worker_name
from rayfs.core.checksum import block_crc, sum_block
from rayfs.core.holdings import OPEN_SHARE
from rayfs.core.model import NAMESPACE, BlockId, BlockSum, WorkerAddress
from rayfs.core.operations import Receipt, StoreBlock
from rayfs.core.orders import CopyBlock, DropReplica, PutSealed, SealBlock
from rayfs.errors import ChecksumMismatch, DataUnavailable, NoSpace, RequestRefused

if TYPE_CHECKING:
    from clusters import Clusters

EPOCH = 5
ANSWER_S = 60
SHARE_BYTES = 64 << 20
FILE_IDS = itertools.count(1)


class Workers:
    """Two workers with ``SHARE_BYTES`` each, new for each test."""

    def __init__(self, nodes: LocalNodes, incarnation: str) -> None:
        import ray

        from rayfs.actors.worker import worker_actor_class, worker_options

        share = SHARE_BYTES / nodes.object_store_memory
        self.addresses = [
            WorkerAddress(node_id, worker_name(node_id, incarnation), incarnation, "127.0.0.2")
            for node_id in map(nodes.node_id, nodes.indexes)
        ]
        self.handles = [
            worker_actor_class()
            .options(**worker_options(at.node_id, incarnation))
            .remote(at.node_id, incarnation, at.host, EPOCH, share, "m")
            for at in self.addresses
        ]
        self.pids = [hello.pid for hello in ray.get([handle.hello.remote() for handle in self.handles])]

    def ask(self, index: int, method: str, *arguments: Any) -> Any:
        import ray

        return ray.get(getattr(self.handles[index], method).remote(*arguments), timeout=ANSWER_S)

    def store(self, index: int, block: BlockId, body: Any, sums: BlockSum | None = None) -> Any:
        return self.ask(index, "store", StoreBlock(block, sums or sum_block(body)), body)

    def body(self, index: int, block: BlockId) -> bytes | None:
        import ray

        fetched = self.ask(index, "fetch", block)
        if fetched is None:
            return None
        body = fetched.body if isinstance(fetched.body, bytes) else ray.get(fetched.body[0], timeout=ANSWER_S)
        return bytes(body)

    def flip(self, block: BlockId) -> None:
        """Rot: change a byte of the copy in the head's object store, in place. This process shares that memory."""
        import ray

        view = ray.get(self.ask(0, "fetch", block).body[0])
        ctypes.memset(view.ctypes.data + len(view) // 2, int(view[len(view) // 2]) ^ 1, 1)


@pytest.fixture(scope="module")
def nodes(clusters: Clusters, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalNodes]:
    clusters.end()  # a process drives one Ray cluster
    started = LocalNodes(Path(tmp_path_factory.mktemp("nodes")), 200 << 20)
    started.start(2)
    with launch.driver(started.address):
        yield started
    started.shutdown()


@pytest.fixture
def workers(nodes: LocalNodes) -> Iterator[Workers]:
    import ray

    started = Workers(nodes, f"life{next(FILE_IDS)}")
    yield started
    for handle in started.handles:
        ray.kill(handle)


@pytest.fixture
def block() -> BlockId:
    return BlockId(next(FILE_IDS), 0)


@pytest.fixture
def noise() -> Callable[[int], np.ndarray[Any, np.dtype[np.uint8]]]:
    return lambda size: np.random.default_rng(size).integers(0, 256, size, dtype=np.uint8)


def seal_of(block: BlockId, body: Any) -> SealBlock:
    sums = sum_block(body)
    return SealBlock(block, sums.length, block_crc(sums), sums.length, 1, 1)


@pytest.mark.scenario("W15")
@pytest.mark.parametrize("size", [0, 1, 100 << 10, (100 << 10) + 1, (3 << 20) + 7])
def test_a_receipt_stands_for_the_bytes_that_the_worker_reads_back(
    workers: Workers, block: BlockId, noise: Any, size: int
) -> None:
    body = noise(size)
    receipt = workers.store(1, block, body)
    assert receipt == Receipt(block, 1, workers.addresses[1].incarnation)
    (held,) = workers.ask(1, "audit")
    assert (held.block, held.length, held.crc) == (block, size, block_crc(sum_block(body)))
    assert workers.body(1, block) == body.tobytes()


def test_bytes_that_changed_on_the_way_are_not_kept(workers: Workers, block: BlockId, noise: Any) -> None:
    refused = workers.store(0, block, noise(1 << 20), sum_block(bytes(1 << 20)))
    assert isinstance(refused, ChecksumMismatch)
    assert workers.ask(0, "audit") == ()
    assert workers.ask(0, "hello").used == 0


@pytest.mark.scenario("W12")
def test_a_block_outlives_the_process_that_wrote_it(workers: Workers, block: BlockId, noise: Any) -> None:
    import ray

    class Writer:
        def write(self, name: str, request: StoreBlock, body: Any) -> Any:
            held = ray.put(body)
            return ray.get(ray.get_actor(name, namespace=NAMESPACE).store.remote(request, held))

    body = noise(2 << 20)
    writer = ray.remote(num_cpus=0)(Writer).remote()
    request = StoreBlock(block, sum_block(body))
    receipt = ray.get(writer.write.remote(workers.addresses[1].actor_name, request, body), timeout=ANSWER_S)
    assert isinstance(receipt, Receipt)
    ray.kill(writer)
    assert workers.body(1, block) == body.tobytes()
    assert workers.ask(1, "verify", block) is True


@pytest.mark.scenario("D8")
def test_a_rotten_copy_is_found_and_dropped(workers: Workers, block: BlockId, noise: Any) -> None:
    workers.store(0, block, noise(1 << 20))
    assert workers.ask(0, "verify", block) is True
    workers.flip(block)
    (held,) = workers.ask(0, "audit")
    assert held.crc != block_crc(sum_block(noise(1 << 20)))
    assert workers.ask(0, "verify", block) is False
    assert workers.ask(0, "verify", block) is None
    assert workers.ask(0, "hello").used == 0


@pytest.mark.scenario("D8")
def test_a_rotten_copy_is_not_copied(workers: Workers, block: BlockId, noise: Any) -> None:
    body = noise(1 << 20)
    workers.store(0, block, body)
    workers.flip(block)
    order = CopyBlock(seal_of(block, body), workers.addresses[0])
    (answer,) = workers.ask(1, "copy", EPOCH, (order,))
    assert isinstance(answer, ChecksumMismatch)
    assert workers.ask(1, "audit") == ()


@pytest.mark.parametrize("size", [10, 3 << 20])
def test_a_copy_is_sealed_and_whole(workers: Workers, block: BlockId, noise: Any, size: int) -> None:
    body = noise(size)
    workers.store(0, block, body)
    seal = seal_of(block, body)
    order = CopyBlock(seal, workers.addresses[0])
    first = workers.ask(1, "copy", EPOCH, (order,))
    assert workers.ask(1, "copy", EPOCH, (order,)) == first  # delivered twice: one copy
    (held,) = workers.ask(1, "audit")
    assert (held.crc, held.sealed) == (seal.crc, seal)


@pytest.mark.scenario("D7")
def test_a_copy_whose_source_is_dead_or_empty_says_so(workers: Workers, block: BlockId, noise: Any) -> None:
    body = noise(1 << 20)
    gone = WorkerAddress("0" * 56, "rayfs-worker-gone", "gone")
    orders = tuple(CopyBlock(seal_of(block, body), source) for source in (workers.addresses[0], gone))
    answers = workers.ask(1, "copy", EPOCH, orders)
    assert [type(answer) for answer in answers] == [DataUnavailable, DataUnavailable]


@pytest.mark.scenario("D7")
def test_workers_that_copy_from_each_other_do_not_block_each_other(workers: Workers, noise: Any) -> None:
    import ray

    body = noise(1 << 20)
    blocks = {index: [BlockId(next(FILE_IDS), 0) for _ in range(12)] for index in (0, 1)}
    for index, mine in blocks.items():
        for each in mine:
            assert isinstance(workers.store(index, each, body), Receipt)
    calls = [
        workers.handles[1 - index].copy.remote(EPOCH, (CopyBlock(seal_of(each, body), workers.addresses[index]),))
        for index, mine in blocks.items()
        for each in mine
    ]
    answers = [answer for answers in ray.get(calls, timeout=ANSWER_S) for answer in answers]
    assert all(isinstance(answer, Receipt) for answer in answers)


@pytest.mark.scenario("W11")
def test_a_full_worker_refuses_and_has_room_again_after_a_drop(workers: Workers, noise: Any) -> None:
    body, kept = noise(4 << 20), []
    while isinstance(receipt := workers.store(0, BlockId(next(FILE_IDS), 0), body), Receipt):
        kept.append(receipt)
    assert isinstance(receipt, NoSpace)
    assert len(kept) == int(SHARE_BYTES * OPEN_SHARE) // (4 << 20)
    drop = DropReplica(kept[0].block, kept[0].replica)
    assert workers.ask(0, "drop", EPOCH, (drop,)) is None
    assert isinstance(workers.store(0, BlockId(next(FILE_IDS), 0), body), Receipt)


@pytest.mark.scenario("D11")
def test_a_late_drop_leaves_the_newer_copy(workers: Workers, block: BlockId, noise: Any) -> None:
    first, second = (workers.store(0, block, noise(1000)) for _ in range(2))
    assert second.replica > first.replica
    assert workers.ask(0, "drop", EPOCH, (DropReplica(block, first.replica),)) is None
    assert workers.body(0, block) is not None


@pytest.mark.scenario("M3")
def test_orders_of_an_older_master_are_refused(workers: Workers, block: BlockId, noise: Any) -> None:
    body = noise(1000)
    receipt = workers.store(0, block, body)
    assert workers.ask(0, "seal", EPOCH + 1, (seal_of(block, body),)) == (receipt,)
    put = PutSealed(seal_of(BlockId(next(FILE_IDS), 0), body), sum_block(body), body.tobytes())
    assert isinstance(workers.ask(0, "seal", EPOCH, (seal_of(block, body),)), RequestRefused)
    assert isinstance(workers.ask(0, "drop", EPOCH, (DropReplica(block, receipt.replica),)), RequestRefused)
    assert isinstance(workers.ask(0, "put_sealed", EPOCH, (put,))[0], RequestRefused)
    assert isinstance(workers.ask(0, "copy", EPOCH, (CopyBlock(put.seal, workers.addresses[1]),))[0], RequestRefused)
    assert [held.block for held in workers.ask(0, "audit")] == [block]


def test_small_files_are_stored_and_sealed_in_one_call(workers: Workers, noise: Any) -> None:
    orders = []
    for number in range(20):
        body = noise(number)
        block = BlockId(next(FILE_IDS), 0)
        orders.append(PutSealed(seal_of(block, body), sum_block(body), body.tobytes()))
    receipts = workers.ask(0, "put_sealed", EPOCH, tuple(orders))
    assert workers.ask(0, "put_sealed", EPOCH, tuple(orders)) == receipts
    assert {held.block for held in workers.ask(0, "audit")} == {order.seal.block for order in orders}
    assert all(held.sealed is not None for held in workers.ask(0, "audit"))


def test_a_block_of_a_closed_file_is_not_opened_again_by_a_late_store(
    workers: Workers, block: BlockId, noise: Any
) -> None:
    body = noise(1000)
    receipt = workers.store(0, block, body)
    workers.ask(0, "seal", EPOCH, (seal_of(block, body),))
    assert workers.store(0, block, body) == receipt
    assert isinstance(workers.store(0, block, noise(999)), RequestRefused)
    (held,) = workers.ask(0, "audit")
    assert (held.replica, held.sealed) == (receipt.replica, seal_of(block, body))


def test_a_stopped_worker_is_gone(workers: Workers) -> None:
    import ray

    with pytest.raises(ray.exceptions.RayActorError):
        workers.ask(0, "stop")
    with pytest.raises(ray.exceptions.RayActorError):
        workers.ask(0, "hello")
