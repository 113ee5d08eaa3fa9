"""A worker's books: replica numbers, its share, the log of changes, and which orders it takes."""

from __future__ import annotations

import pytest

from rayfs.core.checksum import block_crc, sum_block
from rayfs.core.holdings import LOG_LIMIT, Holdings
from rayfs.core.model import BlockId, BlockSum, WorkerAddress
from rayfs.core.orders import DropReplica, ReportAnswer, SealBlock, WorkerReport
from rayfs.errors import NoSpace, RequestRefused

WORKER = WorkerAddress("node", "rayfs-worker-node-1", "1")
CAPACITY = 1600


def sums(length: int = 100, fill: int = 1) -> BlockSum:
    return sum_block(bytes([fill]) * length)


def holdings(capacity: int = CAPACITY) -> Holdings[str]:
    return Holdings(capacity, epoch=5, metastore_id="m")


def seal(block: BlockId, of: BlockSum, sequence: int = 1) -> SealBlock:
    return SealBlock(block, of.length, block_crc(of), of.length, 1, sequence)


def report(held: Holdings[str]) -> WorkerReport:
    return held.report(WORKER, pid=1)


def acknowledge(held: Holdings[str], number: int, **changes: object) -> None:
    answer = {"epoch": 5, "acknowledged": number, "send_full": False, "metastore_id": "m", "sequence": 1} | changes
    held.acknowledge(ReportAnswer(**answer))  # type: ignore[arg-type]  # built from a mapping


def test_a_replica_number_is_never_given_twice() -> None:
    held = holdings()
    first = held.keep(BlockId(1, 0), sums(), "a", None)
    held.drop(DropReplica(BlockId(1, 0), first.number))
    again = held.keep(BlockId(1, 0), sums(), "b", None)
    assert again.number > first.number


@pytest.mark.scenario("D11")
def test_a_late_drop_leaves_the_replica_that_was_made_since() -> None:
    held = holdings()
    old = held.keep(BlockId(1, 0), sums(), "a", None)
    new = held.keep(BlockId(1, 0), sums(), "b", None)
    assert not held.drop(DropReplica(BlockId(1, 0), old.number))
    assert held.get(BlockId(1, 0)) == new


def test_a_block_is_counted_once_however_often_it_is_stored_again() -> None:
    held = holdings()
    for _ in range(3):
        held.keep(BlockId(1, 0), sums(), "a", None)
    assert (held.used, len(held)) == (100, 1)
    held.remove(BlockId(1, 0))
    assert (held.used, len(held)) == (0, 0)


def test_bytes_on_their_way_count_twice() -> None:
    held = holdings(1000)
    held.reserve(500, for_writer=False)
    with pytest.raises(NoSpace):
        held.reserve(1, for_writer=False)
    held.release(500)
    held.reserve(1, for_writer=False)


def test_open_files_have_at_most_their_part_of_the_share_and_closed_ones_the_rest() -> None:
    held = holdings()
    for index in range(12):
        held.reserve(100, for_writer=True)
        held.release(100)
        held.keep(BlockId(1, index), sums(), "a", None)
    with pytest.raises(NoSpace, match="open files"):
        held.reserve(100, for_writer=True)
    assert held.seal(seal(BlockId(1, 0), sums()))
    held.reserve(100, for_writer=True)


def test_writers_leave_a_reserve_that_copies_may_use() -> None:
    held = holdings()
    for index in range(14):
        block = BlockId(1, index)
        held.keep(block, sums(), "a", seal(block, sums()))
    with pytest.raises(NoSpace):
        held.reserve(100, for_writer=True)
    held.reserve(100, for_writer=False)


def test_only_the_bytes_that_were_written_are_sealed() -> None:
    held = holdings()
    held.keep(BlockId(1, 0), sums(fill=1), "a", None)
    assert held.seal(seal(BlockId(1, 0), sums(fill=2))) is None
    assert held.seal(seal(BlockId(1, 1), sums(fill=1))) is None
    assert held.seal(seal(BlockId(1, 0), sums(fill=1))) is not None


def test_sealing_twice_is_one_change() -> None:
    held = holdings()
    acknowledge(held, 0)
    held.keep(BlockId(1, 0), sums(), "a", None)
    held.seal(seal(BlockId(1, 0), sums()))
    held.seal(seal(BlockId(1, 0), sums()))
    assert [change.number for change in report(held).changes] == [1, 2]


@pytest.mark.scenario("M6")
def test_the_first_report_tells_everything() -> None:
    held = holdings()
    replica = held.keep(BlockId(1, 0), sums(), "a", None)
    assert report(held).full == (replica.held(),)
    acknowledge(held, 1)
    assert report(held).full is None


def test_a_change_is_repeated_until_it_is_acknowledged() -> None:
    held = holdings()
    acknowledge(held, 0)
    held.keep(BlockId(1, 0), sums(), "a", None)
    assert report(held).changes == report(held).changes != ()
    acknowledge(held, 1)
    assert report(held).changes == ()
    held.remove(BlockId(1, 0))
    (gone,) = report(held).changes
    assert (gone.number, gone.replica, gone.held) == (2, 1, None)


@pytest.mark.scenario("M6")
def test_a_master_that_knows_nothing_is_told_everything() -> None:
    held = holdings()
    held.keep(BlockId(1, 0), sums(), "a", None)
    acknowledge(held, 1)
    acknowledge(held, 0, send_full=True, epoch=6)
    full = report(held)
    assert full.full is not None
    assert full.first_change == 1


def test_changes_beyond_the_log_become_a_full_report() -> None:
    held = holdings(1 << 40)
    acknowledge(held, 0)
    for index in range(LOG_LIMIT + 1):
        held.keep(BlockId(1, index), BlockSum(0, ()), "a", None)
    found = report(held)
    assert found.full is not None
    assert (len(found.full), found.first_change) == (LOG_LIMIT + 1, LOG_LIMIT + 1)


def test_changes_go_out_in_order_over_several_reports() -> None:
    held = holdings(1 << 40)
    acknowledge(held, 0)
    for index in range(12_000):
        held.keep(BlockId(1, index), BlockSum(0, ()), "a", None)
    seen: list[int] = []
    while changes := report(held).changes:
        seen += [change.number for change in changes]
        acknowledge(held, seen[-1])
    assert seen == list(range(1, 12_001))


@pytest.mark.scenario("M3")
def test_an_order_of_an_older_master_is_refused_once_a_newer_one_was_heard() -> None:
    held = holdings()
    held.admit(5)
    acknowledge(held, 0, epoch=7)
    with pytest.raises(RequestRefused):
        held.admit(6)
    held.admit(7)


def test_an_answer_of_an_older_master_changes_nothing() -> None:
    held = holdings()
    acknowledge(held, 0, epoch=7)
    held.keep(BlockId(1, 0), sums(), "a", None)
    acknowledge(held, 1, epoch=6, sequence=9)
    assert len(report(held).changes) == 1
    assert held.sequence == 1


@pytest.mark.scenario("M13")
@pytest.mark.parametrize("changed", [{"metastore_id": "other"}, {"sequence": 8}], ids=["another", "older"])
def test_nothing_is_dropped_while_the_metastore_is_another_or_an_older_one(changed: dict[str, object]) -> None:
    held = holdings()
    acknowledge(held, 0, sequence=9)
    acknowledge(held, 0, **({"sequence": 10} | changed))
    held.admit(5)
    with pytest.raises(RequestRefused, match="fsck"):
        held.admit(5, drops=True)
    acknowledge(held, 0, sequence=9)
    held.admit(5, drops=True)
