"""What can be wrong between RayFS and S3: operations, faults, rules that say when, and the record of each exchange.

Pure values and matching, no sockets: ``faultproxy.py`` carries them out.
"""

from __future__ import annotations

import fnmatch
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self
from urllib.parse import parse_qsl, unquote, urlsplit

from rayfs.errors import WaitTimedOut


class Operation(StrEnum):
    """S3 operations as the proxy counts them."""

    PUT_OBJECT = "PUT_OBJECT"
    COPY = "COPY"
    BEGIN_UPLOAD = "BEGIN_UPLOAD"
    UPLOAD_PART = "UPLOAD_PART"
    UPLOAD_PART_COPY = "UPLOAD_PART_COPY"
    COMPLETE = "COMPLETE"
    ABORT = "ABORT"
    DELETE = "DELETE"
    DELETE_MANY = "DELETE_MANY"
    GET = "GET"
    HEAD = "HEAD"
    LIST = "LIST"
    LIST_UPLOADS = "LIST_UPLOADS"
    LIST_PARTS = "LIST_PARTS"
    BUCKET = "BUCKET"


WRITES = frozenset({Operation.PUT_OBJECT, Operation.COPY, Operation.COMPLETE, Operation.DELETE, Operation.DELETE_MANY})
"""Operations that change what a key holds."""


class Fault(StrEnum):
    """What happens to a request that a rule matches."""

    LATENCY = "LATENCY"
    HOLD = "HOLD"
    RESET = "RESET"
    ANSWER = "ANSWER"
    LOSE_ANSWER = "LOSE_ANSWER"
    CUT_ANSWER = "CUT_ANSWER"
    ERROR_INSIDE = "ERROR_INSIDE"
    DELIVER_LATE = "DELIVER_LATE"
    CORRUPT = "CORRUPT"
    OUTAGE = "OUTAGE"


@dataclass(slots=True, eq=False)
class Exchange:
    """One request and what became of it.

    ``store_status`` is what the store answered (None: it was not asked, or has not answered yet), ``client_status``
    what the client was told (None: it was cut off). ``done`` once nothing more will happen.
    """

    method: str
    path: str
    operation: Operation
    key: str
    fault: Fault | None = None
    store_status: int | None = None
    client_status: int | None = None
    done: bool = False

    @property
    def committed(self) -> bool:
        """Whether the store took it. A Complete or copy with an error inside its 200 is not told apart here."""
        return self.store_status is not None and 200 <= self.store_status < 300


def classify(method: str, target: str, headers: Collection[str]) -> tuple[Operation, str]:
    """Operation and key of a path-style S3 request."""
    url = urlsplit(target)
    query = {name for name, _ in parse_qsl(url.query, keep_blank_values=True)}
    _, _, key = unquote(url.path).lstrip("/").partition("/")
    copies = "x-amz-copy-source" in headers
    if not key:
        if method == "POST" and "delete" in query:
            return Operation.DELETE_MANY, ""
        if method == "GET" and url.path.strip("/"):
            return (Operation.LIST_UPLOADS if "uploads" in query else Operation.LIST), ""
        return Operation.BUCKET, ""
    upload = "uploadId" in query
    operation = {
        "PUT": (
            (Operation.UPLOAD_PART_COPY if copies else Operation.UPLOAD_PART)
            if upload
            else (Operation.COPY if copies else Operation.PUT_OBJECT)
        ),
        "POST": Operation.COMPLETE if upload else Operation.BEGIN_UPLOAD,
        "DELETE": Operation.ABORT if upload else Operation.DELETE,
        "GET": Operation.LIST_PARTS if upload else Operation.GET,
        "HEAD": Operation.HEAD,
    }.get(method, Operation.BUCKET)
    return operation, key


@dataclass(eq=False)
class Rule:
    """A fault, when it strikes, and how often it has. Made by ``FaultProxy``'s methods; ``off()`` or ``with`` ends it.

    ``operation``: one, several, or None for all. ``key``: a glob over the whole key, or None. ``times``: None for as
    long as it is on. ``after``: matching requests that pass before the first strike.
    """

    fault: Fault
    operation: Collection[Operation] | None = None
    key: str | None = None
    times: int | None = None
    after: int = 0
    seconds: float = 0.0
    status: int = 0
    code: str = ""
    forward: bool = True
    on: bool = True
    hits: int = 0
    changed: threading.Condition = field(default_factory=threading.Condition, repr=False)
    ended: Callable[[Rule], None] = field(default=lambda _: None, repr=False)

    def matches(self, exchange: Exchange) -> bool:
        """Whether operation and key fit."""
        return (self.operation is None or exchange.operation in self.operation) and (
            self.key is None or fnmatch.fnmatchcase(exchange.key, self.key)
        )

    def strikes(self, exchange: Exchange) -> bool:
        """Whether the rule takes this request, counted if so. Called with ``changed`` held."""
        if not self.on or (self.times is not None and self.hits >= self.times) or not self.matches(exchange):
            return False
        if self.after > 0:
            self.after -= 1
            return False
        self.hits += 1
        self.changed.notify_all()
        return True

    def wait_for_hits(self, hits: int = 1, timeout: float = 30.0) -> None:
        """Return once the rule has struck so often; ``WaitTimedOut`` after ``timeout`` seconds."""
        with self.changed:
            if not self.changed.wait_for(lambda: self.hits >= hits, timeout):
                raise WaitTimedOut(f"{self.fault} struck {self.hits} of {hits} times within {timeout:g} s.")

    def off(self) -> None:
        """Strike no more; requests that a HOLD keeps go on."""
        with self.changed:
            self.on = False
            self.changed.notify_all()
        self.ended(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.off()


def as_operations(operation: str | Collection[str] | None) -> Collection[Operation] | None:
    """One name, several, or None; an unknown name is a ``ValueError``."""
    if operation is None:
        return None
    return {Operation(operation)} if isinstance(operation, str) else {Operation(one) for one in operation}
