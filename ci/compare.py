"""RayFS against its floor on one cluster: one table with medians, spread and ratios, and the same as JSON.

    ci/bench [--short] [--json FILE]

Both write the same bytes to the same four nodes of this machine, one after the other in each round, so that a slow
moment of the machine meets both. RayFS's files are never persisted here: the upload would be measured instead.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import ray

sys.path.insert(0, str(Path(__file__).parent))

from floor import BLOCK, Floor

from rayfs.testing import LocalCluster

NODES = 4
SMALL = 4096
NEVER_PERSISTED = {"rayfs.user.file.persistence.initial.wait.time": "-1"}


@dataclass
class Row:
    """One comparison: rates in ``unit``, one per round."""

    name: str
    unit: str
    floor: list[float]
    rayfs: list[float]

    @property
    def ratio(self) -> float:
        """RayFS's median as a part of the floor's."""
        return statistics.median(self.rayfs) / statistics.median(self.floor)

    def line(self) -> str:
        cells = [
            f"{statistics.median(rates):9.2f} ({min(rates):.2f}-{max(rates):.2f})" for rates in (self.floor, self.rayfs)
        ]
        return f"{self.name:<44}{self.unit:<9}{cells[0]:>28}{cells[1]:>28}{self.ratio:8.2f}"


def compare(
    name: str, unit: str, amount: float, rounds: int, floor: Callable[[], float], rayfs: Callable[[], float]
) -> Row:
    """Run both in turn; the first round warms up and is not counted."""
    seconds = [(floor(), rayfs()) for _ in range(rounds + 1)][1:]
    return Row(name, unit, [amount / each for each, _ in seconds], [amount / each for _, each in seconds])


class RayFS:
    """What the floor does, through the file system."""

    def __init__(self, cluster: LocalCluster) -> None:
        self._fs, self._next = cluster.fs, 0

    def write_blocks(self, block: np.ndarray, count: int, replicas: int) -> float:
        path = self._path()
        started = time.perf_counter()
        with self._fs.open(path, "wb", replication_durable=replicas) as file:
            for _ in range(count):
                file.write(block)
        seconds = time.perf_counter() - started
        self._fs.rm("/bench", recursive=True)
        return seconds

    def write_files(self, body: bytes, count: int, batch: int) -> float:
        started = time.perf_counter()
        for _ in range(0, count, batch):
            if batch == 1:
                self._fs.pipe_file(self._path(), body)
            else:
                self._fs.pipe({self._path(): body for _ in range(batch)})
        seconds = time.perf_counter() - started
        self._fs.rm("/bench", recursive=True)
        return seconds

    def _path(self) -> str:
        self._next += 1
        return f"/bench/{self._next}"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--short", action="store_true", help="fewer rounds: shows that it works, not how fast")
    options.add_argument("--json", type=Path, default=Path("ci/results/bench.json"), help="where the figures go")
    given = options.parse_args()
    rounds, blocks, files = (2, 4, 100) if given.short else (7, 8, 500)
    block = np.frombuffer(np.random.default_rng(7).bytes(BLOCK), np.uint8)
    body = block[:SMALL].tobytes()
    config = {**NEVER_PERSISTED, "rayfs.user.file.replication.durable": 3}
    rows = []
    with (
        LocalCluster(NODES, object_store_memory=2 << 30, config=config) as cluster,
        tempfile.TemporaryDirectory() as room,
    ):
        node_ids = [cluster.node_id(index) for index in cluster.nodes]
        # Otherwise the two would not move the same bytes between nodes, and the ratio would mean nothing.
        assert ray.get_runtime_context().get_node_id() == node_ids[0], "the writer must be on the first node"
        floor = Floor(node_ids, Path(room))
        rayfs = RayFS(cluster)
        for replicas in (1, 3):

            def bare(replicas: int = replicas) -> float:
                return floor.write_blocks(block, blocks, replicas)

            def ours(replicas: int = replicas) -> float:
                return rayfs.write_blocks(block, blocks, replicas)

            amount = blocks * BLOCK / 1e9
            rows.append(compare(f"64 MiB blocks, {replicas} replica(s)", "GB/s", amount, rounds, bare, ours))
        for batch in (1, 20):

            def bare_files(batch: int = batch) -> float:
                return floor.write_files(body, files, batch)

            def our_files(batch: int = batch) -> float:
                return rayfs.write_files(body, files, batch)

            name = "4 KiB files, 3 replicas, " + ("one at a time" if batch == 1 else f"batches of {batch}")
            rows.append(compare(name, "files/s", files, rounds, bare_files, our_files))
        floor.end()
    print(f"{'':<44}{'':<9}{'bare Ray: median (range)':>28}{'RayFS: median (range)':>28}{'ratio':>8}")
    for row in rows:
        print(row.line())
    given.json.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "machine": platform.platform(),
        "rounds": rounds,
        "rows": [asdict(row) | {"ratio": row.ratio} for row in rows],
    }
    given.json.write_text(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
