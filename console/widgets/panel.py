"""A framed box of lines that says how old its content is."""

from __future__ import annotations

from collections.abc import Callable

from textual.content import Content
from textual.geometry import Size
from textual.widget import Widget

from rayfs.console.tones import Line, to_content

Painter = Callable[[int, int], list[Line]]
"""Width and height in cells -> lines."""


class Panel(Widget):
    """``show`` gives it a painter, which is called again whenever the size changes."""

    DEFAULT_CSS = """
    Panel { height: auto; padding: 0 1; }
    """

    def __init__(self, title: str, *, id: str) -> None:  # noqa: A002 - Textual's own name for it
        super().__init__(id=id)
        self.border_title = title
        self._painter: Painter | None = None

    def show(self, painter: Painter, age: str) -> None:
        """Draw with ``painter`` from now on; ``age`` goes into the frame."""
        self._painter = painter
        self.border_subtitle = age
        self.refresh(layout=self.styles.is_auto_height)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:  # noqa: ARG002 - Textual's
        """All the lines there are, where the style leaves the height to the content."""
        return len(self._painter(width, viewport.height)) if self._painter else 1

    def render(self) -> Content:
        """The lines, cut to the height there is."""
        if self._painter is None:
            return Content("waiting for the first picture …")
        width, height = self.content_size
        return to_content(self._painter(width, height)[: max(1, height)])
