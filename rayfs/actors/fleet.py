"""Keeps one worker and one persister on every node, finds out who died, and publishes the snapshot.

The master's eyes and hands on Ray itself. After a restart of the master it takes over what runs already, by name.
Deaths are noticed by asking processes that have been silent; Ray's own list of nodes is the second source. Everything
that asks Ray's control service runs in a thread.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
import ray
from ray.exceptions import ActorDiedError, ActorUnschedulableError, RayError

from rayfs.actors.names import PERSISTER_PREFIX, WORKER_PREFIX
from rayfs.actors.persister import StoreFacts, persister_actor_class, persister_options
from rayfs.actors.worker import worker_actor_class, worker_options
from rayfs.core.model import NAMESPACE, WorkerAddress
from rayfs.core.operations import PropertyValue
from rayfs.core.snapshot import SNAPSHOT_KEY, ClusterSnapshot
from rayfs.core.state import Node, Persister

logger = logging.getLogger(__name__)

BUSY_PAUSE_S = 0.2
CALM_PAUSE_S = 1.0
SILENT_S = 1.5
"""Heartbeats come each second: a worker that was silent for longer is asked whether it lives."""

ASK_S = 2.0
START_S = 60.0
"""A new process that has not answered by then is made again."""

ASKED_AT_ONCE = 64


@dataclass(slots=True)
class Changes:
    """What a look at the cluster found."""

    dead_nodes: list[str] = field(default_factory=list)
    dead_workers: list[WorkerAddress] = field(default_factory=list)
    persisters_up: list[StoreFacts] = field(default_factory=list)
    persisters_down: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Starting:
    """A process that was made, or found, and has not answered yet."""

    hello: asyncio.Task[Any]
    since: float

    @property
    def failed(self) -> bool:
        """Whether the process is known to have died, or was waited for long enough."""
        if not self.hello.done():
            return time.monotonic() - self.since > START_S
        return self.hello.exception() is not None


class Fleet:
    """Workers and persisters of one master epoch."""

    def __init__(
        self, epoch: int, cluster_id: str, under_store: str, properties: Mapping[str, PropertyValue], head_node_id: str
    ) -> None:
        self._epoch = epoch
        self._cluster_id = cluster_id
        self._under_store = under_store
        self._properties = properties
        self._head_node_id = head_node_id
        self._share = float(properties.get("rayfs.worker.store.share") or 0.8)
        self._on_head = bool(properties.get("rayfs.worker.on.head", True))
        self._worker_class = worker_actor_class()
        self._persister_class = persister_actor_class(int(properties.get("rayfs.persist.concurrency") or 8))
        self._workers: dict[str, _Starting] = {}
        self._persisters: dict[str, _Starting] = {}
        self._adopted = False
        self._gcs: Any = None
        self.first_persister = asyncio.Event()
        self.pause_s = BUSY_PAUSE_S

    # --- looking -----------------------------------------------------------------------------------------------------

    async def look(self, nodes: Mapping[str, Node], persisters: Mapping[str, Persister]) -> Changes:
        """Compare what runs with what should, start what is missing, and say what changed."""
        changes = Changes()
        alive = {row["NodeID"]: row["NodeManagerAddress"] for row in await asyncio.to_thread(ray.nodes) if row["Alive"]}
        changes.dead_nodes = [
            node_id for node_id, node in nodes.items() if node.worker is not None and node_id not in alive
        ]
        if not self._adopted:
            await self._adopt(alive)
        await self._ask_silent(nodes, changes)
        await self._ask_persisters(persisters, changes)
        down = set(changes.persisters_down)
        served = {p.address.node_id for i, p in persisters.items() if i not in down}
        served |= {facts.address.node_id for facts in changes.persisters_up}
        for node_id, host in alive.items():
            if node_id == self._head_node_id and not self._on_head and len(alive) > 1:
                continue
            known = nodes.get(node_id)
            if known is not None and known.worker is not None:
                self._workers.pop(node_id, None)
            else:
                self._start_worker(node_id, host)
            if node_id not in served:
                self._start_persister(node_id)
        for table in (self._workers, self._persisters):
            for node_id in [node_id for node_id in table if node_id not in alive]:
                del table[node_id]
        self.pause_s = BUSY_PAUSE_S if self._workers or self._persisters else CALM_PAUSE_S
        return changes

    async def _adopt(self, alive: Mapping[str, str]) -> None:
        """Take over the processes that an earlier master made: workers report by themselves, persisters are asked."""
        rows = await asyncio.to_thread(ray.util.list_named_actors, True)
        for name in [row["name"] for row in rows if row["namespace"] == NAMESPACE]:
            for prefix, table in ((WORKER_PREFIX, self._workers), (PERSISTER_PREFIX, self._persisters)):
                node_id = next((n for n in alive if name.startswith(f"{prefix}{n[:12]}-")), None)
                if node_id is not None:
                    handle = await asyncio.to_thread(ray.get_actor, name, namespace=NAMESPACE)
                    hello: Any = handle.hello.remote() if table is self._workers else handle.hello.remote(self._epoch)
                    table[node_id] = _starting(hello)
        self._adopted = True

    def _start_worker(self, node_id: str, host: str) -> None:
        starting = self._workers.get(node_id)
        if starting is not None and not starting.failed:
            return
        incarnation = uuid.uuid4().hex[:8]
        handle = self._worker_class.options(**worker_options(node_id, incarnation)).remote(
            node_id, incarnation, host, self._epoch, self._share, self._cluster_id
        )
        self._workers[node_id] = _starting(handle.hello.remote())
        logger.info("starting a worker on node %s", node_id)

    def _start_persister(self, node_id: str) -> None:
        starting = self._persisters.get(node_id)
        if starting is not None and not starting.failed:
            return
        incarnation = uuid.uuid4().hex[:8]
        handle = self._persister_class.options(**persister_options(node_id, incarnation)).remote(
            node_id, incarnation, self._epoch, self._under_store, dict(self._properties)
        )
        self._persisters[node_id] = _starting(handle.hello.remote(self._epoch))

    async def _ask_silent(self, nodes: Mapping[str, Node], changes: Changes) -> None:
        now = time.time()
        silent = [n for n in nodes.values() if n.worker is not None and now - n.heard > SILENT_S][:ASKED_AT_ONCE]
        asked = [self._dead(n.worker.actor_name, lambda h: h.hello.remote()) for n in silent if n.worker is not None]
        for node, dead in zip(silent, await asyncio.gather(*asked), strict=True):
            if dead and node.worker is not None:
                changes.dead_workers.append(node.worker)

    async def _ask_persisters(self, persisters: Mapping[str, Persister], changes: Changes) -> None:
        for node_id, starting in list(self._persisters.items()):
            if starting.hello.done() and not starting.failed:
                changes.persisters_up.append(starting.hello.result())
                del self._persisters[node_id]
                self.first_persister.set()
        some = list(persisters.values())[:ASKED_AT_ONCE]
        asked = [self._dead(p.address.actor_name, lambda h: h.hello.remote(self._epoch)) for p in some]
        for persister, dead in zip(some, await asyncio.gather(*asked), strict=True):
            if dead:
                changes.persisters_down.append(persister.address.incarnation)

    async def _dead(self, actor_name: str, ask: Any) -> bool:
        """Whether a process is known to be dead; silence alone does not say so."""
        try:
            handle = await asyncio.to_thread(ray.get_actor, actor_name, namespace=NAMESPACE)
            await asyncio.wait_for(ask(handle), ASK_S)
        except (ActorDiedError, ActorUnschedulableError, ValueError):
            return True
        except (RayError, TimeoutError):
            return False
        return False

    # --- publishing --------------------------------------------------------------------------------------------------

    async def publish(self, snapshot: ClusterSnapshot) -> None:
        """Put the snapshot where it can be read without becoming a Ray driver."""
        if self._gcs is None:
            from ray._raylet import GcsClient  # type: ignore[attr-defined]  # it is C++ without stubs

            self._gcs = GcsClient(address=ray.get_runtime_context().gcs_address)
        text = msgspec.json.encode(snapshot)
        await asyncio.to_thread(self._gcs.internal_kv_put, SNAPSHOT_KEY, text, True, NAMESPACE.encode(), 5)


async def _answer(call: Any) -> Any:
    return await call


def _starting(call: Any) -> _Starting:
    return _Starting(asyncio.create_task(_answer(call)), time.monotonic())
