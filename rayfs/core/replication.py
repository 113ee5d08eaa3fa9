"""Workers come, report and go; blocks with too few live replicas get more, those with too many get fewer.

Repair is planned by risk (fewest live copies first, dirty before cached) and limited per node; the source is always a
live replica. Nothing is dropped, trimmed or repaired within the grace period after a restart of the master. Invariants:
a trim never touches a block that has no more live replicas than it needs; orders name the replica number.
"""

from __future__ import annotations

from rayfs.core.blockmap import Replica
from rayfs.core.effects import CallWorker
from rayfs.core.lifecycle import FileEvent, FileState
from rayfs.core.model import BlockId, WorkerAddress
from rayfs.core.operations import Receipt
from rayfs.core.orders import CopyBlock, DropReplica, Held, ReportAnswer, SealBlock, WorkerReport
from rayfs.core.placement import choose
from rayfs.core.records import NodeRecord, Table
from rayfs.core.state import Node, State
from rayfs.errors import RayFSError

FROZEN_S = 2.0
"""Time between two ticks from which on the master itself must have been stopped; they come ten times a second."""

REPAIRS_PER_TICK = 256
"""Bound on the repairs planned in one tick; more wait for the next."""


class Replication:
    """The cluster's nodes and the repair of their replicas. ``metastore_id`` travels with every answer."""

    def __init__(self, state: State, metastore_id: str) -> None:
        self.state = state
        self.metastore_id = metastore_id
        self.repairs: dict[tuple[BlockId, str], float] = {}  # block and target node -> started
        self.dropping: set[tuple[BlockId, str]] = set()
        self.unknown: dict[tuple[BlockId, str], tuple[int, float]] = {}  # replica nobody knows -> number, since
        self._next_repair: dict[BlockId, float] = {}
        self._ticked = 0.0

    # --- workers -----------------------------------------------------------------------------------------------------

    def report(self, report: WorkerReport, now: float) -> ReportAnswer:
        """A heartbeat. An unknown life of a worker, or a gap in its changes, is asked for everything."""
        worker = report.worker
        node = self.state.nodes.get(worker.node_id)
        known = node is not None and node.worker is not None and node.worker.incarnation == worker.incarnation
        if report.full is not None:
            node = self._register(report, now)
            self._take_full(node, worker, report.full, now)
            node.acknowledged = report.first_change
        elif node is None or not known:
            return self._answer(0, send_full=True)
        elif report.changes and report.first_change > node.acknowledged + 1:
            return self._answer(node.acknowledged, send_full=True)
        for change in report.changes:
            if change.number <= node.acknowledged:
                continue
            if change.held is None:
                self.state.blocks.remove(change.block, worker.node_id, change.replica)
                self.dropping.discard((change.block, worker.node_id))
                self.unknown.pop((change.block, worker.node_id), None)
            else:
                self._take(worker, change.held, now)
            node.acknowledged = change.number
        node.heard, node.capacity, node.used, node.pid = now, report.capacity, report.used, report.pid
        node.promised = 0
        if node.suspect:
            node.suspect = False
            self.state.blocks.set_live(node.node_id, True)
            self.state.event(now, "info", "node-back", f"node n{node.node_id[:6]} answers again", node_id=node.node_id)
        return self._answer(node.acknowledged, send_full=False)

    def _answer(self, acknowledged: int, *, send_full: bool) -> ReportAnswer:
        return ReportAnswer(self.state.epoch, acknowledged, send_full, self.metastore_id, self.state.sequence)

    def _register(self, report: WorkerReport, now: float) -> Node:
        worker = report.worker
        node = self.state.nodes.get(worker.node_id)
        if node is None:
            node = self.state.nodes[worker.node_id] = Node(worker.node_id, worker.host, worker, heard=now)
        elif node.worker is None or node.worker.incarnation != worker.incarnation:
            node.restarts += 1
            self.state.blocks.lose_node(worker.node_id)
        node.worker, node.host, node.suspect, node.lost_at, node.heard = worker, worker.host, False, None, now
        if worker.node_id not in self.state.known_nodes:
            record = self.state.known_nodes[worker.node_id] = NodeRecord(worker.node_id, worker.host)
            self.state.changed(Table.NODES, worker.node_id, record)
        self.state.blocks.set_live(worker.node_id, True)
        message = f"worker on node n{worker.node_id[:6]} registered with {report.blocks} blocks"
        self.state.event(now, "info", "worker-up", message, node_id=worker.node_id)
        return node

    def _take_full(self, node: Node, worker: WorkerAddress, held: tuple[Held, ...], now: float) -> None:
        reported = {one.block for one in held}
        for block in [b for b in self.state.blocks.by_node.get(node.node_id, ()) if b not in reported]:
            self.state.blocks.remove(block, node.node_id)
        for one in held:
            self._take(worker, one, now)

    def _take(self, worker: WorkerAddress, held: Held, now: float) -> None:
        body = self.state.body(held.block.file_id)
        if body is None:
            if held.block.file_id in self.state.departing:  # removed a moment ago; those who have it open may read on
                self.state.blocks.add(held.block, worker.node_id, Replica(held.replica, worker.incarnation))
                return
            # An id of this master's own life that names no file has ended; an older one may be a repeat on its way.
            ended = held.block.file_id >> 32 == self.state.epoch
            since = now - self.state.limits.unknown_block_grace_s if ended else now
            self.unknown.setdefault((held.block, worker.node_id), (held.replica, since))
            return
        self.unknown.pop((held.block, worker.node_id), None)
        opened = self.state.open_files.get(held.block.file_id)
        if opened is not None:
            opened.allocated = max(opened.allocated, held.block.index + 1)
            opened.heard = max(opened.heard, now)  # a lease is renewed by any block stored
        elif held.block.index >= len(body.blocks) or body.blocks[held.block.index].crc != held.crc:
            self.unknown.setdefault((held.block, worker.node_id), (held.replica, now))
            return
        self.state.blocks.add(held.block, worker.node_id, Replica(held.replica, worker.incarnation))

    def worker_gone(self, worker: WorkerAddress, why: str, now: float) -> None:
        """The worker's process died, and its replicas with it."""
        node = self.state.nodes.get(worker.node_id)
        if node is None or node.worker is None or node.worker.incarnation != worker.incarnation:
            return
        node.worker, node.lost_at, node.used, node.suspect = None, now, 0, False
        lost = self.state.blocks.lose_node(worker.node_id)
        for key in [key for key in self.repairs if key[1] == worker.node_id]:
            del self.repairs[key]
        for table in (self.unknown, self.dropping):
            for pair in [pair for pair in table if pair[1] == worker.node_id]:
                table.pop(pair) if isinstance(table, dict) else table.discard(pair)
        message = f"node n{worker.node_id[:6]} lost its worker ({why}), and {lost} replicas with it"
        self.state.event(now, "error" if lost else "warning", "worker-lost", message, node_id=worker.node_id)

    def node_gone(self, node_id: str, now: float) -> None:
        """Ray says that the node is dead."""
        node = self.state.nodes.get(node_id)
        if node is not None and node.worker is not None:
            self.worker_gone(node.worker, "the node is dead", now)
        if self.state.known_nodes.pop(node_id, None) is not None:
            self.state.dropped(Table.NODES, node_id)

    # --- time --------------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Suspect the silent, repair what has too few, trim what has too many, drop what nobody knows."""
        limits = self.state.limits
        gap = now - self._ticked if self._ticked else 0.0
        self._ticked = now
        for node in self.state.nodes.values():
            if gap > FROZEN_S:  # it was this process that did not listen: the workers are not to blame
                node.heard += gap
            silent = now - node.heard
            if node.worker is not None and not node.suspect and silent > limits.heartbeat_timeout_s:
                node.suspect = True
                message = f"node n{node.node_id[:6]} has not been heard of for {silent:.0f} s"
                self.state.event(now, "warning", "node-suspect", message, node_id=node.node_id)
            if node.suspect and silent > limits.heartbeat_timeout_s + limits.repair_grace_s:
                self.state.blocks.set_live(node.node_id, False)
        if self.state.in_grace(now):
            return
        for key in [key for key, started in self.repairs.items() if now - started > 120.0]:
            del self.repairs[key]
        self._repair(now)
        self._trim()
        self._drop_unknown(now)

    def _repair(self, now: float) -> None:
        blocks = self.state.blocks
        candidates = [b for b, live in blocks.under.items() if live > 0 and self._next_repair.get(b, 0.0) <= now]
        if not candidates:
            self._next_repair.clear()
            return
        candidates.sort(key=self._risk)
        busy: dict[str, int] = {}
        for _, target in self.repairs:
            busy[target] = busy.get(target, 0) + 1
        calls: dict[WorkerAddress, list[CopyBlock]] = {}
        for block in candidates[:REPAIRS_PER_TICK]:
            self._plan_repair(block, busy, calls, now)
        for worker, orders in calls.items():
            self.state.effects.append(CallWorker(worker, "copy", tuple(orders)))

    def _risk(self, block: BlockId) -> tuple[int, int]:
        body = self.state.body(block.file_id)
        persisted = body is not None and body.state is FileState.PERSISTED
        return (int(persisted), self.state.blocks.under[block])

    def _plan_repair(
        self, block: BlockId, busy: dict[str, int], calls: dict[WorkerAddress, list[CopyBlock]], now: float
    ) -> None:
        need = self.state.need(block)
        body = self.state.body(block.file_id)
        if need is None or body is None:
            return
        holders = self.state.trusted(self.state.blocks.holders(block))
        under_way = [target for repaired, target in self.repairs if repaired == block]
        lacking = need.least - len(holders) - len(under_way)
        per_node = self.state.limits.repairs_per_node
        full = {node for node, count in busy.items() if count >= per_node}
        avoid = set(self.state.blocks.replicas.get(block, ())) | set(under_way) | full
        record = body.blocks[block.index]
        targets = choose(self.state.rooms(), max(0, lacking), size=record.length, rng=self.state.rng, avoid=avoid)
        source = self.state.worker(holders[0])
        if source is None:
            return
        seal = SealBlock(block, record.length, record.crc, body.length, len(body.blocks), self.state.sequence)
        for target in targets:
            worker = self.state.worker(target)
            if worker is None:
                continue
            self.repairs[(block, target)] = now
            busy[target] = busy.get(target, 0) + 1
            calls.setdefault(worker, []).append(CopyBlock(seal, source))

    def copied(self, call: CallWorker, receipts: tuple[Receipt | RayFSError | None, ...] | None, now: float) -> None:
        """A repair's answer; a failed one is planned again after a short pause, from another source if there is one."""
        for position, order in enumerate(call.orders):
            if not isinstance(order, CopyBlock):
                continue
            block = order.seal.block
            mine = self.repairs.pop((block, call.worker.node_id), None)
            if mine is None:
                continue
            receipt = receipts[position] if receipts is not None else None
            body = self.state.body(block.file_id)
            if not isinstance(receipt, Receipt):
                self._next_repair[block] = now + 1.0
            elif body is not None and block not in self.state.blocks.under:
                detail = (
                    f"block {block.index} on n{call.worker.node_id[:6]}, {self.state.blocks.live_count(block)} copies"
                )
                self.state.note(block.file_id, body, FileEvent.REPAIRED, now, detail)

    def _trim(self) -> None:
        orders: dict[str, list[DropReplica]] = {}
        for block in list(self.state.blocks.over)[: 4 * REPAIRS_PER_TICK]:
            need = self.state.need(block)
            if need is None:
                continue
            held = self.state.blocks.replicas[block]
            holders = self.state.blocks.holders(block)
            if any((block, node) in self.dropping or self.state.nodes[node].suspect for node in holders):
                continue  # a silent holder may be dead: dropping another one could be dropping the last good copy
            fullest = sorted(holders, key=self._fullness, reverse=True)
            for node in fullest[: len(holders) - need.most]:
                self.dropping.add((block, node))
                orders.setdefault(node, []).append(DropReplica(block, held[node].number))
        for node, drops in orders.items():
            worker = self.state.worker(node)
            if worker is not None:
                self.state.effects.append(CallWorker(worker, "drop", tuple(drops)))

    def dropped(self, call: CallWorker, done: bool) -> None:
        """A drop was carried out, or its answer is missing and it may be ordered again."""
        for order in call.orders:
            if isinstance(order, DropReplica):
                self.dropping.discard((order.block, call.worker.node_id))
                if done:
                    self.state.blocks.remove(order.block, call.worker.node_id, order.replica)

    def _fullness(self, node_id: str) -> float:
        node = self.state.nodes[node_id]
        return node.used / node.capacity if node.capacity else 1.0

    def _drop_unknown(self, now: float) -> None:
        orders: dict[str, list[DropReplica]] = {}
        for (block, node), (number, since) in list(self.unknown.items()):
            if now - since < self.state.limits.unknown_block_grace_s:
                continue
            del self.unknown[(block, node)]
            if self.state.body(block.file_id) is None:
                orders.setdefault(node, []).append(DropReplica(block, number))
        for node, drops in orders.items():
            worker = self.state.worker(node)
            if worker is not None:
                self.state.effects.append(CallWorker(worker, "drop", tuple(drops)))
