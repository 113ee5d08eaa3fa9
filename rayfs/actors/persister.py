"""The persister: one process per node that talks to the under store, for the master and for readers.

May know ``rayfs.core``'s types, ``rayfs.understore`` and Ray. It carries out one order at a time per thread, never
retries, and says plainly whether the store answered: a definite yes, a definite no, or nothing. It remembers its last
answers, so that a master which did not hear one can ask again (``SettleKey``). Credentials come from boto3's own chain
in this process. Invariants: a block is verified before it is sent, so that a rotten replica is never uploaded; an order
of an old master is refused.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from rayfs.actors.names import persister_name
from rayfs.core.checksum import crc64
from rayfs.core.model import NAMESPACE, PersisterAddress, WorkerAddress
from rayfs.core.operations import FetchedBlock, PropertyValue
from rayfs.core.orders import (
    Answered,
    BeginUpload,
    CopyObject,
    DeleteObject,
    FinishUpload,
    PutObject,
    Refused,
    SendPart,
    SettleKey,
    SourceBlock,
    StoreAnswer,
    StoreEntry,
    StoreOrder,
    Unanswered,
)
from rayfs.errors import FileNotFound, RayFSError, UnderStoreError, UnderStoreUnavailable
from rayfs.understore.base import NotSent, PreconditionFailed, Throttled, UnderStore
from rayfs.understore.open import open_under_store

if TYPE_CHECKING:
    from typing_extensions import Buffer

ANSWERS_KEPT = 1024
FETCH_PATIENCE_S = 10.0
FETCH_BYTES_PER_S = 16 << 20
LISTING_MAX = 1_000_000
"""Entries of one listing that are taken in at most; a directory with more is refused with a sentence."""

HANDLES_KEPT = 512


class NoSource(RayFSError):
    """No holder gave the bytes of a block."""


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """What decisions about uploads depend on, and whose word it is."""

    address: PersisterAddress
    pid: int
    multipart: bool
    minimum_part: int
    maximum_parts: int


def persister_options(node_id: str, incarnation: str) -> dict[str, Any]:
    """Ray options of the persister on ``node_id``. Like a worker it is not restarted by Ray: the master makes a new
    one.
    """
    return {
        "name": persister_name(node_id, incarnation),
        "namespace": NAMESPACE,
        "lifetime": "detached",
        "num_cpus": 0,
        "max_restarts": 0,
        "scheduling_strategy": NodeAffinitySchedulingStrategy(node_id, soft=False),
        "enable_task_events": False,
    }


def persister_actor_class(concurrency: int) -> Any:
    """``Persister`` as a Ray actor class with ``concurrency`` threads for the master's orders."""
    groups = {"store": concurrency, "read": 8, "control": 4}
    # Ray takes concurrency groups here only, and its overloads leave them out.
    return ray.remote(concurrency_groups=groups)(Persister)  # type: ignore[call-overload]  # see above


class Persister:
    """One life of the persister of ``node_id``. ``properties`` are the cluster's; none is a credential."""

    def __init__(
        self, node_id: str, incarnation: str, epoch: int, under_store: str, properties: Mapping[str, PropertyValue]
    ) -> None:
        self._address = PersisterAddress(node_id, persister_name(node_id, incarnation), incarnation)
        self._store: UnderStore = open_under_store(under_store, properties)
        self._lock = threading.Lock()
        self._epoch = epoch
        self._answers: OrderedDict[int, _Attempt] = OrderedDict()
        self._handles: dict[str, Any] = {}

    # --- orders ------------------------------------------------------------------------------------------------------

    @ray.method(concurrency_group="control")
    def hello(self, epoch: int) -> StoreFacts:
        """The first word of a persister; a newer master raises its floor."""
        self._admit(epoch)
        store = self._store
        return StoreFacts(self._address, os.getpid(), store.multipart, store.minimum_part, store.maximum_parts)

    def _admit(self, epoch: int) -> bool:
        with self._lock:
            if epoch < self._epoch:
                return False
            self._epoch = epoch
            return True

    @ray.method(concurrency_group="store")
    def perform(self, epoch: int, order: StoreOrder) -> StoreAnswer:
        """Carry out one order and say what the store said."""
        if not self._admit(epoch):
            return Refused(f"an order of master epoch {epoch} came after a newer master's")
        if isinstance(order, SettleKey):
            return self._settle(order)
        if isinstance(order, SendPart):  # parts of one attempt are many, and idempotent: nothing to remember
            return self._answer(order)
        attempt = self._remember(order.attempt)
        try:
            attempt.answer = self._answer(order)
        finally:
            attempt.done.set()
        return attempt.answer

    def _remember(self, number: int) -> _Attempt:
        with self._lock:
            attempt = self._answers[number] = _Attempt()
            while len(self._answers) > ANSWERS_KEPT:
                self._answers.popitem(last=False)
            return attempt

    def _answer(self, order: StoreOrder) -> StoreAnswer:
        try:
            return self._send(order)
        except PreconditionFailed as problem:
            return Refused(problem.message, precondition=True)
        except Throttled as problem:
            return Refused(problem.message, throttled=True)
        except NotSent as problem:
            return Refused(problem.message, not_sent=True)
        except UnderStoreUnavailable as problem:
            return Unanswered(problem.message)
        except (NoSource, FileNotFound) as problem:
            return Refused(problem.message, source_missing=True)
        except UnderStoreError as problem:
            return Refused(problem.message)
        except Exception as problem:  # noqa: BLE001  # unforeseen, so the file is settled and tried again
            return Unanswered(f"{type(problem).__name__}: {problem}")

    def _send(self, order: StoreOrder) -> StoreAnswer:
        store = self._store
        match order:
            case PutObject():
                body = self._bodies(order.blocks)
                return Answered(
                    store.put(
                        order.key,
                        body,
                        length=order.length,
                        crc=order.crc,
                        file_id=order.file_id,
                        condition=order.condition,
                    )
                )
            case BeginUpload():
                return Answered(upload_id=store.begin_upload(order.key, file_id=order.file_id))
            case SendPart():
                body = self._bodies(order.blocks)
                sent = store.send_part(order.key, order.upload_id, order.part, body, length=order.length, crc=order.crc)
                return Answered(etag=sent.etag)
            case FinishUpload():
                return Answered(
                    store.finish_upload(
                        order.key,
                        order.upload_id,
                        order.parts,
                        length=order.length,
                        crc=order.crc,
                        condition=order.condition,
                    )
                )
            case CopyObject():
                source = order.source
                return Answered(
                    store.copy(source.key, source.etag, order.key, file_id=order.file_id, condition=order.condition)
                )
            case DeleteObject():
                store.delete(order.key, order.etag)
                return Answered()
        raise TypeError(f"{type(order).__name__} is no order for the under store")

    def _settle(self, order: SettleKey) -> StoreAnswer:
        """The attempt's own answer where this process has it, else the store's word after nothing can follow any
        more.
        """
        with self._lock:
            attempt = self._answers.get(order.attempt)
        if attempt is not None:
            attempt.done.wait()
        try:
            if order.multipart:
                uploads = [order.upload_id] if order.upload_id else self._store.uploads(order.key)
                for upload_id in uploads:
                    self._store.abort_upload(order.key, upload_id)
            return Answered(self._store.head(order.key))
        except NotSent as problem:
            return Refused(problem.message, not_sent=True)
        except Throttled as problem:
            return Refused(problem.message, throttled=True)
        except UnderStoreUnavailable as problem:
            return Unanswered(problem.message)
        except UnderStoreError as problem:
            return Refused(problem.message)

    # --- bytes -------------------------------------------------------------------------------------------------------

    def _bodies(self, blocks: tuple[SourceBlock, ...]) -> list[Buffer]:
        return [self._body(block) for block in blocks]

    def _body(self, source: SourceBlock) -> Buffer:
        """A block's verified bytes, from this node if it holds them: out of plasma, without a copy."""
        last = "it has no holder"
        for holder in sorted(source.holders, key=lambda worker: worker.node_id != self._address.node_id):
            try:
                body = self._fetch(holder, source)
            except (RayError, ValueError) as problem:
                last = f"node {holder.node_id[:6]}: {type(problem).__name__}"
                continue
            if body is None:
                last = f"node {holder.node_id[:6]} does not hold it any more"
                continue
            if crc64(body) == source.crc:
                return body
            last = f"the copy on node {holder.node_id[:6]} is rotten"
            self._handle(holder).verify.remote(source.block)
        raise NoSource(f"block {source.block} could not be read from any worker ({last})")

    def _fetch(self, holder: WorkerAddress, source: SourceBlock) -> Buffer | None:
        call = self._handle(holder).fetch.remote(source.block)
        fetched: FetchedBlock | None = ray.get(call, timeout=FETCH_PATIENCE_S)
        if fetched is None:
            return None
        if isinstance(fetched.body, bytes):
            return fetched.body
        (body,) = ray.get(fetched.body, timeout=FETCH_PATIENCE_S + source.length / FETCH_BYTES_PER_S)
        return memoryview(body).cast("B")

    def _handle(self, worker: WorkerAddress) -> Any:
        if worker.actor_name not in self._handles:
            if len(self._handles) >= HANDLES_KEPT:
                self._handles.clear()
            self._handles[worker.actor_name] = ray.get_actor(worker.actor_name, namespace=NAMESPACE)
        return self._handles[worker.actor_name]

    # --- reading the store -------------------------------------------------------------------------------------------

    @ray.method(concurrency_group="read")
    def read(self, key: str, offset: int, length: int, etag: str | None) -> Any:
        """A range of an object as a numpy array of bytes (so that it travels without a copy), or an error as a
        value.
        """
        try:
            return np.frombuffer(self._store.read(key, offset=offset, length=length, etag=etag), dtype=np.uint8)
        except RayFSError as problem:
            return problem

    @ray.method(concurrency_group="read")
    def list(self, prefix: str, recursive: bool) -> tuple[StoreEntry, ...] | RayFSError:
        """All of a listing, or an error as a value."""
        entries: list[StoreEntry] = []
        token: str | None = None
        try:
            while True:
                page = self._store.list(prefix, recursive=recursive, token=token)
                entries.extend(page.entries)
                token = page.token
                if token is None:
                    return tuple(entries)
                if len(entries) > LISTING_MAX:
                    return UnderStoreError(f"{prefix} has more than {LISTING_MAX} entries; work on its parts instead")
        except RayFSError as problem:
            return problem


class _Attempt:
    """One order's answer, and the event that it is there."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.answer: StoreAnswer = Unanswered("the request did not end")
