"""The floor that RayFS is measured against: what bare Ray and SQLite do with the same bytes on the same nodes.

Imports nothing of RayFS. A block is put by the writer, adopted by an actor on each of N nodes (put again, so that the
actor owns it) and summed once per copy. A small file rides inside a call to three actors, and one durable SQLite commit
follows.
"""

from __future__ import annotations

import sqlite3
import time
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import ray
from awscrt.checksums import crc64nvme
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

BLOCK = 64 << 20
IN_FLIGHT = 3


@ray.remote(num_cpus=0, enable_task_events=False)
class Holder:
    """Adopts blocks and keeps small bodies on its node."""

    def __init__(self) -> None:
        self._blocks: dict[int, Any] = {}
        self._bodies: list[tuple[int, bytes]] = []

    def adopt(self, number: int, view: np.ndarray) -> int:
        reference = ray.put(view)
        self._blocks[number] = reference
        return crc64nvme(memoryview(ray.get(reference)).cast("B"))

    def keep(self, bodies: list[bytes]) -> int:
        self._bodies += [(crc64nvme(body), body) for body in bodies]
        return len(bodies)

    def forget(self) -> None:
        self._blocks.clear()
        self._bodies.clear()


@ray.remote(num_cpus=0, enable_task_events=False)
class Ledger:
    """One durable commit per call, as a metastore makes it: write-ahead log, synchronous=FULL."""

    def __init__(self, file: str) -> None:
        self._database = sqlite3.connect(file, isolation_level=None)
        self._database.execute("pragma journal_mode=wal")
        self._database.execute("pragma synchronous=full")
        self._database.execute("create table files (path text primary key, record blob) without rowid")

    def commit(self, rows: list[tuple[str, bytes]]) -> None:
        self._database.execute("begin immediate")
        self._database.executemany("insert or replace into files values (?, ?)", rows)
        self._database.execute("commit")


class Floor:
    """Actors on the nodes of the cluster that this process drives; the first is on its own node."""

    def __init__(self, node_ids: list[str], directory: Path) -> None:
        def on(node_id: str) -> dict[str, Any]:
            return {"scheduling_strategy": NodeAffinitySchedulingStrategy(node_id, soft=False)}

        self._holders = [Holder.options(**on(node_id)).remote() for node_id in node_ids]
        self._ledger = Ledger.options(**on(node_ids[0])).remote(str(directory / "floor.db"))
        self._paths = 0
        ray.get([holder.keep.remote([b""]) for holder in self._holders])
        ray.get(self._ledger.commit.remote([("", b"")]))

    def write_blocks(self, block: np.ndarray, count: int, replicas: int) -> float:
        """Seconds for ``count`` blocks with that many replicas, a few in flight."""
        started = time.perf_counter()
        flying: deque[list[Any]] = deque()
        for number in range(count):
            reference = ray.put(block)
            holders = self._places(number, replicas)
            flying.append([holder.adopt.remote(number, reference) for holder in holders])
            del reference
            if len(flying) >= IN_FLIGHT:
                ray.get(flying.popleft())
        while flying:
            ray.get(flying.popleft())
        seconds = time.perf_counter() - started
        ray.get([holder.forget.remote() for holder in self._holders])
        return seconds

    def _places(self, number: int, replicas: int) -> list[Any]:
        """The writer's own node first, then others in turn: as RayFS does, so that as many bytes cross nodes."""
        own, others = self._holders[0], self._holders[1:]
        return [own, *(others[(number + i) % len(others)] for i in range(replicas - 1))]

    def write_files(self, body: bytes, count: int, batch: int, replicas: int = 3) -> float:
        """Seconds for ``count`` small files in batches: calls to three actors at once, then one durable commit."""
        started = time.perf_counter()
        for _ in range(0, count, batch):
            ray.get([holder.keep.remote([body] * batch) for holder in self._holders[:replicas]])
            rows = [(f"/floor/{self._paths + i}", b"x" * 200) for i in range(batch)]
            self._paths += batch
            ray.get(self._ledger.commit.remote(rows))
        seconds = time.perf_counter() - started
        ray.get([holder.forget.remote() for holder in self._holders])
        return seconds

    def end(self) -> None:
        """Give the actors' memory back."""
        for actor in (*self._holders, self._ledger):
            ray.kill(actor)
