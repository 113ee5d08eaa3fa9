"""Several Ray nodes on this machine: what ``rayfs start --nodes K`` leaves running, and what the test kit breaks.

Knows Ray's own multi-node test cluster and the operating system's processes, nothing of RayFS's actors. Everything it
kills is a process that it started, or a child of one.

Invariants: the control service keeps its state on disk and raylets wait for it (``RECONNECT_TIMEOUT_S``), so its crash
costs nothing; everything listens on the loopback address only.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from rayfs.errors import RayFSError

RECONNECT_TIMEOUT_S = 24 * 3600
"""How long raylets wait for a control service that is down; Ray's own 60 s would end every node and every replica."""

HEALTH_CHECK_FAILURES = 10
"""Missed checks (3 s apart) before Ray calls a node dead: a busy machine must not make raylets kill themselves."""

FIRST_HOST = 2
"""Node k listens on 127.0.0.(2 + k): on 127.0.0.1 Ray 2.60 takes the address that a driver names for the machine's own
outer one and finds nobody there; any other loopback address works, and one each lets people tell the nodes apart."""

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # where Ray keeps its object stores; nothing is written to it here
MINIMUM_STORE = 80 << 20
"""Ray refuses object stores below 75 MiB."""


def default_store_memory(nodes: int) -> int:
    """Bytes of object store per node: a share of memory that leaves room for the jobs, and fits into ``/dev/shm``."""
    shared = shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else 0
    room = min(0.3 * psutil.virtual_memory().available, 0.8 * shared or float("inf"))
    return max(MINIMUM_STORE, int(room / max(1, nodes)))


@dataclass
class LocalNodes:
    """Ray nodes of this machine, by index: 0 is the head, and an index is never used twice.

    ``detached`` nodes outlive this process (``stop_recorded`` ends them later); others end with it, even by SIGKILL.
    """

    directory: Path
    object_store_memory: int
    num_cpus: int = 1
    detached: bool = False
    address: str = ""
    _cluster: Any = None
    _nodes: dict[int, Any] = field(default_factory=dict)
    _next: int = 0

    def start(self, nodes: int) -> None:
        """Start the head and ``nodes - 1`` more; returns when all have joined."""
        # Explicit, because a bare ray.init() elsewhere would otherwise decide it for this process (Ray 2.60).
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        from ray.cluster_utils import Cluster

        logging.getLogger("ray").setLevel(logging.WARNING)
        storage = self.directory / "gcs"
        # State of an earlier cluster names nodes that no longer exist; nothing of it runs when a new head starts.
        shutil.rmtree(storage, ignore_errors=True)
        storage.mkdir(parents=True)
        self._cluster = Cluster(shutdown_at_exit=not self.detached)
        head = self._cluster.add_node(
            **self._arguments(0),
            include_dashboard=False,
            _system_config={
                "gcs_storage": "rocksdb",
                "gcs_storage_path": str(storage),
                "gcs_rpc_server_reconnect_timeout_s": RECONNECT_TIMEOUT_S,
                "health_check_failure_threshold": HEALTH_CHECK_FAILURES,
            },
        )
        self.address = str(head.gcs_address)
        self._nodes, self._next = {0: head}, 1
        for _ in range(nodes - 1):
            self.add()
        self._record()

    def add(self) -> int:
        """Start one more node; its index."""
        index, self._next = self._next, self._next + 1
        self._nodes[index] = self._cluster.add_node(**self._arguments(index))
        self._record()
        return index

    def kill(self, index: int) -> None:
        """SIGKILL the node's raylet and everything on it. The head is refused: RayFS does not survive its loss."""
        if index == 0:
            raise RayFSError("node 0 is the head and is never killed; kill its processes one by one instead")
        node = self._nodes.pop(index)
        _signal_all(self._tree(node), signal.SIGKILL)
        self._cluster.remove_node(node, allow_graceful=False)
        self._record()

    def pause(self, index: int) -> None:
        """SIGSTOP everything on the node: a silent partition, or a zombie in the making."""
        _signal_all(self._tree(self._nodes[index]), signal.SIGSTOP)

    def resume(self, index: int) -> None:
        """SIGCONT everything on the node."""
        _signal_all(self._tree(self._nodes[index]), signal.SIGCONT)

    def kill_gcs(self) -> None:
        """SIGKILL Ray's control service."""
        self._nodes[0].kill_gcs_server(check_alive=False)

    def start_gcs(self) -> None:
        """Start the control service again, on the storage and the port that it had."""
        self._nodes[0].start_gcs_server()

    @property
    def indexes(self) -> list[int]:
        """Nodes that run, the head first."""
        return sorted(self._nodes)

    def node_id(self, index: int) -> str:
        """The full Ray node id."""
        return str(self._nodes[index].node_id)

    def index_of(self, node_id: str) -> int | None:
        """The index of a Ray node id, None for a node that is gone."""
        return next((index for index, node in self._nodes.items() if node.node_id == node_id), None)

    def shutdown(self) -> None:
        """End every node."""
        if self._cluster is None:
            return
        for index in list(self._nodes):
            with contextlib.suppress(psutil.NoSuchProcess):
                self.resume(index)
        everything = [process for node in self._nodes.values() for process in self._tree(node)]
        self._cluster.shutdown()
        _end(everything)
        self._cluster, self._nodes = None, {}
        (self.directory / RECORD).unlink(missing_ok=True)

    def _arguments(self, index: int) -> dict[str, Any]:
        return {
            "num_cpus": self.num_cpus,
            "object_store_memory": self.object_store_memory,
            "node_ip_address": f"127.0.0.{FIRST_HOST + index % 250}",
        }

    def _tree(self, node: Any) -> list[psutil.Process]:
        """The node's raylet and its descendants; on the head not the control service, which has verbs of its own."""
        found: list[psutil.Process] = []
        for info in node.all_processes.get("raylet", ()):
            with contextlib.suppress(psutil.NoSuchProcess):
                raylet = psutil.Process(info.process.pid)
                found += [raylet, *raylet.children(recursive=True)]
        return found

    def _record(self) -> None:
        """Remember which processes are ours, by id and start time: ids are used again by the system."""
        if not self.detached:
            return
        found = [
            psutil.Process(info.process.pid)
            for node in self._nodes.values()
            for infos in node.all_processes.values()
            for info in infos
            if psutil.pid_exists(info.process.pid)
        ]
        rows = [{"pid": process.pid, "started": process.create_time()} for process in found]
        (self.directory / RECORD).write_text(json.dumps({"address": self.address, "processes": rows}))


RECORD = "processes.json"


def recorded_address(directory: Path) -> str | None:
    """Address of the cluster that an earlier process started here, if any process of it still runs."""
    record = _read_record(directory)
    return str(record["address"]) if record and any(True for _ in _recorded(record)) else None


def stop_recorded(directory: Path) -> int:
    """End the cluster that an earlier process started here; how many of its processes were running."""
    record = _read_record(directory)
    if record is None:
        return 0
    processes = [each for process in _recorded(record) for each in (process, *process.children(recursive=True))]
    _end(processes)
    (directory / RECORD).unlink(missing_ok=True)
    return len(processes)


def _read_record(directory: Path) -> dict[str, Any] | None:
    try:
        record = json.loads((directory / RECORD).read_text())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def _recorded(record: dict[str, Any]) -> Iterator[psutil.Process]:
    for row in record["processes"]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(row["pid"])
            if process.create_time() == row["started"] and process.status() != psutil.STATUS_ZOMBIE:
                yield process


def _signal_all(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def _end(processes: list[psutil.Process], patience_s: float = 5.0) -> None:
    """SIGTERM, and SIGKILL for those that do not go."""
    _signal_all(processes, signal.SIGTERM)
    _, left = psutil.wait_procs(processes, timeout=patience_s)
    _signal_all(left, signal.SIGKILL)
    psutil.wait_procs(left, timeout=patience_s)
