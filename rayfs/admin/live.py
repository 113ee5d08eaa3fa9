"""The live source: reads the snapshot that the master publishes, straight from Ray's control service (GCS).

The only module of admin that imports ray, and only when asked for a picture. It never becomes a Ray driver: connecting
takes milliseconds and leaves no trace in the cluster. Token authentication is Ray's own: ``RAY_AUTH_MODE=token`` with
``RAY_AUTH_TOKEN`` or ``RAY_AUTH_TOKEN_PATH`` in the environment.

Invariant: a picture is called down by how long it has been the newest one on this machine's monotonic clock, so clocks
that differ between machines raise no false alarm.
"""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING, Any

from rayfs.admin.source import STALE_AFTER_S, decode, identity
from rayfs.admin.verdict import as_down
from rayfs.client.address import find_address
from rayfs.core.model import NAMESPACE
from rayfs.core.snapshot import SNAPSHOT_KEY, ClusterSnapshot
from rayfs.errors import ClusterUnreachable

if TYPE_CHECKING:
    from collections.abc import Callable

READ_TIMEOUT_S = 2.0
"""Bound on the connection and on each read; a healthy control service answers in under 10 ms."""

RECHECK_S = 1.5
"""How long a first look waits for a newer picture before it calls an old one stale (1.5 publications)."""


class LiveSource:
    """Snapshots of the cluster at ``address``; None means the one that the client would use."""

    name = "live"

    def __init__(self, address: str | None = None) -> None:
        self._asked = address
        self._client: Any = None  # ray._raylet.GcsClient, which has no type stubs
        self._seen: tuple[int, float] | None = None
        self._seen_at = 0.0
        self._resolved: str | None = None

    @property
    def description(self) -> str:
        """The address once it is known."""
        return self._resolved or self._asked or "the local cluster"

    def snapshot(self) -> ClusterSnapshot:
        """The newest picture, with state ``down`` when the master has been silent for ``STALE_AFTER_S``."""
        snapshot = self._read()
        first_look = self._seen is None
        silent_s = self._silent_s(snapshot)
        if first_look and time.time() - snapshot.taken_at > STALE_AFTER_S:
            return self._look_again(snapshot)
        return as_down(snapshot, silent_s) if silent_s > STALE_AFTER_S else snapshot

    def _silent_s(self, snapshot: ClusterSnapshot) -> float:
        """Seconds for which this has been the newest picture here."""
        if identity(snapshot) != self._seen:
            self._seen, self._seen_at = identity(snapshot), time.monotonic()
        return time.monotonic() - self._seen_at

    def _look_again(self, first: ClusterSnapshot) -> ClusterSnapshot:
        """An old time stamp may be another machine's clock: only a picture that stays proves silence."""
        deadline = time.monotonic() + RECHECK_S
        while time.monotonic() < deadline:
            time.sleep(0.1)  # the key-value store cannot be waited on
            snapshot = self._read()
            if identity(snapshot) != identity(first):
                self._silent_s(snapshot)
                return snapshot
        silent_s = time.time() - first.taken_at
        self._seen_at = time.monotonic() - silent_s
        return as_down(first, silent_s)

    def _read(self) -> ClusterSnapshot:
        raw = self._call(
            lambda client: client.internal_kv_get(SNAPSHOT_KEY, NAMESPACE.encode(), timeout=READ_TIMEOUT_S)
        )
        if raw is None:
            raise ClusterUnreachable(
                f"Ray runs at {self.description}, but no RayFS master has published there yet; "
                f"start one with: rayfs start --address {self.description}"
            )
        return decode(raw)

    def _call(self, request: Callable[[Any], bytes | None]) -> bytes | None:
        """``request`` against the control service. After any failure the next call connects anew."""
        address = _bootstrap(find_address(self._asked))
        if address != self._resolved:
            self._resolved, self._client = address, None
        try:
            if self._client is None:
                _probe(address)
                self._client = _connect(address)
            return request(self._client)
        except ClusterUnreachable:
            self._client = None
            raise
        except Exception as error:  # Ray's own errors share no useful base class
            self._client = None
            raise _unreachable(address, error) from error


def _bootstrap(address: str) -> str:
    """``auto`` is the Ray cluster of this machine, as Ray itself finds it."""
    if address != "auto":
        return address
    from ray._private.services import canonicalize_bootstrap_address

    try:
        found: str | None = canonicalize_bootstrap_address(address)
    except ConnectionError:
        found = None
    if not found:
        raise ClusterUnreachable("No Ray cluster runs on this machine; give --address, or start one with: rayfs start")
    return found


def _probe(address: str) -> None:
    """Fail at once where nothing listens: Ray's own client would try for 40 s."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=READ_TIMEOUT_S).close()
    except (OSError, ValueError) as error:
        raise ClusterUnreachable(
            f"Nothing answers at {address} ({error}); check the address, or start a cluster with: rayfs start"
        ) from error


def _connect(address: str) -> Any:
    from ray._raylet import (  # type: ignore[attr-defined]  # compiled names that its stub leaves out
        AuthenticationTokenLoader,
        GcsClient,
    )

    # With the mode on and no token Ray aborts the process instead of raising.
    if os.environ.get("RAY_AUTH_MODE", "").lower() == "token" and not AuthenticationTokenLoader.instance().has_token(
        ignore_auth_mode=True
    ):
        raise ClusterUnreachable(
            "RAY_AUTH_MODE is token, but there is no token; set RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH to its file."
        )
    return GcsClient(address=address)


def _unreachable(address: str, error: Exception) -> ClusterUnreachable:
    if type(error).__name__ == "AuthenticationError":
        return ClusterUnreachable(
            f"The cluster at {address} wants a token; set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN "
            "(or RAY_AUTH_TOKEN_PATH) to the cluster's."
        )
    first_line = (str(error).splitlines() or [type(error).__name__])[0]
    return ClusterUnreachable(
        f"Ray's control service at {address} does not answer ({first_line}); check that Ray runs."
    )
