"""Calls to workers and persisters from the master's event loop, each with a bound on its time.

Turns Ray's outcomes into the core's words: an answer, no answer in time, or a process that died. Invariant: nothing
here blocks the loop; looking up an actor by name asks Ray's control service, so that happens in a thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import ray
from ray.exceptions import ActorDiedError, RayError

from rayfs.core.effects import CallPersister, CallWorker
from rayfs.core.model import NAMESPACE, PersisterAddress
from rayfs.core.operations import Receipt
from rayfs.core.orders import CopyBlock, PutSealed, SealBlock, StoreAnswer, StoreEntry, Unanswered
from rayfs.errors import RayFSError, UnderStoreUnavailable

logger = logging.getLogger(__name__)

SEAL_S = 4.0
ORDER_S = 10.0
COPY_BYTES_PER_S = 8 << 20
"""Slowest copy that is waited for; Ray moves 200 to 300 MB/s between a pair of nodes (notes of 2.52), less when
busy.
"""

STORE_S = 900.0
"""Longest request to the under store: S3 itself closes one after about 15 minutes."""

LISTING_S = 60.0
HANDLES_KEPT = 4096

Receipts = tuple[Receipt | RayFSError | None, ...] | None


class Calls:
    """Handles by actor name, and the calls of one master epoch."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch
        self._handles: dict[str, Any] = {}

    async def handle(self, actor_name: str) -> Any:
        """The handle of an actor; ``ValueError`` where Ray knows none of that name."""
        handle = self._handles.get(actor_name)
        if handle is None:
            if len(self._handles) >= HANDLES_KEPT:
                self._handles.clear()
            handle = await asyncio.to_thread(ray.get_actor, actor_name, namespace=NAMESPACE)
            self._handles[actor_name] = handle
        return handle

    async def worker(self, call: CallWorker) -> tuple[Receipts, str | None]:
        """The worker's receipts (None: no answer), and why its process is dead, if it is."""
        try:
            handle = await self.handle(call.worker.actor_name)
            async with asyncio.timeout(_patience(call)):  # no task of its own, as wait_for makes one: the hot path
                answer = await getattr(handle, call.verb).remote(self._epoch, call.orders)
        except (ActorDiedError, ValueError) as problem:
            self._handles.pop(call.worker.actor_name, None)
            return None, f"its process died ({type(problem).__name__})"
        except (RayError, TimeoutError) as problem:
            logger.warning("worker %s did not answer %s: %s", call.worker.actor_name, call.verb, type(problem).__name__)
            return None, None
        if isinstance(answer, RayFSError):
            logger.warning("worker %s refused %s: %s", call.worker.actor_name, call.verb, answer)
            return None, None
        return ((None,) * len(call.orders) if answer is None else answer), None

    async def persister(self, call: CallPersister) -> tuple[StoreAnswer, str | None]:
        """The store's answer as the persister gives it, and why the persister is dead, if it is."""
        name = call.persister.actor_name
        try:
            handle = await self.handle(name)
            async with asyncio.timeout(STORE_S):
                return await handle.perform.remote(self._epoch, call.order), None
        except (ActorDiedError, ValueError) as problem:
            self._handles.pop(name, None)
            died = f"the persister died ({type(problem).__name__})"
            return Unanswered(f"the persister on n{call.persister.node_id[:6]} died during the request"), died
        except (RayError, TimeoutError) as problem:
            return Unanswered(
                f"the persister on n{call.persister.node_id[:6]} did not answer ({type(problem).__name__})"
            ), None

    async def listing(
        self, persisters: Sequence[PersisterAddress], prefix: str, recursive: bool
    ) -> tuple[StoreEntry, ...] | RayFSError:
        """A listing of the under store, by the first persister that answers."""
        answer: tuple[StoreEntry, ...] | RayFSError = UnderStoreUnavailable(
            "no persister is up to list the under store"
        )
        for persister in persisters:
            try:
                handle = await self.handle(persister.actor_name)
                answer = await asyncio.wait_for(handle.list.remote(prefix, recursive), LISTING_S)
            except (RayError, ValueError, TimeoutError) as problem:
                self._handles.pop(persister.actor_name, None)
                answer = UnderStoreUnavailable(
                    f"the under store could not be listed ({type(problem).__name__}); try again"
                )
                continue
            return answer
        return answer


def _patience(call: CallWorker) -> float:
    size = 0
    for order in call.orders:
        if isinstance(order, CopyBlock):
            size += order.seal.length
        elif isinstance(order, PutSealed):
            size += order.sums.length
    base = SEAL_S if call.orders and isinstance(call.orders[0], SealBlock) else ORDER_S
    return base + size / COPY_BYTES_PER_S
