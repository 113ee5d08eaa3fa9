"""The help page: keys from the action registry, and what the glyphs mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from rich.table import Table
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from rayfs.console.actions import ACTIONS
from rayfs.console.derive.figures import glyph
from rayfs.console.derive.overview import MEANINGS
from rayfs.console.tones import rich_style

if TYPE_CHECKING:
    from textual.app import ComposeResult

LAST_COPIES = "Dirty blocks of which a node has the only live copy: lost if it died now"


class HelpScreen(ModalScreen[None]):
    """Any of esc, q and ? closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q,question_mark", "dismiss", "Close")]

    def compose(self) -> ComposeResult:
        """One scrolling page."""
        with VerticalScroll(id="help") as page:
            page.border_title = "Help"
            page.border_subtitle = "esc closes"
            yield Static(self._page())

    def _page(self) -> Table:
        page = Table.grid(padding=(0, 2))
        page.add_column(no_wrap=True)
        page.add_column(no_wrap=True)
        page.add_column()
        for group in ("Areas", "Table", "View"):
            page.add_row(Text(group, "bold"))
            for action in ACTIONS:
                if action.group == group:
                    about = f"{action.explanation} ({action.cli})" if action.cli else action.explanation
                    self._row(page, action.shown_key or action.key, action.title, about)
        self._row(page, "^p", "Palette", "Every action by name, and themes")
        page.add_row(Text("Verdict", "bold"))
        for state, meaning in MEANINGS.items():
            mark, tone = glyph(state)
            style = rich_style(tone, self.app.theme_variables)
            page.add_row(Text(f"  {mark}", style), Text(state, style), Text(meaning))
        self._row(page, "Last", "in Nodes", LAST_COPIES)
        return page

    def _row(self, page: Table, key: str, title: str, about: str) -> None:
        page.add_row(Text(f"  {key}", rich_style("accent", self.app.theme_variables)), Text(title), Text(about, "dim"))
