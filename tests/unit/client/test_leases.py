"""Leases are renewed while a writer lives, and files of writers that went away are given up."""

from __future__ import annotations

import queue
import time

import pytest

from rayfs.client.leases import LeaseKeeper
from rayfs.core.operations import AbandonFile, Mutation, RenewLease
from rayfs.errors import ClusterUnreachable, LeaseLost, RayFSError

WAIT_S = 30


class Master:
    def __init__(self, error: RayFSError | None = None) -> None:
        self.asked: queue.Queue[Mutation] = queue.Queue()
        self.error = error

    def execute(self, operation: Mutation) -> None:
        self.asked.put(operation)
        if self.error is not None:
            raise self.error


def test_a_silent_writers_lease_is_renewed_again_and_again_until_it_ends() -> None:
    master = Master()
    keeper = LeaseKeeper(master.execute, renewal_s=0.01)
    lease = keeper.hold(7)
    assert [master.asked.get(timeout=WAIT_S) for _ in range(3)] == [RenewLease(7)] * 3
    keeper.release(lease)
    other = keeper.hold(8)
    while master.asked.get(timeout=WAIT_S) != RenewLease(8):
        pass
    assert [master.asked.get(timeout=WAIT_S) for _ in range(2)] == [RenewLease(8)] * 2
    keeper.release(other)


def test_a_writer_that_the_master_hears_of_needs_no_renewal() -> None:
    master = Master()
    keeper = LeaseKeeper(master.execute, renewal_s=3600)
    lease = keeper.hold(7)
    lease.heard = time.monotonic()
    keeper.abandon_later(keeper.hold(8), lambda: None)
    assert master.asked.get(timeout=WAIT_S) == AbandonFile(8)
    keeper.release(lease)


def test_a_lost_lease_stops_its_writer() -> None:
    keeper = LeaseKeeper(Master(LeaseLost("taken over")).execute, renewal_s=0.01)
    lease = keeper.hold(7)
    deadline = time.monotonic() + WAIT_S
    while lease.lost is None:
        assert time.monotonic() < deadline
    with pytest.raises(LeaseLost):
        lease.check()


@pytest.mark.scenario("W13")
def test_an_abandoned_file_is_told_to_the_master_after_its_sending_stopped() -> None:
    master = Master()
    keeper = LeaseKeeper(master.execute)
    order: list[str] = []
    keeper.abandon_later(keeper.hold(7), lambda: order.append("cancelled"))
    assert master.asked.get(timeout=WAIT_S) == AbandonFile(7)
    assert order == ["cancelled"]


def test_a_master_that_is_away_does_not_end_the_renewals(caplog: pytest.LogCaptureFixture) -> None:
    master = Master(ClusterUnreachable("away"))
    keeper = LeaseKeeper(master.execute, renewal_s=0.01)
    lease = keeper.hold(7)
    assert [master.asked.get(timeout=WAIT_S) for _ in range(2)] == [RenewLease(7)] * 2
    lease.check()
    keeper.release(lease)
