"""Group commit: what events change is committed together, off the event loop, and effects wait for it.

Records are encoded at the end of their event, so that a later change of the same record is not committed early. While
one group is being committed the next one gathers. Invariant: effects and waiters are released in order, each after the
group it belongs to. A commit that fails ends the process: what is in memory is then ahead of the truth.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from rayfs.core.effects import Effect
from rayfs.core.records import Record, Table
from rayfs.metastore.records import encode
from rayfs.metastore.store import Metastore

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Group:
    """Changes that become durable together, and what waits for them."""

    changes: dict[tuple[Table, str], bytes | None] = field(default_factory=dict)
    effects: list[Effect] = field(default_factory=list)
    waiting: list[asyncio.Future[None]] = field(default_factory=list)
    sequence: int = 0

    @property
    def empty(self) -> bool:
        return not self.changes and not self.effects and not self.waiting


class Committer:
    """One writer to the metastore. ``start`` within a running loop, before ``take``."""

    def __init__(self, metastore: Metastore, epoch: int) -> None:
        self._metastore = metastore
        self._epoch = epoch
        self._group = _Group()
        self._busy = False
        self._woken = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="commit")
        self._carry_out: Callable[[list[Effect]], None]
        self._task: asyncio.Task[None] | None = None

    def start(self, carry_out: Callable[[list[Effect]], None]) -> None:
        """Begin to commit; ``carry_out`` gets the effects of each group once it is durable."""
        self._carry_out = carry_out
        self._task = asyncio.create_task(self._run())

    def take(self, changes: Mapping[tuple[Table, str], Record | None], effects: list[Effect], sequence: int) -> None:
        """Add one event's outcome. With nothing to wait for, its effects are carried out at once."""
        group = self._group
        if changes:
            group.sequence = sequence
            for key, record in changes.items():
                group.changes[key] = None if record is None else encode(record)
        elif not self._busy and group.empty:
            if effects:
                self._carry_out(effects)
            return
        group.effects.extend(effects)
        self._woken.set()

    async def durable(self) -> None:
        """Return when everything taken so far is on stable storage."""
        if not self._busy and self._group.empty:
            return
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._group.waiting.append(waiting)
        self._woken.set()
        await waiting

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._woken.wait()
            self._woken.clear()
            if self._group.empty:
                continue
            group, self._group, self._busy = self._group, _Group(), True
            if group.changes:
                try:
                    await loop.run_in_executor(
                        self._thread, self._metastore.commit, self._epoch, group.sequence, group.changes
                    )
                except Exception as problem:  # noqa: BLE001  # whatever it was, memory is ahead of the truth now
                    logger.critical("a commit failed and this master ends: %s", problem)
                    os._exit(1)
            for waiting in group.waiting:
                if not waiting.done():
                    waiting.set_result(None)
            self._carry_out(group.effects)
            self._busy = False
