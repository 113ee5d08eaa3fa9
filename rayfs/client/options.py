"""A client's properties: what ``connect`` and ``fs.open`` are given, as ``rayfs.user.*`` values that travel with each
request.

Later wins: files and environment, then a path's own (known to the master), then ``connect``, then the call. Call
keywords (``replication_durable=3``) are short names of the same keys.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rayfs.config import Settings, parse_properties, property_of
from rayfs.core.operations import ClientProperties, MetadataLoad, PropertyValue
from rayfs.core.options import (
    BLOCK_SIZE,
    DURABLE,
    LOAD_TYPE,
    MAXIMUM,
    MINIMUM,
    PERSIST_WAIT,
    SHORTFALL,
    WRITE_TYPE,
    WRITE_WAIT,
)
from rayfs.errors import InvalidProperty

KEYWORDS: Mapping[str, str] = {
    "write_type": WRITE_TYPE,
    "replication_durable": DURABLE,
    "replication_min": MINIMUM,
    "replication_max": MAXIMUM,
    "shortfall": SHORTFALL,
    "write_wait": WRITE_WAIT,
    "persistence_wait": PERSIST_WAIT,
    "block_size": BLOCK_SIZE,
}
"""Keywords of ``connect`` and ``fs.open``, and the property that each one sets."""

RPC_PATIENCE = "rayfs.user.rpc.retry.max.duration"
NEVER = "-1"

Config = Mapping[str, object] | str | os.PathLike[str]


def by_key(given: Mapping[str, object]) -> dict[str, PropertyValue]:
    """Keywords and dotted keys as validated properties.

    ``persistence_wait=None`` is never. ``InvalidProperty`` for an unknown one, and for one that belongs to the cluster.
    """
    found: dict[str, object] = {}
    for name, value in given.items():
        key = KEYWORDS.get(name, name)
        if "." not in key:
            raise InvalidProperty(f"there is no option {name!r}; there are {', '.join(KEYWORDS)}, and property keys")
        if property_of(key).scope != "client":
            raise InvalidProperty(f"{key} belongs to the cluster and is read when it starts: give it to `rayfs start`")
        if key in found:
            raise InvalidProperty(f"{key} is given twice, as a keyword and as a property; keep one")
        found[key] = NEVER if value is None and key == PERSIST_WAIT else value
    return parse_properties(found)


@dataclass(frozen=True)
class ClientOptions:
    """The properties of one client. ``of_call`` adds those of one call."""

    defaults: Mapping[str, PropertyValue]
    overrides: Mapping[str, PropertyValue]

    @classmethod
    def load(cls, config: Config | None, given: Mapping[str, object]) -> ClientOptions:
        """``config`` is a directory with a ``rayfs.yaml``, or a mapping of properties that ``given`` wins over."""
        own = by_key(given)
        if isinstance(config, Mapping):
            own = by_key(config) | own
            settings = Settings.load(own)
        else:
            settings = Settings.load(own, conf_dir=None if config is None else Path(config))
        return cls(settings.user_defaults(), settings.user_overrides())

    def of_call(self, given: Mapping[str, object]) -> ClientProperties:
        """What one request carries."""
        return ClientProperties(self.defaults, {**self.overrides, **by_key(given)})

    @property
    def metadata_load(self) -> MetadataLoad:
        """When this client has the under store asked what it holds."""
        value = self.overrides.get(LOAD_TYPE, self.defaults.get(LOAD_TYPE))
        return MetadataLoad.ONCE if value is None else MetadataLoad(str(value))

    def seconds(self, key: str, default: float) -> float:
        """A duration of this client; ``default`` where it is not set."""
        value = self.overrides.get(key, self.defaults.get(key))
        return default if value is None else float(value)
