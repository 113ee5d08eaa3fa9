"""What a crash of the master leaves: everything acknowledged, nothing half done, each request executed once."""

from __future__ import annotations

import pytest
from core_world import MIB, World, write_files

from rayfs.core.control import PENDING
from rayfs.core.effects import CallPersister
from rayfs.core.model import FileStatus, PersistenceState
from rayfs.core.operations import (
    CompleteFile,
    CreateFile,
    GetHistory,
    GetStatus,
    MakeDirectory,
    OpenedFile,
    Published,
    Remove,
    Rename,
    Request,
)
from rayfs.core.orders import PutObject, Unanswered
from rayfs.errors import FileNotFound, RequestRefused


def state_of(world: World, path: str) -> PersistenceState:
    status = world.core.query(GetStatus(path), world.now)
    assert isinstance(status, FileStatus), status
    return status.persistence_state


def crash(world: World) -> None:
    world.restart()
    world.report_all()
    world.run()


@pytest.mark.scenario("M1")
def test_an_open_file_survives_a_crash_and_its_writer_completes_it() -> None:
    world = World()
    opened = world.open_blocks("/a", [b"x" * MIB], durable=2)
    assert isinstance(opened, tuple)
    crash(world)
    assert isinstance(world.do(CompleteFile(*opened)), Published)
    assert len(world.holders(opened[0])) == 2


@pytest.mark.scenario("M1")
def test_a_crash_between_the_seal_and_its_answers_publishes_once_when_the_writer_repeats() -> None:
    world = World()
    opened = world.open_blocks("/a", [b"x" * MIB], durable=2)
    assert isinstance(opened, tuple)
    request = world.request(CompleteFile(*opened))
    assert world.core.execute(request, world.now) is PENDING
    world.commit()
    crash(world)
    assert world.core.state.namespace.find("/a") is None
    first = world.send(request)
    assert isinstance(first, Published)
    assert world.send(request) == first


@pytest.mark.scenario("M1")
@pytest.mark.scenario("M2")
def test_a_delete_is_there_after_a_crash_and_its_repeat_deletes_nothing_newer() -> None:
    world = World()
    world.write("/a", b"old")
    request = world.request(Remove("/a"))
    assert world.send(request) is None
    crash(world)
    assert isinstance(world.core.query(GetStatus("/a"), world.now), FileNotFound)
    world.write("/a", b"new")
    assert world.send(request) is None
    assert state_of(world, "/a") is not None


@pytest.mark.scenario("M2")
def test_a_request_that_was_confirmed_is_refused_and_not_executed() -> None:
    world = World()
    world.write("/a", b"old")
    remove = world.request(Remove("/a"))
    world.send(remove)
    later = world.request(MakeDirectory("/d"))
    world.send(Request(later.session, later.sequence, remove.sequence, later.operation))
    world.write("/a", b"new")
    crash(world)
    assert isinstance(world.send(remove), RequestRefused)
    assert state_of(world, "/a") is not None


@pytest.mark.scenario("M2")
@pytest.mark.parametrize("crashed", [False, True])
def test_a_repeated_create_rename_and_small_write_give_the_same_answer(crashed: bool) -> None:
    world = World()
    create = world.request(CreateFile("/c", write_files(("/", b"")).properties, True, "node0"))
    opened = world.send(create)
    small = world.request(write_files(("/s", b"1"), ("/t", b"2"), durable=2))
    answers = world.send(small)
    rename = world.request(Rename("/s", "/u"))
    assert world.send(rename) is None
    if crashed:
        crash(world)
    again = world.send(create)
    assert isinstance(again, OpenedFile)
    assert again == opened
    assert world.send(small) == answers
    assert world.send(rename) is None
    assert isinstance(world.core.query(GetStatus("/s"), world.now), FileNotFound)
    assert state_of(world, "/u") is not None


def test_a_request_of_an_unknown_session_is_refused() -> None:
    world = World()
    assert isinstance(world.do(MakeDirectory("/d"), session="nobody"), RequestRefused)
    assert world.core.state.namespace.find("/d") is None


@pytest.mark.scenario("M4")
@pytest.mark.scenario("P3")
def test_after_a_crash_the_dirty_are_persisted_and_the_persisted_are_not_sent_again() -> None:
    world = World()
    for number in range(50):
        world.write(f"/done{number}", b"x")
    world.pass_time(5)
    world.store_fault = lambda _: Unanswered("held shut")
    for number in range(50):
        world.write(f"/dirty{number}", b"y", durable=2)
    world.store_fault = lambda _: None
    world.requests.clear()
    crash(world)
    world.pass_time(120)
    assert len(world.objects) == 100
    done = [order for order in world.requests if isinstance(order, PutObject) and order.key.startswith("done")]
    assert not done


@pytest.mark.scenario("P3")
def test_an_upload_that_landed_while_the_master_was_away_is_not_sent_again() -> None:
    world = World()
    world.core.execute(world.request(write_files(("/a", b"x"))), world.now)
    world.commit()
    while not any(isinstance(effect, CallPersister) for effect in world.pending):
        world.carry_out(world.pending.pop(0))
    call = next(effect for effect in world.pending if isinstance(effect, CallPersister))
    world._store(call.order)
    world.requests.clear()
    crash(world)
    world.pass_time(5)
    assert state_of(world, "/a") is PersistenceState.PERSISTED
    assert not [order for order in world.requests if isinstance(order, PutObject)]


@pytest.mark.scenario("M5")
def test_a_file_whose_only_holder_is_dead_is_lost_after_the_grace_period_and_not_before() -> None:
    world = World(nodes=3)
    world.store_fault = lambda _: Unanswered("held shut")
    answer = world.write("/a", b"x", durable=1)
    assert isinstance(answer, Published)
    (holder,) = world.holders(answer.file_id)
    world.workers[holder].alive = False
    crash(world)
    assert state_of(world, "/a") is PersistenceState.TO_BE_PERSISTED
    world.pass_time(world.limits.recovery_grace_s + 1)
    assert state_of(world, "/a") is PersistenceState.LOST


def test_the_history_of_a_file_survives_a_crash() -> None:
    world = World()
    world.write("/a", b"x", durable=2)
    world.pass_time(2)
    crash(world)
    history = world.core.query(GetHistory("/a"), world.now)
    assert isinstance(history, tuple)
    assert [entry.event for entry in history] == ["seal", "publish-dirty", "upload-started", "stored"]
