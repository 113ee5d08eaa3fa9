"""``LocalCluster``: RayFS on several Ray nodes of this machine, and the handles to break it.

    with LocalCluster(nodes=4, under_store="s3://bucket/prefix") as cluster:
        cluster.fs.pipe_file("/a", b"...")
        cluster.kill_node(2)

Real raylets, real actors, real SIGKILL. Questions about replicas are put to the worker processes, never to the master:
a test of the master's promises must not take the master's word. One at a time in a process, because a process is the
driver of one Ray cluster.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from rayfs.actors import launch
from rayfs.actors.local import LocalNodes
from rayfs.actors.names import MASTER
from rayfs.config import Settings
from rayfs.core.checksum import render
from rayfs.core.model import NAMESPACE
from rayfs.core.operations import GetServers, GetSnapshot
from rayfs.core.snapshot import ClusterSnapshot
from rayfs.errors import RayFSError

if TYPE_CHECKING:
    from rayfs.client import RayFileSystem
    from rayfs.core.model import WorkerAddress
    from rayfs.core.operations import Query
    from rayfs.core.orders import Held

Found = TypeVar("Found")

STORE_BYTES = 256 << 20
POLL_S = 0.05
ANSWER_S = 10.0


class LocalCluster:
    """RayFS on ``nodes`` Ray nodes of this machine, the head (0) included; every node has a worker and holds replicas.

    ``config`` are properties as in a file; those of ``rayfs.user.*`` become the defaults of ``fs``. The under store's
    credentials are taken from the environment, as on a real node. Without ``under_store`` it is a directory of its own.
    """

    def __init__(
        self,
        nodes: int = 4,
        under_store: str | None = None,
        object_store_memory: int = STORE_BYTES,
        config: Mapping[str, Any] | None = None,
        *,
        num_cpus: int = 1,
        timeout_s: float = 120.0,
    ) -> None:
        self.settings = Settings.load(config or {})
        self._directory = Path(tempfile.mkdtemp(prefix="rayfs-"))
        self.under_store = under_store or (self._directory / "under").as_uri()
        self._size, self._timeout_s = nodes, timeout_s
        self._nodes = LocalNodes(self._directory, object_store_memory, num_cpus)
        self._paused: dict[str, int] = {}
        self._driver = contextlib.ExitStack()

    # --- life --------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        if self.under_store.startswith("file://"):
            Path(self.under_store.removeprefix("file://")).mkdir(parents=True, exist_ok=True)
        try:
            self._nodes.start(self._size)
            self._driver.enter_context(launch.driver(self.address))
            launch.start_on(
                self.address,
                self.settings.cluster(),
                under_store=self.under_store,
                metastore_dir=self._directory,
                timeout_s=self._timeout_s,
            )
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End everything at once, dirty data included."""
        for name in list(self._paused):
            self._resume(name)
        self._driver.close()
        self._nodes.shutdown()
        shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def address(self) -> str:
        """What ``rayfs --address`` and ``ray.init`` take."""
        return self._nodes.address

    @cached_property
    def fs(self) -> RayFileSystem:
        """A client of this cluster."""
        return self.connect()

    def connect(self, **properties: Any) -> RayFileSystem:
        """Another client, with properties of its own above those of ``config``."""
        import rayfs

        chosen = {**self.settings.user_overrides(), **properties}
        return rayfs.connect(self.address, config=chosen, skip_instance_cache=True)

    # --- faults ------------------------------------------------------------------------------------------------------

    def kill_node(self, index: int) -> None:
        """SIGKILL the node's raylet and everything on it; never the head."""
        self._nodes.kill(index)

    def add_node(self) -> int:
        """Start one more node; returns its index, once it is part of the Ray cluster."""
        return self._nodes.add()

    def pause_node(self, index: int) -> None:
        """SIGSTOP everything on the node."""
        self._nodes.pause(index)

    def resume_node(self, index: int) -> None:
        """SIGCONT everything on the node."""
        self._nodes.resume(index)

    def kill_worker(self, index: int) -> None:
        """SIGKILL the node's RayFS worker, and its replicas with it."""
        os.kill(self._pid("worker", index), signal.SIGKILL)

    def kill_persister(self, index: int) -> None:
        """SIGKILL the node's persister."""
        os.kill(self._pid("persister", index), signal.SIGKILL)

    def kill_master(self) -> None:
        """SIGKILL the master; Ray starts it again."""
        os.kill(self._pid("master"), signal.SIGKILL)

    def pause_worker(self, index: int) -> None:
        """SIGSTOP the node's worker."""
        self._pause(f"worker {index}", self._pid("worker", index))

    def resume_worker(self, index: int) -> None:
        """SIGCONT the worker that ``pause_worker`` stopped."""
        self._resume(f"worker {index}")

    def pause_persister(self, index: int) -> None:
        """SIGSTOP the node's persister."""
        self._pause(f"persister {index}", self._pid("persister", index))

    def resume_persister(self, index: int) -> None:
        """SIGCONT the persister that ``pause_persister`` stopped."""
        self._resume(f"persister {index}")

    def pause_master(self) -> None:
        """SIGSTOP the master."""
        self._pause("master", self._pid("master"))

    def resume_master(self) -> None:
        """SIGCONT the process that ``pause_master`` stopped, if it still exists."""
        self._resume("master")

    def kill_gcs(self) -> None:
        """SIGKILL Ray's control service."""
        self._nodes.kill_gcs()

    def start_gcs(self) -> None:
        """Start Ray's control service again, with its state."""
        self._nodes.start_gcs()

    # --- questions ---------------------------------------------------------------------------------------------------

    @property
    def nodes(self) -> list[int]:
        """Indexes of the nodes that run, the head first."""
        return self._nodes.indexes

    def node_id(self, index: int) -> str:
        """The node's full Ray id."""
        return self._nodes.node_id(index)

    def index_of(self, node_id: str) -> int | None:
        """Index of a node id; None for a node that was killed."""
        return self._nodes.index_of(node_id)

    def workers(self) -> dict[int, WorkerAddress]:
        """Live workers by the index of their node, as the master knows them."""
        found = {self.index_of(worker.node_id): worker for worker in self._servers()["workers"]}
        return {index: worker for index, worker in found.items() if index is not None}

    def snapshot(self) -> ClusterSnapshot:
        """The cluster as the master sees it now."""
        answer = self._query(GetSnapshot())
        assert isinstance(answer, ClusterSnapshot)
        return answer

    def persisters(self) -> set[int]:
        """Indexes of the nodes with a live persister, as the master knows them."""
        found = {self.index_of(persister.node_id) for persister in self._servers()["persisters"]}
        return {index for index in found if index is not None}

    def replicas(self, path: str) -> dict[str, set[int]]:
        """For each block of the file the nodes that hold it, asked of each worker process.

        A worker counts only if the bytes in its node's store have the checksum that the file's record has.
        """
        wanted = {block.id: block.checksum for block in self.fs.status(path).blocks}
        holders: dict[str, set[int]] = {block_id: set() for block_id in wanted}
        for index, held in self.audits().items():
            for replica in held:
                if wanted.get(str(replica.block)) == render(replica.crc):
                    holders[str(replica.block)].add(index)
        return holders

    def audits(self) -> dict[int, tuple[Held, ...]]:
        """What each worker process holds, with the checksum of the bytes it finds in its node's store now.

        A worker that does not answer within seconds is left out: it proves nothing.
        """
        import ray
        from ray.exceptions import RayError

        asked: dict[int, Any] = {}
        for index in self.nodes:
            with contextlib.suppress(RayFSError, ValueError):
                worker = ray.get_actor(self._actor("worker", index)["Name"], namespace=NAMESPACE)
                asked[index] = worker.audit.remote()
        answers: dict[int, tuple[Held, ...]] = {}
        for index, answer in asked.items():
            with contextlib.suppress(RayError):
                answers[index] = ray.get(answer, timeout=ANSWER_S)
        return answers

    def wait_for(self, condition: Callable[[], Found], timeout: float = 30.0, what: str = "") -> Found:
        """Poll until ``condition()`` is true and return its value; ``AssertionError`` says what was seen last."""
        deadline = time.monotonic() + timeout
        seen: object = None
        while True:
            try:
                found = condition()
            except (RayFSError, OSError) as error:
                seen = error
            else:
                if found:
                    return found
                seen = found
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {timeout:g} s: {what or condition}; seen last: {seen!r}")
            time.sleep(POLL_S)

    def heal(self) -> None:
        """Bring the cluster back to its size, with everything running: what a shared one needs between two tests."""
        for name in list(self._paused):
            self._resume(name)
        while len(self.nodes) < self._size:
            self.add_node()
        everywhere = set(self.nodes)
        # The master's word and the processes' own: it takes the master a moment to miss one that was just killed.
        self.wait_for(lambda: set(self.audits()) == everywhere, 60, "a worker process that answers on every node")
        self.wait_for(lambda: set(self.workers()) == everywhere, 60, "a worker on every node")
        self.wait_for(lambda: self.persisters() == everywhere, 60, "a persister on every node")

    # --- inside ------------------------------------------------------------------------------------------------------

    def _master(self) -> Any:
        import ray

        return ray.get_actor(MASTER, namespace=NAMESPACE)

    def _servers(self) -> dict[str, Any]:
        answer = self._query(GetServers())
        assert isinstance(answer, dict)
        return answer

    def _query(self, query: Query) -> object:
        import ray
        from ray.exceptions import GetTimeoutError, RayActorError

        try:
            answer = ray.get(self._master().query.remote(query), timeout=ANSWER_S)
        except (RayActorError, GetTimeoutError, ValueError) as error:
            raise RayFSError(f"the master does not answer: {error}") from error
        if isinstance(answer, RayFSError):
            raise answer
        return answer

    def _pid(self, kind: str, index: int | None = None) -> int:
        """Process id of a live RayFS actor, from Ray's own table: it also works while the process is stopped."""
        return int(self._actor(kind, index)["Pid"])

    def _actor(self, kind: str, index: int | None = None) -> dict[str, Any]:
        from ray._private.state import actors

        prefix = f"rayfs-{kind}"
        found: list[dict[str, Any]] = [
            row
            for row in actors().values()
            if row["Name"].startswith(prefix)
            and row["State"] == "ALIVE"
            and (index is None or row["Address"]["NodeID"] == self.node_id(index))
        ]
        if len(found) != 1:
            raise RayFSError(f"{len(found)} live {prefix} processes{f' on node {index}' if index else ''}, not one")
        return found[0]

    def _pause(self, name: str, pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)
        self._paused[name] = pid

    def _resume(self, name: str) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._paused.pop(name), signal.SIGCONT)
