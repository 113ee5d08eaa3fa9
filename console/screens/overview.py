"""The overview: is my data safe, when will it be in the under store, what holds it up."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from textual.containers import Horizontal, VerticalScroll

from rayfs.console.derive import overview
from rayfs.console.screens.area import AreaScreen
from rayfs.console.widgets.panel import Panel
from rayfs.core.snapshot import ClusterSnapshot

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from rayfs.console.app import ConsoleApp


class OverviewScreen(AreaScreen):
    """Six panels; the screen's height decides how many lines each gets."""

    area_name = "overview"

    def compose_body(self) -> ComposeResult:
        """The panels, what matters most at the top."""
        with VerticalScroll(id="overview"):
            yield Panel("Is my data safe", id="safety")
            yield Panel("On its way", id="flow")
            with Horizontal(id="middle"):
                yield Panel("Space", id="space")
                yield Panel("Nodes", id="nodes")
            yield Panel("Rates", id="rates")
            yield Panel("Latest", id="latest")

    def draw(self, snapshot: ClusterSnapshot, age: str) -> None:
        """Give each panel its painter."""
        history = cast("ConsoleApp", self.app).picture.history
        self.query_one("#safety", Panel).show(lambda width, height: overview.safety(snapshot, width, height), age)
        self.query_one("#flow", Panel).show(lambda width, _: overview.flow(snapshot, width), age)
        self.query_one("#space", Panel).show(lambda width, _: overview.space(snapshot, width), age)
        self.query_one("#nodes", Panel).show(lambda width, _: overview.nodes(snapshot, width), age)
        self.query_one("#rates", Panel).show(lambda width, _: overview.rates(snapshot, history, width), age)
        self.query_one("#latest", Panel).show(lambda width, height: overview.latest(snapshot, width, height), age)
