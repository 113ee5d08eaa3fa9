"""The worker: one small process per node that owns this node's replicas. No boto3 and no user code runs in it.

May know ``rayfs.core`` (the bookkeeping is ``rayfs.core.holdings``) and Ray. Each block is put by this process, so
that this process owns it (an object dies with its owner), and is checked against the writer's checksums before its
receipt goes out.

Methods answer with values, errors included. They run in separate groups of threads: ``data`` takes bytes in,
``serve`` hands them out, ``copy`` pulls from other workers (whose ``serve`` never waits for anybody, so two workers
that copy from each other cannot block each other), and ``control`` takes orders. The heartbeat has a thread of its
own.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from rayfs.actors.guard import MasterGuard
from rayfs.actors.names import MASTER, worker_name
from rayfs.core.checksum import block_crc, sum_block
from rayfs.core.holdings import Holdings, Replica
from rayfs.core.model import NAMESPACE, BlockId, BlockSum, WorkerAddress
from rayfs.core.operations import FetchedBlock, Receipt, StoreBlock
from rayfs.core.orders import CopyBlock, DropReplica, Held, PutSealed, SealBlock
from rayfs.errors import ChecksumMismatch, DataUnavailable, NoSpace, RayFSError, RequestRefused

if TYPE_CHECKING:
    from typing_extensions import Buffer

logger = logging.getLogger(__name__)

HEAP_BYTES = 100 << 10
"""Blocks up to this size stay in the worker's heap: they came inline in the call, and each ``ray.put`` costs 0.2 ms
(2.60)."""

HEARTBEAT_S = 1.0
MASTER_PATIENCE_S = 2.0
"""How long a heartbeat waits for its answer. The next one repeats what was not acknowledged."""

PEER_PATIENCE_S = 10.0
"""How long a copy waits for another worker to answer, and then for the bytes to arrive, plus a second for each 16
MiB."""

PEERS = 512
"""Actor handles of other workers that are kept."""

CONCURRENCY_GROUPS = {"data": 4, "serve": 8, "copy": 2, "control": 4}


@dataclass(frozen=True, slots=True)
class WorkerHello:
    """Who answers: the first word of a worker that has started."""

    worker: WorkerAddress
    pid: int
    capacity: int
    used: int
    blocks: int
    epoch: int


def worker_options(node_id: str, incarnation: str) -> dict[str, Any]:
    """Ray options of the worker on ``node_id``: ``worker_actor_class().options(**worker_options(...)).remote(...)``.

    Detached, or it would end with the process that made it; never restarted by Ray, because a new life holds nothing
    and a restartable actor is the first that Ray's out-of-memory killer takes (2.60).
    """
    return {
        "name": worker_name(node_id, incarnation),
        "namespace": NAMESPACE,
        "lifetime": "detached",
        "num_cpus": 0,
        "max_restarts": 0,
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node_id, soft=False),
        "enable_task_events": False,
    }


def worker_actor_class() -> Any:
    """``Worker`` as a Ray actor class; use it with ``worker_options``."""
    # Ray takes concurrency groups here only, not in ``options``, and its overloads leave them out.
    return ray.remote(concurrency_groups=CONCURRENCY_GROUPS)(Worker)  # type: ignore[call-overload]  # see above


class Worker:
    """One life (``incarnation``) of the worker of ``node_id``; ``share`` is its part of the node's object store."""

    def __init__(
        self,
        node_id: str,
        incarnation: str,
        host: str,
        epoch: int,
        share: float,
        metastore_id: str = "",
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        self._address = WorkerAddress(node_id, worker_name(node_id, incarnation), incarnation, host)
        self._lock = threading.Lock()
        self._holdings: Holdings[Any] = Holdings(int(share * object_store_bytes(node_id)), epoch, metastore_id)
        self._peers: dict[str, Any] = {}
        self._heartbeat_s = heartbeat_s
        self._stopping = threading.Event()
        threading.Thread(target=self._heartbeats, name="heartbeat", daemon=True).start()

    # --- bytes in ----------------------------------------------------------------------------------------------------

    @ray.method(concurrency_group="data")
    def store(self, request: StoreBlock, body: Buffer) -> Receipt | RayFSError:
        """Store a block of an open file. ``body``: a view of the writer's plasma object, or bytes that came inline.

        Errors: ``NoSpace``, ``ChecksumMismatch``. A repeat makes a new replica in the place of the one before, but
        never in the place of a sealed one: a call that arrives late does not open a closed file again.
        """
        with self._lock:
            present = self._holdings.get(request.block)
        if present is not None and present.sealed is not None:
            return self._receipt(present) if present.sums == request.sums else _refuse_other_bytes(request.block)
        return _answer(partial(self._take, request.block, request.sums, body, None))

    @ray.method(concurrency_group="data")
    def put_sealed(self, epoch: int, orders: tuple[PutSealed, ...]) -> tuple[Receipt | RayFSError, ...]:
        """Store and seal small files' blocks. Errors in order: ``NoSpace``, ``ChecksumMismatch``,
        ``RequestRefused``."""
        refused = self._admit(epoch)
        if refused is not None:
            return (refused,) * len(orders)
        return tuple(
            self._sealed_already(order.seal)
            or _answer(partial(self._take, order.seal.block, order.sums, order.body, order.seal))
            for order in orders
        )

    @ray.method(concurrency_group="copy")
    def copy(self, epoch: int, orders: tuple[CopyBlock, ...]) -> tuple[Receipt | RayFSError, ...]:
        """Make sealed replicas by pulling from other workers.

        Errors in order: ``DataUnavailable``, ``ChecksumMismatch``, ``NoSpace``, ``RequestRefused``.
        """
        refused = self._admit(epoch)
        if refused is not None:
            return (refused,) * len(orders)
        return tuple(self._sealed_already(order.seal) or _answer(partial(self._pull, order)) for order in orders)

    def _take(self, block: BlockId, sums: BlockSum, body: Buffer, sealed: SealBlock | None) -> Receipt:
        with self._lock:
            self._holdings.reserve(sums.length, for_writer=sealed is None)
        try:
            kept = _store_checked(block, sums, body)
        except BaseException:
            with self._lock:
                self._holdings.release(sums.length)
            raise
        with self._lock:
            self._holdings.release(sums.length)
            return self._receipt(self._holdings.keep(block, sums, kept, sealed))

    def _pull(self, order: CopyBlock) -> Receipt:
        block, source = order.seal.block, order.source
        try:
            peer = self._peer(source.actor_name)
            fetched: FetchedBlock | None = ray.get(peer.fetch.remote(block), timeout=PEER_PATIENCE_S)
            if fetched is None:
                raise DataUnavailable(f"node {source.node_id[:6]} does not hold block {block} any more")
            if (fetched.sums.length, block_crc(fetched.sums)) != (order.seal.length, order.seal.crc):
                raise ChecksumMismatch(f"node {source.node_id[:6]} holds other bytes than block {block} is made of")
            body = fetched.body
            if isinstance(body, list):
                (body,) = ray.get(body, timeout=PEER_PATIENCE_S + fetched.sums.length / (16 << 20))
        except (RayError, ValueError) as error:
            raise DataUnavailable(
                f"block {block} could not be copied from node {source.node_id[:6]}: {_cause(error)}"
            ) from None
        try:
            return self._take(block, fetched.sums, body, order.seal)
        except ChecksumMismatch:
            peer.verify.remote(block)  # whose copy is rotten is for the source to find out
            raise

    def _sealed_already(self, seal: SealBlock) -> Receipt | None:
        """The receipt of an order that was carried out before, for one that arrives twice."""
        with self._lock:
            replica = self._holdings.seal(seal)
        return self._receipt(replica) if replica else None

    # --- bytes out ---------------------------------------------------------------------------------------------------

    @ray.method(concurrency_group="serve")
    def fetch(self, block: BlockId) -> FetchedBlock | None:
        """The block as this worker holds it, or None. The reader verifies."""
        with self._lock:
            replica = self._holdings.get(BlockId(*block))
        if replica is None:
            return None
        return FetchedBlock(
            replica.number, replica.sums, replica.body if isinstance(replica.body, bytes) else [replica.body]
        )

    @ray.method(concurrency_group="serve")
    def verify(self, block: BlockId) -> bool | None:
        """Compute the checksum of what is stored. A rotten replica is dropped, and reported as gone. None: not held."""
        with self._lock:
            replica = self._holdings.get(BlockId(*block))
        if replica is None:
            return None
        sound = _stored_crc(replica) == replica.crc
        if not sound:
            logger.error("block %s is rotten here: dropped", replica.block)
            with self._lock:
                self._holdings.drop(DropReplica(replica.block, replica.number))
        return sound

    @ray.method(concurrency_group="serve")
    def audit(self) -> tuple[Held, ...]:
        """Everything that is held, with the checksum computed now from the stored bytes; -1 where they are gone."""
        with self._lock:
            replicas = tuple(self._holdings)
        return tuple(replace(replica.held(), crc=_stored_crc(replica)) for replica in replicas)

    # --- orders ------------------------------------------------------------------------------------------------------

    @ray.method(concurrency_group="control")
    def seal(self, epoch: int, orders: tuple[SealBlock, ...]) -> tuple[Receipt | None, ...] | RequestRefused:
        """Mark blocks as parts of complete files; None for a block that is not held with these bytes."""
        refused = self._admit(epoch)
        if refused is not None:
            return refused
        with self._lock:
            sealed = [self._holdings.seal(order) for order in orders]
        return tuple(self._receipt(replica) if replica else None for replica in sealed)

    @ray.method(concurrency_group="control")
    def drop(self, epoch: int, orders: tuple[DropReplica, ...]) -> RequestRefused | None:
        """Drop exactly the named replicas. ``RequestRefused`` also while the metastore looks like another one."""
        refused = self._admit(epoch, drops=True)
        if refused is None:
            with self._lock:
                for order in orders:
                    self._holdings.drop(order)
        return refused

    @ray.method(concurrency_group="control")
    def hello(self) -> WorkerHello:
        """Answers once the worker has started."""
        with self._lock:
            held = self._holdings
            return WorkerHello(self._address, os.getpid(), held.capacity, held.used, len(held), held.epoch)

    @ray.method(concurrency_group="control")
    def stop(self) -> None:
        """End this process, and every replica with it."""
        self._stopping.set()
        ray.actor.exit_actor()  # type: ignore[no-untyped-call]  # Ray leaves it untyped

    def _admit(self, epoch: int, *, drops: bool = False) -> RequestRefused | None:
        try:
            with self._lock:
                self._holdings.admit(epoch, drops=drops)
        except RequestRefused as refused:
            return refused
        return None

    def _receipt(self, replica: Replica[Any]) -> Receipt:
        return Receipt(replica.block, replica.number, self._address.incarnation)

    def _peer(self, actor_name: str) -> Any:
        if actor_name not in self._peers:
            if len(self._peers) >= PEERS:
                self._peers.clear()
            self._peers[actor_name] = ray.get_actor(actor_name, namespace=NAMESPACE)
        return self._peers[actor_name]

    # --- heartbeats --------------------------------------------------------------------------------------------------

    def _heartbeats(self) -> None:
        """Report to whatever master there is, for ever; a master that is away is no reason to do anything else."""
        master: Any = None
        guard = MasterGuard()
        while not self._stopping.is_set():
            again = False
            try:
                master = master or ray.get_actor(MASTER, namespace=NAMESPACE)
                again = self._report_to(master)
                guard.answered()
            except GetTimeoutError:
                guard.silent(master)
            except (RayError, ValueError) as error:  # ValueError: Ray knows no actor of the name
                master = None
                guard.gone()
                logger.info("no heartbeat was answered: %s", _cause(error))
            except Exception:
                master = None
                logger.exception("a heartbeat failed")
            if not again:
                self._stopping.wait(self._heartbeat_s)

    def _report_to(self, master: Any) -> bool:
        """One exchange; whether the master wants the next one at once."""
        with self._lock:
            report = self._holdings.report(self._address, os.getpid())
        answer = ray.get(master.heartbeat.remote(report), timeout=MASTER_PATIENCE_S)
        if isinstance(answer, RayFSError):
            raise answer
        with self._lock:
            self._holdings.acknowledge(answer)
        return bool(answer.send_full) and report.full is None


def object_store_bytes(node_id: str) -> int:
    """Size of a node's object store, as Ray has it."""
    for node in ray.nodes():  # type: ignore[no-untyped-call]  # Ray leaves it untyped
        if node["NodeID"] == node_id:
            return int(node["Resources"].get("object_store_memory", 0))
    raise DataUnavailable(f"Ray does not list node {node_id[:6]}; start the worker on a node of this cluster")


def _store_checked(block: BlockId, sums: BlockSum, body: Buffer) -> Any:
    """Make this process's own copy, read it back and check it. Returns bytes for the heap, or a Ray reference."""
    view = memoryview(body).cast("B")
    if len(view) <= HEAP_BYTES:
        kept: Any = bytes(view)
        stored: Buffer = kept
    else:
        import numpy as np

        try:
            kept = ray.put(np.frombuffer(view, dtype=np.uint8))
            stored = ray.get(kept, timeout=PEER_PATIENCE_S)
        except RayError as error:
            raise NoSpace(f"Ray's object store did not take block {block}: {_cause(error)}") from None
    if sum_block(stored) != sums:
        raise ChecksumMismatch(f"block {block} did not arrive as it was written; send it again")
    return kept


def _stored_crc(replica: Replica[Any]) -> int:
    """Checksum of the bytes as they are now; -1 where Ray cannot give them any more."""
    body = replica.body
    try:
        stored = body if isinstance(body, bytes) else ray.get(body, timeout=PEER_PATIENCE_S)
    except RayError:
        return -1
    return block_crc(sum_block(stored))


def _answer(work: Callable[[], Receipt]) -> Receipt | RayFSError:
    try:
        return work()
    except RayFSError as error:
        return error


def _refuse_other_bytes(block: BlockId) -> RequestRefused:
    return RequestRefused(f"block {block} belongs to a closed file with other bytes; it is not replaced")


def _cause(error: BaseException) -> str:
    """The first line of an error of Ray's; the rest is a remote traceback."""
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no message'}"
