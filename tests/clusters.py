"""A real S3 server, a fault proxy before it, and a four-node Ray cluster: shared by tests, healed between them.

A plugin of tests/conftest.py: the folders cluster and ecosystem use it.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rayfs.testing import FaultProxy, LocalCluster
from rayfs.testing.servers import SeaweedServer

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

BUCKET = "cluster-tests"
STORE_BYTES = 256 << 20


@dataclass
class Clusters:
    """The shared cluster, started when a test first asks, and made anew when it cannot be healed.

    A process drives one Ray cluster, so a test that needs another kind gets it in place of the shared one.
    """

    endpoint: str
    server: SeaweedServer
    running: LocalCluster | None = None
    _close: list[Callable[[], None]] = field(default_factory=list)

    def shared(self) -> LocalCluster:
        if self.running is not None:
            try:
                self.running.heal()
            except Exception:  # noqa: BLE001  # whatever is wrong with it, the next test gets a sound one
                self.end()
        if self.running is None:
            self.running = self.start(nodes=4)
        return self.running

    def start(self, nodes: int, object_store_memory: int = STORE_BYTES, **config: Any) -> LocalCluster:
        self.end()
        cluster = LocalCluster(
            nodes=nodes,
            # A prefix of its own: another cluster's is refused.
            under_store=f"s3://{BUCKET}/{uuid.uuid4().hex[:8]}",
            object_store_memory=object_store_memory,
            config={"rayfs.underfs.s3.endpoint": self.endpoint, **config},
        )
        cluster.__enter__()
        self._close.append(cluster.close)
        return cluster

    def store(self, cluster: LocalCluster) -> Store:
        """A plain look at a cluster's under store, past the proxy."""
        return Store(self.server.client(), cluster)

    def end(self) -> None:
        self.running = None
        while self._close:
            self._close.pop()()


@pytest.fixture(scope="session")
def server() -> Iterator[SeaweedServer]:
    with SeaweedServer() as started:
        started.create_bucket(BUCKET)
        # Raylets, and so all actors, inherit the credentials from this process, as on a real node.
        before = dict(os.environ)
        os.environ.update(started.environment())
        yield started
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(scope="session")
def shared_proxy(server: SeaweedServer) -> Iterator[FaultProxy]:
    with FaultProxy(server.endpoint) as started:
        yield started


@pytest.fixture(scope="session")
def clusters(shared_proxy: FaultProxy, server: SeaweedServer) -> Iterator[Clusters]:
    house = Clusters(shared_proxy.endpoint, server)
    yield house
    house.end()


@pytest.fixture
def proxy(shared_proxy: FaultProxy) -> Iterator[FaultProxy]:
    """Between the cluster and its store; every fault ends with the test."""
    shared_proxy.forget()
    yield shared_proxy
    shared_proxy.clear()
    shared_proxy.drop_parked()


@pytest.fixture
def cluster(clusters: Clusters, proxy: FaultProxy) -> LocalCluster:
    """Four nodes, all alive."""
    return clusters.shared()


@pytest.fixture
def directory(request: pytest.FixtureRequest, cluster: LocalCluster) -> Iterator[str]:
    """A directory of the test's own; what is left in it goes with the test, so that no test fills the others' nodes."""
    path = f"/{request.node.originalname[:60]}-{uuid.uuid4().hex[:6]}"
    yield path
    with contextlib.suppress(FileNotFoundError):
        cluster.fs.rm(path, recursive=True)


class Store:
    """What the under store holds, seen without RayFS."""

    def __init__(self, client: S3Client, cluster: LocalCluster) -> None:
        self._client = client
        self._prefix = cluster.under_store.removeprefix(f"s3://{BUCKET}/")

    def read(self, path: str) -> bytes:
        return self._client.get_object(Bucket=BUCKET, Key=self._prefix + path)["Body"].read()

    def download(self, path: str, target: Path) -> None:
        """One object into a local file, for those too large for memory."""
        self._client.download_file(BUCKET, self._prefix + path, str(target))

    def names(self, directory: str) -> set[str]:
        """Names of all keys below a directory, relative to it."""
        prefix = self._prefix + directory.rstrip("/") + "/"
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return {row["Key"].removeprefix(prefix) for page in pages for row in page.get("Contents", ())}

    def uploads(self) -> list[str]:
        """Keys of multipart uploads in progress."""
        found = self._client.list_multipart_uploads(Bucket=BUCKET, Prefix=self._prefix)
        return [row["Key"] for row in found.get("Uploads", ())]


@pytest.fixture
def store(clusters: Clusters, cluster: LocalCluster) -> Store:
    """A plain look at the under store, past the proxy."""
    return clusters.store(cluster)
