"""Names of RayFS's Ray actors, all in the Ray namespace ``rayfs.core.model.NAMESPACE``. Imports nothing of Ray.

The master's name is fixed; a worker or persister has its node and its incarnation in its name, so that a new life of
the process is never mistaken for the old one.
"""

from __future__ import annotations

import os
from pathlib import Path

MASTER = "rayfs-master"
WORKER_PREFIX = "rayfs-worker-"
PERSISTER_PREFIX = "rayfs-persister-"


def worker_name(node_id: str, incarnation: str) -> str:
    """Ray actor name of a worker."""
    return f"{WORKER_PREFIX}{node_id[:12]}-{incarnation}"


def persister_name(node_id: str, incarnation: str) -> str:
    """Ray actor name of a persister."""
    return f"{PERSISTER_PREFIX}{node_id[:12]}-{incarnation}"


def state_dir() -> Path:
    """Directory of the clusters that ``rayfs start`` made on this machine: ``$RAYFS_STATE_DIR`` or ``~/.rayfs``."""
    return Path(os.environ.get("RAYFS_STATE_DIR") or Path.home() / ".rayfs").absolute()


def address_file() -> Path:
    """File with the address that ``rayfs start`` left for clients of this machine."""
    return state_dir() / "address"
