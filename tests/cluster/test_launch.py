"""Starting and stopping: one owner per prefix, nothing left behind, and a stop that persists first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from steps import noise

from rayfs.actors import launch, ownership
from rayfs.config import Settings
from rayfs.errors import ClusterUnreachable, InvalidArgument, RequestRefused

if TYPE_CHECKING:
    from clusters import Store

    from rayfs.testing import LocalCluster


def test_starting_again_finds_the_cluster_running(cluster: LocalCluster) -> None:
    again = launch.start_on(cluster.address, cluster.settings.cluster(), under_store=cluster.under_store)

    assert not again.created
    assert again.gcs_persistent
    assert (again.address, again.nodes, again.warnings) == (cluster.address, len(cluster.nodes), ())


def test_a_node_that_was_killed_a_moment_ago_does_not_keep_the_cluster_from_starting(cluster: LocalCluster) -> None:
    cluster.kill_node(max(cluster.nodes))

    again = launch.start_on(cluster.address, cluster.settings.cluster(), under_store=cluster.under_store)

    assert again.nodes == len(cluster.nodes)


def test_a_running_cluster_is_not_started_with_another_store(cluster: LocalCluster, tmp_path: Path) -> None:
    with pytest.raises(RequestRefused, match="runs here already"):
        launch.start_on(cluster.address, cluster.settings.cluster(), under_store=tmp_path.as_uri())


def test_a_prefix_that_another_cluster_owns_is_refused(cluster: LocalCluster, store: Store) -> None:
    properties = cluster.settings.cluster()

    refused = ownership.claim_prefix(cluster.under_store, properties, "another-cluster")

    owner = store.read("/" + ownership.OWNER_KEY).decode()
    assert isinstance(refused, RequestRefused)
    assert owner in str(refused)
    assert ownership.claim_prefix(cluster.under_store, properties, owner) is None


def test_a_start_without_an_under_store_says_how_to_give_one() -> None:
    with pytest.raises(InvalidArgument, match="--under-store"):
        launch.start(None, Settings.load())


def test_an_address_of_the_wrong_kind_is_refused() -> None:
    with pytest.raises(ClusterUnreachable, match="ray://"):
        launch.start("ray://127.0.0.1:10001", Settings.load(), under_store="file:///tmp/x")


def test_the_shell_starts_a_cluster_that_outlives_it_and_stops_it_after_persisting(tmp_path: Path) -> None:
    under, source = tmp_path / "under", tmp_path / "source"
    under.mkdir()
    source.write_bytes(noise(300_000))
    environment = {name: value for name, value in os.environ.items() if name not in ("RAYFS_ADDRESS", "RAY_ADDRESS")}
    environment["RAYFS_STATE_DIR"] = str(tmp_path / "state")

    def rayfs(*arguments: str) -> str:
        command = [str(Path(sys.executable).with_name("rayfs")), *arguments]
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    try:
        rayfs("start", "--nodes", "2", "--under-store", under.as_uri())
        # An upload that never begins by itself: stop must ask for it.
        rayfs("copyFromLocal", "-D", "rayfs.user.file.persistence.initial.wait.time=-1", str(source), "/copied")
        before_stop = (under / "copied").exists()
    finally:
        rayfs("stop", "--timeout", "60")

    assert not before_stop
    assert (under / "copied").read_bytes() == source.read_bytes()
    assert not (tmp_path / "state" / "address").exists()
    assert not [
        process for process in psutil.process_iter(["cmdline"]) if str(tmp_path) in str(process.info["cmdline"])
    ]
