"""The screen as plain text and as SVG, for tickets, documents and tests."""

from __future__ import annotations

import re

from rayfs.console.app import ConsoleApp

_RANDOM_ID = re.compile(r"terminal-\d+")


def screen_text(app: ConsoleApp) -> str:
    """The lines on the screen, without trailing blanks."""
    # Textual offers the screen only as SVG; the compositor's strips are what it makes that from.
    strips = app.screen._compositor.render_strips()  # noqa: SLF001 - Textual offers no public way to the drawn lines
    return "\n".join(strip.text.rstrip() for strip in strips) + "\n"


def screen_svg(app: ConsoleApp) -> str:
    """The screen as SVG, the same for the same screen (Textual's random ids are replaced)."""
    return _RANDOM_ID.sub("terminal-rayfs", app.export_screenshot(simplify=True))
