"""Persisting: S3 is driven to what the namespace says, and the file is usable all the while."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest
from steps import MIB, WRITES, noise, state, wait_persisted, write

from rayfs.core.model import PersistenceState

if TYPE_CHECKING:
    from clusters import Store

    from rayfs.testing import FaultProxy, LocalCluster


@pytest.mark.scenario("E3")
def test_a_dirty_file_is_not_freed_with_force_either_and_a_persisted_one_is(
    cluster: LocalCluster, proxy: FaultProxy, directory: str
) -> None:
    path, body = f"{directory}/f", noise(2 * MIB)
    write(cluster.fs, path, body, persistence_wait=None)

    def refusals() -> list[int | None]:
        found = []
        for force in (False, True):
            with pytest.raises(OSError, match=r"dirty|persist") as refused:
                cluster.fs.free(path, force=force)
            found.append(refused.value.errno)
        return found

    before_upload = refusals()
    held = proxy.hold(operation=WRITES, key=f"*{path}")
    cluster.fs.persist(path, wait=False)
    held.wait_for_hits()
    during_upload = refusals()
    held.off()
    wait_persisted(cluster, path)
    cluster.fs.free(path)

    assert before_upload == during_upload == [errno.EBUSY, errno.EBUSY]
    cluster.wait_for(lambda: not any(cluster.replicas(path).values()), 30, "no copy is left")
    assert cluster.fs.cat_file(path) == body


@pytest.mark.scenario("P1")
def test_persist_asked_for_many_times_uploads_once(
    cluster: LocalCluster, proxy: FaultProxy, store: Store, directory: str
) -> None:
    path = f"{directory}/f"
    write(cluster.fs, path, noise(MIB), persistence_wait=None)
    held = proxy.hold(operation="PUT_OBJECT", key=f"*{path}")
    for _ in range(3):
        cluster.fs.persist(path, wait=False)
    held.wait_for_hits()
    cluster.fs.persist(path, wait=False)
    held.off()
    wait_persisted(cluster, path)
    cluster.fs.persist(path, wait=True, timeout=30)

    assert proxy.committed("PUT_OBJECT", f"*{path}") == 1
    assert store.read(path) == noise(MIB)


@pytest.mark.scenario("P1")
def test_an_upload_whose_answer_was_lost_and_that_is_done_again_changes_nothing(
    cluster: LocalCluster, proxy: FaultProxy, store: Store, directory: str
) -> None:
    path, body = f"{directory}/f", noise(MIB)
    lost = proxy.lose_answer(operation="PUT_OBJECT", key=f"*{path}", times=1)
    write(cluster.fs, path, body)

    wait_persisted(cluster, path)

    assert lost.hits == 1
    assert store.read(path) == body
    assert store.names(directory) == {"f"}


@pytest.mark.scenario("P1")
def test_a_master_that_dies_between_the_upload_and_its_answer_finds_it_done(
    cluster: LocalCluster, proxy: FaultProxy, store: Store, directory: str
) -> None:
    path, body = f"{directory}/f", noise(MIB)
    held = proxy.hold(operation="PUT_OBJECT", key=f"*{path}")
    write(cluster.fs, path, body, replication_durable=2)
    held.wait_for_hits()
    cluster.kill_master()
    held.off()

    wait_persisted(cluster, path, 90)

    assert store.read(path) == body
    assert store.names(directory) == {"f"}


@pytest.mark.scenario("P8")
def test_a_file_is_readable_and_listed_at_every_stage(cluster: LocalCluster, proxy: FaultProxy, directory: str) -> None:
    path, body = f"{directory}/f", noise(2 * MIB + 1)

    def look() -> tuple[bytes, int, list[str]]:
        return cluster.fs.cat_file(path), cluster.fs.info(path)["size"], cluster.fs.ls(directory, detail=False)

    write(cluster.fs, path, body, persistence_wait=None)
    waiting = look()
    held = proxy.hold(operation=WRITES, key=f"*{path}")
    cluster.fs.persist(path, wait=False)
    held.wait_for_hits()
    uploading, uploading_state = look(), state(cluster, path)
    held.off()
    wait_persisted(cluster, path)
    persisted = look()
    cluster.fs.free(path)
    freed = look()

    assert waiting == uploading == persisted == freed == (body, len(body), [path])
    assert uploading_state is PersistenceState.TO_BE_PERSISTED


@pytest.mark.scenario("P19")
def test_a_commit_by_rename_costs_s3_no_copy_while_dirty(
    cluster: LocalCluster, proxy: FaultProxy, store: Store, directory: str
) -> None:
    for part in range(3):
        write(cluster.fs, f"{directory}/_temporary/part-{part}", noise(MIB, part), persistence_wait="2s")
    cluster.fs.mv(f"{directory}/_temporary", f"{directory}/table", recursive=True)

    cluster.fs.persist(directory, wait=True, timeout=60)

    assert store.names(directory) == {f"table/part-{part}" for part in range(3)}
    assert all(store.read(f"{directory}/table/part-{part}") == noise(MIB, part) for part in range(3))
    assert proxy.counts["COPY"] == 0
    assert proxy.committed("PUT_OBJECT", f"*{directory}/*") == 3
