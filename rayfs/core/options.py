"""Write options of one file out of ``rayfs.user.*`` values, in the order call over client over path over defaults."""

from __future__ import annotations

from collections.abc import Mapping

from rayfs.core.model import Shortfall, WriteOptions, WriteType
from rayfs.core.operations import ClientProperties, PropertyValue
from rayfs.core.paths import parents
from rayfs.errors import InvalidProperty

WRITE_TYPE = "rayfs.user.file.writetype.default"
DURABLE = "rayfs.user.file.replication.durable"
MINIMUM = "rayfs.user.file.replication.min"
MAXIMUM = "rayfs.user.file.replication.max"
SHORTFALL = "rayfs.user.file.replication.shortfall"
WRITE_WAIT = "rayfs.user.file.write.wait.max"
PERSIST_WAIT = "rayfs.user.file.persistence.initial.wait.time"
BLOCK_SIZE = "rayfs.user.block.size.bytes.default"
LOAD_TYPE = "rayfs.user.file.metadata.load.type"

NO_LIMIT_S = 1e9
"""Seconds that stand for "no limit": some 31 years, and unlike infinity a number in JSON."""

PathProperties = Mapping[str, Mapping[str, PropertyValue]]


def merged(properties: ClientProperties, by_path: PathProperties, path: str) -> dict[str, PropertyValue]:
    """All values that hold for ``path``: defaults, then those of its ancestors from the root down, then overrides."""
    values = dict(properties.defaults)
    for ancestor in parents(path) if by_path else ():
        values.update(by_path.get(ancestor, {}))
    values.update(properties.overrides)
    return values


def write_options(values: Mapping[str, PropertyValue]) -> WriteOptions:
    """Options out of typed values; a missing key takes the default of ``WriteOptions``."""
    base = WriteOptions()
    wait = values.get(PERSIST_WAIT, base.persist_wait_s)
    write_wait = values.get(WRITE_WAIT, base.write_wait_s)
    options = WriteOptions(
        write_type=WriteType(str(values.get(WRITE_TYPE, base.write_type))),
        durable=_whole(values, DURABLE, base.durable, 1),
        replication_min=_whole(values, MINIMUM, base.replication_min, 0),
        replication_max=_whole(values, MAXIMUM, base.replication_max, -1),
        shortfall=Shortfall(str(values.get(SHORTFALL, base.shortfall))),
        write_wait_s=NO_LIMIT_S if write_wait is None else float(write_wait),
        persist_wait_s=None if wait is None or float(wait) < 0 else float(wait),
        block_size=_whole(values, BLOCK_SIZE, base.block_size, 1),
    )
    if 0 <= options.replication_max < options.replication_min:
        raise InvalidProperty(
            f"{MAXIMUM}={options.replication_max} is below {MINIMUM}={options.replication_min}; "
            "raise one or lower the other"
        )
    return options


def _whole(values: Mapping[str, PropertyValue], key: str, default: int, least: int) -> int:
    value = values.get(key, default)
    if value is None or int(value) < least:
        raise InvalidProperty(f"{key} is {value}; it takes a whole number from {least} up")
    return int(value)
