"""Which node holds which block: replicas, and the blocks that have too few or too many of them.

Pure bookkeeping over workers' words. ``needs`` says how many live replicas a block is to have (at least, at most); it
is asked again only for blocks that changed, so the cost of a change does not grow with the number of files. ``weigh``
is a dirty block's size in bytes, 0 for others. Invariant: ``by_node`` mirrors ``replicas``; a replica counts as live
while its node is in ``live``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from rayfs.core.model import BlockId


@dataclass(frozen=True, slots=True)
class Replica:
    """One node's copy: the worker's number for it and the life of the worker that said so."""

    number: int
    incarnation: str


@dataclass(frozen=True, slots=True)
class Need:
    """Live replicas a block is to have: fewer than ``least`` is under-, more than ``most`` over-replicated."""

    least: int
    most: int


class BlockMap:
    """Replicas by block and by node, and what is wrong with them."""

    def __init__(self, needs: Callable[[BlockId], Need | None], weigh: Callable[[BlockId], int]) -> None:
        self.replicas: dict[BlockId, dict[str, Replica]] = {}
        self.by_node: dict[str, set[BlockId]] = {}
        self.live: set[str] = set()
        self.under: dict[BlockId, int] = {}  # live replicas now
        self.over: dict[BlockId, int] = {}
        self.last_on: dict[BlockId, set[str]] = {}  # nodes whose replica went with them: named when data is missing
        self.dirty_on: dict[str, int] = {}  # bytes per node that only the cache has
        self.sole_on: dict[str, int] = {}  # dirty blocks per node of which it has the only live replica
        self._needs = needs
        self._weigh = weigh
        self._weighed: dict[BlockId, tuple[tuple[str, ...], str | None, int]] = {}

    def holders(self, block: BlockId) -> list[str]:
        """Nodes with a live replica, in a stable order."""
        held = self.replicas.get(block)
        return [node for node in held if node in self.live] if held else []

    def live_count(self, block: BlockId) -> int:
        """Live replicas of a block."""
        return len(self.holders(block))

    def add(self, block: BlockId, node: str, replica: Replica) -> None:
        """A worker says that it holds the block."""
        self.replicas.setdefault(block, {})[node] = replica
        self.by_node.setdefault(node, set()).add(block)
        if block in self.last_on:
            self.last_on[block].discard(node)
        self.recheck(block)

    def remove(self, block: BlockId, node: str, number: int | None = None) -> None:
        """The replica is gone; with a number only if it is that one."""
        held = self.replicas.get(block, {})
        replica = held.get(node)
        if replica is None or (number is not None and replica.number != number):
            return
        del held[node]
        if not held:
            del self.replicas[block]
        self.by_node[node].discard(block)
        self.recheck(block)

    def lose_node(self, node: str) -> int:
        """All replicas of a node are gone for good (its worker died); returns how many."""
        blocks = self.by_node.pop(node, set())
        self.live.discard(node)
        for block in blocks:
            held = self.replicas[block]
            del held[node]
            if not held:
                del self.replicas[block]
            if self._needs(block) is not None:
                self.last_on.setdefault(block, set()).add(node)
            self.recheck(block)
        return len(blocks)

    def set_live(self, node: str, live: bool) -> None:
        """A node's replicas begin or cease to count."""
        if live == (node in self.live):
            return
        (self.live.add if live else self.live.discard)(node)
        self.recheck_all(self.by_node.get(node, ()))

    def forget(self, block: BlockId) -> dict[str, Replica]:
        """The block's file is gone: returns the replicas to drop. They stay known until their workers say they went."""
        self.under.pop(block, None)
        self.over.pop(block, None)
        self.last_on.pop(block, None)
        self._count_dirty(block)
        return dict(self.replicas.get(block, {}))

    def recheck_all(self, blocks: Iterable[BlockId]) -> None:
        """``recheck`` each."""
        for block in list(blocks):
            self.recheck(block)

    def recheck(self, block: BlockId) -> None:
        """Compare the block's live replicas with its need, and count its bytes where it is dirty."""
        self._count_dirty(block)
        need = self._needs(block)
        self.under.pop(block, None)
        self.over.pop(block, None)
        if need is None:
            self.last_on.pop(block, None)
            return
        live = self.live_count(block)
        if live < need.least:
            self.under[block] = live
        elif live > need.most:
            self.over[block] = live

    def _count_dirty(self, block: BlockId) -> None:
        nodes, sole, size = self._weighed.pop(block, ((), None, 0))
        for node in nodes:
            self.dirty_on[node] -= size
        if sole is not None:
            self.sole_on[sole] -= 1
        size = self._weigh(block)
        nodes = tuple(self.replicas.get(block, ()))
        if not size or not nodes:
            return
        live = self.holders(block)
        sole = live[0] if len(live) == 1 else None
        self._weighed[block] = (nodes, sole, size)
        for node in nodes:
            self.dirty_on[node] = self.dirty_on.get(node, 0) + size
        if sole is not None:
            self.sole_on[sole] = self.sole_on.get(sole, 0) + 1
