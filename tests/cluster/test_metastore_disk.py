"""The disk under the metastore fills up: one sentence, nothing acknowledged, and it goes on when there is room."""

from __future__ import annotations

import contextlib
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from rayfs.errors import NoSpace, RayFSError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from clusters import Clusters

    from rayfs.client import RayFileSystem

DISK_BYTES = 4 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MiB. Mounting one takes root, which CI is."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(file: Path) -> None:
    """Write until the disk takes no more."""
    with contextlib.suppress(OSError), file.open("wb", buffering=0) as filler:
        while True:
            filler.write(b"x" * 4096)


def write_many(fs: RayFileSystem) -> None:
    """More small files than the metastore finds room for."""
    for number in range(1000):
        fs.pipe_file(f"/{number}", b"x" * 1000)


def test_a_full_disk_under_the_metastore_is_said_and_writes_go_on_when_there_is_room(
    clusters: Clusters, small_disk: Path
) -> None:
    cluster = clusters.start(nodes=1, **{"rayfs.master.metastore.uri": f"sqlite:///{small_disk / 'metastore.db'}"})
    try:
        cluster.fs.pipe_file("/before", b"x")
        filler = small_disk / "filler"
        fill(filler)
        with pytest.raises(NoSpace, match="free space on its disk"):
            write_many(cluster.fs)
        filler.unlink()

        def writes() -> bool:
            try:
                cluster.fs.pipe_file("/after", b"y")
            except RayFSError:
                return False
            return True

        cluster.wait_for(writes, timeout=60)
        assert cluster.fs.cat_file("/before") == b"x"
    finally:
        clusters.end()
