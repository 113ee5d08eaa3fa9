"""Start and stop RayFS on a Ray cluster: the verbs ``start`` and ``stop``, and what the test kit stands on.

Runs in the caller's process as a short-lived Ray driver. Knows the actors' names, the master's public methods and the
under store; decides nothing about files.

Invariants: no credential is passed to an actor (each process uses boto3's own chain, from the environment of its
raylet); nothing is persisted before this cluster owns its prefix; nothing is killed before everything is persisted,
unless the caller discards dirty files by word.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rayfs.actors.local import LocalNodes, default_store_memory, recorded_address, stop_recorded
from rayfs.actors.names import MASTER, address_file, state_dir
from rayfs.actors.ownership import check_under_store, claim_prefix
from rayfs.config import Settings
from rayfs.core.model import NAMESPACE
from rayfs.core.operations import AwaitPersisted, GetServers, Persist, PersistProgress, Request
from rayfs.core.snapshot import SNAPSHOT_KEY
from rayfs.errors import (
    ClusterUnreachable,
    InvalidArgument,
    RayFSError,
    RequestRefused,
    WaitTimedOut,
)

POLL_S = 0.2

REACH_S = 5.0
"""How long the control service's port may take to accept a connection."""
ANSWER_S = 60.0


@dataclass(frozen=True, slots=True)
class Started:
    """A cluster that answers. ``created`` is False where it ran already; ``warnings`` are sentences for a person."""

    address: str
    cluster_id: str
    under_store: str
    nodes: int
    gcs_persistent: bool
    created: bool
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stopped:
    """What ``stop`` ended. ``discarded_files`` were dirty and are gone."""

    address: str
    actors: int
    processes: int
    discarded_files: int


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What a node of the cluster says of itself; ``version`` None where rayfs cannot be imported."""

    node_id: str
    host: str
    version: str | None
    state_dir: str
    gcs_storage: str
    is_head: bool


def start(
    address: str | None,
    settings: Settings,
    *,
    under_store: str | None = None,
    nodes: int | None = None,
    object_store_memory: int | None = None,
    timeout_s: float = 120.0,
) -> Started:
    """RayFS on the Ray cluster at ``address``, or on a local one of ``nodes`` nodes that outlives this process.

    Repeating it is harmless. Errors: ``RequestRefused`` where another cluster owns the prefix or nodes lack this
    version of rayfs, ``UnderStoreError`` where the store cannot be used, ``ClusterUnreachable``, ``WaitTimedOut``.
    """
    if address is not None and nodes is not None:
        raise InvalidArgument("--nodes starts a cluster on this machine; leave it out to use the one at --address")
    uri = _under_store_uri(under_store, settings)
    if address is not None:
        return start_on(address, settings.cluster(), under_store=uri, timeout_s=timeout_s)
    directory = state_dir()
    running = recorded_address(directory)
    if running is not None:
        return start_on(running, settings.cluster(), under_store=uri, timeout_s=timeout_s)
    count = nodes or 1
    local = LocalNodes(directory, object_store_memory or default_store_memory(count), detached=True)
    directory.mkdir(parents=True, exist_ok=True)
    try:
        local.start(count)
        started = start_on(local.address, settings.cluster(), under_store=uri, timeout_s=timeout_s)
    except BaseException:
        local.shutdown()
        raise
    address_file().write_text(local.address + "\n")
    return started


def start_on(
    address: str,
    properties: Mapping[str, Any],
    *,
    under_store: str,
    metastore_dir: Path | None = None,
    timeout_s: float = 120.0,
) -> Started:
    """RayFS on a Ray cluster that runs already. ``metastore_dir`` is on the head; None is its own state directory."""
    deadline = time.monotonic() + timeout_s
    with driver(address) as gcs_address:
        facts = _facts_of_nodes(timeout_s=min(60.0, timeout_s))
        _refuse_other_versions(facts)
        head = next((fact for fact in facts if fact.is_head), None)
        if head is None:
            raise ClusterUnreachable(f"the Ray cluster at {gcs_address} has no live head node; restart it")
        persistent = head.gcs_storage != "memory"
        _on_head(head.node_id, check_under_store, under_store, dict(properties))
        existed = _master() is not None
        master = _create_master(
            properties, under_store, metastore_dir or Path(head.state_dir), head.node_id, persistent
        )
        try:
            ready = _answer(master.ready.remote(timeout_s), timeout_s)
            _refuse_other_store(ready, under_store)
            _on_head(head.node_id, claim_prefix, under_store, dict(properties), ready["cluster_id"])
            _answer(master.begin_persisting.remote(), timeout_s)
            _await_servers(master, properties, facts, deadline)
        except BaseException:
            if not existed:
                _kill_actors()
            raise
        return Started(
            address=gcs_address,
            cluster_id=str(ready["cluster_id"]),
            under_store=under_store,
            nodes=len(facts),
            gcs_persistent=persistent,
            created=not existed,
            warnings=() if persistent else (VOLATILE_GCS,),
        )


VOLATILE_GCS = (
    "Ray's control service keeps its state in memory: when it or the head's raylet dies, all nodes end and dirty files "
    "are lost; start the head with RAY_gcs_storage=rocksdb, RAY_gcs_storage_path=DIR and a long "
    "RAY_gcs_rpc_server_reconnect_timeout_s"
)


def stop(address: str, *, timeout_s: float | None = None, discard_dirty: bool = False) -> Stopped:
    """Persist everything, then end RayFS there; a local cluster that ``start`` made ends with it.

    ``WaitTimedOut`` after ``timeout_s`` (None waits for ever) leaves RayFS running, with new writes allowed again.
    """
    with driver(address) as gcs_address:
        master = _master()
        discarded = 0
        if master is not None:
            deadline = None if timeout_s is None else time.monotonic() + timeout_s
            discarded = _prepare_stop(master, deadline, discard_dirty=discard_dirty)
        actors = _kill_actors()
        _forget_snapshot()
    processes = 0
    if recorded_address(state_dir()) == gcs_address:
        processes = stop_recorded(state_dir())
        address_file().unlink(missing_ok=True)
    return Stopped(gcs_address, actors, processes, discarded)


@contextlib.contextmanager
def driver(address: str) -> Iterator[str]:
    """This process as a driver of the Ray cluster at ``address``; yields the control service's address."""
    if address.startswith("ray://"):
        raise ClusterUnreachable(f"{address} is a Ray client address; run this on a node of the cluster with host:port")
    import logging

    import ray

    mine = not ray.is_initialized()
    if mine:
        _check_answers(address)
        try:
            ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.WARNING)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise ClusterUnreachable(f"no Ray cluster answers at {address} ({_first_line(error)})") from None
    try:
        connected = str(ray.get_runtime_context().gcs_address)
        if not mine and address not in ("auto", connected):
            raise ClusterUnreachable(f"this process is connected to the Ray cluster at {connected}, not to {address}")
        yield connected
    finally:
        if mine:
            ray.shutdown()


def _check_answers(address: str) -> None:
    """Fail at once where nothing listens: ``ray.init`` itself tries for minutes."""
    from ray._private.services import canonicalize_bootstrap_address

    try:
        host, _, port = str(canonicalize_bootstrap_address(address)).rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_S).close()
    except (ConnectionError, OSError, ValueError) as error:
        raise ClusterUnreachable(f"no Ray cluster answers at {address} ({_first_line(error)})") from None


def _under_store_uri(given: str | None, settings: Settings) -> str:
    uri = given or settings["rayfs.master.mount.table.root.ufs"]
    if not uri:
        raise InvalidArgument("RayFS needs an under store: --under-store s3://bucket/prefix, or file:///dir to try out")
    return str(uri)


def _facts_of_nodes(timeout_s: float) -> list[NodeFacts]:
    """What the nodes that answer say of themselves."""
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    # A nested function travels by value, so that it also runs where rayfs is missing.
    def inspect() -> tuple[str | None, str, str]:
        import os
        from pathlib import Path as LocalPath

        try:
            import rayfs

            version = rayfs.__version__
        except ImportError:
            version = None
        storage = "redis" if os.environ.get("RAY_REDIS_ADDRESS") else os.environ.get("RAY_gcs_storage", "memory")
        return version, os.environ.get("RAYFS_STATE_DIR") or str(LocalPath.home() / ".rayfs"), storage

    live = [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]  # Ray leaves it untyped
    task = ray.remote(num_cpus=0, max_retries=0)(inspect)
    asked = {
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(): node
        for node in live
    }
    answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=timeout_s)
    configured = _gcs_storage_of_system_config()
    facts = []
    for reference in answered:
        node = asked[reference]
        try:
            version, directory, storage = ray.get(reference)
        except RayError:
            continue  # it died; Ray says so of a killed node only half a minute later
        is_head = "node:__internal_head__" in node["Resources"]
        address = node["NodeManagerAddress"]
        facts.append(NodeFacts(node["NodeID"], address, version, directory, configured or storage, is_head))
    return facts


def _gcs_storage_of_system_config() -> str | None:
    """The control service's storage where it was given to the head as configuration, which beats the environment."""
    from ray._private.state import state

    found = state.get_system_config().get("gcs_storage")  # type: ignore[no-untyped-call]  # Ray leaves it untyped
    return str(found) if found else None


def _refuse_other_versions(facts: list[NodeFacts]) -> None:
    from rayfs import __version__

    wrong = [
        f"{fact.host} (n{fact.node_id[:6]}) has {'no rayfs' if fact.version is None else f'rayfs {fact.version}'}"
        for fact in facts
        if fact.version != __version__
    ]
    if wrong:
        raise RequestRefused(f"install rayfs {__version__} on every node first: {'; '.join(wrong)}")


def _on_head(node_id: str, function: Any, *arguments: object) -> None:
    """Run a function on the head, whose credentials and network are the ones that count; raise what it returns."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    affinity = NodeAffinitySchedulingStrategy(node_id, soft=False)
    task = ray.remote(num_cpus=0, max_retries=0)(function).options(scheduling_strategy=affinity)
    error = ray.get(task.remote(*arguments), timeout=120)
    if error is not None:
        raise error


def _create_master(
    properties: Mapping[str, Any], under_store: str, directory: Path, head_node_id: str, gcs_persistent: bool
) -> Any:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from rayfs.actors.master import Master

    metastore_uri = str(properties.get("rayfs.master.metastore.uri") or f"sqlite:///{directory / 'metastore.db'}")
    options: dict[str, Any] = {
        "name": MASTER,
        "namespace": NAMESPACE,
        "lifetime": "detached",
        "num_cpus": 0,
        "max_restarts": -1,
        "max_task_retries": 0,
        "enable_task_events": False,
        "get_if_exists": True,
        "scheduling_strategy": NodeAffinitySchedulingStrategy(head_node_id, soft=False),
    }
    arguments = (dict(properties), under_store, metastore_uri, head_node_id, gcs_persistent)
    return ray.remote(Master).options(**options).remote(*arguments)


def _refuse_other_store(ready: Mapping[str, Any], under_store: str) -> None:
    running = ready.get("under_store", under_store)
    if running != under_store:
        raise RequestRefused(f"RayFS runs here already with {running}; stop it before starting it with {under_store}")


def _await_servers(master: Any, properties: Mapping[str, Any], facts: list[NodeFacts], deadline: float) -> None:
    """Wait until every node that should hold replicas has a worker and a persister."""
    on_head = bool(properties.get("rayfs.worker.on.head", True))
    wanted = {fact.node_id for fact in facts if on_head or not fact.is_head}
    missing = wanted
    while missing:
        servers = _answer(master.query.remote(GetServers()), ANSWER_S)
        missing = wanted - {worker.node_id for worker in servers["workers"]}
        missing |= wanted - {persister.node_id for persister in servers["persisters"]}
        if missing and time.monotonic() > deadline:
            names = ", ".join(f"n{node_id[:6]}" for node_id in sorted(missing))
            raise WaitTimedOut(f"no RayFS worker came up on {names}; see the Ray logs of these nodes")
        if missing:
            time.sleep(POLL_S)  # the master has no event for it, and this is a start, not a data path


def _prepare_stop(master: Any, deadline: float | None, *, discard_dirty: bool) -> int:
    """Persist everything and close the gate behind it; dirty files that were discarded."""
    if discard_dirty:
        return int(_answer(master.prepare_stop.remote(True), ANSWER_S))
    # Also what waits to be asked for: files with an initial wait, or a wait without end.
    session = _answer(master.open_session.remote(), ANSWER_S)
    for sequence in itertools.count(1):
        _answer(master.execute.remote(Request(session, sequence, sequence - 1, Persist("/", cached=False))), ANSWER_S)
        _await_persisted(master, deadline)
        try:
            return int(_answer(master.prepare_stop.remote(False), ANSWER_S))
        except RequestRefused:
            continue  # a writer closed another file meanwhile
    raise AssertionError("unreachable: the count has no end")


def _await_persisted(master: Any, deadline: float | None) -> None:
    while True:
        left = 10.0 if deadline is None else max(0.0, min(10.0, deadline - time.monotonic()))
        progress = _answer(master.query.remote(AwaitPersisted(("/",), left)), ANSWER_S)
        assert isinstance(progress, PersistProgress)
        if progress.done:
            return
        if deadline is not None and time.monotonic() >= deadline:
            why = next(iter(progress.failures.values()), "uploads are still running")
            raise WaitTimedOut(
                f"{progress.waiting} files and {progress.pending_changes} other changes are not in the under store yet "
                f"({why}); RayFS goes on running: wait longer, or add --discard-dirty to lose them"
            )


def _answer(asked: Any, timeout_s: float) -> Any:
    """The master's answer; its errors are raised, whether they came as values or out of the call."""
    import ray
    from ray.exceptions import GetTimeoutError, RayActorError, RayTaskError

    try:
        answer = ray.get(asked, timeout=timeout_s)
    except GetTimeoutError:
        raise WaitTimedOut(f"the master did not answer within {timeout_s:g} s; see its log on the head node") from None
    except RayActorError as error:
        raise ClusterUnreachable(f"the master died ({_first_line(error)}); see its log on the head node") from None
    except RayTaskError as error:
        if isinstance(error.cause, RayFSError):
            raise error.cause from None
        raise
    if isinstance(answer, RayFSError):
        raise answer
    return answer


def _master() -> Any | None:
    import ray

    try:
        return ray.get_actor(MASTER, namespace=NAMESPACE)
    except ValueError:
        return None


def _kill_actors() -> int:
    """End every RayFS actor, the master first so that it starts nothing anew."""
    import ray
    from ray.util import list_named_actors

    names = [row["name"] for row in list_named_actors(all_namespaces=True) if row["namespace"] == NAMESPACE]
    for name in sorted(names, key=lambda name: name != MASTER):
        with contextlib.suppress(ValueError):  # gone by itself
            ray.kill(ray.get_actor(name, namespace=NAMESPACE))
    return len(names)


def _forget_snapshot() -> None:
    from ray.experimental.internal_kv import _internal_kv_del

    _internal_kv_del(SNAPSHOT_KEY, namespace=NAMESPACE)


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0][:200]
