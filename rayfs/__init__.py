"""RayFS: a replicated, asynchronous write cache in front of S3, built on Ray.

    import rayfs
    fs = rayfs.connect()
    with fs.open("/out/a.parquet", "wb", replication_durable=3) as f:
        ...

Importing this package is cheap on purpose: ``connect`` and ``arrow_filesystem`` bring in Ray and pyarrow only when they
are first used, so that a shell and a console start at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rayfs.errors import RayFSError

if TYPE_CHECKING:
    from rayfs.client import RayFileSystem, arrow_filesystem, connect

__version__ = "0.1.0"
__all__ = ["RayFSError", "RayFileSystem", "__version__", "arrow_filesystem", "connect"]

_FROM_CLIENT = frozenset({"RayFileSystem", "arrow_filesystem", "connect"})


def __getattr__(name: str) -> Any:
    if name in _FROM_CLIENT:
        import rayfs.client

        return getattr(rayfs.client, name)
    raise AttributeError(f"module 'rayfs' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
