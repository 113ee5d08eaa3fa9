"""A table that is given whole content again and again and changes only what differs.

Rows are slots: slot i shows the i-th row after filter and sort; a cell is touched only when its text or tone changed.
Invariants: the cursor stays on its row (by the row's key) wherever that moves, at the same height of the screen; at the
top it stays at the top, so that the newest event or the worst failure is in view; filter and sort survive refreshes.
"""

from __future__ import annotations

from rich.text import Text
from textual.coordinate import Coordinate
from textual.message import Message
from textual.widgets import DataTable

from rayfs.console.derive.figures import shorten
from rayfs.console.derive.tables import WIDE_CELLS, Cell, Column, Row, Table, matches
from rayfs.console.tones import printable, rich_style

MIN_FLEX_CELLS = 10


class LiveTable(DataTable[Text]):
    """``show`` gives it content; ``filter_by``, ``sort_next`` and ``reverse`` change how it is seen."""

    class Selected(Message):
        """The cursor is on another row, or its row has new content; None: there is no row."""

        def __init__(self, row: Row | None) -> None:
            super().__init__()
            self.row = row

    def __init__(self, *, id: str) -> None:  # noqa: A002 - Textual's own name for it
        super().__init__(id=id, cursor_type="row", zebra_stripes=True)
        self._content = Table((), (), (), "")
        self._shown: list[Row] = []
        self._widths: list[tuple[int, int]] = []  # (column index in the content, width), for the columns on the screen
        self._cells: list[list[Cell]] = []  # what the slots hold
        self._sorted_by: int | None = None
        self._reversed = False
        self.query_text = ""

    # --- content and view ----------------------------------------------------------------------------------------

    def show(self, content: Table) -> None:
        """Take new content."""
        self._content = content
        self._sync()

    def filter_by(self, query: str) -> None:
        """Show only rows that match ``query`` (see ``derive.tables.matches``)."""
        self.query_text = query
        self._sync()

    def sort_next(self) -> str:
        """Sort by the next visible column, after the last one by none; the column's title, or ``risk order``."""
        visible = [index for index, _ in self._widths]
        following = [index for index in visible if self._sorted_by is None or index > self._sorted_by]
        self._sorted_by = following[0] if following else None
        self._reversed = self._sorted_by is not None and self._content.columns[self._sorted_by].right
        self._rebuild_columns()
        return "the given order" if self._sorted_by is None else self._content.columns[self._sorted_by].title

    def reverse(self) -> None:
        """Turn the order around."""
        self._reversed = not self._reversed
        self._rebuild_columns()

    @property
    def selected(self) -> Row | None:
        """The row under the cursor."""
        return self._shown[self.cursor_row] if 0 <= self.cursor_row < len(self._shown) else None

    @property
    def shown(self) -> list[Row]:
        """The rows on the screen, in their order."""
        return list(self._shown)

    # --- making it so --------------------------------------------------------------------------------------------

    def _arranged(self) -> list[Row]:
        rows = [row for row in self._content.rows if matches(row, self.query_text)]
        if self._sorted_by is not None:
            column = self._sorted_by
            rows.sort(key=lambda row: _order(row.cells[column]))
        return rows[::-1] if self._reversed else rows

    def _sync(self) -> None:
        if [index for index, _ in self._widths] != [index for index, _ in self._layout()]:
            self._rebuild_columns()
            return
        followed = self.selected.key if self.selected and self.cursor_row > 0 else None
        height_on_screen = self.cursor_row - round(self.scroll_y)
        self._shown = self._arranged()
        with self.app.batch_update():
            self._fill_slots()
        row = next((index for index, row in enumerate(self._shown) if row.key == followed), None)
        if row is not None and row != self.cursor_row:
            self.move_cursor(row=row, animate=False, scroll=False)
            self.scroll_to(y=row - height_on_screen, animate=False, immediate=True)
        self.post_message(self.Selected(self.selected))

    def _fill_slots(self) -> None:
        wanted = [[row.cells[index] for index, _ in self._widths] for row in self._shown]
        while len(self._cells) > len(wanted):
            self._cells.pop()
            self.remove_row(str(len(self._cells)))
        for slot, cells in enumerate(wanted):
            if slot == len(self._cells):
                self._cells.append(cells)
                self.add_row(*(self._painted(place, cell) for place, cell in enumerate(cells)), key=str(slot))
                continue
            for place, (old, new) in enumerate(zip(self._cells[slot], cells, strict=True)):
                if old[:2] != new[:2]:
                    self.update_cell_at(Coordinate(slot, place), self._painted(place, new))
            self._cells[slot] = cells

    def _painted(self, place: int, cell: Cell) -> Text:
        index, width = self._widths[place]
        column = self._content.columns[index]
        text = shorten(printable(cell.text), width, keep_end=column.keep_end)
        style = rich_style(cell.tone, self.app.theme_variables)
        return Text(text, style, justify="right" if column.right else "left", no_wrap=True, end="")

    def _layout(self) -> list[tuple[int, int]]:
        """The columns that fit this screen with their widths; the one of width 0 takes what is left."""
        screen = self.app.size.width
        columns = [(index, column) for index, column in enumerate(self._content.columns) if screen >= column.from_cells]
        widths = [(column.wide_width if screen >= WIDE_CELLS else 0) or column.width for _, column in columns]
        rest = self.size.width - sum(widths) - 2 * self.cell_padding * len(columns) - 1  # and the scroll bar
        return [(index, width or max(MIN_FLEX_CELLS, rest)) for (index, _), width in zip(columns, widths, strict=True)]

    def _rebuild_columns(self) -> None:
        """New columns (the first content, another size, another sort): fill from nothing, on the same row."""
        followed, scroll_y = (self.selected.key if self.selected else None), self.scroll_y
        height_on_screen = self.cursor_row - round(scroll_y)
        self.clear(columns=True)
        self._cells.clear()
        self._widths = self._layout()
        for index, width in self._widths:
            self.add_column(self._label(index, width), width=width, key=str(index))
        self._shown = self._arranged()
        self._fill_slots()
        row = next((index for index, row in enumerate(self._shown) if row.key == followed), 0)
        self.move_cursor(row=row, animate=False, scroll=False)
        self.call_after_refresh(self.scroll_to, y=max(0, row - height_on_screen), animate=False)
        self.post_message(self.Selected(self.selected))

    def _label(self, index: int, width: int) -> Text:
        column: Column = self._content.columns[index]
        mark = (" ▼" if self._reversed else " ▲") if index == self._sorted_by else ""
        title = shorten(column.title, width - len(mark)) + mark
        return Text(title, justify="right" if column.right else "left", no_wrap=True, end="")

    # --- Textual's events ----------------------------------------------------------------------------------------

    def on_mount(self) -> None:
        """Cells carry the theme's colours: another theme, other cells."""
        self.app.theme_changed_signal.subscribe(self, lambda _: self._rebuild_columns())

    def on_resize(self) -> None:
        """Another width: other columns."""
        if self._content.columns and self._layout() != self._widths:
            self._rebuild_columns()

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        """The user moved the cursor."""
        event.stop()
        self.post_message(self.Selected(self.selected))


def _order(cell: Cell) -> tuple[int, float, str]:
    """Numbers before words, each among themselves."""
    return (0, cell.order, "") if cell.order is not None else (1, 0.0, cell.text.casefold())
