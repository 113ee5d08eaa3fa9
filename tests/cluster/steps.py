"""Steps that the tests of a real cluster share."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from rayfs.core.model import PersistenceState

if TYPE_CHECKING:
    from rayfs.testing import LocalCluster

MIB = 1 << 20
WRITES = ("PUT_OBJECT", "BEGIN_UPLOAD")
"""Operations with which an upload begins: held or refused, they keep a file dirty."""


def noise(length: int, seed: int = 1) -> bytes:
    """Bytes that do not compress and differ by seed."""
    return random.Random(seed).randbytes(length)


def write(fs: Any, path: str, body: bytes, **options: Any) -> None:
    """Write a whole file through an open handle, the long way, in blocks that suit the small stores of a test."""
    with fs.open(path, "wb", **{"block_size": MIB, **options}) as file:
        file.write(body)


def state(cluster: LocalCluster, path: str) -> PersistenceState:
    """The file's persistence state now."""
    return cluster.fs.status(path).persistence_state


def wait_persisted(cluster: LocalCluster, path: str, timeout: float = 60) -> None:
    """Wait until S3 has the file, without asking for it."""
    cluster.wait_for(lambda: state(cluster, path) is PersistenceState.PERSISTED, timeout, f"{path} persisted")


def wait_copies(cluster: LocalCluster, path: str, copies: int, timeout: float = 60) -> None:
    """Wait until every block is on so many nodes that are alive, by the workers' own word."""

    def enough() -> bool:
        holders = cluster.replicas(path)
        return bool(holders) and all(len(nodes) >= copies for nodes in holders.values())

    cluster.wait_for(enough, timeout, f"{copies} copies of {path}")


def holders(cluster: LocalCluster, path: str) -> set[int]:
    """Nodes that hold any block of the file."""
    return set().union(*cluster.replicas(path).values())


def blocks_held(cluster: LocalCluster) -> set[str]:
    """Every block that any worker process holds."""
    return {str(held.block) for audit in cluster.audits().values() for held in audit}
