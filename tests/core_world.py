"""A world for the pure core: workers and an under store as dictionaries, carried out in one thread, with a clock that
tests set.

Effects wait in ``pending`` until ``run`` carries them out, so a test can drop, delay or fail any of them first. What
the metastore would hold is in ``durable``, as encoded text, so ``restart`` begins from exactly what a crash would
leave.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rayfs.core.checksum import block_crc, crc64
from rayfs.core.control import PENDING, Core
from rayfs.core.effects import CallPersister, CallWorker, Effect, MetadataNeeded, Reply, WorkersNeeded
from rayfs.core.model import BlockId, BlockSum, PersisterAddress, WorkerAddress
from rayfs.core.operations import (
    ClientProperties,
    CompleteFile,
    CreateFile,
    Mutation,
    OpenedFile,
    PropertyValue,
    Receipt,
    Request,
    SmallFile,
    WriteFiles,
    WrittenBlock,
)
from rayfs.core.orders import (
    Answered,
    BeginUpload,
    CopyBlock,
    CopyObject,
    DeleteObject,
    DropReplica,
    FinishUpload,
    FoundObject,
    Held,
    PutObject,
    PutSealed,
    Refused,
    SealBlock,
    SendPart,
    SettleKey,
    StoreAnswer,
    StoreEntry,
    WorkerReport,
)
from rayfs.core.picture import Facts
from rayfs.core.records import Table
from rayfs.core.state import Limits
from rayfs.metastore.records import decode, encode

MIB = 1 << 20


@dataclass
class FakeWorker:
    """What one worker process holds: replica number and bytes by block."""

    address: WorkerAddress
    held: dict[BlockId, tuple[int, bytes]] = field(default_factory=dict)
    counter: int = 0
    alive: bool = True

    def put(self, block: BlockId, body: bytes) -> Receipt:
        self.counter += 1
        self.held[block] = (self.counter, body)
        return Receipt(block, self.counter, self.address.incarnation)


class World:
    """A core, its workers, one under store, and time."""

    def __init__(self, nodes: int = 4, limits: Limits | None = None, *, persisting: bool = True) -> None:
        self.now = 1000.0
        self.limits = limits or Limits()
        self.epoch = 0
        self.durable: dict[tuple[Table, str], bytes] = {}
        self.sequence = 0
        self.workers: dict[str, FakeWorker] = {}
        self.objects: dict[str, tuple[str, bytes, int | None]] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.store_fault: Callable[[object], StoreAnswer | None] = lambda _: None
        self.requests: list[object] = []
        self.pending: list[Effect] = []
        self.replies: dict[tuple[str, int], object] = {}
        self._etags = 0
        self._sequences: dict[str, int] = {}
        self._lives = 0
        self.restart()
        if persisting:
            self.core.take_listing(MetadataNeeded("/", recursive=False), (), self.now)
            self.core.begin_persisting(self.now)
        for number in range(nodes):
            self.add_worker(f"node{number}")
        self.core.open_session("s", self.now)
        self.run()

    # --- processes ---------------------------------------------------------------------------------------------------

    def restart(self) -> None:
        """The master's process ends and another begins from the metastore; workers register again with
        ``report_all``.
        """
        self.epoch += 1
        self.pending, self.replies = [], {}
        facts = Facts("0", "cluster", "s3://bucket", "node0", True)
        self.core = Core(self.epoch, random.Random(7), self.limits, facts, self.now)
        self.core.recover([decode(table, text) for (table, _), text in self.durable.items()], self.sequence, self.now)
        self.core.persister_up(PersisterAddress("node0", "persister", f"p{self.epoch}"), self.now)
        self.commit()

    def add_worker(self, node_id: str) -> FakeWorker:
        self._lives += 1
        address = WorkerAddress(node_id, f"worker-{node_id}", f"life{self._lives}")
        worker = self.workers[node_id] = FakeWorker(address)
        self.report(worker)
        return worker

    def report(self, worker: FakeWorker) -> None:
        held = tuple(Held(block, n, len(body), crc64(body), None) for block, (n, body) in worker.held.items())
        used = sum(one.length for one in held)
        self.core.worker_report(
            WorkerReport(worker.address, 1, 1000 * MIB, used, len(held), worker.counter, (), held), self.now
        )
        self.commit()

    def report_all(self) -> None:
        for worker in self.workers.values():
            if worker.alive:
                self.report(worker)

    def kill(self, node_id: str) -> None:
        worker = self.workers[node_id]
        worker.alive = False
        worker.held.clear()
        self.core.worker_gone(worker.address, "killed", self.now)
        self.commit()

    # --- time and effects --------------------------------------------------------------------------------------------

    def commit(self) -> None:
        step = self.core.drain()
        for key, record in step.changes.items():
            if record is None:
                self.durable.pop(key, None)
            else:
                self.durable[key] = encode(record)
        self.sequence = self.core.state.sequence
        self.pending.extend(step.effects)

    def run(self, rounds: int = 1000) -> None:
        """Carry out effects until there are none."""
        self.commit()
        for _ in range(rounds):
            if not self.pending:
                return
            self.carry_out(self.pending.pop(0))
        raise AssertionError("effects do not end")

    def carry_out(self, effect: Effect) -> None:
        match effect:
            case Reply():
                self.replies[(effect.session, effect.sequence)] = effect.answer
            case CallWorker():
                self.core.worker_answered(effect, self._work(effect), self.now)
            case CallPersister():
                self.requests.append(effect.order)
                answer = self.store_fault(effect.order) or self._store(effect.order)
                self.core.store_answered(effect.persister.incarnation, effect.order, answer, self.now)
        self.commit()

    def pass_time(self, seconds: float, step: float = 0.5) -> None:
        """Let time pass with heartbeats from the living."""
        until = self.now + seconds
        while self.now < until:
            self.now = min(until, self.now + step)
            self.report_all()
            self.core.tick(self.now)
            self.run()

    # --- clients -----------------------------------------------------------------------------------------------------

    def request(self, operation: Mutation, session: str = "s", sequence: int | None = None) -> Request:
        if sequence is None:
            sequence = self._sequences[session] = self._sequences.get(session, 0) + 1
        return Request(session, sequence, 0, operation)

    def do(self, operation: Mutation, session: str = "s", sequence: int | None = None) -> object:
        """Execute and run until it is answered."""
        request = self.request(operation, session, sequence)
        return self.send(request)

    def send(self, request: Request) -> object:
        while True:
            try:
                answer = self.core.execute(request, self.now)
                break
            except WorkersNeeded:
                self.now += 0.5
                self.report_all()
            except MetadataNeeded as needed:
                self.core.take_listing(needed, self.listing(needed.directory, needed.recursive), self.now)
        self.run()
        if answer is PENDING:
            return self.replies.get((request.session, request.sequence), PENDING)
        return answer

    def listing(self, directory: str, recursive: bool) -> Sequence[StoreEntry]:
        prefix = directory.strip("/") + "/" if directory != "/" else ""
        names = sorted(key[len(prefix) :] for key in self.objects if key.startswith(prefix))
        found: dict[str, StoreEntry] = {}
        for name in names:
            etag, body, _ = self.objects[prefix + name]
            if "/" in name and not recursive:
                found[name.split("/")[0]] = StoreEntry(name.split("/")[0] + "/", 0, None, 0.0)
            else:
                found[name] = StoreEntry(name, len(body), etag, self.now)
        return list(found.values())

    def write(self, path: str, body: bytes, *, overwrite: bool = True, **keys: PropertyValue) -> object:
        """A small file in one exchange."""
        answers = self.do(write_files((path, body), overwrite=overwrite, **keys))
        if answers is PENDING:
            return answers
        assert isinstance(answers, tuple)
        return answers[0]

    def write_blocks(
        self, path: str, blocks: Sequence[bytes], *, overwrite: bool = True, **keys: PropertyValue
    ) -> object:
        """A file written block by block, as a client does it."""
        opened = self.open_blocks(path, blocks, overwrite=overwrite, **keys)
        if not isinstance(opened, tuple):
            return opened
        return self.do(CompleteFile(*opened))

    def open_blocks(
        self, path: str, blocks: Sequence[bytes], *, overwrite: bool = True, **keys: PropertyValue
    ) -> tuple[int, tuple[WrittenBlock, ...]] | object:
        opened = self.do(CreateFile(path, properties(**keys), overwrite, "node0", len(blocks)))
        if not isinstance(opened, OpenedFile):
            return opened
        written = []
        for index, body in enumerate(blocks):
            targets = opened.targets[index]
            for worker in targets:
                self.workers[worker.node_id].put(BlockId(opened.file_id, index), body)
            written.append(WrittenBlock(index, len(body), crc64(body), targets))
        return opened.file_id, tuple(written)

    def holders(self, file_id: int, index: int = 0) -> set[str]:
        """Nodes whose living worker itself says that it holds the block."""
        block = BlockId(file_id, index)
        return {node for node, worker in self.workers.items() if worker.alive and block in worker.held}

    # --- workers and the store ---------------------------------------------------------------------------------------

    def _work(self, call: CallWorker) -> tuple[Receipt | None, ...] | None:
        worker = self.workers[call.worker.node_id]
        if not worker.alive or worker.address != call.worker:
            return None
        return tuple(self._one(worker, order) for order in call.orders)

    def _one(self, worker: FakeWorker, order: object) -> Receipt | None:
        match order:
            case SealBlock():
                held = worker.held.get(order.block)
                return None if held is None else Receipt(order.block, held[0], worker.address.incarnation)
            case PutSealed():
                assert block_crc(order.sums) == crc64(order.body)
                return worker.put(order.seal.block, order.body)
            case CopyBlock():
                source = self.workers[order.source.node_id]
                held = source.held.get(order.seal.block) if source.alive else None
                return None if held is None else worker.put(order.seal.block, held[1])
            case DropReplica():
                held = worker.held.get(order.block)
                if held is not None and held[0] == order.replica:
                    del worker.held[order.block]
        return None

    def bytes_of(self, order: PutObject | SendPart) -> bytes | None:
        parts = []
        for source in order.blocks:
            bodies = [
                self.workers[h.node_id].held[source.block][1]
                for h in source.holders
                if source.block in self.workers[h.node_id].held
            ]
            if not bodies:
                return None
            parts.append(bodies[0])
        return b"".join(parts)

    def found(self, key: str) -> FoundObject | None:
        held = self.objects.get(key)
        return None if held is None else FoundObject(held[0], len(held[1]), crc64(held[1]), held[2])

    def put_object(self, key: str, body: bytes, file_id: int | None) -> FoundObject:
        self._etags += 1
        self.objects[key] = (f"etag{self._etags}", body, file_id)
        found = self.found(key)
        assert found is not None
        return found

    def _unlike(self, key: str, etag: str | None) -> bool:
        return (self.objects[key][0] if key in self.objects else None) != etag

    def _store(self, order: object) -> StoreAnswer:  # noqa: C901  # one case for each order there is
        condition = order.condition if isinstance(order, PutObject | FinishUpload | CopyObject) else None
        if condition is not None and self._unlike(getattr(order, "key", ""), condition.etag):
            return Refused("precondition", precondition=True)
        match order:
            case PutObject():
                body = self.bytes_of(order)
                return (
                    Refused("no source", source_missing=True)
                    if body is None
                    else Answered(self.put_object(order.key, body, order.file_id))
                )
            case BeginUpload():
                self.uploads[f"u{len(self.uploads)}"] = {}
                return Answered(upload_id=f"u{len(self.uploads) - 1}")
            case SendPart():
                body = self.bytes_of(order)
                if body is None:
                    return Refused("no source", source_missing=True)
                self.uploads[order.upload_id][order.part] = body
                return Answered(etag=f"part{order.part}")
            case FinishUpload():
                parts = self.uploads.pop(order.upload_id)
                return Answered(self.put_object(order.key, b"".join(parts[p.part] for p in order.parts), order.file_id))
            case CopyObject():
                if self._unlike(order.source.key, order.source.etag):
                    return Refused("source changed", source_missing=True)
                return Answered(self.put_object(order.key, self.objects[order.source.key][1], order.file_id))
            case DeleteObject():
                if order.key in self.objects and order.etag is not None and self._unlike(order.key, order.etag):
                    return Refused("precondition", precondition=True)
                self.objects.pop(order.key, None)
                return Answered()
            case SettleKey():
                if order.upload_id is not None:
                    self.uploads.pop(order.upload_id, None)
                return Answered(self.found(order.key))
        raise AssertionError(order)


def properties(**keys: PropertyValue) -> ClientProperties:
    """Overrides by short names."""
    names = {
        "write_type": "rayfs.user.file.writetype.default",
        "durable": "rayfs.user.file.replication.durable",
        "minimum": "rayfs.user.file.replication.min",
        "shortfall": "rayfs.user.file.replication.shortfall",
        "wait": "rayfs.user.file.persistence.initial.wait.time",
        "patience": "rayfs.user.file.write.wait.max",
        "block_size": "rayfs.user.block.size.bytes.default",
    }
    return ClientProperties({}, {names[key]: value for key, value in keys.items()})


def write_files(*files: tuple[str, bytes], overwrite: bool = True, **keys: PropertyValue) -> WriteFiles:
    """The request that writes small files."""
    small = tuple(SmallFile(path, body, crc64(body), overwrite) for path, body in files)
    return WriteFiles(small, properties(**keys), "node0")


def sums(body: bytes) -> BlockSum:
    """Sums of a body of at most 1 MiB."""
    return BlockSum(len(body), (crc64(body),))
