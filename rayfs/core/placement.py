"""Where replicas go: the writer's own node first, then distinct nodes by free space.

A choice among near-equal nodes is random (power of two choices, Mitzenmacher 1996), so that many writers at once do not
all pick the node that was emptiest a second ago.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Room:
    """A node that may take replicas, and the bytes free in its share as far as the master knows."""

    node_id: str
    free: int


def choose(
    rooms: Sequence[Room],
    count: int,
    *,
    size: int | None,
    rng: random.Random,
    first: str | None = None,
    avoid: Collection[str] = (),
) -> list[str]:
    """Up to ``count`` distinct nodes with room for ``size`` bytes, ``first`` at the front if it has room.

    ``size`` None: whatever their room. The figures are a second old, and the workers have the last word.
    """
    allowed = [room for room in rooms if room.node_id not in avoid]
    fitting = [room for room in allowed if size is None or room.free >= size]
    chosen = [room.node_id for room in fitting if room.node_id == first][:count]
    pool = [room for room in fitting if room.node_id != first]
    while pool and len(chosen) < count:
        pair = rng.sample(pool, min(2, len(pool)))
        best = max(pair, key=lambda room: room.free)
        pool.remove(best)
        chosen.append(best.node_id)
    return chosen
