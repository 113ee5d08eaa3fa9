"""RayFS for pyarrow and Ray Data: ``ds.write_parquet("/out", filesystem=rayfs.arrow_filesystem())``.

pyarrow finds file systems of URLs by a list of its own, so that ``rayfs://`` alone is not known to it; pass this
instead, or write ``fsspec+rayfs:///out``.
"""

from __future__ import annotations

from typing import Any

from rayfs.client.filesystem import connect
from rayfs.client.options import Config


def arrow_filesystem(address: str | None = None, config: Config | None = None, **properties: Any) -> Any:
    """A ``pyarrow.fs.FileSystem`` over ``connect(...)`` with the same arguments; picklable, connects on first use."""
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    return PyFileSystem(FSSpecHandler(connect(address, config, **properties)))
