"""The write path of the core: when a file may be acknowledged, and what is left when it may not."""

from __future__ import annotations

import pytest
from core_world import MIB, World, write_files

from rayfs.core.control import PENDING
from rayfs.core.effects import CallWorker
from rayfs.core.model import PersistenceState
from rayfs.core.operations import AbandonFile, CompleteFile, GetStatus, Published
from rayfs.core.orders import Answered, FoundObject, Refused, Unanswered
from rayfs.errors import DataUnavailable, FileExists, LeaseLost, NoSpace, ReplicationShortfall, UnderStoreError


def status(world: World, path: str) -> object:
    return world.core.query(GetStatus(path), world.now)


@pytest.mark.scenario("W7")
def test_a_small_file_is_held_by_as_many_distinct_nodes_as_asked_for() -> None:
    world = World()
    answer = world.write("/a", b"hello", durable=3)
    assert isinstance(answer, Published)
    assert len(world.holders(answer.file_id)) == 3


def test_nothing_is_answered_before_the_workers_have_answered() -> None:
    world = World()
    request = world.request(write_files(("/a", b"x"), durable=2))
    assert world.core.execute(request, world.now) is PENDING
    world.commit()
    puts = [effect for effect in world.pending if isinstance(effect, CallWorker)]
    assert len(puts) == 2
    world.pending.clear()
    world.carry_out(puts[0])
    assert world.replies == {}
    world.carry_out(puts[1])
    world.run()
    assert world.replies


@pytest.mark.scenario("W2")
def test_a_file_without_bytes_is_published_and_persisted() -> None:
    world = World()
    assert isinstance(world.write("/empty", b"", durable=3), Published)
    world.pass_time(1)
    assert world.objects["empty"][1] == b""


def test_a_holder_that_died_before_the_seal_is_replaced_by_a_copy() -> None:
    world = World()
    opened = world.open_blocks("/a", [b"x" * MIB, b"y" * MIB], durable=3)
    assert isinstance(opened, tuple)
    file_id, written = opened
    world.kill(written[0].workers[1].node_id)
    assert isinstance(world.do(CompleteFile(file_id, written)), Published)
    assert len(world.holders(file_id, 0)) == 3


def test_a_block_that_no_worker_confirms_is_not_published() -> None:
    world = World()
    opened = world.open_blocks("/a", [b"x" * MIB], durable=2)
    assert isinstance(opened, tuple)
    file_id, written = opened
    for worker in written[0].workers:
        world.kill(worker.node_id)
    assert isinstance(world.do(CompleteFile(file_id, written)), DataUnavailable)
    assert world.core.state.namespace.find("/a") is None
    assert not world.core.state.open_files


@pytest.mark.scenario("W8")
def test_more_replicas_than_nodes_are_refused_under_the_policy_fail() -> None:
    world = World(nodes=2)
    assert isinstance(world.write("/a", b"x", durable=3, shortfall="FAIL"), ReplicationShortfall)
    assert not world.core.state.open_files
    assert not any(worker.held for worker in world.workers.values())


@pytest.mark.scenario("W8")
def test_more_replicas_than_nodes_are_written_through_by_default() -> None:
    world = World(nodes=2)
    answer = world.write("/a", b"x", durable=3)
    assert isinstance(answer, Published)
    assert answer.persistence_state is PersistenceState.PERSISTED
    assert world.objects["a"][1] == b"x"


@pytest.mark.scenario("W6")
def test_without_any_worker_the_error_says_what_to_do() -> None:
    world = World(nodes=0)
    answer = world.write("/a", b"x")
    assert isinstance(answer, DataUnavailable)
    assert "rayfs status" in str(answer)


@pytest.mark.scenario("W14")
def test_of_two_writers_that_may_not_overwrite_one_wins_and_the_other_is_told() -> None:
    world = World()
    first = world.open_blocks("/a", [b"1" * MIB], overwrite=False)
    second = world.open_blocks("/a", [b"2" * MIB], overwrite=False)
    assert isinstance(first, tuple)
    assert isinstance(second, tuple)
    assert isinstance(world.do(CompleteFile(*second)), Published)
    assert isinstance(world.do(CompleteFile(*first)), FileExists)
    assert not world.core.state.open_files


@pytest.mark.scenario("W14")
def test_an_overwriting_writer_replaces_the_whole_file_with_a_later_generation() -> None:
    world = World()
    first = world.write("/a", b"one")
    second = world.write("/a", b"two")
    assert isinstance(first, Published)
    assert isinstance(second, Published)
    assert second.generation > first.generation
    world.pass_time(2)
    assert world.objects["a"][1] == b"two"


@pytest.mark.scenario("W13")
def test_an_abandoned_file_leaves_no_copy_and_no_record() -> None:
    world = World()
    opened = world.open_blocks("/a", [b"x" * MIB], durable=2)
    assert isinstance(opened, tuple)
    world.report_all()
    world.do(AbandonFile(opened[0]))
    assert not any(worker.held for worker in world.workers.values())
    assert isinstance(world.do(CompleteFile(*opened)), LeaseLost)


@pytest.mark.scenario("W5")
@pytest.mark.parametrize("write_type", ["THROUGH", "CACHE_THROUGH"])
def test_a_definite_refusal_of_the_store_ends_a_through_write_and_publishes_nothing(write_type: str) -> None:
    world = World()
    world.write("/a", b"old")
    world.pass_time(1)
    world.store_fault = lambda _: Refused("403 AccessDenied")
    answer = world.write("/a", b"new", write_type=write_type)
    assert isinstance(answer, UnderStoreError)
    world.store_fault = lambda _: None
    world.pass_time(120)
    assert world.objects["a"][1] == b"old"
    assert world.core.state.rows == {}


@pytest.mark.scenario("W5")
def test_a_through_write_whose_answer_was_lost_is_settled_and_published() -> None:
    world = World()
    world.write("/a", b"old")
    world.pass_time(1)
    lost: list[object] = []

    def lose_one(order: object) -> Unanswered | None:
        if lost or not hasattr(order, "blocks"):
            return None
        lost.append(order)
        world._store(order)
        return Unanswered("connection reset")

    world.store_fault = lose_one
    request_answer = world.write("/a", b"new", write_type="THROUGH")
    assert request_answer is PENDING
    world.pass_time(3)
    assert isinstance(next(iter(world.replies.values())), tuple)
    assert world.objects["a"][1] == b"new"
    answer = status(world, "/a")
    assert answer.length == 3
    assert answer.persistence_state is PersistenceState.PERSISTED


@pytest.mark.scenario("W3")
def test_a_file_is_not_uploaded_before_its_initial_wait_and_never_with_minus_one() -> None:
    world = World()
    world.write("/now", b"1", wait=0.0)
    world.write("/later", b"2", wait=2.0)
    world.write("/never", b"3", wait=None)
    world.pass_time(1)
    assert set(world.objects) == {"now"}
    world.pass_time(2)
    assert set(world.objects) == {"now", "later"}
    world.pass_time(600, step=10)
    assert "never" not in world.objects


@pytest.mark.scenario("P12")
def test_an_answer_with_another_checksum_is_not_persisted_and_is_tried_again() -> None:
    world = World()
    world.store_fault = lambda order: Answered(FoundObject("e", 1, 12345, None)) if hasattr(order, "blocks") else None
    world.write("/a", b"x", durable=2)
    world.pass_time(1)
    answer = status(world, "/a")
    assert answer.persistence_state is PersistenceState.TO_BE_PERSISTED
    assert "checksum" in answer.persist.last_error
    world.store_fault = lambda _: None
    world.pass_time(120)
    assert status(world, "/a").persistence_state is PersistenceState.PERSISTED


def test_a_slow_holder_gets_help_from_a_node_that_was_not_asked_and_its_own_answer_still_counts() -> None:
    world = World(nodes=4)
    request = world.request(write_files(("/a", b"x"), durable=3))
    assert world.core.execute(request, world.now) is PENDING
    world.commit()
    slow, *others = [effect for effect in world.pending if isinstance(effect, CallWorker)]
    world.pending = list(others)
    world.run()
    assert world.replies == {}
    world.pass_time(3)
    assert world.replies
    world.carry_out(slow)
    world.pass_time(1)
    assert len(world.holders(world.core.state.namespace.get("/a").id)) >= 1


def test_when_every_holder_is_slow_they_are_asked_again_and_nothing_fails() -> None:
    world = World(nodes=3)
    silent = {"count": 6}
    real = world._work

    def slow(call: CallWorker) -> object:
        if call.verb == "put_sealed" and silent["count"]:
            silent["count"] -= 1
            return None
        return real(call)

    world._work = slow  # type: ignore[assignment,method-assign]  # a fault for this test
    assert world.write("/a", b"x", durable=3, wait=None) is PENDING
    world.pass_time(5)
    (answers,) = world.replies.values()
    assert isinstance(answers, tuple)
    assert len(world.holders(answers[0].file_id)) == 3


def test_a_writer_waits_for_room_as_long_as_its_patience_lasts_and_gets_the_workers_reason() -> None:
    world = World(nodes=2)
    full = NoSpace("the share of this node is full")
    real = world._work
    world._work = lambda call: tuple(full for _ in call.orders)  # type: ignore[assignment,method-assign]  # a fault
    assert world.write("/waits", b"x", durable=2) is PENDING
    world.pass_time(2)
    assert world.replies == {}
    world._work = real  # type: ignore[method-assign]  # the fault ends
    world.pass_time(2)
    assert isinstance(next(iter(world.replies.values())), tuple)
    world._work = lambda call: tuple(full for _ in call.orders)  # type: ignore[assignment,method-assign]  # a fault
    world.replies.clear()
    world.write("/fails", b"x", durable=2, patience=5.0)
    world.pass_time(10)
    (answers,) = world.replies.values()
    assert isinstance(answers, tuple)
    assert isinstance(answers[0], NoSpace)
    assert not world.core.state.open_files


@pytest.mark.scenario("W5")
def test_a_through_writer_is_told_in_time_also_while_the_store_keeps_its_request() -> None:
    world = World()
    world.store_fault = lambda _: Unanswered("no answer")
    world.write("/a", b"x", write_type="THROUGH", patience=5.0)
    world.pass_time(6)
    (answers,) = world.replies.values()
    assert isinstance(answers, tuple)
    assert isinstance(answers[0], UnderStoreError)
    world.store_fault = lambda _: None
    world.pass_time(120)
    assert world.objects == {}
    assert world.core.state.rows == {}
    assert not world.core.state.open_files


@pytest.mark.scenario("M1")
def test_a_write_right_after_a_restart_waits_for_the_workers() -> None:
    world = World()
    world.restart()
    answer = world.write("/a", b"x", durable=3)
    assert isinstance(answer, Published)
    assert len(world.holders(answer.file_id)) == 3


@pytest.mark.scenario("W9")
def test_a_holder_that_confirmed_and_then_died_does_not_count_at_publication() -> None:
    world = World(nodes=4)
    request = world.request(write_files(("/a", b"x"), durable=3))
    assert world.core.execute(request, world.now) is PENDING
    world.commit()
    first, *others = [effect for effect in world.pending if isinstance(effect, CallWorker)]
    world.pending = []
    world.carry_out(first)
    world.kill(first.worker.node_id)
    world.pending += others
    world.run()
    (published,) = world.replies.values()
    assert isinstance(published, tuple)
    assert len(world.holders(published[0].file_id)) == 3
