"""What the under store holds is driven to what the namespace says."""

from __future__ import annotations

import pytest
from core_world import MIB, World

from rayfs.core.effects import CallPersister, MetadataNeeded
from rayfs.core.model import FileStatus, PersistenceState
from rayfs.core.operations import (
    AwaitPersisted,
    Free,
    GetStatus,
    ListDirectory,
    Listing,
    Persist,
    PersistProgress,
    Published,
    Remove,
    Rename,
)
from rayfs.core.orders import (
    CopyObject,
    FinishUpload,
    PutObject,
    Refused,
    SendPart,
    SettleKey,
    StoreAnswer,
    Unanswered,
)
from rayfs.core.state import Limits
from rayfs.errors import Busy


def state_of(world: World, path: str) -> PersistenceState:
    status = world.core.query(GetStatus(path), world.now)
    assert isinstance(status, FileStatus)
    return status.persistence_state


def uploads(world: World, key: str) -> list[object]:
    return [order for order in world.requests if isinstance(order, PutObject) and order.key == key]


@pytest.mark.scenario("W1")
def test_a_file_is_dirty_at_close_and_persisted_later() -> None:
    world = World()
    world.store_fault = lambda _: Unanswered("held shut")
    world.write("/a", b"x", durable=2)
    assert state_of(world, "/a") is PersistenceState.TO_BE_PERSISTED
    world.store_fault = lambda _: None
    world.pass_time(120)
    assert state_of(world, "/a") is PersistenceState.PERSISTED
    assert world.objects["a"][1] == b"x"
    assert world.core.state.rows == {}


@pytest.mark.scenario("P1")
def test_an_answer_that_is_delivered_twice_changes_nothing() -> None:
    world = World()
    world.write("/a", b"x", wait=5.0)
    world.now += 6
    world.report_all()
    world.core.tick(world.now)
    world.commit()
    call = next(effect for effect in world.pending if isinstance(effect, CallPersister))
    world.pending.clear()
    answer = world._store(call.order)
    for _ in range(2):
        world.core.store_answered(call.persister.incarnation, call.order, answer, world.now)
        world.run()
    assert state_of(world, "/a") is PersistenceState.PERSISTED
    assert world.do(Persist("/a")) == 0


@pytest.mark.scenario("P2")
def test_a_failing_store_is_tried_for_ever_with_a_bounded_pause_and_a_visible_reason() -> None:
    world = World(limits=Limits(retry_max_s=60.0))
    world.store_fault = lambda _: Refused("500 out of order")
    world.write("/a", b"x")
    world.pass_time(3600, step=5)
    status = world.core.query(GetStatus("/a"), world.now)
    assert isinstance(status, FileStatus)
    assert status.persist.attempts > 50
    assert status.persist.last_error == "500 out of order"
    assert status.persist.next_attempt_s is not None
    assert status.persist.next_attempt_s <= 60
    world.store_fault = lambda _: None
    world.pass_time(61)
    assert state_of(world, "/a") is PersistenceState.PERSISTED


@pytest.mark.scenario("P11")
def test_an_upload_whose_answer_was_lost_is_not_sent_again_when_the_store_has_it() -> None:
    world = World()

    def lose(order: object) -> StoreAnswer | None:
        if isinstance(order, PutObject) and order.key not in world.objects:
            world._store(order)
            return Unanswered("reset")
        return None

    world.store_fault = lose
    world.write("/a", b"x")
    world.pass_time(5)
    assert state_of(world, "/a") is PersistenceState.PERSISTED
    assert len(uploads(world, "a")) == 1


@pytest.mark.scenario("P4")
@pytest.mark.scenario("P19")
def test_a_rename_before_the_upload_costs_the_store_nothing() -> None:
    world = World()
    world.write("/tmp/a", b"x", wait=10.0)
    world.do(Rename("/tmp", "/out"))
    world.pass_time(30)
    assert set(world.objects) == {"out/a"}
    assert not [order for order in world.requests if isinstance(order, CopyObject)]
    assert len(world.requests) == 1


@pytest.mark.scenario("P4")
def test_a_rename_during_the_upload_ends_with_the_object_at_the_new_key_only() -> None:
    world = World()
    request = world.request(__import__("core_world").write_files(("/a", b"x")))
    world.core.execute(request, world.now)
    world.commit()
    while not any(isinstance(effect, CallPersister) for effect in world.pending):
        world.carry_out(world.pending.pop(0))
    held = [effect for effect in world.pending if isinstance(effect, CallPersister)]
    world.pending = [effect for effect in world.pending if effect not in held]
    world.do(Rename("/a", "/b"))
    world.pending.extend(held)
    world.run()
    world.pass_time(5)
    assert set(world.objects) == {"b"}
    assert state_of(world, "/b") is PersistenceState.PERSISTED


@pytest.mark.scenario("P4")
def test_a_rename_after_the_upload_is_a_copy_and_a_delete_in_that_order() -> None:
    world = World()
    world.write("/a", b"x")
    world.pass_time(1)
    world.do(Rename("/a", "/b"))
    world.pass_time(2)
    assert {key: body for key, (_, body, _) in world.objects.items()} == {"b": b"x"}
    kinds = [type(order).__name__ for order in world.requests]
    assert kinds.index("CopyObject") < kinds.index("DeleteObject")


def test_a_file_written_over_a_renamed_one_waits_until_its_bytes_were_copied_away() -> None:
    world = World()
    world.write("/a", b"old")
    world.pass_time(1)
    world.store_fault = lambda order: Refused("later", not_sent=True) if isinstance(order, CopyObject) else None
    world.do(Rename("/a", "/b"))
    world.write("/a", b"new")
    world.pass_time(5)
    assert world.objects["a"][1] == b"old"
    world.store_fault = lambda _: None
    world.pass_time(120)
    assert {key: body for key, (_, body, _) in world.objects.items()} == {"a": b"new", "b": b"old"}


@pytest.mark.scenario("P5")
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_deleted_file_leaves_no_object(when: str) -> None:
    world = World()
    world.write("/a", b"x", wait=1.0)
    if when == "after":
        world.pass_time(3)
        assert "a" in world.objects
    world.do(Remove("/a"))
    world.pass_time(5)
    assert world.objects == {}
    assert world.core.state.rows == {}


@pytest.mark.scenario("P7")
def test_an_overwrite_during_the_upload_ends_with_the_newer_bytes() -> None:
    world = World()
    late: list[CallPersister] = []
    real = world.carry_out

    def hold_first_put(effect: object) -> None:
        if isinstance(effect, CallPersister) and not late:
            late.append(effect)
            return
        real(effect)  # type: ignore[arg-type]  # the effects are the world's own

    world.carry_out = hold_first_put  # type: ignore[assignment,method-assign]  # a fault for this test
    world.write("/a", b"old")
    world.write("/a", b"newer")
    real(late[0])
    world.run()
    world.pass_time(5)
    assert world.objects["a"][1] == b"newer"
    assert state_of(world, "/a") is PersistenceState.PERSISTED


@pytest.mark.scenario("P16")
def test_a_big_file_goes_up_in_parts_of_whole_blocks() -> None:
    world = World(limits=Limits(part_size=2 * MIB, minimum_part=MIB))
    blocks = [bytes([n]) * MIB for n in range(5)]
    world.write_blocks("/big", blocks, durable=2)
    world.pass_time(2)
    assert world.objects["big"][1] == b"".join(blocks)
    assert [len(o.blocks) for o in world.requests if isinstance(o, SendPart)] == [2, 2, 1]


@pytest.mark.scenario("P9")
def test_an_upload_whose_persister_died_is_aborted_and_done_again() -> None:
    world = World(limits=Limits(part_size=MIB, minimum_part=MIB))

    def die_once(order: object) -> StoreAnswer | None:
        if isinstance(order, FinishUpload) and not any(isinstance(done, SettleKey) for done in world.requests):
            return Unanswered("the persister died")
        return None

    world.store_fault = die_once
    world.write_blocks("/big", [b"1" * MIB, b"2" * MIB])
    world.pass_time(5)
    assert state_of(world, "/big") is PersistenceState.PERSISTED
    assert world.uploads == {}


@pytest.mark.scenario("P24")
def test_a_strangers_object_is_not_overwritten_by_a_file_that_was_to_be_new() -> None:
    world = World()
    world.put_object("a", b"theirs", None)
    world.write("/a", b"ours", overwrite=False)
    world.pass_time(20)
    assert world.objects["a"][1] == b"theirs"
    status = world.core.query(GetStatus("/a"), world.now)
    assert isinstance(status, FileStatus)
    assert "did not write" in str(status.persist.last_error)
    del world.objects["a"]
    world.pass_time(120)
    assert world.objects["a"][1] == b"ours"


def test_a_file_that_was_in_the_store_before_is_listed_overwritten_and_removed() -> None:
    world = World(persisting=False)
    world.put_object("old/a", b"theirs", None)
    world.core.begin_persisting(world.now)
    world.run()
    assert isinstance(world.send(world.request(Persist("/old"))), int)
    world.write("/old/a", b"ours")
    world.pass_time(5)
    assert world.objects["old/a"][1] == b"ours"
    world.do(Remove("/old", recursive=True))
    world.pass_time(5)
    assert world.objects == {}


@pytest.mark.scenario("E3")
def test_a_dirty_file_cannot_be_freed_with_force_either_and_a_persisted_one_can() -> None:
    world = World()
    world.store_fault = lambda _: Unanswered("held shut")
    answer = world.write("/a", b"x", durable=2)
    assert isinstance(answer, Published)
    assert isinstance(world.do(Free("/a")), Busy)
    assert isinstance(world.do(Free("/a", force=True)), Busy)
    assert len(world.holders(answer.file_id)) == 2
    world.store_fault = lambda _: None
    world.pass_time(120)
    assert world.do(Free("/a")) == 1
    assert world.holders(answer.file_id) == set()


def test_progress_counts_dirty_files_and_changes_below_a_path() -> None:
    world = World()
    world.write("/in/a", b"x")
    world.pass_time(1)
    world.store_fault = lambda _: Unanswered("held shut")
    world.write("/in/b", b"12345")
    world.do(Remove("/in/a"))
    world.write("/out", b"x")
    progress = world.core.query(AwaitPersisted(("/in",)), world.now)
    assert isinstance(progress, PersistProgress)
    assert (progress.waiting, progress.waiting_bytes, progress.pending_changes) == (1, 5, 1)
    assert not progress.done


@pytest.mark.scenario("P11")
def test_a_throttled_store_lowers_everybodys_rate_and_the_rate_recovers() -> None:
    world = World()
    world.store_fault = lambda _: Refused("503 SlowDown", throttled=True)
    for number in range(20):
        world.write(f"/{number}", b"x")
    assert world.core.keys.queue.window < 2
    world.store_fault = lambda _: None
    world.pass_time(120)
    for number in range(100):
        world.write(f"/more{number}", b"x")
    world.pass_time(60)
    assert world.core.keys.queue.window > 4
    assert len(world.objects) == 120


def test_a_bandwidth_limit_spreads_uploads_over_time() -> None:
    world = World(limits=Limits(persist_bytes_per_s=1000.0))
    for number in range(10):
        world.write(f"/{number}", b"x" * 1000)
    world.pass_time(4)
    assert 3 <= len(world.objects) <= 6
    world.pass_time(20)
    assert len(world.objects) == 10


def test_a_listing_taken_again_drops_what_others_removed_and_takes_in_what_they_changed() -> None:
    world = World(persisting=False)
    for name in ("gone", "changed", "same"):
        world.put_object(f"d/{name}", b"1", None)
    for directory in ("/", "/d"):
        world.core.take_listing(MetadataNeeded(directory, recursive=False), world.listing(directory, False), world.now)
    del world.objects["d/gone"]
    world.put_object("d/changed", b"22", None)
    world.core.take_listing(MetadataNeeded("/d", recursive=False), world.listing("/d", False), world.now)
    listing = world.core.query(ListDirectory("/d"), world.now)
    assert isinstance(listing, Listing)
    assert [(entry.path, entry.length) for entry in listing.entries] == [("/d/changed", 2), ("/d/same", 1)]
