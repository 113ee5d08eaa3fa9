"""Values that options take: sizes and durations as in the configuration."""

from __future__ import annotations

from typing import Any

import click

from rayfs.config import parse_duration, parse_size


class SizeType(click.ParamType[int]):
    """Bytes: ``64MB``."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Bytes of the text."""
        try:
            found = parse_size(value)
        except ValueError:
            found = -1
        if found < 0:
            self.fail(f"{value!r} is not a size such as 64MB (B, KB, MB, GB, TB)", param, ctx)
        return found


class SecondsType(click.ParamType[float]):
    """Seconds: ``30`` or a duration such as ``5m``."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds of the text; a bare number is seconds."""
        try:
            found = float(value) if _is_number(value) else parse_duration(value)
        except ValueError:
            found = -1.0
        if not 0 <= found < float("inf"):
            self.fail(f"{value!r} is not a number of seconds, or a duration such as 30s or 5m", param, ctx)
        return found


def _is_number(value: object) -> bool:
    return str(value).replace(".", "", 1).isdigit()


SIZE = SizeType()
SECONDS = SecondsType()
