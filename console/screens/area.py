"""What every area has: the status line, the area tabs, the notice of a lost source and the key hints."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from textual.containers import Vertical
from textual.screen import Screen
from textual.widgets import Footer, Static

from rayfs.admin.units import duration
from rayfs.console.actions import AREAS
from rayfs.console.derive.figures import clock, glyph, shorten
from rayfs.console.picture import Picture
from rayfs.console.tones import Line, Span, to_content
from rayfs.core.snapshot import ClusterSnapshot

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from rayfs.console.app import ConsoleApp


class AreaScreen(Screen[None]):
    """Subclasses give ``area_name``, compose their body, and draw a snapshot in ``draw``."""

    area_name = ""
    in_view = False

    def compose(self) -> ComposeResult:
        """The frame around an area's body."""
        yield Static(id="status")
        yield Static(id="tabs")
        yield Static(id="notice")
        with Vertical(id="body"):
            yield from self.compose_body()
        yield from self.compose_foot()
        yield Footer()

    def compose_body(self) -> ComposeResult:
        """The area's own widgets."""
        raise NotImplementedError

    def compose_foot(self) -> ComposeResult:
        """What stands between body and key hints."""
        return iter(())

    def draw(self, snapshot: ClusterSnapshot, age: str) -> None:
        """Show ``snapshot``; ``age`` goes into each panel's frame."""
        raise NotImplementedError

    def equivalent(self) -> str:
        """The ``rayfs`` command that shows what is selected here."""
        return next(area.cli for area in AREAS if area.name == self.area_name)

    def on_screen_resume(self) -> None:
        """Another area drew while this one was hidden. Before this its widgets need not exist yet."""
        self.call_after_refresh(self._come_into_view)

    def on_screen_suspend(self) -> None:
        """Hidden: draw no more."""
        self.in_view = False

    def _come_into_view(self) -> None:
        self.in_view = self.is_current
        self.show_picture()

    def show_picture(self) -> None:
        """Draw what the app knows now, unless nobody sees it."""
        if not self.in_view:
            return
        app = cast("ConsoleApp", self.app)
        picture, now = app.picture, app.clock()
        age, tone = picture.age(now)
        width = app.size.width
        self.query_one("#status", Static).update(to_content([self._status(picture, (age, tone), width)]))
        self.query_one("#tabs", Static).update(to_content([self._tabs(picture.snapshot, width)]))
        notice = self.query_one("#notice", Static)
        notice.display = picture.lost_reason is not None
        notice.update(to_content([_notice(picture, app.source.description)]))
        if picture.snapshot is not None:
            self.draw(picture.snapshot, age)

    def _status(self, picture: Picture, age: Span, width: int) -> Line:
        """Verdict, cluster, time: the same on every area."""
        snapshot = picture.snapshot
        app = cast("ConsoleApp", self.app)
        if snapshot is None:
            return ((" RayFS ", "strong"), (f" {app.source.description}", "dim"))
        mark, tone = glyph(snapshot.totals.state)
        verdict = f" {mark} {snapshot.totals.state.upper()} "
        right = f"{clock(snapshot.taken_at)} · {'‖ paused · ' if picture.paused else ''}{age[0].split(', ')[-1]} "
        right = right.replace(f"paused at {clock(snapshot.taken_at)}, ", "")
        room = width - len(verdict) - len(right) - 2
        where = f"RayFS {snapshot.version} · {snapshot.under_store}"
        longer = f"{where} · cluster {snapshot.cluster_id[:8]}"
        where = longer if len(longer) <= room else shorten(where, room)
        return ((verdict, tone), (f" {where.ljust(room)} ", "plain"), (right, age[1]))

    def _tabs(self, snapshot: ClusterSnapshot | None, width: int) -> Line:
        """The areas with their numbers, and how much there is to see in each."""
        counts = _badges(snapshot) if snapshot else {}
        spans: list[Span] = []
        for number, area in enumerate(AREAS, start=1):
            badge, tone = counts.get(area.name, ("", "dim"))
            here = area.name == self.area_name
            spans.append((f" {number} ", "accent" if here else "dim"))
            spans.append((f"[{area.title}]" if here else area.title, "strong" if here else "plain"))
            if badge and (width >= 100 or tone == "bad"):
                spans.append((f" {badge}", tone))
            spans.append((" ", "plain"))
        return tuple(spans)


def _badges(snapshot: ClusterSnapshot) -> dict[str, Span]:
    totals = snapshot.totals
    waiting = totals.pending_persists + totals.pending_changes
    off_target = totals.under_replicated_blocks + totals.over_replicated_blocks
    failures = totals.lost_files + totals.nodes.lost + totals.failed_persists
    counts = totals.nodes
    badges: dict[str, Span] = {"nodes": (f"{counts.live}/{counts.live + counts.lost}", "dim")}
    if waiting:
        badges["persists"] = (f"{waiting:,}", "accent")
    if off_target:
        badges["replication"] = (f"{off_target:,}", "warn")
    if failures:
        badges["failures"] = (f"{failures:,}", "bad")
    return badges


def _notice(picture: Picture, description: str) -> Line:
    """The bar under the tabs while the source is lost."""
    if picture.lost_reason is None:
        return ()
    showing = f"showing {clock(picture.snapshot.taken_at)}" if picture.snapshot else "nothing to show yet"
    again = f"trying again every {duration(picture.retry_s)}" if picture.retry_s else "press r to try again"
    return ((f"✖ {description}: {showing}; {again}. {picture.lost_reason}", "bad"),)
