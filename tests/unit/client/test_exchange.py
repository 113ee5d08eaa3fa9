"""Small files that are closed together share an exchange."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from rayfs.client.exchange import FILES, SharedExchange
from rayfs.core.model import PersistenceState
from rayfs.core.operations import ClientProperties, Published, SmallFile, WriteFiles
from rayfs.errors import FileExists


class Master:
    """Answers when it is let; a path with ``taken`` in it is refused."""

    def __init__(self) -> None:
        self.requests: list[WriteFiles] = []
        self.open = threading.Event()
        self.asked = threading.Semaphore(0)

    def execute(self, request: WriteFiles) -> Any:
        self.requests.append(request)
        self.asked.release()
        assert self.open.wait(10)
        return tuple(
            FileExists("it is there", file.path)
            if "taken" in file.path
            else Published(file.path, 1, 1, PersistenceState.TO_BE_PERSISTED)
            for file in request.files
        )


def small(path: str) -> SmallFile:
    return SmallFile(path, b"x", 0)


def test_closes_that_happen_while_others_are_on_their_way_go_together() -> None:
    master = Master()
    exchange = SharedExchange(master.execute, "node")
    with ThreadPoolExecutor(40) as threads:
        first = [threads.submit(exchange.write, small(f"/first{n}"), ClientProperties()) for n in range(2)]
        for _ in first:
            assert master.asked.acquire(timeout=10)
        rest = [threads.submit(exchange.write, small(f"/{n}"), ClientProperties()) for n in range(38)]
        deadline = threading.Event()
        while len(exchange._waiting) < 38:
            assert not deadline.wait(0.01)
        master.open.set()
        published = [future.result(10).path for future in first + rest]
    assert published == ["/first0", "/first1", *map("/{}".format, range(38))]
    assert max(len(request.files) for request in master.requests) >= 19
    assert sum(len(request.files) for request in master.requests) == 40
    assert exchange._sending == 0


def test_one_file_alone_is_sent_at_once() -> None:
    master = Master()
    master.open.set()
    exchange = SharedExchange(master.execute, "node")
    assert exchange.write(small("/a"), ClientProperties()).path == "/a"
    assert [len(request.files) for request in master.requests] == [1]


def test_each_file_gets_its_own_error_and_properties_do_not_mix() -> None:
    master = Master()
    master.open.set()
    exchange = SharedExchange(master.execute, "node")
    with pytest.raises(FileExists):
        exchange.write(small("/taken"), ClientProperties())
    exchange.write(small("/b"), ClientProperties(overrides={"rayfs.user.file.replication.durable": 3}))
    assert master.requests[0].properties != master.requests[1].properties


def test_a_failed_exchange_is_told_to_every_file_in_it() -> None:
    def fail(_: WriteFiles) -> Any:
        raise ConnectionError("away")

    exchange = SharedExchange(fail, "node")
    with pytest.raises(ConnectionError):
        exchange.write(small("/a"), ClientProperties())
    assert FILES == 64
    assert exchange._sending == 0
