"""This process's connection to a cluster: Ray, the master, and handles of workers and persisters by name.

A process is connected to one Ray cluster at a time, so there is one connection per process, made on first use and
thrown away when Ray was shut down or joined another cluster. Handles live here and are never pickled.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, ObjectLostError, RayActorError, RayError, RaySystemError

from rayfs.actors.names import MASTER
from rayfs.client.address import check_address, find_address, same_cluster
from rayfs.client.exchange import SharedExchange
from rayfs.client.leases import LeaseKeeper
from rayfs.client.session import NoAnswer, Patience, Session
from rayfs.core.model import NAMESPACE, PersisterAddress
from rayfs.core.operations import GetServers, Mutation, Query, Request
from rayfs.errors import ClusterUnreachable, RayFSError

TRY_S = 10.0
"""How long one try waits for the master. A crash is noticed at once; this is for one that hangs, or works on
something long."""

ALIVE_S = 5.0
"""How long the master may take to answer a trivial question before it counts as silent."""

SILENCE_S = 120.0
"""Silence after which a call gives up, unless ``rayfs.user.rpc.retry.max.duration`` says otherwise: a frozen master
is replaced within half a minute, and one that starts loads its metadata first."""

REACH_S = 5.0
"""How long the control service's port may take to accept before Ray is asked to connect (Ray itself tries for
minutes)."""

SERVERS_S = 5.0
"""How long the list of persisters is used before it is asked for again."""

HANDLES = 1024


class Connection:
    """Master, workers and persisters of one cluster, for all threads of this process."""

    def __init__(self, address: str, silence_s: float = SILENCE_S) -> None:
        self.address = address
        self.node_id: str = ray.get_runtime_context().get_node_id()
        self._handles: dict[str, Any] = {}
        self._persisters: tuple[float, tuple[PersisterAddress, ...]] = (0.0, ())
        self._patience = Patience(silence_s, self._alive)
        self._session = Session(self._open_session, self._send, self._patience)
        self.leases = LeaseKeeper(self.execute)
        self.small_files = SharedExchange(self.execute, self.node_id)

    def execute(self, operation: Mutation) -> Any:
        """Have a mutation executed exactly once; its answer. Errors are raised."""
        return self._session.execute(operation)

    def query(self, query: Query) -> Any:
        """The answer to a query. Errors are raised."""
        answer = self._patience.ask(lambda: self._try(lambda master: master.query.remote(query), TRY_S))
        if isinstance(answer, RayFSError):
            raise answer
        return answer

    def actor(self, name: str) -> Any:
        """Handle of a worker or persister; ``ValueError`` where Ray knows no actor of that name any more."""
        handle = self._handles.get(name)
        if handle is None:
            handle = ray.get_actor(name, namespace=NAMESPACE)
            if len(self._handles) >= HANDLES:
                self._handles.clear()
            self._handles[name] = handle
        return handle

    def persisters(self) -> tuple[PersisterAddress, ...]:
        """Live persisters, the one on this node first."""
        asked, found = self._persisters
        if not found or time.monotonic() - asked > SERVERS_S:
            found = tuple(sorted(self.query(GetServers())["persisters"], key=lambda p: p.node_id != self.node_id))
            self._persisters = (time.monotonic(), found)
        return found

    def _open_session(self) -> str:
        answer = self._try(lambda master: master.open_session.remote(), TRY_S)
        if isinstance(answer, RayFSError):
            raise answer
        return str(answer)

    def _send(self, request: Request) -> object:
        return self._try(lambda master: master.execute.remote(request), TRY_S)

    def _alive(self) -> bool:
        try:
            self._try(lambda master: master.query.remote(GetServers()), ALIVE_S)
        except NoAnswer:
            return False
        return True

    def _try(self, call: Callable[[Any], Any], timeout_s: float) -> Any:
        try:
            return ray.get(call(self._master()), timeout=timeout_s)
        except GetTimeoutError:
            raise NoAnswer(f"no answer within {timeout_s:g} s") from None
        except RayActorError:
            # Its name may belong to another actor by now; a master that Ray restarts keeps both.
            self._handles.pop(MASTER, None)
            raise NoAnswer("it is being restarted") from None
        except (ObjectLostError, RaySystemError) as error:
            raise NoAnswer(type(error).__name__) from None

    def _master(self) -> Any:
        try:
            return self.actor(MASTER)
        except ValueError:
            raise ClusterUnreachable(
                f"the Ray cluster at {self.address} runs no RayFS; start it with `rayfs start --address {self.address}`"
            ) from None
        except RayError as error:
            raise NoAnswer(f"Ray's control service does not answer ({type(error).__name__})") from None


_lock = threading.Lock()
_current: tuple[object, Connection] | None = None


def connection(address: str | None = None, silence_s: float = SILENCE_S) -> Connection:
    """The connection of this process, made if need be. Inside a Ray task or actor it is that process's cluster.

    ``ClusterUnreachable`` where no cluster answers, or where this process belongs to another one than ``address``.
    """
    global _current
    with _lock:
        if not ray.is_initialized():
            _connect_ray(find_address(address))
        context = ray.get_runtime_context()
        connected = str(context.gcs_address)
        if address is not None and not same_cluster(check_address(address), connected):
            raise ClusterUnreachable(
                f"this process belongs to the Ray cluster at {connected} and cannot also use {address}; "
                "use another process for it"
            )
        identity = (os.getpid(), connected, context.get_session_name(), context.get_job_id())
        if _current is None or _current[0] != identity:
            _current = (identity, Connection(connected, silence_s))
        return _current[1]


def _connect_ray(address: str) -> None:
    from ray._private.services import canonicalize_bootstrap_address

    try:
        host, _, port = (canonicalize_bootstrap_address(address) or "").rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_S).close()
        ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level=logging.WARNING)
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().split("\n", 1)[0][:200]
        raise ClusterUnreachable(
            f"no Ray cluster can be reached at {address} from here ({reason}); a client runs on a node of its cluster"
        ) from None
