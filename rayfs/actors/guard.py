"""A master that hangs: Ray restarts one that dies, and does not notice one that is frozen (measured: 40 s and more).

Whoever has had no answer from a living master for ``HUNG_S`` kills it through Ray, and Ray starts it again; all
together at most once in ``ONCE_S``, agreed upon in Ray's key-value store. Only silence counts that follows an answer:
a master that is starting loads its metadata first, however long that takes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from rayfs.core.model import NAMESPACE

logger = logging.getLogger(__name__)

HUNG_S = 20.0
ONCE_S = 60.0
KEY = "master-killed-{minute}"


class MasterGuard:
    """Watches one process's conversation with the master. ``kill`` ends the master so that Ray starts it again."""

    def __init__(self, kill: Callable[[Any], None] | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._kill = kill or kill_once
        self._clock = clock
        self._answered: float | None = None

    def answered(self) -> None:
        """The master is well."""
        self._answered = self._clock()

    def gone(self) -> None:
        """Ray says that the master is dead, starting or out of reach: that is for Ray to mend."""
        self._answered = None

    def silent(self, master: Any) -> None:
        """The master did not answer in time; kill it if that has gone on for too long."""
        if self._answered is not None and self._clock() - self._answered >= HUNG_S:
            logger.error("the master has not answered for %.0f s: it is killed, so that Ray starts it again", HUNG_S)
            self._answered = None
            try:
                self._kill(master)
            except Exception:
                logger.exception("the master could not be killed")


def kill_once(master: Any) -> None:
    """Kill the master's process unless somebody did so within the last ``ONCE_S``."""
    import ray
    from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_put

    now = time.time()
    minute = int(now // ONCE_S)
    if _internal_kv_put(KEY.format(minute=minute), repr(now).encode(), overwrite=False, namespace=NAMESPACE):
        return  # somebody else was first in this minute
    last = _internal_kv_get(KEY.format(minute=minute - 1), namespace=NAMESPACE)
    if not last or now - float(last) >= ONCE_S:
        ray.kill(master, no_restart=False)
