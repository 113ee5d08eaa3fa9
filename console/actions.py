"""Every action of the console, once: key bindings, the palette and the help page are made from this list.

Knows nothing of Textual's app but the names of its ``action_*`` methods.
"""

from __future__ import annotations

from dataclasses import dataclass

from textual.binding import Binding, BindingType


@dataclass(frozen=True, slots=True)
class Action:
    """``call`` is Textual's action string, ``cli`` the ``rayfs`` command that shows or does the same."""

    id: str
    key: str
    title: str
    explanation: str
    call: str
    group: str
    cli: str | None = None
    footer: bool = False
    shown_key: str | None = None


@dataclass(frozen=True, slots=True)
class Area:
    """One numbered area."""

    name: str
    title: str
    explanation: str
    cli: str


AREAS = (
    Area(
        "overview", "Overview", "Is my data safe, when will it be in the under store, what holds it up", "rayfs status"
    ),
    Area("nodes", "Nodes", "State, heartbeat, space and last copies of each node", "rayfs nodes"),
    Area("persists", "Persists", "What the under store does not hold yet, running and failed first", "rayfs persists"),
    Area("replication", "Replication", "Files with fewer or more live copies than their target", "rayfs report"),
    Area("failures", "Failures", "Lost files, lost nodes, failed persists and warnings, worst first", "rayfs report"),
    Area("events", "Events", "The cluster's log, newest first", "rayfs events"),
)

ACTIONS = (
    *(
        Action(
            f"area.{area.name}", str(number), area.title, area.explanation, f"area('{area.name}')", "Areas", area.cli
        )
        for number, area in enumerate(AREAS, start=1)
    ),
    Action("help", "question_mark", "Help", "Show this page", "help", "View", footer=True, shown_key="?"),
    Action(
        "filter",
        "slash",
        "Filter",
        "Show only rows with all the words; !word leaves rows with it out; esc ends it",
        "filter",
        "Table",
        footer=True,
        shown_key="/",
    ),
    Action("sort", "s", "Sort", "Sort by the next column", "sort", "Table", footer=True),
    Action("sort.reverse", "S", "Reverse", "Reverse the order", "reverse", "Table"),
    Action("pause", "p", "Pause", "Stop or go on with refreshing", "pause", "View", footer=True),
    Action("refresh", "r", "Refresh", "Fetch a picture now", "refresh_now", "View", footer=True),
    Action("cli", "y", "Command", "Show and copy the rayfs command for what is selected", "cli", "View", footer=True),
    Action("back", "escape", "Back", "End the filter", "end_filter", "Table", shown_key="esc"),
    Action("quit", "q", "Quit", "Leave the console; the cluster goes on", "quit", "View", footer=True),
)


def bindings() -> list[BindingType]:
    """The registry as Textual bindings; each has its id, so that a key map can move it."""
    return [
        Binding(
            action.key,
            action.call,
            action.title,
            show=action.footer,
            key_display=action.shown_key,
            tooltip=action.explanation,
            id=action.id,
        )
        for action in ACTIONS
    ]


def area(name: str) -> Area:
    """The area called ``name``; ``KeyError`` when there is none."""
    return {known.name: known for known in AREAS}[name]
