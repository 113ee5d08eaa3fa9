"""The master: one async Ray actor that feeds events to the core, commits what changed, and carries effects out.

May know ``rayfs.core``, ``rayfs.metastore`` and Ray; no decision is made here. It is detached, has a fixed name and is
restarted by Ray. Invariants: no answer and no effect leaves before the commit it depends on is on stable storage
(``_flush`` and ``_durable``); a commit that fails ends the process, and the next one begins from the metastore; the
event loop never blocks.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import sys
import time
import uuid
from collections.abc import Mapping
from typing import Any

import ray

import rayfs
from rayfs.actors.calls import Calls
from rayfs.actors.committer import Committer
from rayfs.actors.fleet import Fleet
from rayfs.core import paths
from rayfs.core.control import PENDING, Core
from rayfs.core.effects import CallPersister, CallWorker, Effect, MetadataNeeded, Reply, WorkersNeeded
from rayfs.core.operations import (
    AwaitPersisted,
    GetStatus,
    ListDirectory,
    MetadataLoad,
    OpenForRead,
    Persist,
    PersistProgress,
    PropertyValue,
    Query,
    Request,
)
from rayfs.core.orders import ReportAnswer, WorkerReport
from rayfs.core.picture import Facts
from rayfs.core.state import Limits
from rayfs.errors import RayFSError, RequestRefused, UnderStoreUnavailable
from rayfs.metastore.store import Metastore

logger = logging.getLogger(__name__)

TICK_S = 0.1
SNAPSHOT_S = 1.0
RECOVERY_PAUSE_S = 2.0
LONGEST_WAIT_S = 10.0
"""Bound on a query that waits (``AwaitPersisted``)."""


def limits_from(properties: Mapping[str, PropertyValue], under_store: str) -> Limits:
    """The core's limits out of the cluster's properties."""
    base = Limits()

    def number(key: str, default: float) -> float:
        value = properties.get(key)
        return default if value is None else float(value)

    bandwidth = number("rayfs.persist.bandwidth", -1)
    prefix = under_store.partition("://")[2].partition("/")[2]
    return Limits(
        heartbeat_timeout_s=number("rayfs.master.worker.suspect.timeout", base.heartbeat_timeout_s),
        repair_grace_s=number("rayfs.master.repair.grace", base.repair_grace_s),
        repairs_per_node=int(number("rayfs.master.repair.per.node", base.repairs_per_node)),
        recovery_grace_s=number("rayfs.master.worker.connect.wait.time", base.recovery_grace_s),
        lease_max_s=number("rayfs.master.lease.max", base.lease_max_s),
        persist_concurrency=int(number("rayfs.persist.concurrency", base.persist_concurrency)),
        retry_initial_s=number("rayfs.persist.retry.initial", base.retry_initial_s),
        retry_max_s=number("rayfs.persist.retry.max", base.retry_max_s),
        persist_bytes_per_s=bandwidth if bandwidth >= 0 else None,
        part_size=int(number("rayfs.persist.part.size.bytes", base.part_size)),
        multipart=under_store.startswith("s3:"),
        prefix_bytes=len(prefix.encode()) + 1 if under_store.startswith("s3:") else 0,
        files_max=int(number("rayfs.master.files.max", base.files_max)),
    )


class Master:
    """The actor. ``properties`` are the cluster's own (no ``rayfs.user.*``, no credential)."""

    def __init__(
        self,
        properties: Mapping[str, PropertyValue],
        under_store: str,
        metastore_uri: str,
        head_node_id: str,
        gcs_persistent: bool,
    ) -> None:
        # The commit thread takes turns with the event loop: Python's 5 ms between them would be most of a small write.
        sys.setswitchinterval(0.0005)
        self._properties = dict(properties)
        self._under_store = under_store
        self._head_node_id = head_node_id
        self._gcs_persistent = gcs_persistent
        self._metastore = Metastore(metastore_uri)
        self._failure: RayFSError | None = None
        self._tried = 0.0
        self._core: Core
        self._started = False
        self._stopping = False
        self._answers: dict[tuple[str, int], asyncio.Future[object]] = {}
        self._loading: dict[tuple[str, bool], asyncio.Task[RayFSError | None]] = {}
        self._settled = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._try_to_recover()

    def _try_to_recover(self) -> None:
        """Begin from the metastore. One that cannot be used is said to everybody who asks, and tried again."""
        self._tried = time.monotonic()
        try:
            self._recover()
            self._failure = None
        except RayFSError as problem:
            logger.error("the master cannot start: %s", problem)  # noqa: TRY400  # the sentence says it all
            self._failure = problem

    def _recover(self) -> None:
        now = time.time()
        cluster_id, epoch, sequence = self._metastore.open()
        facts = Facts(
            version=rayfs.__version__,
            cluster_id=cluster_id,
            under_store=self._under_store,
            head_node_id=self._head_node_id,
            gcs_persistent=self._gcs_persistent,
            config=self._properties,
        )
        limits = limits_from(self._properties, self._under_store)
        self._core = Core(epoch, random.Random(), limits, facts, now, strict=False)
        self._core.recover(self._metastore.load(), sequence, now)
        self._committer = Committer(self._metastore, epoch)
        self._calls = Calls(epoch)
        self._fleet = Fleet(epoch, cluster_id, self._under_store, self._properties, self._head_node_id)

    def _now(self) -> float:
        return time.time()

    # --- the loop ----------------------------------------------------------------------------------------------------

    async def _ready(self) -> None:
        """Begin the background work with the first call, when there is a running loop. Raises what keeps it from
        serving.
        """
        if self._failure is not None and time.monotonic() - self._tried > RECOVERY_PAUSE_S:
            self._try_to_recover()
        if self._failure is not None:
            raise self._failure
        if not self._started:
            self._started = True
            self._committer.start(self._carry_out)
            for work in (self._tick, self._publish, self._watch_nodes):
                self._tasks.append(asyncio.create_task(self._for_ever(work)))
            self._flush()

    async def _for_ever(self, work: Any) -> None:
        while not self._stopping:
            try:
                await work()
            except asyncio.CancelledError:
                raise
            except Exception:  # background work goes on whatever happens to one round of it
                logger.exception("%s failed", work.__name__)
                await asyncio.sleep(1.0)

    def _flush(self) -> None:
        """Hand what the last event led to to the committer; effects follow once it is durable."""
        step = self._core.drain()
        self._committer.take(step.changes, step.effects, self._core.state.sequence)

    async def _durable(self) -> None:
        await self._committer.durable()

    def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            if isinstance(effect, Reply):
                waiting = self._answers.pop((effect.session, effect.sequence), None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(effect.answer)
            elif isinstance(effect, CallWorker):
                self._spawn(self._call_worker(effect))
            else:
                self._spawn(self._call_persister(effect))

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(self._said(work))
        self._tasks.append(task)
        task.add_done_callback(self._tasks.remove)

    async def _said(self, work: Any) -> None:
        """An effect whose answer the core could not take is in the log; the core's own timers take it up again."""
        try:
            await work
        except Exception:
            logger.exception("the answer to an effect could not be taken")

    async def _call_worker(self, call: CallWorker) -> None:
        receipts, died = await self._calls.worker(call)
        if died:
            self._core.worker_gone(call.worker, died, self._now())
        self._core.worker_answered(call, receipts, self._now())
        self._flush()

    async def _call_persister(self, call: CallPersister) -> None:
        answer, died = await self._calls.persister(call)
        incarnation = call.persister.incarnation
        self._core.store_answered(incarnation, call.order, answer, self._now())
        if died:
            self._core.persister_gone(incarnation, self._now())
        self._flush()
        self._settled.set()

    async def _tick(self) -> None:
        await asyncio.sleep(TICK_S)
        self._core.tick(self._now())
        self._flush()

    async def _publish(self) -> None:
        snapshot = self._core.snapshot(self._now())
        await self._durable()
        await self._fleet.publish(snapshot)
        await asyncio.sleep(SNAPSHOT_S)

    async def _watch_nodes(self) -> None:
        """Every live node gets a worker and a persister; dead ones are told to the core."""
        changes = await self._fleet.look(self._core.state.nodes, self._core.state.persisters)
        now = self._now()
        for node_id in changes.dead_nodes:
            self._core.node_gone(node_id, now)
        for worker in changes.dead_workers:
            self._core.worker_gone(worker, "its process died", now)
        for facts in changes.persisters_up:
            self._core.persister_up(facts.address, now)
        for incarnation in changes.persisters_down:
            self._core.persister_gone(incarnation, now)
        self._flush()
        await asyncio.sleep(self._fleet.pause_s)

    # --- clients -----------------------------------------------------------------------------------------------------

    async def open_session(self) -> str:
        """A new session's name."""
        await self._ready()
        session = uuid.uuid4().hex
        self._core.open_session(session, self._now())
        self._flush()
        await self._durable()
        return session

    async def execute(self, request: Request) -> object:
        """A mutation, executed once; the answer or an error as a value."""
        try:
            await self._ready()
            if self._stopping:
                return RequestRefused(
                    "this RayFS cluster is being stopped and takes no changes; wait for it to start again"
                )
            while True:
                try:
                    answer = self._core.execute(request, self._now())
                    break
                except WorkersNeeded:
                    await asyncio.sleep(TICK_S)  # heartbeats come each second, and the grace period bounds this
                except MetadataNeeded as needed:
                    problem = await self._load(needed)
                    if problem is not None:
                        return problem
        except RayFSError as problem:
            return problem
        if answer is PENDING:
            key = (request.session, request.sequence)
            waiting = self._answers.get(key)
            if waiting is None:
                waiting = self._answers[key] = asyncio.get_running_loop().create_future()
            self._flush()
            return await asyncio.shield(waiting)
        self._flush()
        await self._durable()
        if isinstance(request.operation, Persist):
            self._settled.set()
        return answer

    async def query(self, query: Query) -> object:
        """A read; the answer or an error as a value."""
        try:
            await self._ready()
            if isinstance(query, AwaitPersisted):
                return await self._await_persisted(query)
            return await self._query(query)
        except RayFSError as problem:
            return problem

    async def _query(self, query: Query) -> object:
        if isinstance(query, GetStatus | ListDirectory | OpenForRead) and query.load is MetadataLoad.ALWAYS:
            problem = await self._list_again(query)
            if problem is not None:
                return problem
        while True:
            try:
                answer = self._core.query(query, self._now())
                break
            except MetadataNeeded as needed:
                problem = await self._load(needed)
                if problem is not None:
                    return problem
        await self._durable()
        return answer

    async def _list_again(self, query: GetStatus | ListDirectory | OpenForRead) -> RayFSError | None:
        """The directory a query is about, as the under store has it now."""
        path = paths.normalize(query.path)
        inode = self._core.state.namespace.find(path)
        directory = path if inode is not None and inode.is_directory else paths.split(path)[0]
        known = self._core.state.namespace.find(directory)
        if known is None or not known.is_directory:
            return None
        return await self._load(MetadataNeeded(directory, recursive=False))

    async def _await_persisted(self, query: AwaitPersisted) -> object:
        until = time.monotonic() + min(query.timeout_s, LONGEST_WAIT_S)
        while True:
            self._settled.clear()
            answer = await self._query(query)
            left = until - time.monotonic()
            if not isinstance(answer, PersistProgress) or answer.done or left <= 0:
                return answer
            try:
                await asyncio.wait_for(self._settled.wait(), min(left, 1.0))
                await asyncio.sleep(0.02)  # let a burst of answers settle before the rows are counted again
            except TimeoutError:
                continue

    async def _load(self, needed: MetadataNeeded) -> RayFSError | None:
        """Take in a listing of the under store, once for all who need the same one at the same time."""
        key = (needed.directory, needed.recursive)
        task = self._loading.get(key)
        if task is None:
            task = self._loading[key] = asyncio.create_task(self._load_once(needed))
            task.add_done_callback(lambda _: self._loading.pop(key, None))
        return await task

    async def _load_once(self, needed: MetadataNeeded) -> RayFSError | None:
        prefix = needed.directory[1:] + "/" if needed.directory != "/" else ""
        addresses = [persister.address for persister in self._core.state.persisters.values()]
        if not addresses:
            return UnderStoreUnavailable(
                f"{needed.directory} is not listed yet and no persister is up; try again", needed.directory
            )
        entries = await self._calls.listing(addresses, prefix, needed.recursive)
        if isinstance(entries, RayFSError):
            return entries
        self._core.take_listing(needed, entries, self._now())
        self._flush()
        return None

    # --- workers and operators ---------------------------------------------------------------------------------------

    async def heartbeat(self, report: WorkerReport) -> ReportAnswer | RayFSError:
        """A worker's report."""
        try:
            await self._ready()
        except RayFSError as problem:
            return problem
        answer = self._core.worker_report(report, self._now())
        self._flush()
        # A worker must never see a sequence that a crash could take back: the next master would look like a stray one.
        await self._durable()
        return answer

    async def ready(self, timeout_s: float = 60.0) -> dict[str, object]:
        """Whose master this is, once it serves. Raises what keeps it from serving."""
        del timeout_s
        await self._ready()
        state = self._core.state
        return {
            "cluster_id": self._core.replication.metastore_id,
            "under_store": self._under_store,
            "epoch": state.epoch,
        }

    async def begin_persisting(self) -> None:
        """The prefix is this cluster's: load its top directory and let requests to the under store go out."""
        await self._ready()
        await self._fleet.first_persister.wait()
        if not self._core.state.namespace.root.loaded:
            await self._load(MetadataNeeded("/", recursive=False))
        self._core.begin_persisting(self._now())
        self._flush()
        await self._durable()

    async def health(self) -> dict[str, object]:
        """Pid and epoch: who answers this is alive."""
        return {
            "pid": os.getpid(),
            "epoch": None if self._failure else self._core.state.epoch,
            "failure": self._failure,
        }

    async def prepare_stop(self, discard_dirty: bool = False) -> int:
        """Take no more changes. Returns the dirty files left, which are lost with the actors; refused unless
        discarded.
        """
        await self._ready()
        dirty = self._core.state.counters.dirty_files
        if dirty and not discard_dirty:
            raise RequestRefused(f"{dirty} files are dirty; wait until they are persisted, or discard them by word")
        self._stopping = True
        await self._durable()
        return dirty

    async def stop(self) -> None:
        """End the process; called after ``prepare_stop``."""
        self._metastore.close()
        ray.actor.exit_actor()  # type: ignore[no-untyped-call]  # Ray leaves it untyped
