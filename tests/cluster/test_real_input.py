"""Real input through the command line: the standard library's folder, one big file, and a copy whose master dies.

Everything is compared byte for byte, with what comes back and, past RayFS, with what plain boto3 reads from the store.
"""

from __future__ import annotations

import filecmp
import json
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clusters import Clusters, Store

    from rayfs.testing import FaultProxy, LocalCluster

pytestmark = pytest.mark.long

GIB = 1 << 30
RAYFS = str(Path(sys.executable).with_name("rayfs"))


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The standard library's folder without site-packages: some 7,700 files, nested."""
    copy = tmp_path_factory.mktemp("input") / "lib"
    shutil.copytree(sysconfig.get_path("stdlib"), copy, ignore=shutil.ignore_patterns("site-packages"), symlinks=False)
    return copy


@pytest.fixture
def big_cluster(clusters: Clusters) -> Iterator[LocalCluster]:
    """Four nodes with stores of 1.5 GB."""
    yield clusters.start(nodes=4, object_store_memory=1_500_000_000)
    clusters.end()


def rayfs(cluster: LocalCluster, *words: str, timeout: float = 400.0) -> subprocess.CompletedProcess[str]:
    """The shell as a user starts it."""
    command = [RAYFS, "--address", cluster.address, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, f"{words[:2]} ended in {done.returncode}: {done.stderr[-2000:]}"
    return done


def files_below(directory: Path) -> dict[str, Path]:
    return {str(path.relative_to(directory)): path for path in directory.rglob("*") if path.is_file()}


def assert_same_in_store(store: Store, target: str, expected: dict[str, Path]) -> None:
    assert store.names(target) == set(expected)
    with ThreadPoolExecutor(8) as threads:
        bodies = threads.map(lambda name: (name, store.read(f"{target}/{name}")), expected)
        different = [name for name, body in bodies if body != expected[name].read_bytes()]
    assert not different


def assert_same_locally(one: Path, other: Path) -> None:
    names = sorted(files_below(one))
    assert sorted(files_below(other)) == names
    _, different, errors = filecmp.cmpfiles(one, other, names, shallow=False)
    assert (different, errors) == ([], [])


@pytest.mark.timeout(900)
def test_the_standard_library_goes_in_comes_back_and_is_in_the_store_byte_for_byte(
    clusters: Clusters, big_cluster: LocalCluster, library: Path, tmp_path: Path
) -> None:
    store = clusters.store(big_cluster)
    expected = files_below(library)
    assert len(expected) > 1_500
    rayfs(big_cluster, "-D", "rayfs.user.file.replication.durable=3", "copyFromLocal", str(library), "/lib")
    lines = rayfs(big_cluster, "ls", "-R", "--json", "/lib").stdout.splitlines()
    listed = [row for row in map(json.loads, lines) if row["type"] == "file"]
    assert {row["path"].removeprefix("/lib/") for row in listed} == set(expected)
    rayfs(big_cluster, "copyToLocal", "/lib", str(tmp_path / "back"))
    assert_same_locally(library, tmp_path / "back")
    rayfs(big_cluster, "persist", "/lib", "--timeout", "300")
    assert_same_in_store(store, "/lib", expected)


@pytest.mark.timeout(900)
def test_a_file_of_one_gib_goes_in_with_three_copies_comes_back_and_is_in_the_store(
    clusters: Clusters, big_cluster: LocalCluster, tmp_path: Path
) -> None:
    source = tmp_path / "big"
    noise = np.random.default_rng(7)
    with source.open("wb") as file:
        for _ in range(16):
            file.write(noise.bytes(GIB // 16))
    rayfs(
        big_cluster,
        "-Drayfs.user.file.writetype.default=ASYNC_THROUGH",
        "-Drayfs.user.file.replication.durable=3",
        "copyFromLocal",
        str(source),
        "/big",
    )
    rayfs(big_cluster, "persist", "/big", "--timeout", "300")
    rayfs(big_cluster, "copyToLocal", "/big", str(tmp_path / "back"))
    assert filecmp.cmp(source, tmp_path / "back", shallow=False)
    clusters.store(big_cluster).download("/big", tmp_path / "stored")
    assert filecmp.cmp(source, tmp_path / "stored", shallow=False)


@pytest.mark.timeout(900)
@pytest.mark.scenario("P3")
def test_a_copy_outlives_the_master_and_nothing_that_the_store_had_is_sent_again(
    clusters: Clusters, big_cluster: LocalCluster, proxy: FaultProxy, library: Path, tmp_path: Path
) -> None:
    part = tmp_path / "part"
    shutil.copytree(library / "test", part)
    expected = files_below(part)
    command = [
        *(RAYFS, "--address", big_cluster.address),
        *("-D", "rayfs.user.file.replication.durable=2", "copyFromLocal", str(part), "/copy"),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as copy:
        try:
            proxy.wait_for(lambda: proxy.committed("PUT_OBJECT") > 50, timeout=120)
            assert copy.poll() is None, "the copy ended before the master could be killed"
            big_cluster.kill_master()
            _, errors = copy.communicate(timeout=400)
        finally:
            copy.kill()
    assert copy.returncode == 0, errors[-2000:]
    rayfs(big_cluster, "persist", "/copy", "--timeout", "300")
    assert_same_in_store(clusters.store(big_cluster), "/copy", expected)
    sent_twice = [name for name in expected if proxy.committed("PUT_OBJECT", key=f"*/copy/{name}") > 1]
    assert sent_twice == []
