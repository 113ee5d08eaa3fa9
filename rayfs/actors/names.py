"""Names of RayFS's Ray actors, all in the Ray namespace ``rayfs.core.model.NAMESPACE``. Imports nothing of Ray.

The master's name is fixed; a worker or persister has its node and its incarnation in its name, so that a new life of the
process is never mistaken for the old one.
"""

from __future__ import annotations

MASTER = "rayfs-master"


def worker_name(node_id: str, incarnation: str) -> str:
    """Ray actor name of a worker."""
    return f"rayfs-worker-{node_id[:12]}-{incarnation}"


def persister_name(node_id: str, incarnation: str) -> str:
    """Ray actor name of a persister."""
    return f"rayfs-persister-{node_id[:12]}-{incarnation}"
