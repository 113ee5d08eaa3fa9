"""Reading: which holder is asked, what is verified, and where a reader turns when a holder fails it."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayfs.client.reading import RECOVERY_REPLANS, REPLANS, FileReader, ReadableFile
from rayfs.core.checksum import CHUNK, block_crc, sum_block
from rayfs.core.model import Block, BlockId, BlockSum, Stored, WorkerAddress
from rayfs.core.operations import ReadBlock, ReadPlan
from rayfs.errors import ChecksumMismatch, DataUnavailable, FileNotFound

BLOCK = 2 * CHUNK + 3
BODY = bytes(range(256)) * (3 * BLOCK // 256 + 1)
BODY = BODY[: 2 * BLOCK + 1000]
STORED = Stored("out/a", "etag")


def worker(name: str) -> WorkerAddress:
    return WorkerAddress(f"node-{name}", f"worker-{name}", name)


A, B = worker("a"), worker("b")


@dataclass(frozen=True)
class Delivered:
    sums: BlockSum
    view: memoryview


class Source:
    """Holders with bytes of their own, by (worker, block)."""

    def __init__(self) -> None:
        self.bodies: dict[tuple[str, int], bytes] = {}
        self.sums: dict[tuple[str, int], BlockSum] = {}
        self.fetched: list[tuple[str, int]] = []
        self.rotten: list[tuple[str, int]] = []
        self.store: bytes | None = None
        self.read: list[tuple[int, int]] = []
        self.local: str | None = None

    def hold(self, holder: WorkerAddress, body: bytes = BODY) -> None:
        for index in range(-(-len(body) // BLOCK)):
            piece = body[index * BLOCK : (index + 1) * BLOCK]
            self.bodies[holder.actor_name, index] = piece
            self.sums[holder.actor_name, index] = sum_block(piece)

    def corrupt(self, holder: WorkerAddress, index: int, at: int) -> None:
        body = bytearray(self.bodies[holder.actor_name, index])
        body[at] ^= 1
        self.bodies[holder.actor_name, index] = bytes(body)

    def order(self, holders: Sequence[WorkerAddress]) -> list[WorkerAddress]:
        return sorted(holders, key=lambda holder: holder.actor_name != self.local)

    def is_local(self, holder: WorkerAddress) -> bool:
        return holder.actor_name == self.local

    def fetch(self, holder: WorkerAddress, block: BlockId) -> Delivered:
        at = (holder.actor_name, block.index)
        self.fetched.append(at)
        if at not in self.bodies:
            raise DataUnavailable("gone")
        return Delivered(self.sums[at], memoryview(self.bodies[at]))

    def report_rotten(self, holder: WorkerAddress, block: BlockId) -> None:
        self.rotten.append((holder.actor_name, block.index))

    def read_stored(self, stored: Stored, offset: int, length: int) -> memoryview:
        assert stored == STORED
        if self.store is None:
            raise DataUnavailable("the store is down")
        self.read.append((offset, length))
        return memoryview(self.store[offset : offset + length])


def plan(*holders: WorkerAddress, body: bytes = BODY, stored: Stored | None = None, file_id: int = 7) -> ReadPlan:
    blocks = []
    for index in range(-(-len(body) // BLOCK)):
        piece = body[index * BLOCK : (index + 1) * BLOCK]
        block = Block(len(piece), block_crc(sum_block(piece)))
        blocks.append(ReadBlock(BlockId(file_id, index), block, holders))
    return ReadPlan("/out/a", file_id, 3, len(body), BLOCK, tuple(blocks), stored, missing_nodes=("0123456789",))


def reader(
    source: Source, first: ReadPlan, replans: Sequence[ReadPlan | Exception] = (), pauses: list[float] | None = None
) -> FileReader:
    later = iter(replans)

    def replan() -> ReadPlan:
        found = next(later)
        if isinstance(found, Exception):
            raise found
        return found

    return FileReader(first, source, replan, (pauses if pauses is not None else []).append)


@given(st.integers(-5, len(BODY) + 5), st.integers(-5, len(BODY) + 5))
def test_any_range_is_the_bytes_that_were_written(first: int, second: int) -> None:
    start, length = max(0, min(first, second)), abs(first - second)
    source = Source()
    source.hold(A)
    assert reader(source, plan(A)).read(start, length) == BODY[start : start + length]


def test_each_block_is_fetched_once_while_a_file_is_read_in_order() -> None:
    source = Source()
    source.local = A.actor_name
    source.hold(A)
    reading = reader(source, plan(A))
    pieces = [reading.read(at, 100_000) for at in range(0, len(BODY), 100_000)]
    assert b"".join(pieces) == BODY
    assert source.fetched == [(A.actor_name, 0), (A.actor_name, 1), (A.actor_name, 2)]


def test_the_next_block_of_another_node_is_fetched_ahead_once() -> None:
    source = Source()
    source.hold(A)
    reading = reader(source, plan(A))
    assert b"".join(reading.read(at, CHUNK) for at in range(0, len(BODY), CHUNK)) == BODY
    assert sorted(source.fetched) == [(A.actor_name, 0), (A.actor_name, 1), (A.actor_name, 2)]
    reading.close()


@pytest.mark.scenario("C1")
def test_a_dead_holder_means_the_next_one() -> None:
    source = Source()
    source.hold(B)
    assert reader(source, plan(A, B)).read(0, len(BODY)) == BODY


@pytest.mark.scenario("C1")
def test_a_holder_that_dies_in_the_middle_means_the_next_one() -> None:
    source = Source()
    source.local = A.actor_name
    source.hold(A)
    source.hold(B)
    reading = reader(source, plan(A, B))
    head = reading.read(0, 10)
    source.bodies = {at: body for at, body in source.bodies.items() if at[0] != A.actor_name}
    assert head + reading.read(10, len(BODY)) == BODY


@pytest.mark.scenario("D8")
@pytest.mark.parametrize("at", [0, CHUNK, 2 * CHUNK + 2])
def test_a_rotten_copy_is_reported_and_not_served(at: int) -> None:
    source = Source()
    source.hold(A)
    source.hold(B)
    source.corrupt(A, 1, at)
    assert reader(source, plan(A, B)).read(0, len(BODY)) == BODY
    assert source.rotten == [(A.actor_name, 1)]


@pytest.mark.scenario("D8")
def test_rot_after_the_first_read_of_a_block_is_found_in_the_chunks_that_are_read_later() -> None:
    source = Source()
    source.hold(B)
    body = bytearray(BODY[:BLOCK])
    source.bodies[A.actor_name, 0] = body  # type: ignore[assignment]  # bytes that change in place, as memory may
    source.sums[A.actor_name, 0] = sum_block(BODY[:BLOCK])
    reading = reader(source, plan(A, B))
    assert reading.read(0, 10) == BODY[:10]
    body[CHUNK + 5] ^= 1
    assert reading.read(CHUNK, 10) == BODY[CHUNK : CHUNK + 10]
    assert source.rotten == [(A.actor_name, 0)]


@pytest.mark.scenario("D8")
def test_a_holder_whose_checksums_do_not_make_the_blocks_is_not_believed() -> None:
    source = Source()
    source.hold(A, bytes(len(BODY)))
    source.hold(B)
    assert reader(source, plan(A, B)).read(0, 100) == BODY[:100]
    assert source.rotten == [(A.actor_name, 0)]


def test_a_copy_that_moved_is_found_by_asking_the_master_again() -> None:
    source, pauses = Source(), list[float]()
    source.hold(B)
    assert reader(source, plan(A), [plan(A), plan(B)], pauses).read(0, len(BODY)) == BODY
    assert len(pauses) == 2


@pytest.mark.scenario("E6")
def test_a_file_whose_copies_left_is_read_from_the_under_store_verified() -> None:
    source = Source()
    source.store = BODY
    assert reader(source, plan(A), [plan(stored=STORED)]).read(0, len(BODY)) == BODY
    source.store = BODY[:-1] + b"x"
    with pytest.raises(ChecksumMismatch):
        reader(source, plan(stored=STORED)).read(len(BODY) - 1, 1)


@pytest.mark.scenario("D12")
def test_without_a_copy_and_without_this_file_in_the_under_store_the_error_names_the_nodes() -> None:
    source, pauses = Source(), list[float]()
    source.store = b"older bytes"
    with pytest.raises(DataUnavailable, match="012345"):
        reader(source, plan(A), [plan(A)] * REPLANS, pauses).read(0, 1)
    assert source.read == []
    assert len(pauses) == REPLANS


@pytest.mark.scenario("M1")
def test_a_reader_waits_for_the_workers_to_report_to_a_new_master() -> None:
    source = Source()
    source.hold(A)
    unknown = replace(plan(), missing_nodes=())
    assert reader(source, unknown, [unknown] * (RECOVERY_REPLANS - 1) + [plan(A)]).read(0, 10) == BODY[:10]


@pytest.mark.parametrize("later", [plan(B, file_id=8), FileNotFound("gone", "/out/a")], ids=["replaced", "removed"])
def test_an_open_reader_never_goes_over_to_another_file(later: ReadPlan | Exception) -> None:
    source = Source()
    source.hold(B)
    with pytest.raises(DataUnavailable):
        reader(source, plan(A), [later]).read(0, 1)


def test_a_file_that_only_the_under_store_holds_is_read_in_large_pieces() -> None:
    source = Source()
    source.store = BODY
    only = replace(plan(stored=STORED), blocks=())
    reading = reader(source, only)
    assert b"".join(reading.read(at, 1000) for at in range(0, len(BODY), 1000)) == BODY
    assert len(source.read) == 1


def test_a_file_that_only_the_under_store_holds_is_not_read_whole_for_a_few_bytes() -> None:
    source = Source()
    source.store = BODY
    reading = reader(source, replace(plan(stored=STORED), blocks=()))
    assert reading.read(3 * CHUNK, 8) == BODY[3 * CHUNK : 3 * CHUNK + 8]
    assert source.read == [(3 * CHUNK, CHUNK)]


# --- the file object -------------------------------------------------------------------------------------------------


@pytest.fixture
def open_file() -> Callable[[bytes], ReadableFile]:
    def opened(body: bytes) -> ReadableFile:
        source = Source()
        source.hold(A, body)
        return ReadableFile(None, "/out/a", reader(source, plan(A, body=body)))

    return opened


@pytest.mark.scenario("W4")
@given(
    moves=st.lists(
        st.one_of(
            st.tuples(st.just("read"), st.integers(-1, 3 * CHUNK)),
            st.tuples(st.just("seek"), st.integers(0, len(BODY) + 10)),
            st.tuples(st.just("back"), st.integers(0, len(BODY))),
        ),
        max_size=6,
    )
)
def test_a_file_reads_and_seeks_as_bytes_in_memory_do(moves: list[tuple[str, int]]) -> None:
    source = Source()
    source.hold(A)
    model = io.BytesIO(BODY)
    with ReadableFile(None, "/out/a", reader(source, plan(A))) as file:
        for move, amount in moves:
            if move == "read":
                assert file.read(amount) == model.read(amount)
            elif move == "seek":
                assert file.seek(amount) == model.seek(amount)
            else:
                assert file.seek(-amount, io.SEEK_END) == model.seek(-amount, io.SEEK_END)
            assert file.tell() == model.tell()


def test_lines_and_single_bytes_come_out_in_order(open_file: Callable[[bytes], ReadableFile]) -> None:
    with open_file(b"one\ntwo\nthree") as file:
        assert [*file] == [b"one\n", b"two\n", b"three"]
    with open_file(b"abc") as file:
        assert [file.read(1) for _ in range(4)] == [b"a", b"b", b"c", b""]


def test_a_read_file_says_what_it_is(open_file: Callable[[bytes], ReadableFile]) -> None:
    with open_file(b"abc") as file:
        assert (file.name, file.mode, file.size, file.readable(), file.writable()) == ("/out/a", "rb", 3, True, False)


def test_an_empty_file_is_empty(open_file: Callable[[bytes], ReadableFile]) -> None:
    with open_file(b"") as file:
        assert file.read() == b""
