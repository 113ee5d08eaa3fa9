"""Writing: what a clean close() has promised, asked of the worker processes and of the store itself."""

from __future__ import annotations

import gc
import hashlib
import threading
from typing import TYPE_CHECKING

import pytest
from steps import MIB, WRITES, blocks_held, noise, state, wait_persisted, write

from rayfs.core.model import PersistenceState
from rayfs.errors import FileExists, RayFSError, ReplicationShortfall

if TYPE_CHECKING:
    from pathlib import Path

    from clusters import Clusters, Store

    from rayfs.testing import FaultProxy, LocalCluster


RECLAIMED_S = 90
"""Blocks that the master never heard of are kept for a minute before they are dropped."""


@pytest.mark.scenario("W1")
def test_an_async_file_is_complete_and_dirty_at_once_and_persisted_later(
    cluster: LocalCluster, proxy: FaultProxy, store: Store, directory: str
) -> None:
    body, path = noise(3 * MIB + 17), f"{directory}/a"
    held = proxy.hold(operation=WRITES)
    write(cluster.fs, path, body)
    at_close = cluster.fs.status(path)
    read_while_dirty = cluster.fs.cat_file(path)
    held.off()

    wait_persisted(cluster, path)

    assert (at_close.persistence_state, at_close.length) == (PersistenceState.TO_BE_PERSISTED, len(body))
    assert read_while_dirty == body
    assert cluster.fs.cat_file(path) == body
    assert store.read(path) == body


@pytest.mark.scenario("W2")
def test_an_empty_file_is_a_file_here_and_an_empty_object_there(
    cluster: LocalCluster, store: Store, directory: str
) -> None:
    path = f"{directory}/empty"
    write(cluster.fs, path, b"")

    cluster.fs.persist(path, wait=True, timeout=30)

    assert cluster.fs.status(path).length == 0
    assert cluster.fs.cat_file(path) == b""
    assert store.read(path) == b""


@pytest.mark.scenario("W3")
def test_the_initial_wait_delays_the_upload_and_never_means_on_demand_only(
    cluster: LocalCluster, proxy: FaultProxy, store: Store, directory: str
) -> None:
    for name, wait in (("never", None), ("two", "2s"), ("zero", "0s")):
        write(cluster.fs, f"{directory}/{name}", b"x", persistence_wait=wait)
    wait_persisted(cluster, f"{directory}/zero", 10)
    after_zero = store.names(directory)
    wait_persisted(cluster, f"{directory}/two", 10)
    order = [exchange.key.rpartition("/")[2] for exchange in proxy.requests("PUT_OBJECT", f"*{directory}/*")]

    assert after_zero == {"zero"}
    assert order == ["zero", "two"]
    assert state(cluster, f"{directory}/never") is not PersistenceState.PERSISTED
    cluster.fs.persist(f"{directory}/never", wait=True, timeout=30)
    assert store.read(f"{directory}/never") == b"x"


BLOCK = 64 << 10


@pytest.mark.scenario("W4")
@pytest.mark.parametrize(
    ("length", "step"),
    [
        (300, 1),
        (BLOCK - 1, 7919),
        (BLOCK, BLOCK),
        (BLOCK + 1, 4096),
        (3 * BLOCK, 3 * BLOCK),
        (40 * BLOCK + 7, 100_003),
        (12 * MIB + 5, MIB),
    ],
)
def test_bytes_arrive_whole_whatever_the_size_and_the_buffers(
    cluster: LocalCluster, store: Store, directory: str, length: int, step: int
) -> None:
    body, path = noise(length), f"{directory}/f"
    with cluster.fs.open(path, "wb", block_size=BLOCK if length < MIB * 5 else MIB) as file:
        for at in range(0, length, step):
            file.write(body[at : at + step])

    cluster.fs.persist(path, wait=True, timeout=60)

    assert hashlib.sha256(cluster.fs.cat_file(path)).digest() == hashlib.sha256(body).digest()
    assert hashlib.sha256(store.read(path)).digest() == hashlib.sha256(body).digest()


@pytest.mark.scenario("W5")
@pytest.mark.parametrize("write_type", ["CACHE_THROUGH", "THROUGH"])
def test_a_store_that_refuses_fails_the_writer_and_publishes_nothing(
    cluster: LocalCluster, proxy: FaultProxy, directory: str, write_type: str
) -> None:
    path = f"{directory}/new"
    proxy.answer(403, "AccessDenied", operation=WRITES)

    with pytest.raises(RayFSError):
        write(cluster.fs, path, noise(MIB), write_type=write_type, write_wait="3s")

    assert not cluster.fs.exists(path)


@pytest.mark.scenario("W5")
@pytest.mark.parametrize("write_type", ["CACHE_THROUGH", "THROUGH"])
def test_an_existing_file_stays_when_its_overwrite_cannot_reach_the_store(
    cluster: LocalCluster, proxy: FaultProxy, store: Store, directory: str, write_type: str
) -> None:
    path, before = f"{directory}/old", noise(MIB, seed=2)
    write(cluster.fs, path, before, write_type="CACHE_THROUGH")
    refused = proxy.answer(403, "AccessDenied", operation=WRITES)

    with pytest.raises(RayFSError):
        write(cluster.fs, path, noise(MIB, seed=3), write_type=write_type, write_wait="3s")
    refused.off()

    assert cluster.fs.cat_file(path) == before
    cluster.wait_for(lambda: store.read(path) == before, 60, "S3 holds what the namespace says")


@pytest.mark.scenario("W5")
@pytest.mark.parametrize("write_type", ["CACHE_THROUGH", "THROUGH"])
@pytest.mark.parametrize("over_an_existing_file", [False, True])
def test_a_lost_answer_after_the_commit_is_found_out_and_the_write_succeeds(
    cluster: LocalCluster, proxy: FaultProxy, store: Store, directory: str, write_type: str, over_an_existing_file: bool
) -> None:
    path, body = f"{directory}/a", noise(MIB)
    if over_an_existing_file:
        write(cluster.fs, path, noise(MIB, seed=2), write_type="CACHE_THROUGH")
    lost = proxy.lose_answer(operation="PUT_OBJECT", key=f"*{path}", times=1)

    write(cluster.fs, path, body, write_type=write_type, write_wait="30s")

    assert lost.hits == 1
    assert state(cluster, path) is PersistenceState.PERSISTED
    assert store.read(path) == body


@pytest.mark.scenario("W6")
def test_without_any_worker_that_answers_the_error_says_what_to_do(clusters: Clusters) -> None:
    cluster = clusters.start(1)
    cluster.pause_worker(0)
    cluster.wait_for(lambda: cluster.snapshot().nodes[0].state != "live", 30, "the master to miss its only worker")

    with pytest.raises(RayFSError, match=r"no worker is alive.*rayfs start"):
        write(cluster.fs, "/a", noise(MIB), shortfall="FAIL", write_wait="1s")

    assert not cluster.fs.exists("/a")


@pytest.mark.scenario("W7")
@pytest.mark.parametrize("copies", [2, 3])
def test_replicas_are_on_distinct_nodes(cluster: LocalCluster, directory: str, copies: int) -> None:
    path = f"{directory}/f"
    write(cluster.fs, path, noise(5 * MIB), replication_durable=copies, persistence_wait=None, block_size=MIB)

    blocks = cluster.fs.status(path).blocks

    assert len(blocks) == 5
    assert all(len(set(block.replicas)) == len(block.replicas) >= copies for block in blocks)
    assert all(len(nodes) >= copies for nodes in cluster.replicas(path).values())


@pytest.mark.scenario("W8")
def test_more_copies_than_nodes_are_refused_without_debris_where_so_configured(
    cluster: LocalCluster, directory: str
) -> None:
    before = blocks_held(cluster)

    with pytest.raises(ReplicationShortfall):
        write(cluster.fs, f"{directory}/f", noise(2 * MIB), replication_durable=9, shortfall="FAIL", write_wait="1s")

    assert not cluster.fs.exists(f"{directory}/f")
    cluster.wait_for(lambda: blocks_held(cluster) <= before, 30, "no block of the refused file is left")


@pytest.mark.scenario("W8")
def test_more_copies_than_nodes_are_written_through_before_close_returns(
    cluster: LocalCluster, store: Store, directory: str
) -> None:
    path, body = f"{directory}/f", noise(2 * MIB)

    write(cluster.fs, path, body, replication_durable=9, shortfall="WRITE_THROUGH", write_wait="1s")
    at_close = state(cluster, path)

    assert at_close is PersistenceState.PERSISTED
    assert store.read(path) == body


@pytest.mark.scenario("W13")
def test_an_exception_in_the_with_block_publishes_nothing(cluster: LocalCluster, store: Store, directory: str) -> None:
    before = blocks_held(cluster)

    def job() -> None:
        with cluster.fs.open(f"{directory}/f", "wb", block_size=MIB) as file:
            file.write(noise(3 * MIB + 1))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        job()

    assert not cluster.fs.exists(f"{directory}/f")
    cluster.wait_for(lambda: blocks_held(cluster) <= before, RECLAIMED_S, "its blocks are dropped")
    assert store.names(directory) == set()


@pytest.mark.scenario("W13")
def test_a_handle_that_is_garbage_collected_publishes_nothing_and_leaves_what_was_there(
    cluster: LocalCluster, directory: str
) -> None:
    path = f"{directory}/f"
    write(cluster.fs, path, b"before")
    before = blocks_held(cluster)
    file = cluster.fs.open(path, "wb", block_size=MIB)
    file.write(noise(2 * MIB))
    del file
    gc.collect()

    cluster.wait_for(lambda: blocks_held(cluster) <= before, RECLAIMED_S, "its blocks are dropped")
    assert cluster.fs.cat_file(path) == b"before"


@pytest.mark.scenario("W14")
def test_of_two_exclusive_writers_one_wins_and_the_other_is_told(cluster: LocalCluster, directory: str) -> None:
    path, outcomes, ready = f"{directory}/f", [], threading.Barrier(2)

    def contend(seed: int) -> None:
        ready.wait()
        try:
            with cluster.fs.open(path, "xb") as file:
                file.write(noise(MIB, seed))
            outcomes.append(seed)
        except FileExists as error:
            outcomes.append(error)

    writers = [threading.Thread(target=contend, args=(seed,)) for seed in (1, 2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()

    winners = [outcome for outcome in outcomes if isinstance(outcome, int)]
    assert len(winners) == 1
    assert len(outcomes) == 2
    assert cluster.fs.cat_file(path) == noise(MIB, winners[0])


@pytest.mark.scenario("W14")
def test_of_two_overwriting_writers_the_last_close_wins_whole(cluster: LocalCluster, directory: str) -> None:
    path = f"{directory}/f"
    first, second = (cluster.fs.open(path, "wb", block_size=MIB) for _ in range(2))
    first.write(noise(2 * MIB, 1))
    second.write(noise(3 * MIB, 2))
    second.close()
    generation = cluster.fs.status(path).generation
    first.close()

    assert cluster.fs.status(path).generation > generation
    assert cluster.fs.cat_file(path) == noise(2 * MIB, 1)


@pytest.mark.scenario("W15")
@pytest.mark.parametrize(("length", "copies"), [(100, 3), (200 << 10, 3), (5 * MIB + 3, 3), (5 * MIB, 2)])
def test_when_close_returns_n_distinct_nodes_hold_every_block(
    cluster: LocalCluster, directory: str, length: int, copies: int
) -> None:
    path = f"{directory}/f"
    write(cluster.fs, path, noise(length), replication_durable=copies, persistence_wait=None, block_size=MIB)

    # Asked of each worker process, with the checksum of the bytes that are in its node's plasma now.
    holders = cluster.replicas(path)

    assert len(holders) == -(-length // MIB)
    assert all(len(nodes) >= copies for nodes in holders.values())


@pytest.mark.scenario("W16")
def test_write_type_and_replication_are_chosen_per_call_client_and_path(cluster: LocalCluster, directory: str) -> None:
    durable = "rayfs.user.file.replication.durable"
    never = {"rayfs.user.file.persistence.initial.wait.time": "-1"}
    # Path properties lie above files and environment and below connect and the call.
    cluster.fs.set_path_properties(directory, {durable: 2})
    by_client = cluster.connect(**{durable: 3}, **never)

    write(cluster.fs, f"{directory}/path", b"x" * MIB, persistence_wait=None)
    write(by_client, f"{directory}/client", b"x" * MIB)
    write(by_client, f"{directory}/call", b"x" * MIB, replication_durable=1)
    write(cluster.fs, f"{directory}/through", b"x" * MIB, write_type="THROUGH")

    levels = {name: cluster.fs.status(f"{directory}/{name}").replication.durable for name in ("path", "client", "call")}
    assert levels == {"path": 2, "client": 3, "call": 1}
    assert state(cluster, f"{directory}/through") is PersistenceState.PERSISTED
    assert all(len(nodes) >= 3 for nodes in cluster.replicas(f"{directory}/client").values())


@pytest.mark.scenario("W20")
def test_a_changed_file_of_the_client_counts_at_once_beside_a_running_cluster(
    cluster: LocalCluster, directory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import rayfs

    (tmp_path / "rayfs.yaml").write_text("rayfs.user.file.replication.durable: 3\n")
    monkeypatch.setenv("RAYFS_CONF_DIR", str(tmp_path))
    three = rayfs.connect(cluster.address, skip_instance_cache=True)
    (tmp_path / "rayfs.yaml").write_text("rayfs.user.file.replication.durable: 2\n")
    two = rayfs.connect(cluster.address, skip_instance_cache=True)

    write(three, f"{directory}/three", b"x" * MIB, persistence_wait=None)
    write(two, f"{directory}/two", b"x" * MIB, persistence_wait=None)

    assert cluster.fs.status(f"{directory}/three").replication.durable == 3
    assert cluster.fs.status(f"{directory}/two").replication.durable == 2
    assert all(len(nodes) >= 3 for nodes in cluster.replicas(f"{directory}/three").values())


def test_a_burst_of_files_smaller_than_a_block_is_cached_and_not_written_through(
    cluster: LocalCluster, directory: str
) -> None:
    paths = [f"{directory}/{number}" for number in range(8)]
    for path in paths:
        write(cluster.fs, path, b"x" * MIB, replication_durable=3, block_size=64 * MIB, persistence_wait=None)

    assert all(state(cluster, path) is not PersistenceState.PERSISTED for path in paths)
