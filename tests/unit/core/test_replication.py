"""Replicas are kept at their level, and what is lost is said and heals."""

from __future__ import annotations

import pytest
from core_world import MIB, World

from rayfs.core.blockmap import Replica
from rayfs.core.effects import CallWorker
from rayfs.core.model import BlockId, FileStatus, PersistenceState
from rayfs.core.operations import GetStatus, Published, SetReplication
from rayfs.core.orders import CopyBlock, DropReplica, Unanswered


def shut(world: World) -> None:
    world.store_fault = lambda _: Unanswered("held shut")


def state_of(world: World, path: str) -> PersistenceState:
    status = world.core.query(GetStatus(path), world.now)
    assert isinstance(status, FileStatus)
    return status.persistence_state


def written(world: World, path: str = "/a", durable: int = 3) -> int:
    answer = world.write_blocks(path, [b"x" * MIB, b"y" * MIB], durable=durable)
    assert isinstance(answer, Published)
    return answer.file_id


@pytest.mark.scenario("D1")
@pytest.mark.scenario("D2")
def test_a_dirty_file_is_brought_back_to_its_level_each_time_a_holder_dies() -> None:
    world = World(nodes=6)
    shut(world)
    file_id = written(world)
    for _ in range(3):
        world.kill(min(world.holders(file_id)))
        world.pass_time(3)
        assert len(world.holders(file_id, 0)) == len(world.holders(file_id, 1)) == 3


@pytest.mark.scenario("D3")
def test_all_but_one_holder_may_die_at_once() -> None:
    world = World(nodes=6)
    shut(world)
    file_id = written(world)
    for node in sorted(world.holders(file_id))[:2]:
        world.kill(node)
    world.pass_time(5)
    assert len(world.holders(file_id)) == 3
    assert state_of(world, "/a") is PersistenceState.TO_BE_PERSISTED


@pytest.mark.scenario("D4")
def test_a_file_without_a_live_copy_is_lost_by_name_and_heals_when_a_holder_comes_back() -> None:
    world = World(nodes=3)
    shut(world)
    file_id = written(world, durable=1)
    (holder,) = world.holders(file_id, 0) | world.holders(file_id, 1)
    for _ in range(30):  # the holder is silent, the others are not
        world.now += 0.5
        for node, worker in world.workers.items():
            if node != holder:
                world.report(worker)
        world.core.tick(world.now)
        world.run()
    assert state_of(world, "/a") is PersistenceState.LOST
    snapshot = world.core.snapshot(world.now)
    assert snapshot.totals.state == "lost"
    assert [row.path for row in snapshot.lost] == ["/a"]
    world.report_all()
    assert state_of(world, "/a") is PersistenceState.TO_BE_PERSISTED


@pytest.mark.scenario("D6")
def test_with_fewer_nodes_than_the_level_repair_waits_and_goes_on_when_one_joins() -> None:
    world = World(nodes=3)
    shut(world)
    file_id = written(world)
    world.kill("node2")
    world.pass_time(5)
    assert len(world.holders(file_id)) == 2
    assert world.core.snapshot(world.now).totals.under_replicated_blocks == 2
    world.add_worker("node9")
    world.pass_time(3)
    assert len(world.holders(file_id)) == 3


@pytest.mark.scenario("E5")
def test_after_the_persist_the_copies_drop_to_one_by_themselves() -> None:
    world = World()
    file_id = written(world)
    world.pass_time(5)
    assert state_of(world, "/a") is PersistenceState.PERSISTED
    assert len(world.holders(file_id, 0)) == 1


def test_a_higher_minimum_makes_copies_and_a_lower_one_drops_them() -> None:
    world = World()
    file_id = written(world, durable=1)
    world.pass_time(3)
    world.do(SetReplication("/a", minimum=3))
    world.pass_time(3)
    assert len(world.holders(file_id)) == 3
    world.do(SetReplication("/a", minimum=0))
    world.pass_time(3)
    assert len(world.holders(file_id)) == 1


@pytest.mark.scenario("D11")
def test_a_late_drop_does_not_hit_a_repaired_copy() -> None:
    world = World()
    shut(world)
    file_id = written(world)
    worker = world.workers[min(world.holders(file_id))]
    block = next(iter(worker.held))
    old = worker.held[block][0]
    worker.put(block, worker.held[block][1])
    world.carry_out(CallWorker(worker.address, "drop", (DropReplica(block, old),)))
    assert block in worker.held


@pytest.mark.scenario("M6")
def test_blocks_that_no_file_has_are_removed_after_a_grace_period() -> None:
    world = World()
    stray = world.workers["node1"]
    stray.put(BlockId(999, 0), b"stray")
    world.pass_time(30)
    assert stray.held
    world.pass_time(60)
    assert not stray.held


def test_a_repair_copies_from_a_node_that_answers_and_not_from_a_silent_one() -> None:
    world = World(nodes=6)
    shut(world)
    file_id = written(world)
    dead, silent, _ = sorted(world.holders(file_id))
    until = world.now + 4
    while world.now < until:  # silent for longer than a heartbeat may be late, but not yet given up
        world.now += 0.5
        for node, worker in world.workers.items():
            if node != silent:
                world.report(worker)
        world.core.tick(world.now)
    world.kill(dead)
    world.core.tick(world.now)
    world.commit()
    copies = [o for e in world.pending if isinstance(e, CallWorker) for o in e.orders if isinstance(o, CopyBlock)]
    assert copies
    assert {order.source.node_id for order in copies}.isdisjoint({dead, silent})


def test_nothing_is_trimmed_while_a_holder_is_silent() -> None:
    world = World(nodes=4)
    shut(world)
    file_id = written(world, durable=1)
    (holder,) = world.holders(file_id, 0)
    body = world.workers[holder].held[BlockId(file_id, 0)][1]
    extra = next(node for node in world.workers if node != holder)
    for _ in range(8):  # the extra copy shows up when its node is already late
        world.now += 0.5
        for node, worker in world.workers.items():
            if node != extra:
                world.report(worker)
        world.core.tick(world.now)
        world.run()
    world.workers[extra].put(BlockId(file_id, 0), body)
    world.core.state.blocks.add(BlockId(file_id, 0), extra, Replica(1, "life"))
    assert world.core.state.nodes[extra].suspect
    world.core.tick(world.now)
    world.run()
    assert holder in world.holders(file_id, 0)
    world.pass_time(3)
    assert len(world.holders(file_id, 0)) == 1
