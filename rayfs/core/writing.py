"""The write path: from ``create`` to the moment at which a file may be acknowledged.

A file that is being written is an ``OpenFile`` that nobody else sees. Publication needs, for each block, N distinct
nodes whose workers answered themselves (seal, store or copy) to this master; where N cannot be had the shortfall policy
decides: written through (published once the under store has it) or refused. Invariant: nothing is published with less,
and a file that is not published leaves no replica and no row behind.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from rayfs.core.batch import Batch
from rayfs.core.blockmap import Replica
from rayfs.core.checksum import file_crc
from rayfs.core.effects import CallWorker, WorkerOrder, WorkerVerb
from rayfs.core.lifecycle import FileEvent, FileState
from rayfs.core.model import Block, BlockId, BlockSum, WorkerAddress, WriteOptions, WriteType
from rayfs.core.opening import Opening
from rayfs.core.operations import (
    AbandonFile,
    CompleteFile,
    Receipt,
    Request,
    SmallFile,
    WriteFiles,
)
from rayfs.core.orders import CopyBlock, DropReplica, PutSealed, SealBlock
from rayfs.core.placement import choose
from rayfs.core.publication import Publication
from rayfs.core.records import FileBody, OpenFile, Table
from rayfs.core.state import State
from rayfs.core.through import ThroughWrites
from rayfs.errors import (
    DataUnavailable,
    InvalidArgument,
    NoSpace,
    RayFSError,
)

RETRY_S = 0.5
"""Pause before workers that were full or silent are asked again."""


@dataclass(slots=True)
class Completion:
    """A file on its way to publication: who must still answer, who has, and whom to tell."""

    file_id: int
    batch: Batch
    position: int
    orders: dict[BlockId, SealBlock]
    began: float
    asked: float
    waiting: dict[str, set[BlockId]] = field(default_factory=dict)  # worker incarnation -> blocks it is to confirm
    confirmed: dict[BlockId, dict[str, WorkerAddress]] = field(default_factory=dict)  # block -> node -> worker
    refused: dict[str, RayFSError | None] = field(default_factory=dict)  # incarnation -> its definite no
    silent: set[str] = field(default_factory=set)  # incarnations that did not answer in time, or had no room
    full: NoSpace | None = None
    stalled: float | None = None  # since when nobody is left to ask; they are asked again after a pause
    written: dict[BlockId, tuple[WorkerAddress, ...]] = field(default_factory=dict)  # by the writer's word
    small: PutSealed | None = None


class Writing:
    """Open files and their completions."""

    def __init__(self, state: State, opening: Opening, publication: Publication, through: ThroughWrites) -> None:
        self.state = state
        self.opening = opening
        self.publication = publication
        self.through = through
        self.completions: dict[int, Completion] = {}

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
        opened = self.opening.opened(operation.file_id, now)
        batch = Batch(request.session, request.sequence, True, [None], 1)
        body = opened.body
        if body.state is FileState.THROUGH:  # a repeat after a restart of the master: wait for the same upload
            self.through.attach(opened.id, batch, 0, now)
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
        completion.written = {BlockId(opened.id, block.index): block.workers for block in operation.blocks}
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
        completion = Completion(opened.id, batch, position, orders, began=now, asked=now)
        self.completions[opened.id] = completion
        return completion

    def write_files(self, request: Request, operation: WriteFiles, now: float) -> None:
        """Store, seal and publish small files in one exchange with each worker."""
        if operation.files:
            self.opening.need_workers(operation.files[0].path, operation.properties, now)
        batch = Batch(request.session, request.sequence, False, [None] * len(operation.files), len(operation.files))
        orders: dict[WorkerAddress, list[WorkerOrder]] = {}
        started: list[Completion] = []
        chosen: dict[tuple[int, WriteType], tuple[WriteOptions, list[str]]] = {}
        for position, small in enumerate(operation.files):
            try:
                path, options = self.opening.prepare(small.path, small.overwrite, operation)
                at = (options.replicas_at_close, options.write_type)
                if at not in chosen:
                    size = sum(len(file.body) for file in operation.files)
                    chosen[at] = self.opening.targets(path, options, size, operation.writer_node)
                if chosen[at][0] is not options and chosen[at][0].write_type is WriteType.THROUGH:
                    options = (
                        self.opening.shortfall(path, options, len(self.state.rooms()))
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
            for worker in self.opening.promise(chosen[at][1], len(small.body)):
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
                completion.silent.discard(call.worker.incarnation)
            elif isinstance(receipt, NoSpace) or (
                receipts is None and self.state.worker(call.worker.node_id) == call.worker
            ):
                completion.silent.add(call.worker.incarnation)
                completion.full = receipt if isinstance(receipt, NoSpace) else completion.full
            else:
                completion.refused[call.worker.incarnation] = receipt if isinstance(receipt, RayFSError) else None
        for completion in touched.values():
            self._advance(completion, now)

    def worker_gone(self, worker: WorkerAddress, now: float) -> None:
        """A worker died: what it had confirmed does not count any more, and nobody waits for it."""
        for completion in list(self.completions.values()):
            completion.waiting.pop(worker.incarnation, None)
            completion.silent.discard(worker.incarnation)
            completion.refused.setdefault(worker.incarnation, None)
            for confirmed in completion.confirmed.values():
                if confirmed.get(worker.node_id) == worker:
                    del confirmed[worker.node_id]
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
        """Have other workers hold the block; False when the completion ended instead."""
        have = completion.confirmed.get(block, {})
        missing = wanted - len(have)
        source = next(iter(have.values()), None)
        can_copy = source is not None or completion.small is not None
        nodes = self._others(completion, block, missing) if can_copy else []
        if len(nodes) < missing and completion.silent and now - completion.began < opened.body.options.write_wait_s:
            # Silence and a full store are no definite no, and asking twice does no harm.
            completion.stalled = now
            return True
        if not can_copy or (not nodes and not have):
            reason = completion.full or next(
                (error for error in completion.refused.values() if error is not None), None
            )
            error = reason or DataUnavailable(
                f"no worker holds block {block} of {opened.path} any more; write the file again", opened.path
            )
            self._fail(completion, opened, error, now)
            return False
        if len(nodes) < missing:
            try:
                opened.body.options = self.opening.shortfall(opened.path, opened.body.options, len(have) + len(nodes))
            except RayFSError as error:
                self._fail(completion, opened, error, now)
                return False
            self._advance(completion, now)
            return False
        self._hand_out(completion, opened, block, nodes, now)
        return True

    def _others(self, completion: Completion, block: BlockId, count: int) -> list[str]:
        """Nodes that may take the block and have not been asked for it in vain."""
        asked = set(completion.refused) | completion.silent
        asked |= {incarnation for incarnation, blocks in completion.waiting.items() if block in blocks}
        avoid = {n.node_id for n in self.state.nodes.values() if n.worker and n.worker.incarnation in asked}
        avoid |= set(completion.confirmed.get(block, ()))
        size = completion.orders[block].length
        return choose(self.state.rooms(), count, size=size, rng=self.state.rng, avoid=avoid)

    def _hand_out(self, completion: Completion, opened: OpenFile, block: BlockId, nodes: list[str], now: float) -> None:
        """Order the block onto more nodes: the bytes themselves where the file is small, else a copy."""
        source = next(iter(completion.confirmed.get(block, {}).values()), None)
        self.state.note(
            opened.id, opened.body, FileEvent.REPLACE_HOLDER, now, f"block {block.index} to {len(nodes)} more"
        )
        for worker in self.state.addresses(nodes):
            if completion.small is not None:
                self._ask(completion, worker, "put_sealed", [completion.small])
            elif source is not None:
                self._ask(completion, worker, "copy", [CopyBlock(completion.orders[block], source)])

    def _ask_again(self, completion: Completion, now: float) -> None:
        """Everybody was slow or full: once more, those that the writer named and whoever else there is."""
        completion.stalled = None
        completion.silent.clear()
        for block, workers in completion.written.items():
            if not completion.confirmed.get(block):
                for worker in workers:
                    if self.state.worker(worker.node_id) == worker:
                        self._ask(completion, worker, "seal", [completion.orders[block]])
        self._advance(completion, now)

    def _help(self, completion: Completion, now: float) -> None:
        """Somebody is slow: nodes that were not asked yet get the block too. The slow ones' answers still count."""
        completion.asked = now
        opened = self.state.open_files.get(completion.file_id)
        if opened is None:
            return
        wanted = max(1, opened.body.options.replicas_at_close)
        for block in completion.orders:
            have = completion.confirmed.get(block, {})
            if len(have) < wanted and (have or completion.small is not None):
                nodes = self._others(completion, block, wanted - len(have))
                if nodes:
                    self._hand_out(completion, opened, block, nodes, now)

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
        """Slow holders get help, dead leases end."""
        limits = self.state.limits
        for completion in list(self.completions.values()):
            if completion.stalled is not None and now - completion.stalled > RETRY_S:
                self._ask_again(completion, now)
            elif now - completion.asked > limits.seal_timeout_s:
                self._help(completion, now)
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
