"""A master that hangs is killed once; one that is dead, starting or busy is left to Ray."""

from __future__ import annotations

import pytest

from rayfs.actors.guard import HUNG_S, MasterGuard


class Watch:
    def __init__(self) -> None:
        self.now = 0.0
        self.killed: list[object] = []
        self.guard = MasterGuard(self.killed.append, lambda: self.now)

    def silent_for(self, seconds: float) -> None:
        self.now += seconds
        self.guard.silent("master")


@pytest.mark.scenario("M3")
def test_a_master_that_stops_answering_is_killed_once() -> None:
    watch = Watch()
    watch.guard.answered()
    watch.silent_for(HUNG_S / 2)
    assert watch.killed == []
    watch.silent_for(HUNG_S / 2)
    watch.silent_for(HUNG_S)
    assert watch.killed == ["master"]


def test_a_master_that_has_not_answered_yet_is_given_all_the_time_it_needs() -> None:
    watch = Watch()
    watch.silent_for(1000)
    assert watch.killed == []


def test_silence_before_ray_restarted_the_master_does_not_count() -> None:
    watch = Watch()
    watch.guard.answered()
    watch.guard.gone()
    watch.silent_for(1000)
    watch.guard.answered()
    watch.silent_for(HUNG_S - 1)
    assert watch.killed == []


def test_a_guard_that_cannot_kill_goes_on() -> None:
    def kill(master: object) -> None:
        raise RuntimeError("no such actor")

    guard = MasterGuard(kill, iter(range(0, 1000, 50)).__next__)
    guard.answered()
    guard.silent("master")
    guard.answered()
