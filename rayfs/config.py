"""The properties of RayFS: which keys there are, what they take, and where a value came from.

Known by all rooms except the core. Keys are Alluxio's with ``alluxio.`` replaced by ``rayfs.`` where Alluxio has one.
``rayfs.user.*`` belongs to the client and travels with each request; all others are read when the cluster starts.

Invariants: no key is a prefix of another, so that a file may nest them; ``conf/rayfs.yaml`` and ``PROPERTIES`` name the
same keys; a value is validated where it enters and typed from then on (sizes in bytes, durations in seconds); values
are literal, and none holds a credential.
"""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

from rayfs.errors import InvalidProperty

PropertyValue = str | int | float | bool | None
"""The same type as ``rayfs.core.operations.PropertyValue``."""

Kind = Literal["size", "duration", "int", "float", "bool", "choice", "string"]
Scope = Literal["client", "cluster"]
Origin = Literal["default", "file", "environment", "flag"]

CONF_DIR_VARIABLE: Final = "RAYFS_CONF_DIR"
DEFAULTS_FILE: Final = Path(__file__).parent / "conf" / "rayfs.yaml"

_SIZE_UNITS: Final = {"": 1, "b": 1, "kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30, "tb": 1 << 40}
_TIME_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_QUANTITY: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", re.IGNORECASE)
_URL_WITH_CREDENTIALS: Final = re.compile(r"://[^/]*@")
_BOOLS: Final = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Property:
    """One key. Bounds are inclusive, in bytes or seconds where the kind is one; ``unlimited`` allows -1."""

    key: str
    kind: Kind
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    unlimited: bool = False
    optional: bool = False

    @property
    def scope(self) -> Scope:
        """Who the value belongs to: the client, per request, or the cluster, from its start."""
        return "client" if self.key.startswith("rayfs.user.") else "cluster"

    def parse(self, value: object) -> PropertyValue:
        """``value`` validated and typed; ``InvalidProperty`` says what it may be."""
        if value is None or (self.optional and value == ""):
            if self.optional or (self.kind == "duration" and self.unlimited):
                return None
            raise self.refusal(value)
        if self.kind == "bool":
            return self._parse_bool(value)
        if isinstance(value, bool):
            raise self.refusal(value)
        if self.kind in ("string", "choice"):
            return self._parse_text(value)
        number = self._number(value)
        if number == -1 and self.unlimited:
            return None if self.kind == "duration" else -1
        below = self.minimum is not None and number < self.minimum
        above = self.maximum is not None and number > self.maximum
        if below or above or not math.isfinite(number):
            raise self.refusal(value)
        return number

    def accepts(self) -> str:
        """What a value may be, for a person."""
        if self.kind == "choice":
            return "one of " + ", ".join(self.choices)
        words: dict[Kind, str] = {
            "size": "a size such as 64MB (B, KB, MB, GB, TB)",
            "duration": "a duration such as 500ms, 30s or 2h",
            "int": "a whole number",
            "float": "a number",
            "bool": "true or false",
            "string": "a text without credentials",
        }
        text = words[self.kind]
        if self.minimum is not None and self.maximum is not None:
            text += f" from {self._show(self.minimum)} to {self._show(self.maximum)}"
        elif self.minimum is not None:
            text += f" of at least {self._show(self.minimum)}"
        if self.unlimited:
            text += ", or -1 for never" if self.kind == "duration" else ", or -1 for no limit"
        return text

    def refusal(self, value: object) -> InvalidProperty:
        """The error for a value that this key does not take; it never repeats what may hold a credential."""
        shown = "a URL with credentials in it" if _has_credentials(value) else f"{str(value)[:80]!r}"
        return InvalidProperty(f"{self.key} is {shown}, but it takes {self.accepts()}")

    def render(self, value: PropertyValue) -> str:
        """A typed value as a person writes it; ``parse`` reads it back to the same value."""
        if value is None:
            return "-1" if self.unlimited else ""
        if isinstance(value, bool):
            return str(value).lower()
        return self._show(value) if isinstance(value, int | float) else value

    def _show(self, number: float) -> str:
        if number == -1:
            return "-1"
        if self.kind == "size":
            return render_size(int(number))
        return (
            render_duration(number) if self.kind == "duration" else f"{number:g}" if number < 1e6 else str(int(number))
        )

    def _parse_bool(self, value: object) -> bool:
        if isinstance(value, bool):
            return value
        known = _BOOLS.get(str(value).strip().lower())
        if known is None:
            raise self.refusal(value)
        return known

    def _parse_text(self, value: object) -> str:
        text = str(value).strip()
        if self.kind == "choice":
            if text.upper() not in self.choices:
                raise self.refusal(value)
            return text.upper()
        if _has_credentials(text) or "\0" in text or not text:
            raise self.refusal(value)
        return text

    def _number(self, value: object) -> int | float:
        try:
            match self.kind:
                case "size":
                    return parse_size(value)
                case "duration":
                    return parse_duration(value)
                case "int":
                    return _whole(float(str(value)))
                case _:
                    return float(str(value))
        except (ValueError, OverflowError):
            raise self.refusal(value) from None


def _whole(number: float) -> int:
    if not number.is_integer():
        raise ValueError(f"{number} is not whole")
    return int(number)


def parse_size(value: object) -> int:
    """Bytes of a size such as ``64MB`` (units are powers of 1024, as in Alluxio); ``ValueError`` for anything else."""
    number, unit = _quantity(value)
    return _whole(number * _SIZE_UNITS.get(unit, math.nan))


def parse_duration(value: object) -> float:
    """Seconds of a duration such as ``500ms`` (ms s m h d).

    A number is seconds; a text without a unit is refused, because Alluxio would take it for milliseconds.
    """
    number, unit = _quantity(value)
    if unit not in _TIME_UNITS and not (unit == "" and (isinstance(value, int | float) or number in (0, -1))):
        raise ValueError(f"{value!r} is not a duration")
    return float(number * _TIME_UNITS.get(unit, 1.0))


def _quantity(value: object) -> tuple[float, str]:
    if isinstance(value, int | float) or str(value).strip() == "-1":
        return float(str(value)), ""
    match = _QUANTITY.fullmatch(str(value))
    if match is None:
        raise ValueError(f"{value!r} is not a number with a unit")
    return float(match[1]), match[2].lower()


def render_size(number: int) -> str:
    """Bytes as ``64MB``, in the largest unit that keeps them whole."""
    units = [(unit, size) for unit, size in _SIZE_UNITS.items() if unit]
    unit, size = next((u, s) for u, s in reversed(units) if number % s == 0 and (number or s == 1))
    return f"{number // size}{unit.upper()}"


def render_duration(seconds: float) -> str:
    """Seconds as ``30s``, in the largest unit that keeps them whole."""
    milliseconds = round(seconds * 1000)
    if abs(seconds * 1000 - milliseconds) > 1e-6 * max(1, milliseconds):
        return f"{seconds:.9f}".rstrip("0") + "s"
    for unit, size in reversed(_TIME_UNITS.items()):
        count, rest = divmod(milliseconds, round(size * 1000))
        if rest == 0 and (count or unit == "s"):
            return f"{count}{unit}"
    return f"{milliseconds}ms"


def _has_credentials(value: object) -> bool:
    return isinstance(value, str) and _URL_WITH_CREDENTIALS.search(value) is not None


_KB, _MB, _GB = 1 << 10, 1 << 20, 1 << 30

_TABLE: Final = (
    Property(
        "rayfs.user.file.writetype.default", "choice", ("MUST_CACHE", "CACHE_THROUGH", "THROUGH", "ASYNC_THROUGH")
    ),
    Property("rayfs.user.file.replication.durable", "int", minimum=1),
    Property("rayfs.user.file.replication.min", "int", minimum=0),
    Property("rayfs.user.file.replication.max", "int", minimum=0, unlimited=True),
    Property("rayfs.user.file.replication.shortfall", "choice", ("WRITE_THROUGH", "FAIL")),
    Property("rayfs.user.file.write.wait.max", "duration", minimum=0),
    Property("rayfs.user.file.persistence.initial.wait.time", "duration", minimum=0, unlimited=True),
    Property("rayfs.user.file.metadata.load.type", "choice", ("ONCE", "ALWAYS", "NEVER")),
    # A block is one object in a node's store and at most one part in S3, where a part has at most 5 GB.
    Property("rayfs.user.block.size.bytes.default", "size", minimum=_KB, maximum=5 * _GB),
    Property("rayfs.user.rpc.retry.max.duration", "duration", minimum=1),
    Property("rayfs.master.mount.table.root.ufs", "string", optional=True),
    Property("rayfs.master.metastore.uri", "string", optional=True),
    Property("rayfs.master.files.max", "int", minimum=1000),
    Property("rayfs.master.worker.suspect.timeout", "duration", minimum=0.1),
    Property("rayfs.master.worker.connect.wait.time", "duration", minimum=0),
    Property("rayfs.master.repair.grace", "duration", minimum=0),
    Property("rayfs.master.repair.per.node", "int", minimum=1, maximum=64),
    Property("rayfs.master.lease.max", "duration", minimum=1),
    # Above 0.8 Ray spills objects to disk, which RayFS never counts as a replica.
    Property("rayfs.worker.store.share", "float", minimum=0.01, maximum=0.8),
    Property("rayfs.worker.on.head", "bool"),
    Property("rayfs.persist.concurrency", "int", minimum=1, maximum=256),
    Property("rayfs.persist.bandwidth", "size", minimum=_KB, unlimited=True),
    Property("rayfs.persist.retry.initial", "duration", minimum=0.01),
    Property("rayfs.persist.retry.max", "duration", minimum=0.01),
    # S3's own bounds for every part but the last.
    Property("rayfs.persist.part.size.bytes", "size", minimum=5 * _MB, maximum=5 * _GB),
    Property("rayfs.underfs.s3.endpoint", "string", optional=True),
    Property("rayfs.underfs.s3.region", "string", optional=True),
    Property("rayfs.underfs.s3.addressing.style", "choice", ("AUTO", "PATH", "VIRTUAL")),
    Property("rayfs.underfs.s3.sse.algorithm", "string", optional=True),
    Property("rayfs.underfs.s3.storage.class", "string", optional=True),
)

PROPERTIES: Final[Mapping[str, Property]] = MappingProxyType({known.key: known for known in _TABLE})
"""Every key that RayFS knows."""


def property_of(key: str) -> Property:
    """The property with that key; ``InvalidProperty`` names the nearest known one."""
    known = PROPERTIES.get(key)
    if known is not None:
        return known
    wanted = re.sub(r"^alluxio\.", "rayfs.", str(key).strip().lower())
    wanted = wanted if wanted.startswith("rayfs.") else f"rayfs.{wanted}"
    nearest = difflib.get_close_matches(wanted, PROPERTIES, n=1, cutoff=0.0)[0]
    raise InvalidProperty(
        f"there is no property {str(key)[:120]!r}; the nearest is {nearest} (see `rayfs config show`)"
    )


def parse_properties(mapping: Mapping[str, object]) -> dict[str, PropertyValue]:
    """The mapping with every value validated and typed; ``InvalidProperty`` for an unknown key or a wrong value."""
    return {key: property_of(key).parse(value) for key, value in mapping.items()}


class Settings(Mapping[str, PropertyValue]):
    """All properties with their values and origins. Immutable and picklable."""

    __slots__ = ("_origins", "_values")

    def __init__(self, values: Mapping[str, PropertyValue], origins: Mapping[str, Origin]) -> None:
        self._values = MappingProxyType(dict(values))
        self._origins = MappingProxyType(dict(origins))

    @classmethod
    def load(
        cls,
        overrides: Mapping[str, object] | None = None,
        *,
        conf_dir: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Settings:
        """Read all sources, later wins: the package's file, ``rayfs.yaml`` in ``conf_dir``, ``env``, ``overrides``.

        ``conf_dir`` defaults to ``$RAYFS_CONF_DIR`` of ``env``, and ``env`` to the process's environment.
        """
        env = os.environ if env is None else env
        if conf_dir is None and env.get(CONF_DIR_VARIABLE):
            conf_dir = Path(env[CONF_DIR_VARIABLE])
        layers: list[tuple[Origin, dict[str, PropertyValue]]] = [("default", _read_file(DEFAULTS_FILE))]
        if conf_dir is not None:
            layers.append(("file", _read_conf_dir(conf_dir)))
        layers.append(("environment", _read_environment(env)))
        layers.append(("flag", parse_properties(overrides or {})))
        values: dict[str, PropertyValue] = {}
        origins: dict[str, Origin] = {}
        for origin, layer in layers:
            values.update(layer)
            origins.update(dict.fromkeys(layer, origin))
        return cls(values, origins)

    def __getitem__(self, key: str) -> PropertyValue:
        return self._values[property_of(key).key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __reduce__(self) -> tuple[Any, ...]:
        return Settings, (dict(self._values), dict(self._origins))

    def __repr__(self) -> str:
        changed = {key: value for key, value in self._values.items() if self._origins[key] != "default"}
        return f"Settings({changed})"

    def origin(self, key: str) -> Origin:
        """Where the value of ``key`` came from."""
        return self._origins[property_of(key).key]

    def user_defaults(self) -> dict[str, PropertyValue]:
        """``rayfs.user.*`` from files and environment: a path's own properties lie above them."""
        return {key: self[key] for key in self if _is_client(key) and self.origin(key) != "flag"}

    def user_overrides(self) -> dict[str, PropertyValue]:
        """``rayfs.user.*`` given by ``connect`` or ``-D``: they lie above a path's own properties."""
        return {key: self[key] for key in self if _is_client(key) and self.origin(key) == "flag"}

    def cluster(self) -> dict[str, PropertyValue]:
        """Everything that is read when the cluster starts."""
        return {key: self[key] for key in self if not _is_client(key)}


def _is_client(key: str) -> bool:
    return PROPERTIES[key].scope == "client"


def _read_conf_dir(conf_dir: Path) -> dict[str, PropertyValue]:
    if not conf_dir.is_dir():
        raise InvalidProperty(f"{CONF_DIR_VARIABLE} names {conf_dir}, which is not a directory")
    file = conf_dir / "rayfs.yaml"
    return _read_file(file) if file.exists() else {}


def _read_environment(env: Mapping[str, str]) -> dict[str, PropertyValue]:
    found: dict[str, PropertyValue] = {}
    for name, value in env.items():
        if name.startswith("RAYFS__"):
            try:
                found.update(parse_properties({name.lower().replace("__", "."): value}))
            except InvalidProperty as error:
                raise InvalidProperty(f"environment variable {name}: {error.message}") from None
    return found


_LITERAL: Final = "$\ue000{"
"""Stands for ``${`` while OmegaConf reads a file, which would otherwise take it for an interpolation."""


def _read_file(file: Path) -> dict[str, PropertyValue]:
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError  # type: ignore[import-untyped]  # PyYAML ships no types

    try:
        tree = OmegaConf.to_container(OmegaConf.create(file.read_text("utf-8").replace("${", _LITERAL)), resolve=False)
    except OSError as error:
        raise InvalidProperty(f"cannot read {file}: {error.strerror or error}") from None
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise InvalidProperty(
            f"{file} is not a YAML file of properties: {' '.join(str(error).split())[:300]}"
        ) from None
    if not isinstance(tree, dict):
        raise InvalidProperty(f"{file} must hold `key: value` lines, not a list")
    try:
        return parse_properties(_flatten(tree))
    except InvalidProperty as error:
        raise InvalidProperty(f"{file}: {error.message}") from None


def _flatten(tree: Mapping[Any, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in tree.items():
        key = f"{prefix}{name}"
        found = _flatten(value, f"{key}.") if isinstance(value, dict) else {key: _literal(value)}
        if twice := flat.keys() & found.keys():
            raise InvalidProperty(f"{min(twice)} is given twice, nested and dotted; keep one")
        flat |= found
    return flat


def _literal(value: object) -> object:
    """A value as it stands in the file: a number is its text, so that ``30`` for a duration is refused here too."""
    if isinstance(value, str):
        return value.replace(_LITERAL, "${")
    return value if value is None or isinstance(value, bool) else str(value)
