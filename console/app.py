"""The console's app: areas as modes, one poller, one picture that the area in view draws.

Only the area in view draws; another one draws when it comes into view. Ages are written anew each second, also when
nothing arrives.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual import on
from textual.app import App, SystemCommand

from rayfs.admin.source import AdminSource
from rayfs.console.actions import ACTIONS, bindings
from rayfs.console.picture import Picture
from rayfs.console.poller import Poller, SnapshotArrived, SourceLost
from rayfs.console.screens.area import AreaScreen
from rayfs.console.screens.help import HelpScreen
from rayfs.console.screens.overview import OverviewScreen
from rayfs.console.screens.tables import (
    EventsScreen,
    FailuresScreen,
    NodesScreen,
    PersistsScreen,
    ReplicationScreen,
    TableScreen,
)

if TYPE_CHECKING:
    from textual.screen import Screen

COMMAND_SHOWN_S = 12.0
"""How long the command line asked for with ``y`` stays on the screen."""


class ConsoleApp(App[None]):
    """``interval`` None: pictures come only when asked for. ``clock`` is a monotonic clock in seconds."""

    TITLE = "RayFS"
    CSS_PATH = Path(__file__).parent / "theme.tcss"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012 - declared by Textual so
    VERTICAL_BREAKPOINTS = [(0, "-short"), (32, "-tall")]  # noqa: RUF012 - declared by Textual so
    BINDINGS = bindings()
    MODES: ClassVar[dict[str, str | Callable[[], Screen[Any]]]] = {
        screen.area_name: screen
        for screen in (OverviewScreen, NodesScreen, PersistsScreen, ReplicationScreen, FailuresScreen, EventsScreen)
    }
    DEFAULT_MODE = "overview"
    NEEDS_TABLE: ClassVar[frozenset[str]] = frozenset({"filter", "sort", "reverse"})

    def __init__(
        self,
        source: AdminSource,
        interval: float | None = 1.0,
        *,
        read_only: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.source = source
        self.read_only = read_only
        self.clock = clock
        self.picture = Picture()
        self.poller = Poller(source, self.post_message, interval)
        self._listeners: list[asyncio.Future[None]] = []

    def on_mount(self) -> None:
        """Begin to look."""
        self.poller.start()
        self.set_interval(1.0, self.redraw)

    def on_unmount(self) -> None:
        """Look no more."""
        self.poller.stop()

    def next_word(self) -> asyncio.Future[None]:
        """Done when the source has next spoken, well or ill, and the area in view has been told."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._listeners.append(future)
        return future

    def redraw(self) -> None:
        """Draw the area in view."""
        if isinstance(self.screen, AreaScreen):
            self.screen.show_picture()

    @on(SnapshotArrived)
    def take_snapshot(self, message: SnapshotArrived) -> None:
        """A picture came."""
        self.picture.take(message.snapshot, self.clock())
        self._heard()

    @on(SourceLost)
    def note_loss(self, message: SourceLost) -> None:
        """The source is lost; what it said last stays on the screen with its time."""
        self.picture.lost_reason, self.picture.retry_s = message.reason, message.retry_s
        self._heard()

    def _heard(self) -> None:
        self.redraw()
        listeners, self._listeners = self._listeners, []
        for future in listeners:
            if not future.done():
                future.set_result(None)

    # --- actions (console.actions names them) --------------------------------------------------------------------

    async def action_area(self, name: str) -> None:
        """Go to an area."""
        await self.switch_mode(name)

    def action_help(self) -> None:
        """Show the help page."""
        self.push_screen(HelpScreen())

    def action_pause(self) -> None:
        """Stop or go on with refreshing."""
        self.poller.paused = self.picture.paused = not self.picture.paused
        self.redraw()

    def action_refresh_now(self) -> None:
        """Fetch now, also while paused."""
        self.poller.refresh()

    def action_filter(self) -> None:
        """Open the filter line."""
        if isinstance(self.screen, TableScreen):
            self.screen.open_filter()

    def action_end_filter(self) -> None:
        """End the filter."""
        if isinstance(self.screen, TableScreen):
            self.screen.close_filter()

    def action_sort(self) -> None:
        """Sort by the next column."""
        if isinstance(self.screen, TableScreen):
            self.screen.table.sort_next()

    def action_reverse(self) -> None:
        """Turn the order around."""
        if isinstance(self.screen, TableScreen):
            self.screen.table.reverse()

    def action_cli(self) -> None:
        """Show and copy the command line for what is selected."""
        if isinstance(self.screen, AreaScreen):
            command = self.screen.equivalent()
            self.copy_to_clipboard(command)
            self.notify(command, title="The same in a shell (copied)", timeout=COMMAND_SHOWN_S, markup=False)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Filter and sort are greyed where there is no table."""
        if action in self.NEEDS_TABLE and not isinstance(self.screen, TableScreen):
            return None
        return super().check_action(action, parameters)

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """The palette: Textual's own commands and every action of the registry."""
        yield from super().get_system_commands(screen)
        for action in ACTIONS:
            if action.id not in ("quit", "back", "help"):
                yield SystemCommand(action.title, action.explanation, _runner(self, action.call))


def _runner(app: ConsoleApp, call: str) -> Callable[[], object]:
    return lambda: app.call_later(app.run_action, call)
