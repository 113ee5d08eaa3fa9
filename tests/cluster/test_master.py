"""The master dies: what was acknowledged is there, nothing is half done, and nothing is done twice."""

from __future__ import annotations

import threading
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from steps import MIB, noise, wait_copies, write

from rayfs.core.checksum import crc64
from rayfs.core.operations import ClientProperties, Remove, Request, SmallFile, WriteFiles
from rayfs.errors import FileNotFound, RequestRefused

if TYPE_CHECKING:
    from collections.abc import Callable

    from clusters import Store

    from rayfs.testing import LocalCluster


@pytest.mark.scenario("M1")
def test_a_master_killed_while_a_file_is_open_lets_the_writer_finish(
    cluster: LocalCluster, store: Store, directory: str
) -> None:
    path, body = f"{directory}/f", noise(4 * MIB)
    with cluster.fs.open(path, "wb", block_size=MIB, replication_durable=2) as file:
        file.write(body[: 2 * MIB])
        cluster.kill_master()
        file.write(body[2 * MIB :])

    assert cluster.fs.cat_file(path) == body
    cluster.fs.persist(path, wait=True, timeout=60)
    assert store.read(path) == body


@pytest.mark.scenario("M1")
def test_files_acknowledged_before_the_master_died_are_there_with_their_copies(
    cluster: LocalCluster, directory: str
) -> None:
    bodies = {f"{directory}/{number}": noise(100 << 10, number) for number in range(5)}
    for path, body in bodies.items():
        write(cluster.fs, path, body, replication_durable=3, persistence_wait=None)
    cluster.kill_master()

    assert {path: cluster.fs.cat_file(path) for path in bodies} == bodies
    for path in bodies:
        wait_copies(cluster, path, 3)


@pytest.mark.scenario("M1")
def test_a_delete_acknowledged_before_the_master_died_stays_done(
    cluster: LocalCluster, store: Store, directory: str
) -> None:
    path = f"{directory}/f"
    write(cluster.fs, path, noise(MIB))
    cluster.fs.persist(path, wait=True, timeout=60)
    cluster.fs.rm(path)
    cluster.kill_master()

    assert not cluster.fs.exists(path)
    cluster.fs.persist("/", wait=True, timeout=90)
    assert store.names(directory) == set()


@pytest.mark.scenario("M1")
def test_masters_killed_in_a_storm_of_changes_lose_no_acknowledged_one(cluster: LocalCluster, directory: str) -> None:
    expected: dict[str, bytes | None] = {}
    enough = threading.Event()
    written = 0

    def storm() -> None:
        nonlocal written
        for written in range(1, 61):
            number = written
            path, body = f"{directory}/{number}", noise(64 << 10, number)
            write(cluster.fs, path, body, replication_durable=2, persistence_wait=None)
            expected[path] = body
            if number % 4 == 1:
                cluster.fs.rm(path)
                expected[path] = None
            if number % 4 == 2:
                cluster.fs.mv(path, path + "-moved")
                expected[path], expected[path + "-moved"] = None, body
        enough.set()

    writer = threading.Thread(target=storm)
    writer.start()
    for moment in (10, 25, 40):
        cluster.wait_for(
            lambda moment=moment: written >= moment or not writer.is_alive(), 90, f"{moment} files written"
        )
        cluster.kill_master()
    writer.join(timeout=120)

    assert enough.is_set(), "the writer did not get through"
    found = {path: cluster.fs.cat_file(path) if cluster.fs.exists(path) else None for path in expected}
    assert found == expected


class RawSession:
    """Requests as they cross the wire, so that one can be sent twice."""

    def __init__(self, cluster: LocalCluster) -> None:
        self._cluster = cluster
        self.session = self._call(lambda master: master.open_session.remote())

    def send(self, request: Request) -> Any:
        return self._call(lambda master: master.execute.remote(request))

    def _call(self, ask: Callable[[Any], Any]) -> Any:
        """An answer; repeated over the master's death, as a client does."""
        import ray
        from ray.exceptions import RayError

        from rayfs.actors.names import MASTER
        from rayfs.core.model import NAMESPACE

        def once() -> list[Any]:
            try:
                return [ray.get(ask(ray.get_actor(MASTER, namespace=NAMESPACE)), timeout=20)]
            except (RayError, ValueError) as error:
                raise OSError(str(error)) from error

        return self._cluster.wait_for(once, 60, "an answer")[0]


def small_file(path: str, body: bytes, *, overwrite: bool = True) -> WriteFiles:
    return WriteFiles((SmallFile(path, body, crc64(body), overwrite),), ClientProperties(), writer_node="")


@pytest.mark.scenario("M2")
@pytest.mark.parametrize("across_a_restart", [False, True])
def test_a_repeated_request_is_answered_again_and_not_executed_again(
    cluster: LocalCluster, directory: str, across_a_restart: bool
) -> None:
    raw, path = RawSession(cluster), f"{directory}/f"
    create = Request(raw.session, 1, 0, small_file(path, b"first", overwrite=False))
    remove = Request(raw.session, 2, 0, Remove(path))
    first = raw.send(create)
    removed = raw.send(remove)
    if across_a_restart:
        cluster.kill_master()

    # Executed again, the first would bring the file back, and the second would not find it.
    assert raw.send(create) == first
    assert raw.send(remove) == removed
    assert not cluster.fs.exists(path)


@pytest.mark.scenario("M2")
def test_a_late_duplicate_of_a_confirmed_delete_leaves_the_newer_file(cluster: LocalCluster, directory: str) -> None:
    raw, path = RawSession(cluster), f"{directory}/f"
    remove = Request(raw.session, 2, 1, Remove(path))
    raw.send(Request(raw.session, 1, 0, small_file(path, b"old")))
    raw.send(remove)
    raw.send(Request(raw.session, 3, 2, small_file(path, b"new")))

    assert isinstance(raw.send(remove), RequestRefused)
    assert cluster.fs.cat_file(path) == b"new"


@pytest.mark.scenario("M2")
def test_a_request_of_an_unknown_session_is_refused(cluster: LocalCluster, directory: str) -> None:
    path = f"{directory}/f"
    write(cluster.fs, path, b"x")
    raw = RawSession(cluster)

    answer = raw.send(Request(uuid.uuid4().hex, 1, 0, Remove(path)))

    assert isinstance(answer, RequestRefused)
    assert not isinstance(answer, FileNotFound)
    assert cluster.fs.exists(path)
