"""Glyphs of states, bars and sparklines. Pure. All glyphs are one cell wide and differ in shape, not only in colour."""

from __future__ import annotations

import time
from collections.abc import Iterable

from rich.cells import cell_len, set_cell_size

from rayfs.console.tones import Line, Tone

STATE_GLYPHS: dict[str, tuple[str, Tone]] = {
    # the cluster's verdict
    "safe": ("●", "ok"),
    "persisting": ("◐", "accent"),
    "degraded": ("▲", "warn"),
    "at-risk": ("◆", "bad"),
    "lost": ("✖", "bad"),
    "down": ("■", "bad"),
    # nodes
    "live": ("●", "ok"),
    "suspect": ("○", "warn"),
    "draining": ("◐", "accent"),
    "up": ("●", "ok"),
    # persists
    "running": ("▶", "accent"),
    "waiting": ("·", "dim"),
    "failed": ("✖", "bad"),
    # events
    "info": ("·", "dim"),
    "warning": ("▲", "warn"),
    "error": ("✖", "bad"),
}

_EIGHTHS = " ▏▎▍▌▋▊▉"
_LEVELS = "▁▂▃▄▅▆▇█"


def glyph(state: str) -> tuple[str, Tone]:
    """Glyph and tone of a state; a question mark for one this console does not know yet."""
    return STATE_GLYPHS.get(state, ("?", "warn"))


def bar(fraction: float, width: int, tone: Tone) -> Line:
    """A bar ``width`` cells wide, filled in steps of an eighth of a cell; something above nothing is always visible."""
    eighths = round(max(0.0, min(1.0, fraction)) * width * 8)
    if fraction > 0:
        eighths = max(1, eighths)
    full, part = divmod(eighths, 8)
    filled = "█" * full + (_EIGHTHS[part] if part else "")
    return ((filled, tone), ("░" * (width - len(filled)), "dim"))


def spark(values: Iterable[float], width: int) -> str:
    """The newest ``width`` values as one line of blocks on a scale from zero to their maximum; newest on the right."""
    newest = list(values)[-width:] if width > 0 else []
    top = max(newest, default=0.0)
    drawn = "".join(_LEVELS[min(7, int(value / top * 7.999))] if top > 0 else _LEVELS[0] for value in newest)
    return drawn.rjust(width)


def clock(at: float) -> str:
    """Local time of day."""
    return time.strftime("%H:%M:%S", time.localtime(at))


def percent(part: float, whole: float) -> str:
    """``37%``; a dash of nothing."""
    return f"{100 * part / whole:.0f}%" if whole > 0 else "-"


def shorten(text: str, width: int, *, keep_end: bool = False) -> str:
    """``text`` in ``width`` terminal cells; paths keep their end, which tells files apart."""
    if cell_len(text) <= width:
        return text
    if width <= 1:
        return "…"[:width]
    if not keep_end:
        return set_cell_size(text, width - 1).rstrip() + "…"
    start = len(text) - width + 1
    while cell_len(text[start:]) > width - 1:
        start += 1
    return "…" + text[start:]
