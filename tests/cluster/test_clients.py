"""Clients: reading while holders die, travelling into Ray tasks, and errors that say what to do."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import pytest
from steps import MIB, holders, noise, write

from rayfs.errors import FileNotFound, InvalidArgument, IsADirectory, NotADirectory, RayFSError

if TYPE_CHECKING:
    from rayfs.testing import LocalCluster


@pytest.mark.scenario("C1")
@pytest.mark.parametrize("way", ["sequential", "positioned", "single bytes"])
def test_a_read_goes_on_when_a_holder_dies(cluster: LocalCluster, directory: str, way: str) -> None:
    path, body = f"{directory}/f", noise(6 * MIB)
    write(cluster.fs, path, body, replication_durable=3, persistence_wait=None, block_size=MIB)
    with cluster.fs.open(path, "rb", block_size=256 << 10) as file:
        start = file.read(MIB // 2)
        cluster.kill_node(max(holders(cluster, path)))
        if way == "sequential":
            seen, wanted = start + file.read(), body
        elif way == "positioned":
            offsets = [5 * MIB - 3, 10, 3 * MIB + 77, 2 * MIB - 1]
            seen = b"".join(_read_at(file, offset, 4096) for offset in offsets)
            wanted = b"".join(body[offset : offset + 4096] for offset in offsets)
        else:
            file.seek(4 * MIB - 50)
            seen, wanted = b"".join(file.read(1) for _ in range(100)), body[4 * MIB - 50 : 4 * MIB + 50]

    assert seen == wanted


def _read_at(file: Any, offset: int, length: int) -> bytes:
    file.seek(offset)
    return bytes(file.read(length))


@pytest.mark.scenario("C2")
def test_a_file_system_travels_into_tasks_and_works_there(cluster: LocalCluster, directory: str) -> None:
    import ray

    @ray.remote(num_cpus=1)
    def work(fs: Any, number: int) -> bytes:
        path = f"{directory}/{number}"
        with fs.open(path, "wb") as file:
            file.write(str(number).encode())
        return bytes(fs.cat_file(path))

    read = ray.get([work.remote(cluster.fs, number) for number in range(6)], timeout=60)

    assert read == [b"0", b"1", b"2", b"3", b"4", b"5"]
    assert len(cluster.fs.ls(directory)) == 6


@pytest.mark.scenario("C2")
def test_an_open_reader_is_opened_again_in_a_task(cluster: LocalCluster, directory: str) -> None:
    import ray

    path, body = f"{directory}/f", noise(MIB)
    write(cluster.fs, path, body)
    reader = cluster.fs.open(path, "rb")

    @ray.remote(num_cpus=1)
    def read(file: Any) -> bytes:
        with file:
            return bytes(file.read())

    assert ray.get(read.remote(reader), timeout=60) == body


@pytest.mark.scenario("C2")
def test_a_writer_is_not_picklable(cluster: LocalCluster, directory: str) -> None:
    with cluster.fs.open(f"{directory}/f", "wb") as file, pytest.raises((RuntimeError, TypeError)):
        pickle.dumps(file)


@pytest.mark.scenario("C2")
def test_errors_keep_their_kind_and_message_on_the_way_out_of_a_task(cluster: LocalCluster, directory: str) -> None:
    import ray

    @ray.remote(num_cpus=1)
    def fail(fs: Any) -> Exception:
        try:
            fs.cat_file(f"{directory}/missing")
        except OSError as error:
            return error
        raise AssertionError("the file must be missing")

    error = ray.get(fail.remote(cluster.fs), timeout=60)

    assert isinstance(error, FileNotFound)
    assert isinstance(error, FileNotFoundError)
    assert "missing" in str(error)


@pytest.mark.scenario("C3")
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"replication_durabel": 3}, "replication_durable"),
        ({"rayfs.user.file.replication.durabel": 3}, "rayfs.user.file.replication.durable"),
        ({"block_size": "64 parsecs"}, "64MB"),
        ({"write_type": "ASYNC"}, "ASYNC_THROUGH"),
        ({"rayfs.persist.concurrency": 3}, "start"),
    ],
)
def test_a_wrong_option_is_refused_with_the_right_one(
    cluster: LocalCluster, directory: str, options: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidArgument, match=says):
        cluster.fs.open(f"{directory}/f", "wb", **options)


@pytest.mark.scenario("C3")
@pytest.mark.parametrize(
    "path",
    ["/a/../b", "/a/\0b", "/" + "x" * 300, "/" + "/".join(["y" * 200] * 6), "rayfs://host:6379/a", ""],
    ids=["dot-dot", "NUL", "long name", "long path", "cluster in the path", "empty"],
)
def test_a_path_that_s3_or_rayfs_cannot_hold_is_refused(cluster: LocalCluster, path: str) -> None:
    with pytest.raises(RayFSError) as refused:
        write(cluster.fs, path, b"x")

    assert len(str(refused.value)) > 20


@pytest.mark.scenario("C3")
def test_files_and_directories_are_not_mistaken_for_each_other(cluster: LocalCluster, directory: str) -> None:
    write(cluster.fs, f"{directory}/f", b"x")

    with pytest.raises(IsADirectory):
        cluster.fs.cat_file(directory)
    with pytest.raises(IsADirectory):
        write(cluster.fs, directory, b"x")
    with pytest.raises(NotADirectory):
        write(cluster.fs, f"{directory}/f/below", b"x")
