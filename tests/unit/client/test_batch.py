"""Many small files in few exchanges."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from rayfs.client.batch import BYTES, FILES, Batch
from rayfs.core.model import PersistenceState
from rayfs.core.operations import SMALL_FILE_BYTES, ClientProperties, Published, WriteFiles
from rayfs.errors import FileExists


class Master:
    """In the place of a connection; refuses the paths in ``taken``."""

    node_id = "node"

    def __init__(self) -> None:
        self.taken: set[str] = set()
        self.exchanges: list[WriteFiles] = []
        self.lock = threading.Lock()

    def execute(self, request: WriteFiles) -> tuple[Any, ...]:
        with self.lock:
            self.exchanges.append(request)
        return tuple(
            FileExists("there is one", file.path)
            if file.path in self.taken
            else Published(file.path, 1, 1, PersistenceState.TO_BE_PERSISTED)
            for file in request.files
        )


@pytest.fixture
def master() -> Master:
    return Master()


@pytest.fixture
def batch(master: Master) -> Callable[[], Batch]:
    return lambda: Batch(master, ClientProperties())  # type: ignore[arg-type]  # stands in


@pytest.mark.scenario("W18")
@pytest.mark.parametrize(("files", "size"), [(1000, 10), (100, SMALL_FILE_BYTES), (3, 0)])
def test_every_file_goes_once_and_every_exchange_is_bounded(
    master: Master, batch: Callable[[], Batch], files: int, size: int
) -> None:
    with batch() as open_batch:
        for number in range(files):
            open_batch.add(f"/{number}", bytes(size))
    sent = [file.path for exchange in master.exchanges for file in exchange.files]
    assert sorted(sent) == sorted(f"/{number}" for number in range(files))
    assert max(len(exchange.files) for exchange in master.exchanges) <= FILES
    assert max(sum(len(file.body) for file in exchange.files) for exchange in master.exchanges) <= BYTES
    least = max(-(-files // FILES), -(-files * size // BYTES))
    assert len(master.exchanges) <= least + 1


def test_the_error_of_one_file_is_raised_and_the_others_are_written(master: Master, batch: Callable[[], Batch]) -> None:
    master.taken = {"/1"}

    def write() -> None:
        with batch() as open_batch:
            for number in range(3):
                open_batch.add(f"/{number}", b"", overwrite=False)

    with pytest.raises(FileExists, match="there is one"):
        write()
    assert len(master.exchanges[0].files) == 3


def test_work_of_larger_files_is_done_when_the_batch_ends(batch: Callable[[], Batch]) -> None:
    done: list[int] = []
    with batch() as open_batch:
        for number in range(50):
            open_batch.run(lambda number=number: done.append(number))
    assert sorted(done) == list(range(50))


def test_an_exception_of_the_caller_sends_no_more(master: Master, batch: Callable[[], Batch]) -> None:
    def write() -> None:
        with batch() as open_batch:
            open_batch.add("/a", b"")
            raise KeyError

    with pytest.raises(KeyError):
        write()
    assert master.exchanges == []
