"""The disk under the metastore fills up: one sentence, nothing acknowledged, and it goes on when there is room again."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from rayfs.errors import NoSpace, RayFSError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from clusters import Clusters

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


def test_a_full_disk_under_the_metastore_is_said_and_writes_go_on_when_there_is_room(
    clusters: Clusters, small_disk: Path
) -> None:
    cluster = clusters.start(nodes=1, **{"rayfs.master.metastore.uri": f"sqlite:///{small_disk / 'metastore.db'}"})
    try:
        cluster.fs.pipe_file("/before", b"x")
        filler = small_disk / "filler"
        with filler.open("wb") as file, pytest.raises(OSError, match="space"):
            while True:
                file.write(b"x" * 4096)
                file.flush()
        with pytest.raises(NoSpace, match="free space on its disk"):
            for number in range(1000):
                cluster.fs.pipe_file(f"/{number}", b"x" * 1000)
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
