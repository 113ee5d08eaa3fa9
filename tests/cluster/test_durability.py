"""Durability: the loss of any N-1 nodes loses nothing that was acknowledged, and repair brings the copies back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from steps import MIB, WRITES, holders, noise, wait_copies, wait_persisted, write

if TYPE_CHECKING:
    from clusters import Store

    from rayfs.testing import FaultProxy, LocalCluster


@pytest.mark.scenario("D1")
@pytest.mark.parametrize("loss", ["node", "worker"])
def test_a_lost_holder_of_dirty_data_is_replaced_within_seconds(
    cluster: LocalCluster, proxy: FaultProxy, store: Store, directory: str, loss: str
) -> None:
    path, body = f"{directory}/f", noise(3 * MIB)
    held = proxy.hold(operation=WRITES, key=f"*{path}")
    write(cluster.fs, path, body, replication_durable=3, block_size=MIB)
    victim = max(holders(cluster, path))
    if loss == "node":
        cluster.kill_node(victim)
    else:
        cluster.kill_worker(victim)

    wait_copies(cluster, path, 3)

    assert cluster.fs.cat_file(path) == body
    held.off()
    wait_persisted(cluster, path, 120)
    assert store.read(path) == body


@pytest.mark.scenario("D3")
def test_n_minus_one_holders_killed_right_after_close_lose_nothing(
    cluster: LocalCluster, proxy: FaultProxy, store: Store, directory: str
) -> None:
    path, body = f"{directory}/f", noise(4 * MIB + 9)
    outage = proxy.outage()
    write(cluster.fs, path, body, replication_durable=3, block_size=MIB)
    victims = sorted(holders(cluster, path) - {0})[-2:]
    for victim in victims:
        cluster.kill_node(victim)

    read_right_after = cluster.fs.cat_file(path)
    wait_copies(cluster, path, 2)
    added = cluster.add_node()
    wait_copies(cluster, path, 3)
    outage.off()
    wait_persisted(cluster, path, 120)

    assert len(victims) == 2
    assert read_right_after == body
    assert added not in victims
    assert store.read(path) == body
