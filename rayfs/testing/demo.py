"""``rayfs demo``: the whole story on one machine, told while it happens.

Five Ray nodes, an embedded S3 that is down, a dataset written by Ray tasks with three replicas, two nodes killed while
all of it is dirty, repair, and S3 back: in the end plain boto3 and pyarrow find every row there. Nothing is simulated:
what holds a replica is asked of each worker process, and the nodes die by SIGKILL.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from rayfs.errors import RayFSError
from rayfs.testing.cluster import LocalCluster
from rayfs.testing.faultproxy import FaultProxy
from rayfs.testing.servers import MotoServer

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

    from rayfs.client import RayFileSystem

BUCKET = "demo"
PREFIX = "warehouse"
DATASET = "/trips"
NODES, KILLED, COPIES = 5, (3, 4), 3
FILES, ROWS = 8, 150_000
STORE_BYTES = 192 << 20
REPAIR_S = PERSIST_S = 90.0

PROPERTIES = {
    "rayfs.user.block.size.bytes.default": "1MB",  # several blocks per file, so that there is something to see
    "rayfs.persist.retry.max": "2s",  # the outage is a short one
}


class Surprise(Exception):
    """The story did not go as it must."""


def run(console: Console | None = None) -> bool:
    """Tell it on ``console`` (standard output); whether every row reached S3."""
    story = Story(console or Console(highlight=False))
    try:
        with ExitStack() as stage:
            story.play(stage)
    except (Surprise, RayFSError, AssertionError) as failure:
        story.console.print(f"\n[bold red]Not as promised:[/] {failure}")
        return False
    return True


class Story:
    """One telling. Each step prints what it did and how long it took."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._chapter = 0

    def play(self, stage: ExitStack) -> None:
        """All of it, on what ``stage`` then tears down."""
        began = time.monotonic()
        with self._step("Starting an embedded S3 and five Ray nodes on this machine"):
            server = stage.enter_context(MotoServer())
            server.create_bucket(BUCKET)
            stage.enter_context(_environment(server.environment()))
            proxy = stage.enter_context(FaultProxy(server.endpoint))
            cluster = stage.enter_context(
                LocalCluster(
                    NODES,
                    f"s3://{BUCKET}/{PREFIX}",
                    STORE_BYTES,
                    {"rayfs.underfs.s3.endpoint": proxy.endpoint, **PROPERTIES},
                )
            )
        outage = proxy.outage()
        self._say("S3 is down from now on: nobody gets through.")
        with self._step(f"Ray tasks write {FILES} Parquet files, each acknowledged at {COPIES} copies"):
            _write_dataset(cluster.fs)
        paths = sorted(cluster.fs.glob(f"{DATASET}/*.parquet"))
        self._check(len(paths) == FILES, f"{FILES} files are listed")
        holders = _holders(cluster, paths)
        self._show_copies(cluster, holders)
        self._check(_fewest(holders) >= COPIES, f"every block is on {COPIES} nodes, by the workers' own word")
        self._check(not _keys(server.client()), "S3 has none of it yet")
        with self._step(f"SIGKILL: nodes {KILLED[0]} and {KILLED[1]} go down with everything on them"):
            for index in KILLED:
                cluster.kill_node(index)
        with self._step(f"Repair: back to {COPIES} copies on the {NODES - len(KILLED)} nodes that are left"):
            cluster.wait_for(lambda: _fewest(_holders(cluster, paths)) >= COPIES, REPAIR_S, "every block repaired")
        self._show_copies(cluster, _holders(cluster, paths))
        self._check(not _keys(server.client()), "still only in memory: S3 has nothing")
        outage.off()
        with self._step("S3 is back: everything is persisted"):
            cluster.fs.persist(DATASET, wait=True, timeout=PERSIST_S)
        with self._step("Reading S3 with plain boto3 and pyarrow"):
            rows, total = _read_back(server.client())
        self._check(rows == FILES * ROWS, f"{rows:,} of {FILES * ROWS:,} rows are in S3")
        self._check(total == sum(range(FILES * ROWS)), "each of them once, with the value it was written with")
        self.console.print(
            f"\n[bold green]Two nodes lost, S3 down, and every row arrived.[/] {time.monotonic() - began:.0f} s in all."
        )

    @contextmanager
    def _step(self, what: str) -> Iterator[None]:
        self._chapter += 1
        self.console.print(f"\n[bold]{self._chapter}. {what}[/]")
        started = time.monotonic()
        yield
        self.console.print(f"   done in {time.monotonic() - started:.1f} s")

    def _say(self, what: str) -> None:
        self.console.print(f"   [yellow]{what}[/]")

    def _check(self, holds: bool, what: str) -> None:
        if not holds:
            raise Surprise(what)
        self.console.print(f"   [green]✓[/] {what}")

    def _show_copies(self, cluster: LocalCluster, holders: dict[str, dict[str, set[int]]]) -> None:
        table = Table("file", "blocks", "fewest copies", *(f"node {index}" for index in cluster.nodes), box=None)
        for path, blocks in holders.items():
            on = [sum(index in nodes for nodes in blocks.values()) for index in cluster.nodes]
            fewest = min(len(nodes) for nodes in blocks.values())
            table.add_row(path.rpartition("/")[2], str(len(blocks)), str(fewest), *(str(count) for count in on))
        self.console.print(table)


def _write_dataset(fs: RayFileSystem) -> None:
    import ray

    write = ray.remote(num_cpus=1, max_retries=0)(_write_file)
    ray.get([write.remote(fs, number) for number in range(FILES)], timeout=PERSIST_S)


def _write_file(fs: RayFileSystem, number: int) -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    trip = np.arange(number * ROWS, (number + 1) * ROWS, dtype=np.int64)
    noise = np.random.default_rng(number).random(ROWS)
    table = pa.table({"trip": trip, "fare": noise})
    with fs.open(f"{DATASET}/part-{number:03}.parquet", "wb", replication_durable=COPIES) as file:
        pq.write_table(table, file)


def _holders(cluster: LocalCluster, paths: list[str]) -> dict[str, dict[str, set[int]]]:
    return {path: cluster.replicas(path) for path in paths}


def _fewest(holders: dict[str, dict[str, set[int]]]) -> int:
    return min((len(nodes) for blocks in holders.values() for nodes in blocks.values()), default=0)


def _keys(client: S3Client) -> list[str]:
    found = client.list_objects_v2(Bucket=BUCKET, Prefix=f"{PREFIX}{DATASET}/")
    return [row["Key"] for row in found.get("Contents", ())]


def _read_back(client: S3Client) -> tuple[int, int]:
    """Rows in S3, and the sum of the column that numbers them."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    rows = total = 0
    for key in _keys(client):
        body = client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        column = pq.read_table(io.BytesIO(body)).column("trip")
        rows, total = rows + len(column), total + pc.sum(column).as_py()
    return rows, total


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Raylets, and so all of RayFS's processes, inherit the store's credentials from this process."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
