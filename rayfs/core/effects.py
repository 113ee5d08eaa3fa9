"""What the core asks the shell to do after an event: calls to workers and persisters, and answers to clients.

An effect is carried out only after the changes of its event are durable. Nothing here is correlated by tokens: what
comes back names the block, file or key that it is about.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rayfs.core.model import PersisterAddress, WorkerAddress
from rayfs.core.orders import CopyBlock, DropReplica, PutSealed, SealBlock, StoreOrder

WorkerOrder = SealBlock | PutSealed | CopyBlock | DropReplica
WorkerVerb = Literal["seal", "put_sealed", "copy", "drop"]


@dataclass(frozen=True, slots=True)
class CallWorker:
    """One exchange with one worker; ``orders`` are all of the verb's kind."""

    worker: WorkerAddress
    verb: WorkerVerb
    orders: tuple[WorkerOrder, ...]


@dataclass(frozen=True, slots=True)
class CallPersister:
    """One order for one persister."""

    persister: PersisterAddress
    order: StoreOrder


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a request that could not be answered at once."""

    session: str
    sequence: int
    answer: object


Effect = CallWorker | CallPersister | Reply


class WorkersNeeded(Exception):
    """The master has just restarted, and fewer workers than the request needs have registered yet: ask again soon."""


class MetadataNeeded(Exception):
    """The namespace cannot answer before the under store's listing of ``directory`` was taken in
    (``Tree.take_listing``).
    """

    def __init__(self, directory: str, recursive: bool) -> None:
        super().__init__(directory, recursive)
        self.directory = directory
        self.recursive = recursive
