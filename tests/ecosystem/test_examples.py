"""The examples are programs that people copy, so they must run as they stand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from clusters import Store

    from rayfs.testing import LocalCluster

EXAMPLES = Path(__file__).parents[2] / "examples"
SAYS = {
    "dataset_job.py": "read back 300000 rows",
    "pandas_and_fsspec.py": "pandas read 3 rows, 16 trips",
    "commit_by_rename.py": "under their final names",
}


def test_every_example_has_a_test() -> None:
    assert {file.name for file in EXAMPLES.glob("*.py")} == set(SAYS)


@pytest.mark.parametrize("name", sorted(SAYS))
def test_an_example_runs_as_it_stands(cluster: LocalCluster, store: Store, name: str) -> None:
    ran = subprocess.run(
        [sys.executable, EXAMPLES / name],
        env={**os.environ, "RAYFS_ADDRESS": cluster.address},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    try:
        assert ran.returncode == 0, ran.stderr
        assert SAYS[name] in ran.stdout
        if name == "commit_by_rename.py":
            assert store.names("/examples/daily") == {f"part-{part}.json" for part in range(4)}
            assert store.names("/examples/_temporary") == set()
    finally:
        cluster.fs.rm("/examples", recursive=True)
