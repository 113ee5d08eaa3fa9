"""The core as the shell sees it: one method per kind of event, each with the time at which it happened.

After each call the shell takes ``drain()``: the records to commit and the effects to carry out once they are durable.
No answer, reads included, may leave before that. Invariant: a method either changes nothing (it raised) or leaves a
consistent state.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rayfs.core.effects import CallWorker, Effect, MetadataNeeded, Reply
from rayfs.core.keytable import KeyTable
from rayfs.core.model import PersisterAddress, WorkerAddress
from rayfs.core.opening import Opening
from rayfs.core.operations import (
    AbandonFile,
    AllocateBlocks,
    AwaitPersisted,
    CompleteFile,
    CreateFile,
    Free,
    GetHistory,
    GetPathProperties,
    GetServers,
    GetStatus,
    ListDirectory,
    MakeDirectory,
    Mutation,
    OpenForRead,
    Persist,
    Pin,
    Query,
    Receipt,
    Remove,
    Rename,
    RenewLease,
    Request,
    SetPathProperties,
    SetReplication,
    Touch,
    WriteFiles,
)
from rayfs.core.orders import ReportAnswer, StoreAnswer, StoreEntry, StoreOrder, WorkerReport
from rayfs.core.picture import Facts, Picture
from rayfs.core.publication import Publication
from rayfs.core.reconcile import Reconciler
from rayfs.core.records import Record, Table
from rayfs.core.replication import Replication
from rayfs.core.sessions import Nothing
from rayfs.core.snapshot import ClusterSnapshot
from rayfs.core.state import Limits, Persister, State
from rayfs.core.through import ThroughWrites
from rayfs.core.tree import Tree
from rayfs.core.views import Views
from rayfs.core.writing import Writing
from rayfs.errors import RayFSError

PERSISTING = "persisting"
"""Name of the setting that says that the under store's prefix is ours and persisting has begun."""


class Pending:
    """The answer comes later, as a ``Reply``."""


PENDING = Pending()


@dataclass(frozen=True, slots=True)
class Step:
    """What an event led to. ``changes``: record by table and key, None for one that is gone."""

    changes: dict[tuple[Table, str], Record | None]
    effects: list[Effect]


class Core:
    """The whole control plane. One thread calls it; it calls nobody."""

    def __init__(
        self, epoch: int, rng: random.Random, limits: Limits, facts: Facts, now: float, *, strict: bool = True
    ) -> None:
        self.state = State(epoch, rng, limits, strict)
        self.keys = KeyTable(self.state)
        self.reconciler = Reconciler(self.state, self.keys)
        self.publication = Publication(self.state, self.keys)
        self.through = ThroughWrites(self.state, self.publication, self.keys)
        self.reconciler.writers = self.through
        self.opening = Opening(self.state)
        self.writing = Writing(self.state, self.opening, self.publication, self.through)
        self.replication = Replication(self.state, facts.cluster_id)
        self.tree = Tree(self.state, self.publication, self.keys)
        self.views = Views(self.state, self.tree)
        self.picture = Picture(self.state, self.reconciler, facts, now)
        self.pending: dict[tuple[str, int], Request] = {}

    def recover(self, records: Iterable[Record], sequence: int, now: float) -> None:
        """Take in what the metastore has; every attempt found in it is unsettled until the store says otherwise."""
        self.state.sequence = sequence
        for record in records:
            self.state.load(record, now)
        self.state.begin(now)
        self.reconciler.enabled = self.state.settings.get(PERSISTING) == "yes"
        self.keys.reload(now)

    def drain(self) -> Step:
        """The changes and effects since the last call."""
        for effect in self.state.effects:
            if isinstance(effect, Reply):
                request = self.pending.pop((effect.session, effect.sequence), None)
                if request is not None:
                    self.state.sessions.answered(request, effect.answer)
        step = Step(self.state.changes, self.state.effects)
        self.state.changes, self.state.effects = {}, []
        return step

    # --- clients -----------------------------------------------------------------------------------------------------

    def open_session(self, session: str, now: float) -> None:
        """Begin a client session under a name nobody used before."""
        self.state.sessions.open(session, now)

    def execute(self, request: Request, now: float) -> object:
        """The answer, ``PENDING``, or an error as a value. Raises ``MetadataNeeded`` (list the directory and call
        again) and ``WorkersNeeded`` (call again when one has registered).
        """
        try:
            kept = self.state.sessions.replay(request, now)
        except RayFSError as refusal:
            return refusal
        if kept is not None:
            return None if isinstance(kept, Nothing) else kept
        if (request.session, request.sequence) in self.pending:
            return PENDING
        try:
            answer = self._carry_out(request, now)
        except RayFSError as error:
            answer = error
        self.reconciler.dispatch(now)
        if answer is PENDING:
            self.pending[(request.session, request.sequence)] = request
        elif not isinstance(request.operation, AllocateBlocks | RenewLease):  # those may be executed again without harm
            self.state.sessions.answered(request, answer)
        return answer

    def _carry_out(self, request: Request, now: float) -> object:
        operation = request.operation
        match operation:
            case CreateFile():
                return self.opening.create(operation, now)
            case AllocateBlocks():
                return self.opening.allocate(operation, now)
            case CompleteFile():
                self.writing.complete(request, operation, now)
                return PENDING
            case WriteFiles():
                self.writing.write_files(request, operation, now)
                return PENDING
            case Persist():
                return self.tree.persist(operation, now)
            case Free():
                return self.tree.free(operation, now)
            case SetReplication():
                return self.tree.set_replication(operation, now)
        self._change(operation, now)
        return None

    def _change(self, operation: Mutation, now: float) -> None:
        """Mutations whose answer is None."""
        match operation:
            case AbandonFile():
                self.writing.abandon(operation, now)
            case RenewLease():
                self.opening.renew(operation.file_id, now)
            case MakeDirectory():
                self.tree.make_directory(operation, now)
            case Rename():
                self.tree.rename(operation, now)
            case Remove():
                self.tree.remove(operation, now)
            case Touch():
                self.tree.touch(operation, now)
            case Pin():
                self.tree.pin(operation, now)
            case SetPathProperties():
                self.tree.set_path_properties(operation, now)

    def query(self, query: Query, now: float) -> object:
        """The answer, or an error as a value. Raises ``MetadataNeeded`` as ``execute`` does."""
        try:
            match query:
                case GetStatus():
                    return self.views.status(self.tree.find(query.path, query.load), now)
                case ListDirectory():
                    return self.views.listing(query, now)
                case OpenForRead():
                    return self.views.read_plan(query)
                case GetHistory():
                    return self.views.history(query.path)
                case GetPathProperties():
                    return self.views.path_properties(query.path)
                case AwaitPersisted():
                    return self.views.progress(query)
                case GetServers():
                    workers = [n.worker for n in self.state.nodes.values() if n.worker is not None and not n.suspect]
                    return {"workers": workers, "persisters": [p.address for p in self.state.persisters.values()]}
            return self.picture.take(now)
        except RayFSError as error:
            return error

    def take_listing(self, needed: MetadataNeeded, entries: Sequence[StoreEntry], now: float) -> None:
        """The under store's answer to a ``MetadataNeeded``."""
        self.tree.take_listing(needed.directory, entries, needed.recursive, now)

    # --- workers -----------------------------------------------------------------------------------------------------

    def worker_report(self, report: WorkerReport, now: float) -> ReportAnswer:
        """A worker's heartbeat or full report."""
        return self.replication.report(report, now)

    def worker_answered(
        self, call: CallWorker, receipts: tuple[Receipt | RayFSError | None, ...] | None, now: float
    ) -> None:
        """The answer to a ``CallWorker``; None where there was none in time."""
        if call.verb == "drop":
            self.replication.dropped(call, receipts is not None)
            return
        self.writing.worker_answered(call, receipts, now)
        if call.verb == "copy":
            self.replication.copied(call, receipts, now)
        self.reconciler.dispatch(now)

    def worker_gone(self, worker: WorkerAddress, why: str, now: float) -> None:
        """A worker's process is dead."""
        self.replication.worker_gone(worker, why, now)
        self.writing.worker_gone(worker, now)
        self.reconciler.dispatch(now)

    def node_gone(self, node_id: str, now: float) -> None:
        """Ray's own view: the node is dead."""
        worker = self.state.worker(node_id)
        self.replication.node_gone(node_id, now)
        if worker is not None:
            self.writing.worker_gone(worker, now)
        self.reconciler.dispatch(now)

    # --- persisters --------------------------------------------------------------------------------------------------

    def begin_persisting(self, now: float) -> None:
        """The prefix is ours: requests to the under store may be sent from now on, also after a restart."""
        self.state.set(PERSISTING, "yes")
        self.reconciler.enabled = True
        self.reconciler.dispatch(now)

    def persister_up(self, address: PersisterAddress, now: float) -> None:
        """A persister is ready."""
        if address.incarnation not in self.state.persisters:
            self.state.persisters[address.incarnation] = Persister(address)
        self.reconciler.dispatch(now)

    def persister_gone(self, incarnation: str, now: float) -> None:
        """A persister is dead."""
        self.reconciler.persister_gone(incarnation, now)
        self.reconciler.dispatch(now)

    def store_answered(self, incarnation: str, order: StoreOrder, answer: StoreAnswer, now: float) -> None:
        """The answer to a ``CallPersister``."""
        self.reconciler.answered(incarnation, order, answer, now)
        self.reconciler.dispatch(now)

    # --- time --------------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        """Time has passed: timeouts, repair, trim, persists that are due."""
        self.writing.tick(now)
        self.through.tick(now)
        self.publication.tick(now)
        self.replication.tick(now)
        self.reconciler.dispatch(now)

    def snapshot(self, now: float) -> ClusterSnapshot:
        """The picture that is published."""
        return self.picture.take(now)
