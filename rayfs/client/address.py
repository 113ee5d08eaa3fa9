"""Which cluster a client means, and how a RayFS path is spelled. Pure but for the environment and the address file.

A client runs on a node of its cluster: there are no addresses that reach in from elsewhere.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from rayfs.actors.names import address_file
from rayfs.core.paths import normalize
from rayfs.errors import ClusterUnreachable, InvalidPath

_SCHEME = "rayfs://"
_HOST_AND_PORT = re.compile(r"[^/]+:\d+(/.*)?")


def find_address(given: str | None, environment: Mapping[str, str] | None = None) -> str:
    """The Ray cluster's address: ``given``, ``RAYFS_ADDRESS``, ``RAY_ADDRESS``, else what ``rayfs start`` left.

    ``ClusterUnreachable`` where there is none, or one that a client cannot use.
    """
    environment = os.environ if environment is None else environment
    found = given or environment.get("RAYFS_ADDRESS") or environment.get("RAY_ADDRESS") or _left_by_start()
    if not found:
        raise ClusterUnreachable(
            "no RayFS cluster is known here: give --address HOST:PORT, set RAYFS_ADDRESS, or use `rayfs start`"
        )
    return check_address(found)


def check_address(address: str) -> str:
    """``address`` if a client can use it."""
    if address.startswith("ray://"):
        raise ClusterUnreachable(
            f"{address} is a Ray client address, over which no data is sent; run this on a node of the cluster and "
            "give the address of its control service, HOST:PORT"
        )
    return address


def same_cluster(address: str, connected: str) -> bool:
    """Whether ``address`` can mean the control service at ``connected``. Names and loopback addresses are not
    resolved."""
    if address in ("auto", connected):
        return True
    host, _, port = address.rpartition(":")
    host_there, _, port_there = connected.rpartition(":")
    return port == port_there and (host == host_there or not re.fullmatch(r"[\d.]+", host) or host.startswith("127."))


def _left_by_start() -> str | None:
    try:
        return address_file().read_text("utf-8").strip() or None
    except OSError:
        return None


def strip_protocol(path: str) -> str:
    """``x/y``, ``/x/y``, ``rayfs://x/y`` and ``rayfs:///x/y`` are all ``/x/y``; the root is ``/``.

    ``InvalidPath`` for ``rayfs://host:port/x``, and for what ``rayfs.core.paths.normalize`` refuses.
    """
    rest = path
    if path.startswith(_SCHEME):
        rest = path[len(_SCHEME) :]
        if _HOST_AND_PORT.fullmatch(rest):
            host, _, below = rest.partition("/")
            raise InvalidPath(
                f"{path} names a cluster, and a RayFS path does not: write {_SCHEME}/{below} and choose the cluster "
                f"with --address {host}, RAYFS_ADDRESS, or address= in storage_options",
                path,
            )
    return normalize(rest or "/")
