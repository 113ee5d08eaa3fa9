"""Bytes on their way to and from worker processes, over Ray's object store. Decides nothing: one exchange per call.

Blocks travel as Ray objects: a writer's is put once and each worker pulls it; a reader borrows the worker's own
object. Those that fit into a call ride in it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import ray
from ray.exceptions import RayError

from rayfs.client.connection import Connection
from rayfs.core.model import BlockId, BlockSum, Stored, WorkerAddress
from rayfs.core.operations import FetchedBlock, Receipt, StoreBlock
from rayfs.errors import DataUnavailable, RayFSError, UnderStoreUnavailable, WaitTimedOut

if TYPE_CHECKING:
    from typing_extensions import Buffer

INLINE_BYTES = 100 << 10
"""Largest body that rides in an actor call (Ray 2.60); larger ones are put into the object store."""

STORE_S = 10.0
FETCH_S = 5.0
SLOWEST_BYTES_PER_S = 32 << 20
"""A worker has ``STORE_S`` to confirm a block, a holder ``FETCH_S`` to answer and again to deliver, plus the time
that the bytes take at this rate. After that it counts as stalled, and another one is taken."""

SUSPECT_S = 30.0
"""How long a holder that failed is asked last."""

STORED_S = 60.0
"""How long a persister may take to read a piece from the under store."""


@dataclass(frozen=True, slots=True)
class Delivered:
    """A block's bytes as a holder has them, not verified. The view keeps the bytes in place."""

    sums: BlockSum
    view: memoryview


class Workers:
    """Exchange with the workers and persisters of one cluster."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._suspects: dict[str, float] = {}

    # --- writing -----------------------------------------------------------------------------------------------------

    def put(self, body: Buffer) -> Any:
        """A parcel with a copy of ``body`` that ``store`` can send to many workers."""
        view = memoryview(body).cast("B")
        if len(view) <= INLINE_BYTES:
            return bytes(view)
        return ray.put(np.frombuffer(view, dtype=np.uint8))

    def store(
        self, targets: Sequence[WorkerAddress], request: StoreBlock, parcel: Any
    ) -> dict[WorkerAddress, Receipt | RayFSError]:
        """Send a block to all targets at once. Each one's answer, or the error that it did not give one in time."""
        answers: dict[WorkerAddress, Receipt | RayFSError] = {}
        calls: dict[Any, WorkerAddress] = {}
        for worker in targets:
            try:
                calls[self._connection.actor(worker.actor_name).store.remote(request, parcel)] = worker
            except (ValueError, RayError):
                answers[worker] = _gone(worker)
        patience = STORE_S + request.sums.length / SLOWEST_BYTES_PER_S
        ready, late = ray.wait(list(calls), num_returns=len(calls), timeout=patience) if calls else ([], [])
        for call in late:
            answers[calls[call]] = WaitTimedOut(
                f"node {calls[call].node_id[:6]} did not confirm block {request.block} within {patience:.0f} s"
            )
        for call in ready:
            try:
                answers[calls[call]] = ray.get(call, timeout=FETCH_S)
            except RayError:
                answers[calls[call]] = _gone(calls[call])
        return answers

    # --- reading -----------------------------------------------------------------------------------------------------

    def order(self, holders: Sequence[WorkerAddress]) -> list[WorkerAddress]:
        """Holders in the order to ask them: this node, then the others, those that failed a moment ago last."""
        now = time.monotonic()
        self._suspects = {name: until for name, until in self._suspects.items() if until > now}
        return sorted(holders, key=lambda holder: (holder.actor_name in self._suspects, not self.is_local(holder)))

    def is_local(self, holder: WorkerAddress) -> bool:
        """Whether the holder's bytes are in this node's object store."""
        return holder.node_id == self._connection.node_id

    def fetch(self, holder: WorkerAddress, block: BlockId) -> Delivered:
        """A block's bytes from one holder; ``DataUnavailable`` where it does not have them or does not answer."""
        try:
            call = self._connection.actor(holder.actor_name).fetch.remote(block)
            found: FetchedBlock | None = ray.get(call, timeout=FETCH_S)
            if found is None:
                raise DataUnavailable(f"node {holder.node_id[:6]} does not hold block {block} any more")
            body: Any = found.body
            if isinstance(body, list):
                body = ray.get(body[0], timeout=FETCH_S + found.sums.length / SLOWEST_BYTES_PER_S)
        except (RayError, ValueError) as error:
            self._suspects[holder.actor_name] = time.monotonic() + SUSPECT_S
            raise DataUnavailable(
                f"node {holder.node_id[:6]} did not give block {block} ({type(error).__name__})"
            ) from None
        return Delivered(found.sums, memoryview(body).cast("B"))

    def report_rotten(self, holder: WorkerAddress, block: BlockId) -> None:
        """Have the holder check its copy; it drops a rotten one, and the master repairs it."""
        try:
            self._connection.actor(holder.actor_name).verify.remote(block)
        except (ValueError, RayError):
            return  # it is gone, and its copy with it

    def read_stored(self, stored: Stored, offset: int, length: int) -> memoryview:
        """A range of an object in the under store, read by a persister, if the key still holds that object."""
        last: RayFSError = UnderStoreUnavailable(f"no persister is alive to read {stored.key} from the under store")
        for persister in self._connection.persisters():
            try:
                call = self._connection.actor(persister.actor_name).read.remote(stored.key, offset, length, stored.etag)
                answer = ray.get(call, timeout=STORED_S)
            except (RayError, ValueError) as error:
                last = UnderStoreUnavailable(
                    f"the persister on node {persister.node_id[:6]} did not read {stored.key} ({type(error).__name__})"
                )
                continue
            if isinstance(answer, RayFSError):
                raise answer
            return memoryview(answer).cast("B")
        raise last


def _gone(worker: WorkerAddress) -> RayFSError:
    return DataUnavailable(f"the worker on node {worker.node_id[:6]} is gone")
