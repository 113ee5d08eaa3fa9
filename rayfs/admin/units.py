"""Sizes, times, rates and node names as a person reads and types them. Pure; shared by CLI and console.

Sizes are powers of 1024 with Alluxio's letters (KB, MB, GB, TB), as in configuration values.
"""

from __future__ import annotations

from collections.abc import Iterable

from rayfs.errors import InvalidArgument

SHORT_ID_DIGITS = 6
"""Hex digits of a Ray node id in its short name (``n`` and these)."""

_SIZE_UNITS = ("B", "KB", "MB", "GB", "TB", "PB")


def size(count: float) -> str:
    """``3.1 GB``: at most four characters of number, no decimals for bytes or from 100 on."""
    value, unit = float(count), 0
    while abs(value) >= 999.5 and unit < len(_SIZE_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    decimals = 0 if unit == 0 or abs(value) >= 99.95 else 1
    return f"{value:.{decimals}f} {_SIZE_UNITS[unit]}"


def rate(bytes_per_s: float) -> str:
    """``180 MB/s``."""
    return f"{size(bytes_per_s)}/s"


def duration(seconds: float | None) -> str:
    """``850 ms``, ``14 s``, ``2 min 05 s``, ``3 h 20 min``, ``2 d 4 h``; a dash for what is not known."""
    if seconds is None:
        return "-"
    seconds = max(0.0, seconds)
    if 0 < seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def compact(seconds: float | None) -> str:
    """``14s``, ``2m05s``, ``3h20m``, ``2d04h``: at most six characters, for columns of tables."""
    if seconds is None:
        return "-"
    whole = round(max(0.0, seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def count(number: int, noun: str, plural: str | None = None) -> str:
    """``1 file``, ``12,400 files``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def short_node(node_id: str) -> str:
    """``n3fa91c`` for a full Ray node id."""
    return f"n{node_id[:SHORT_ID_DIGITS]}"


def resolve_node(text: str, node_ids: Iterable[str], hosts: Iterable[str] = ()) -> str:
    """The one full node id that ``text`` names: a unique prefix of an id (with or without ``n``), or a host.

    ``hosts`` runs parallel to ``node_ids``. Raises ``InvalidArgument`` when none or several match.
    """
    ids = list(node_ids)
    by_host = [node_id for node_id, host in zip(ids, hosts, strict=False) if host == text]
    prefix = text.removeprefix("n")
    found = by_host or [node_id for node_id in ids if prefix and node_id.startswith(prefix.lower())]
    if len(found) == 1:
        return found[0]
    known = ", ".join(short_node(node_id) for node_id in ids[:8]) or "none"
    if not found:
        raise InvalidArgument(f"No node is called {text!r}; the nodes are {known}.")
    several = ", ".join(short_node(node_id) for node_id in found[:8])
    raise InvalidArgument(f"{text!r} names {len(found)} nodes ({several}); give more digits.")
