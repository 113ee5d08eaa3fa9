"""Opens the app in this terminal, or renders one area without one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from rayfs.admin.source import AdminSource
from rayfs.console.actions import AREAS
from rayfs.console.app import ConsoleApp
from rayfs.console.capture import screen_svg, screen_text
from rayfs.errors import ClusterUnreachable, InvalidArgument

ONCE_SIZE = (120, 40)
"""Columns and rows of a rendered area."""


def open_console(source: AdminSource, *, read_only: bool) -> None:
    """Until the user quits; ``SystemExit(1)`` when the console itself breaks."""
    with _native_output_hidden():
        app = ConsoleApp(source, read_only=read_only)
        app.run()
    if app.return_code:
        raise SystemExit(app.return_code)  # Textual has printed why


def render_once(source: AdminSource, area: str, *, text: bool, svg: str | None) -> None:
    """One area to stdout and to a file."""
    if area not in {known.name for known in AREAS}:
        names = ", ".join(known.name for known in AREAS)
        raise InvalidArgument(f"There is no area {area!r}; the areas are {names}.")
    lines, picture = asyncio.run(_render(source, area))
    if svg is not None:
        Path(svg).write_text(picture, encoding="utf-8")
    if text:
        sys.stdout.write(lines)


async def _render(source: AdminSource, area: str) -> tuple[str, str]:
    app = ConsoleApp(source, interval=None)
    heard = app.next_word()
    async with app.run_test(size=ONCE_SIZE) as pilot:
        await heard
        if app.picture.lost_reason is not None:
            raise ClusterUnreachable(app.picture.lost_reason)
        await app.action_area(area)
        await pilot.pause()
        return screen_text(app), screen_svg(app)


@contextlib.contextmanager
def _native_output_hidden() -> Iterator[None]:
    """Ray's C++ library warns on file descriptor 2, which is where Textual draws: give Textual a copy of its own."""
    if sys.__stderr__ is None:
        yield
        return
    stderr, own = sys.__stderr__, os.dup(2)
    hole = os.open(os.devnull, os.O_WRONLY)
    try:
        with os.fdopen(own, "w", encoding=stderr.encoding, closefd=False) as drawing:
            sys.__stderr__ = drawing  # type: ignore[misc]  # the one place that Textual takes its output from
            os.dup2(hole, 2)
            with contextlib.redirect_stderr(drawing):
                yield
    finally:
        sys.__stderr__ = stderr  # type: ignore[misc]  # as above
        os.dup2(own, 2)
        os.close(own)
        os.close(hole)
