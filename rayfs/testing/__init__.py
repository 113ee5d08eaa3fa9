"""The test kit that ships with RayFS: real clusters and real S3 servers on one machine, and faults for both.

May know every room but the front ends. Nothing in it is imported by the others, except by the verb ``demo``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rayfs.testing.cluster import LocalCluster
    from rayfs.testing.faultproxy import FaultProxy

__all__ = ["FaultProxy", "LocalCluster"]

_HOMES = {"FaultProxy": "rayfs.testing.faultproxy", "LocalCluster": "rayfs.testing.cluster"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'rayfs.testing' has no attribute {name!r}")
