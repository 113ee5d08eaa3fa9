"""Text with a meaning instead of a colour: what ``derive`` makes, and how Textual and Rich paint it.

A line is spans of (text, tone). Tones name theme variables, so every theme works, light, dark or without colour; state
is always said by a glyph or a word too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from rich.style import Style
from textual.content import Content

Tone = Literal["plain", "strong", "dim", "ok", "warn", "bad", "accent"]
Span = tuple[str, Tone]
Line = tuple[Span, ...]

_CONTENT: dict[Tone, str] = {
    "plain": "",
    "strong": "bold",
    "dim": "dim",
    "ok": "$text-success",
    "warn": "$text-warning",
    "bad": "bold $text-error",
    "accent": "$text-primary",
}
_VARIABLE: dict[Tone, str] = {
    "ok": "text-success",
    "warn": "text-warning",
    "bad": "text-error",
    "accent": "text-primary",
}


def to_content(lines: Iterable[Line]) -> Content:
    """Lines for a Textual widget."""
    return Content("\n").join(
        Content.assemble(*((printable(text), _CONTENT[tone]) for text, tone in line)) for line in lines
    )


def printable(text: str) -> str:
    """``text`` with a mark for each control character: names of files come from anywhere."""
    return text if text.isprintable() else "".join(sign if sign.isprintable() else "\ufffd" for sign in text)


def rich_style(tone: Tone, theme: Mapping[str, str]) -> Style:
    """A tone for a table cell. ``theme`` holds the app's theme variables."""
    if tone == "dim":
        return Style(dim=True)
    color = theme.get(_VARIABLE.get(tone, ""))
    # Colours named "ansi_..." belong to the terminal: Rich calls them by the name after the prefix.
    return Style(color=color.removeprefix("ansi_") if color else None, bold=tone in ("bad", "strong") or None)


def plain(lines: Iterable[Line]) -> str:
    """The text alone."""
    return "\n".join("".join(text for text, _ in line) for line in lines)
