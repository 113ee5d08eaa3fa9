"""The write path: from ``create`` to the moment at which a file may be acknowledged.

A file that is being written is an ``OpenFile`` that nobody else sees. Publication needs, for each block, N distinct
nodes whose workers answered themselves (seal, store or copy) to this master; where N cannot be had the shortfall policy
decides: written through (published once the under store has it) or refused. Invariant: nothing is published with less,
and a file that is not published leaves no replica and no row behind.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from rayfs.core import paths
from rayfs.core.batch import Batch
from rayfs.core.blockmap import Replica
from rayfs.core.checksum import file_crc
from rayfs.core.effects import CallWorker, WorkerOrder, WorkerVerb
from rayfs.core.lifecycle import FileEvent, FileState
from rayfs.core.model import Block, BlockId, BlockSum, Shortfall, WorkerAddress, WriteOptions, WriteType
from rayfs.core.operations import (
    AbandonFile,
    AllocateBlocks,
    BlockTargets,
    CompleteFile,
    CreateFile,
    OpenedFile,
    Receipt,
    Request,
    SmallFile,
    WriteFiles,
)
from rayfs.core.options import merged, write_options
from rayfs.core.orders import CopyBlock, DropReplica, PutSealed, SealBlock
from rayfs.core.placement import choose
from rayfs.core.publication import Publication
from rayfs.core.records import FileBody, OpenFile, Table
from rayfs.core.state import State
from rayfs.core.through import ThroughWrites
from rayfs.errors import (
    DataUnavailable,
    FileExists,
    InvalidArgument,
    LeaseLost,
    NoSpace,
    RayFSError,
    ReplicationShortfall,
)

MAX_BLOCKS = 1 << 20
"""Blocks of one file; with blocks of 64 MiB that is 64 TiB."""

NO_WORKERS = (
    "no worker is alive, so there is nowhere to keep the bytes; `rayfs status` shows the nodes, `rayfs start` starts "
    "workers"
)


@dataclass(slots=True)
class Completion:
    """A file on its way to publication: who must still answer, who has, and whom to tell."""

    file_id: int
    batch: Batch
    position: int
    orders: dict[BlockId, SealBlock]
    started: float
    waiting: dict[str, set[BlockId]] = field(default_factory=dict)  # worker incarnation -> blocks it is to confirm
    confirmed: dict[BlockId, dict[str, WorkerAddress]] = field(default_factory=dict)  # block -> node -> worker
    failed: set[str] = field(default_factory=set)  # incarnations that did not answer, or refused
    small: PutSealed | None = None


class Writing:
    """Open files and their completions."""

    def __init__(self, state: State, publication: Publication, through: ThroughWrites) -> None:
        self.state = state
        self.publication = publication
        self.through = through
        self.completions: dict[int, Completion] = {}

    # --- opening -----------------------------------------------------------------------------------------------------

    def _prepare(self, path: str, overwrite: bool, request: CreateFile | WriteFiles) -> tuple[str, WriteOptions]:
        path = paths.normalize(path)
        paths.check_storable(path, self.state.limits.prefix_bytes)
        self.state.namespace.check_parents(path)
        if self.state.counters.files + len(self.state.open_files) >= self.state.limits.files_max:
            raise NoSpace(
                f"the namespace holds {self.state.limits.files_max} files, its bound: remove some, or start the "
                "cluster with a larger rayfs.master.files.max",
                path,
            )
        if not overwrite and self.state.namespace.find(path) is not None:
            raise FileExists(f"{path} exists already; remove it, or write with overwrite (-f at the shell)", path)
        return path, write_options(merged(request.properties, self.state.path_properties, path))

    def _targets(self, path: str, options: WriteOptions, size: int, writer: str) -> tuple[WriteOptions, list[str]]:
        """Nodes for a block of a new file, and the options that then hold (a shortfall may make it written through)."""
        rooms = self.state.rooms()
        if not rooms:
            raise DataUnavailable(NO_WORKERS, path)
        wanted = max(1, options.replicas_at_close)
        nodes = choose(rooms, wanted, size=size, rng=self.state.rng, first=writer)
        if len(nodes) < wanted and len(rooms) < wanted:
            options = self._shortfall(path, options, len(rooms))
            nodes = choose(rooms, 1, size=size, rng=self.state.rng, first=writer)
        if len(nodes) < wanted and options.write_type is not WriteType.THROUGH:
            # The figures of a second ago say that the stores are full: the workers have the last word.
            nodes = choose(rooms, wanted, size=0, rng=self.state.rng, first=writer)
        return options, nodes

    def _shortfall(self, path: str, options: WriteOptions, have: int) -> WriteOptions:
        need = options.replicas_at_close
        if options.write_type is WriteType.MUST_CACHE or options.shortfall is Shortfall.FAIL:
            raise ReplicationShortfall(
                f"{path} is to have {need} replicas and only {have} nodes can take one: add nodes, lower "
                "rayfs.user.file.replication.durable, or set rayfs.user.file.replication.shortfall=WRITE_THROUGH",
                path,
            )
        return WriteOptions(
            write_type=WriteType.THROUGH,
            durable=options.durable,
            replication_min=options.replication_min,
            replication_max=options.replication_max,
            shortfall=options.shortfall,
            write_wait_s=options.write_wait_s,
            persist_wait_s=options.persist_wait_s,
            block_size=options.block_size,
        )

    def create(self, request: CreateFile, now: float) -> OpenedFile:
        """Make a file that nobody else sees yet, durably, so that a restart of the master does not stop its writer."""
        path, options = self._prepare(request.path, request.overwrite, request)
        options, nodes = self._targets(path, options, options.block_size, request.writer_node)
        file_id = self.state.new_id()
        body = FileBody(FileState.OPEN, options, overwrite=request.overwrite)
        ahead = max(1, min(request.blocks_ahead, 16))
        self.state.open_files[file_id] = OpenFile(file_id, path, body, request.writer_node, now, now, allocated=ahead)
        self.state.body_changed(file_id)
        more = [self._more(options, request.writer_node) for _ in range(1, ahead)]
        targets = [self._promise(chosen, options.block_size) for chosen in (nodes, *more)]
        return OpenedFile(file_id, options.block_size, options.write_type, tuple(targets))

    def _more(
        self, options: WriteOptions, writer: str, avoid: frozenset[str] = frozenset(), less: int = 0
    ) -> list[str]:
        wanted = max(1, options.replicas_at_close) - less
        rooms = self.state.rooms()
        nodes = choose(rooms, wanted, size=options.block_size, rng=self.state.rng, first=writer, avoid=avoid)
        return (
            nodes
            if len(nodes) == wanted
            else choose(rooms, wanted, size=0, rng=self.state.rng, first=writer, avoid=avoid)
        )

    def _promise(self, nodes: list[str], size: int) -> tuple[WorkerAddress, ...]:
        for node in nodes:
            self.state.nodes[node].promised += size
        return self.state.addresses(nodes)

    def allocate(self, request: AllocateBlocks, now: float) -> BlockTargets:
        """Targets for more blocks, or the ones still missing for a block whose workers failed."""
        opened = self._open(request.file_id, now)
        if not 0 < request.count <= 64 or not 0 <= request.first_index <= MAX_BLOCKS - request.count:
            raise InvalidArgument(
                f"blocks {request.first_index}+{request.count} cannot be: a file has at most {MAX_BLOCKS}"
            )
        opened.allocated = max(opened.allocated, request.first_index + request.count)
        incarnations = {n.worker.incarnation: n.node_id for n in self.state.nodes.values() if n.worker is not None}
        avoid = frozenset(incarnations[i] for i in (*request.avoid, *request.keep) if i in incarnations)
        options = opened.body.options
        targets = [
            self._promise(
                self._more(options, request.writer_node, avoid, len(request.keep) if request.count == 1 else 0),
                options.block_size,
            )
            for _ in range(request.count)
        ]
        return BlockTargets(tuple(targets))

    def _open(self, file_id: int, now: float) -> OpenFile:
        opened = self.state.open_files.get(file_id)
        if opened is None or opened.body.state is FileState.GONE:
            raise LeaseLost(
                f"file {file_id:x} is not open any more: its lease ended or it was abandoned; write it again"
            )
        opened.heard = now
        return opened

    def renew(self, file_id: int, now: float) -> None:
        """The writer is alive."""
        self._open(file_id, now)

    def abandon(self, request: AbandonFile, now: float) -> None:
        """The writer failed: nothing of the file stays."""
        opened = self.state.open_files.get(request.file_id)
        if opened is not None and opened.body.state in (FileState.OPEN, FileState.SEALING):
            self._discard(opened, now, "abandoned by its writer")

    def _discard(self, opened: OpenFile, now: float, why: str) -> None:
        self.completions.pop(opened.id, None)
        self.publication.discard(opened, now, why)

    # --- completing --------------------------------------------------------------------------------------------------

    def complete(self, request: Request, operation: CompleteFile, now: float) -> None:
        """Ask every holder to seal; the answer comes when the file is published, or cannot be."""
        opened = self._open(operation.file_id, now)
        batch = Batch(request.session, request.sequence, True, [None], 1)
        body = opened.body
        if body.state is FileState.THROUGH:  # a repeat after a restart of the master: wait for the same upload
            self.through.waiting[opened.id] = (batch, 0)
            return
        if body.state is FileState.OPEN:
            written = sorted(operation.blocks, key=lambda block: block.index)
            if [block.index for block in written] != list(range(len(written))):
                raise InvalidArgument(f"the blocks of {opened.path} are not numbered without gaps; write it again")
            body.blocks = [Block(block.length, block.crc) for block in written]
            body.length = sum(block.length for block in written)
            body.crc = file_crc(body.blocks)
            self.state.transition(opened.id, body, FileEvent.SEAL, now, f"{len(written)} blocks, {body.length} bytes")
            # Not written down: after a crash the writer's repeat begins from OPEN just as well, and an fsync is saved.
            self.state.changes.pop((Table.OPEN_FILES, str(opened.id)), None)
        completion = self._completion(opened, batch, 0, now)
        by_worker: dict[WorkerAddress, list[SealBlock]] = {}
        for block in operation.blocks:
            for worker in block.workers:
                by_worker.setdefault(worker, []).append(completion.orders[BlockId(opened.id, block.index)])
        for worker, orders in by_worker.items():
            self._ask(completion, worker, "seal", list(orders))
        self._advance(completion, now)

    def _completion(self, opened: OpenFile, batch: Batch, position: int, now: float) -> Completion:
        body = opened.body
        orders = {
            BlockId(opened.id, index): SealBlock(
                BlockId(opened.id, index), block.length, block.crc, body.length, len(body.blocks), self.state.sequence
            )
            for index, block in enumerate(body.blocks)
        }
        completion = Completion(opened.id, batch, position, orders, now)
        self.completions[opened.id] = completion
        return completion

    def write_files(self, request: Request, operation: WriteFiles, now: float) -> None:
        """Store, seal and publish small files in one exchange with each worker."""
        batch = Batch(request.session, request.sequence, False, [None] * len(operation.files), len(operation.files))
        orders: dict[WorkerAddress, list[WorkerOrder]] = {}
        started: list[Completion] = []
        chosen: dict[tuple[int, WriteType], tuple[WriteOptions, list[str]]] = {}
        for position, small in enumerate(operation.files):
            try:
                path, options = self._prepare(small.path, small.overwrite, operation)
                at = (options.replicas_at_close, options.write_type)
                if at not in chosen:
                    size = sum(len(file.body) for file in operation.files)
                    chosen[at] = self._targets(path, options, size, operation.writer_node)
                if chosen[at][0] is not options and chosen[at][0].write_type is WriteType.THROUGH:
                    options = (
                        self._shortfall(path, options, len(self.state.rooms()))
                        if at[1] is not WriteType.THROUGH
                        else options
                    )
            except RayFSError as error:
                batch.finish(position, error, self.state.effects)
                continue
            completion = self._open_small(path, small, options, operation.writer_node, batch, position, now)
            started.append(completion)
            if completion.small is None:
                continue
            for worker in self._promise(chosen[at][1], len(small.body)):
                orders.setdefault(worker, []).append(completion.small)
                completion.waiting.setdefault(worker.incarnation, set()).add(completion.small.seal.block)
        for worker, puts in orders.items():
            self.state.effects.append(CallWorker(worker, "put_sealed", tuple(puts)))
        for completion in started:
            self._advance(completion, now)

    def _open_small(
        self, path: str, small: SmallFile, options: WriteOptions, writer: str, batch: Batch, position: int, now: float
    ) -> Completion:
        file_id = self.state.new_id()
        body = FileBody(FileState.OPEN, options, overwrite=small.overwrite)
        opened = OpenFile(file_id, path, body, writer, now, now)
        self.state.open_files[file_id] = opened
        if small.body:
            body.blocks = [Block(len(small.body), small.crc)]
        body.length, body.crc = len(small.body), small.crc
        self.state.transition(file_id, body, FileEvent.SEAL, now, f"small file of {body.length} bytes")
        # A small file is published in the same exchange, so its open state is never written down.
        self.state.changes.pop((Table.OPEN_FILES, str(file_id)), None)
        completion = self._completion(opened, batch, position, now)
        if small.body:
            seal = completion.orders[BlockId(file_id, 0)]
            completion.small = PutSealed(seal, small_sums(small), small.body)
        return completion

    def _ask(self, completion: Completion, worker: WorkerAddress, verb: WorkerVerb, orders: list[WorkerOrder]) -> None:
        blocks = {order_block(order) for order in orders}
        completion.waiting.setdefault(worker.incarnation, set()).update(blocks)
        self.state.effects.append(CallWorker(worker, verb, tuple(orders)))

    def worker_answered(
        self, call: CallWorker, receipts: tuple[Receipt | RayFSError | None, ...] | None, now: float
    ) -> None:
        """A worker's own word on orders of a completion; None: it did not answer in time."""
        touched: dict[int, Completion] = {}
        for position, order in enumerate(call.orders):
            block = order_block(order)
            receipt = receipts[position] if receipts is not None else None
            if isinstance(receipt, Receipt) and receipt.incarnation == call.worker.incarnation:
                if self.state.body(block.file_id) is None:  # its file ended meanwhile
                    self.state.effects.append(CallWorker(call.worker, "drop", (DropReplica(block, receipt.replica),)))
                    continue
                self._register(block, call.worker, receipt)
            completion = self.completions.get(block.file_id)
            if completion is None:
                continue
            touched[block.file_id] = completion
            completion.waiting.get(call.worker.incarnation, set()).discard(block)
            if isinstance(receipt, Receipt) and receipt.incarnation == call.worker.incarnation:
                completion.confirmed.setdefault(block, {})[call.worker.node_id] = call.worker
            else:
                completion.failed.add(call.worker.incarnation)
        for completion in touched.values():
            self._advance(completion, now)

    def _register(self, block: BlockId, worker: WorkerAddress, receipt: Receipt) -> None:
        node = self.state.nodes.get(worker.node_id)
        if node is not None and node.worker is not None and node.worker.incarnation == worker.incarnation:
            self.state.blocks.add(block, worker.node_id, Replica(receipt.replica, receipt.incarnation))

    def _advance(self, completion: Completion, now: float) -> None:
        """Publish when every block has its N; find replacements when all answers are in and some lack."""
        opened = self.state.open_files.get(completion.file_id)
        if opened is None or completion.file_id not in self.completions:
            return
        wanted = max(1, opened.body.options.replicas_at_close)
        lacking = [block for block in completion.orders if len(completion.confirmed.get(block, ())) < wanted]
        if not lacking:
            self._publish_or_store(completion, opened, now)
            return
        still = {block for blocks in completion.waiting.values() for block in blocks}
        for block in lacking:
            if block not in still and not self._replace(completion, opened, block, wanted, now):
                return

    def _replace(self, completion: Completion, opened: OpenFile, block: BlockId, wanted: int, now: float) -> bool:
        """Have another worker hold the block; False when the completion ended instead."""
        have = completion.confirmed.get(block, {})
        avoid = set(have) | {
            n.node_id for n in self.state.nodes.values() if n.worker and n.worker.incarnation in completion.failed
        }
        rooms = self.state.rooms()
        order = completion.orders[block]
        nodes = choose(rooms, wanted - len(have), size=order.length, rng=self.state.rng, avoid=avoid)
        source = next(iter(have.values()), None)
        if (source is None and completion.small is None) or (not nodes and not have):
            error = DataUnavailable(
                f"no worker holds block {block} of {opened.path} any more; write the file again", opened.path
            )
            self._fail(completion, opened, error, now)
            return False
        if len(nodes) < wanted - len(have):
            try:
                opened.body.options = self._shortfall(opened.path, opened.body.options, len(have) + len(nodes))
            except RayFSError as error:
                self._fail(completion, opened, error, now)
                return False
            self._advance(completion, now)
            return False
        self.state.note(
            opened.id, opened.body, FileEvent.REPLACE_HOLDER, now, f"block {block.index} to {len(nodes)} more"
        )
        for worker in self.state.addresses(nodes):
            if completion.small is not None:
                self._ask(completion, worker, "put_sealed", [completion.small])
            elif source is not None:
                self._ask(completion, worker, "copy", [CopyBlock(order, source)])
        return True

    def _fail(self, completion: Completion, opened: OpenFile, error: RayFSError, now: float) -> None:
        self._discard(opened, now, str(error))
        completion.batch.finish(completion.position, error, self.state.effects)

    # --- publication ------------------------------------------------------------------------------------------------

    def _publish_or_store(self, completion: Completion, opened: OpenFile, now: float) -> None:
        del self.completions[opened.id]
        write_type = opened.body.options.write_type
        try:
            if write_type in (WriteType.CACHE_THROUGH, WriteType.THROUGH):
                self.publication.check_target(opened)
                self.through.begin(opened, completion.batch, completion.position, now)
                return
            event = FileEvent.PUBLISH_CACHED if write_type is WriteType.MUST_CACHE else FileEvent.PUBLISH_DIRTY
            published = self.publication.publish(opened, event, now)
        except RayFSError as error:
            self._fail(completion, opened, error, now)
            return
        completion.batch.finish(completion.position, published, self.state.effects)

    # --- time --------------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Silent holders are replaced, dead leases end."""
        limits = self.state.limits
        for completion in list(self.completions.values()):
            if now - completion.started > limits.seal_timeout_s and any(completion.waiting.values()):
                completion.failed.update(i for i, blocks in completion.waiting.items() if blocks)
                completion.waiting.clear()
                completion.started = now
                self._advance(completion, now)
        for opened in list(self.state.open_files.values()):
            if opened.body.state is FileState.OPEN and now - opened.heard > limits.lease_max_s:
                self._discard(opened, now, "its lease ended: the writer was silent for too long")


def small_sums(small: SmallFile) -> BlockSum:
    """A small file is one chunk, so its checksum is its only sum."""
    return BlockSum(len(small.body), (small.crc,))


def order_block(order: WorkerOrder) -> BlockId:
    """The block an order is about."""
    if isinstance(order, PutSealed | CopyBlock):
        return order.seal.block
    return order.block
