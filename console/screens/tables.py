"""The table areas: a summary line, the table, and the whole of the selected row below it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.containers import Vertical
from textual.widgets import Input, Static

from rayfs.console.derive import tables
from rayfs.console.derive.tables import Table
from rayfs.console.screens.area import AreaScreen
from rayfs.console.tones import to_content
from rayfs.console.widgets.live_table import LiveTable
from rayfs.core.snapshot import ClusterSnapshot

if TYPE_CHECKING:
    from textual.app import ComposeResult


class TableScreen(AreaScreen):
    """Subclasses name their area and the pure function that makes its table."""

    AUTO_FOCUS = "LiveTable"

    def derive(self, snapshot: ClusterSnapshot) -> Table:
        """The area's table."""
        raise NotImplementedError

    def compose_body(self) -> ComposeResult:
        """Summary, table, words for an empty table, detail."""
        with Vertical(id="panel"):
            yield Static(id="summary")
            yield LiveTable(id="table")
            yield Static(id="empty")
        yield Static(id="detail")

    def compose_foot(self) -> ComposeResult:
        """The filter line, hidden until it is asked for."""
        yield Input(placeholder="words to show, !word to leave out; enter keeps the filter, esc ends it", id="filter")

    def on_mount(self) -> None:
        """Nothing to see before the first picture."""
        self.query_one("#filter").display = False
        self.query_one("#panel").border_title = self.area_name.capitalize()

    @property
    def table(self) -> LiveTable:
        """The table."""
        return self.query_one(LiveTable)

    def draw(self, snapshot: ClusterSnapshot, age: str) -> None:
        """New content for the table."""
        content = self.derive(snapshot)
        self.query_one("#panel").border_subtitle = self.query_one("#detail").border_subtitle = age
        self.query_one("#summary", Static).update(to_content([content.summary]))
        self.table.show(content)
        self._say_if_empty(content)

    def _say_if_empty(self, content: Table) -> None:
        shown, query = len(self.table.shown), self.table.query_text
        title = self.area_name.capitalize()
        self.query_one("#panel").border_title = (
            f"{title}, {shown} of {len(content.rows)} with {query}" if query else title
        )
        empty = self.query_one("#empty", Static)
        empty.display = shown == 0
        self.table.display = shown > 0
        empty.update(f"No row has {query!r}; esc ends the filter." if content.rows else content.empty)

    def on_live_table_selected(self, event: LiveTable.Selected) -> None:
        """Show the whole of the selected row."""
        detail = self.query_one("#detail", Static)
        detail.display = event.row is not None
        detail.update(to_content(event.row.detail) if event.row else "")

    def equivalent(self) -> str:
        """The selected row's command, or the area's."""
        row = self.table.selected
        return row.cli if row and row.cli else super().equivalent()

    # --- the filter line -----------------------------------------------------------------------------------------

    def open_filter(self) -> None:
        """Ask for words."""
        line = self.query_one("#filter", Input)
        line.display = True
        line.focus()

    def close_filter(self) -> None:
        """Show all rows again."""
        line = self.query_one("#filter", Input)
        line.value = ""
        line.display = False
        self.table.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while typing."""
        self.table.filter_by(event.value)
        self.show_picture()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Keep the filter, go back to the table."""
        event.input.display = bool(event.value)
        self.table.focus()


class NodesScreen(TableScreen):
    """Each node, and what would be lost with it."""

    area_name = "nodes"

    def derive(self, snapshot: ClusterSnapshot) -> Table:
        """As ``derive.tables`` says."""
        return tables.nodes(snapshot)


class PersistsScreen(TableScreen):
    """What is on its way to the under store."""

    area_name = "persists"

    def derive(self, snapshot: ClusterSnapshot) -> Table:
        """As ``derive.tables`` says."""
        return tables.persists(snapshot)


class ReplicationScreen(TableScreen):
    """Files whose copies are not as many as they should be."""

    area_name = "replication"

    def derive(self, snapshot: ClusterSnapshot) -> Table:
        """As ``derive.tables`` says."""
        return tables.replication(snapshot)


class FailuresScreen(TableScreen):
    """Everything that failed."""

    area_name = "failures"

    def derive(self, snapshot: ClusterSnapshot) -> Table:
        """As ``derive.tables`` says."""
        return tables.failures(snapshot)


class EventsScreen(TableScreen):
    """The cluster's log."""

    area_name = "events"

    def derive(self, snapshot: ClusterSnapshot) -> Table:
        """As ``derive.tables`` says."""
        return tables.events(snapshot)
