"""The file object that is written to: it publishes by a clean ``close()``, and by nothing else."""

from __future__ import annotations

import _thread
import gc
import io
import pickle
import time
from collections.abc import Callable
from typing import Any

import pytest
from fsspec.core import OpenFile
from fsspec.implementations.memory import MemoryFileSystem

from rayfs.client.exchange import SharedExchange
from rayfs.client.writing import CompressedWriter, TextWriter, WritableFile
from rayfs.core.checksum import crc64
from rayfs.core.model import PersistenceState
from rayfs.core.operations import SMALL_FILE_BYTES, ClientProperties, CreateFile, Mutation, Published, WriteFiles
from rayfs.errors import FileExists, NoSpace, RayFSError


class Master:
    """In the place of a connection: publishes small files, and refuses to create large ones."""

    node_id = "node"

    def __init__(self) -> None:
        self.published: dict[str, bytes] = {}
        self.refusal: RayFSError | None = None
        self.small_files = SharedExchange(self.execute, self.node_id)

    def execute(self, operation: Mutation) -> Any:
        if isinstance(operation, CreateFile):
            raise NoSpace("full")
        assert isinstance(operation, WriteFiles)
        if self.refusal is not None:
            return (self.refusal,)
        (file,) = operation.files
        assert file.crc == crc64(file.body)
        self.published[file.path] = file.body
        return (Published(file.path, 1, 1, PersistenceState.TO_BE_PERSISTED),)


def fail_in(file: Any, body: Any = b"half") -> None:
    """A job that fails after it has written something."""
    with file as opened:
        opened.write(body)
        raise KeyError


@pytest.fixture
def master() -> Master:
    return Master()


@pytest.fixture
def create(master: Master) -> Callable[..., WritableFile]:
    def opened(path: str = "/a", **options: Any) -> WritableFile:
        return WritableFile(master, path, ClientProperties(), **options)  # type: ignore[arg-type]  # stands in

    return opened


def test_a_clean_close_publishes_what_was_written(master: Master, create: Callable[..., WritableFile]) -> None:
    with create() as file:
        file.write(b"one")
        file.write(bytearray(b"two"))
        assert file.tell() == 6
        file.flush()
        assert master.published == {}
    assert master.published == {"/a": b"onetwo"}
    assert file.published is not None


def test_closing_twice_publishes_once(master: Master, create: Callable[..., WritableFile]) -> None:
    file = create()
    file.close()
    master.published.clear()
    file.close()
    assert master.published == {}


@pytest.mark.scenario("W13")
def test_an_exception_in_the_with_publishes_nothing(master: Master, create: Callable[..., WritableFile]) -> None:
    file = create()
    with pytest.raises(KeyError):
        fail_in(file)
    file.close()
    assert file.closed
    assert master.published == {}


@pytest.mark.scenario("W13")
def test_the_garbage_collector_publishes_nothing(master: Master, create: Callable[..., WritableFile]) -> None:
    create().write(b"half")
    text = TextWriter(create())  # type: ignore[type-var]  # any binary file
    text.write("half")
    del text
    gc.collect()
    assert master.published == {}


@pytest.mark.scenario("W13")
def test_a_text_file_publishes_by_a_clean_close_only(master: Master, create: Callable[..., WritableFile]) -> None:
    with TextWriter(create("/whole"), encoding="utf-8") as file:  # type: ignore[type-var]  # any binary file
        file.write("ä\n")
    with pytest.raises(KeyError):
        fail_in(TextWriter(create("/half")), "half")  # type: ignore[type-var]  # as above
    assert master.published == {"/whole": "ä\n".encode()}


@pytest.mark.scenario("W13")
def test_a_compressed_file_publishes_by_a_clean_close_only(master: Master, create: Callable[..., WritableFile]) -> None:
    import gzip

    def compressed(path: str) -> CompressedWriter:
        file = create(path)
        return CompressedWriter(gzip.GzipFile(fileobj=file, mode="wb"), file)

    with compressed("/whole") as file:
        file.write(b"whole")
    with pytest.raises(KeyError):
        fail_in(compressed("/half"))
    assert {path: gzip.decompress(body) for path, body in master.published.items()} == {"/whole": b"whole"}


class Files(MemoryFileSystem):  # type: ignore[misc]  # fsspec has no types
    """A file system of fsspec's that opens our files."""

    cachable = False

    def __init__(self, create: Callable[..., WritableFile]) -> None:
        super().__init__()
        self.create = create

    def open(self, path: str, mode: str = "rb", **_: Any) -> WritableFile:
        assert mode == "wb"
        return self.create(path)


@pytest.mark.scenario("W13")
@pytest.mark.parametrize("mode", ["wb", "w"])
def test_an_exception_in_the_with_of_fsspec_open_publishes_nothing(
    master: Master, create: Callable[..., WritableFile], mode: str
) -> None:
    body: Any = b"body" if "b" in mode else "body"
    with OpenFile(Files(create), "/whole", mode) as file:
        file.write(body)
    with pytest.raises(KeyError):
        fail_in(OpenFile(Files(create), "/half", mode), body)
    assert master.published == {"/whole": b"body"}


def test_a_file_that_is_closed_while_an_error_is_handled_is_published(
    master: Master, create: Callable[..., WritableFile]
) -> None:
    file = create()
    try:
        {}["missing"]
    except KeyError:
        file.write(b"instead")
        file.close()
    assert master.published == {"/a": b"instead"}


def test_a_file_that_a_thread_of_c_code_closes_is_published(
    master: Master, create: Callable[..., WritableFile]
) -> None:
    file = create()
    file.write(b"x")
    _thread.start_new_thread(file.close, ())  # no Python frame calls it, as in pyarrow's writer
    deadline = time.monotonic() + 30
    while not master.published:
        assert time.monotonic() < deadline
    assert master.published == {"/a": b"x"}


def test_the_error_of_the_master_is_raised_by_close_once(master: Master, create: Callable[..., WritableFile]) -> None:
    master.refusal = FileExists("there is one", "/a")
    file = create(overwrite=False)
    with pytest.raises(FileExists):
        file.close()
    file.close()
    assert file.closed


@pytest.mark.scenario("W13")
def test_a_writer_that_ignores_a_failed_write_publishes_nothing(
    master: Master, create: Callable[..., WritableFile]
) -> None:
    file = create()
    file.write(b"head")
    with pytest.raises(NoSpace):
        file.write(bytes(SMALL_FILE_BYTES))
    file.write(b"tail")
    with pytest.raises(NoSpace):
        file.close()
    assert master.published == {}


def test_a_transaction_publishes_at_its_end(master: Master, create: Callable[..., WritableFile]) -> None:
    kept, dropped = create("/kept", autocommit=False), create("/dropped", autocommit=False)
    for file in (kept, dropped):
        file.write(b"x")
        file.close()
    assert master.published == {}
    kept.commit()
    dropped.discard()
    assert master.published == {"/kept": b"x"}


def test_a_closed_file_takes_no_bytes(create: Callable[..., WritableFile]) -> None:
    file = create()
    file.close()
    with pytest.raises(ValueError, match="closed"):
        file.write(b"x")


@pytest.mark.scenario("C2")
def test_a_writer_is_not_pickled_and_cannot_seek(create: Callable[..., WritableFile]) -> None:
    file = create()
    with pytest.raises(TypeError, match="open for writing"):
        pickle.dumps(file)
    with pytest.raises(io.UnsupportedOperation):
        file.seek(0)
    file.discard()
