"""The table areas: columns, rows, summary and the words for an empty table. Pure.

A row's ``detail`` has everything that a narrow column cuts off, and ``cli`` the command that shows the same thing.
"""

from __future__ import annotations

import shlex
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

from rayfs.admin.units import compact, count, duration, short_node, size
from rayfs.admin.verdict import headline, readable, warnings
from rayfs.console.derive.figures import clock, glyph, percent
from rayfs.console.tones import Line, Tone
from rayfs.core.snapshot import LIST_LIMIT, ClusterSnapshot, NodeRow, PersistRow

WIDE_CELLS = 100
"""Screen width that counts as wide: side by side panels, more columns."""

VERY_WIDE_CELLS = 140
"""Screen width at which every column is shown."""


class Cell(NamedTuple):
    """``order`` is what the column sorts by; the text where it is None."""

    text: str
    tone: Tone = "plain"
    order: float | None = None


class Column(NamedTuple):
    """``width`` in cells, 0 takes what is left; ``wide_width`` on wide screens. Shown from ``from_cells`` on."""

    title: str
    width: int
    right: bool = False
    from_cells: int = 0
    wide_width: int = 0
    keep_end: bool = False


class Row(NamedTuple):
    """``key`` stays the same for the same thing from picture to picture."""

    key: str
    cells: tuple[Cell, ...]
    detail: tuple[Line, ...] = ()
    cli: str | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """One area's content."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    summary: Line
    empty: str


def matches(row: Row, query: str) -> bool:
    """Whether ``row`` has all words of ``query`` in its cells or detail, and none of those that begin with ``!``."""
    text = " ".join(cell.text for cell in row.cells) + " " + " ".join(span for line in row.detail for span, _ in line)
    text = text.casefold()
    for word in query.casefold().split():
        wanted = not word.startswith("!")
        if word.lstrip("!") and (word.lstrip("!") in text) != wanted:
            return False
    return True


def _more(shown: int, total: int) -> str:
    """Says when the picture holds only the first of a long list."""
    return f" · the first {shown:,} are listed" if shown >= LIST_LIMIT and total > shown else ""


# --- nodes -----------------------------------------------------------------------------------------------------------

NODE_COLUMNS = (
    Column("Node", 9),
    Column("State", 10),
    Column("Beat", 6, right=True),
    Column("Used", 8, right=True),
    Column("%", 4, right=True),
    Column("Dirty", 8, right=True),
    Column("Last", 5, right=True),
    Column("Blocks", 7, right=True, from_cells=WIDE_CELLS),
    Column("Capacity", 8, right=True, from_cells=WIDE_CELLS),
    Column("Persister", 9, from_cells=WIDE_CELLS),
    Column("Restarts", 8, right=True, from_cells=WIDE_CELLS),
    Column("Host", 0),
)


def nodes(snapshot: ClusterSnapshot) -> Table:
    """One row per node, in the master's order."""
    counts = snapshot.totals.nodes
    risky = sum(node.last_copies for node in snapshot.nodes)
    summary: Line = (
        (f"{counts.live} live", "ok"),
        (f" · {counts.lost} lost", "bad" if counts.lost else "dim"),
        (f" · {counts.draining} draining", "accent" if counts.draining else "dim"),
        (f" · {count(risky, 'dirty block')} with one copy" if risky else "", "bad"),
        (_more(len(snapshot.nodes), counts.live + counts.lost), "dim"),
    )
    rows = tuple(_node(node) for node in snapshot.nodes)
    return Table(
        NODE_COLUMNS, rows, summary, "No node has registered yet. Workers register within seconds of rayfs start."
    )


def _node(node: NodeRow) -> Row:
    mark, tone = glyph(node.state)
    late: Tone = "plain" if node.heartbeat_age_s < 3 else "warn" if node.heartbeat_age_s < 10 else "bad"
    fill = node.used_bytes / node.capacity_bytes if node.capacity_bytes else 0.0
    persister: Tone = "ok" if node.persister == "up" else "bad"
    cells = (
        Cell(f"{short_node(node.node_id)}{'*' if node.is_head else ''}"),
        Cell(f"{mark} {node.state}", tone),
        Cell(compact(node.heartbeat_age_s), late, node.heartbeat_age_s),
        Cell(size(node.used_bytes), "plain", node.used_bytes),
        Cell(percent(node.used_bytes, node.capacity_bytes), "warn" if fill > 0.85 else "plain", fill),
        Cell(size(node.dirty_bytes), "accent" if node.dirty_bytes else "dim", node.dirty_bytes),
        Cell(str(node.last_copies), "bad" if node.last_copies else "dim", node.last_copies),
        Cell(f"{node.blocks:,}", "plain", node.blocks),
        Cell(size(node.capacity_bytes), "plain", node.capacity_bytes),
        Cell(f"{glyph(node.persister)[0] if node.persister == 'up' else '✖'} {node.persister}", persister),
        Cell(str(node.restarts), "warn" if node.restarts else "dim", node.restarts),
        Cell(node.host),
    )
    if node.state == "lost":
        blast: Line = (("It is lost: what it held is made again from the other copies.", "warn"),)
    elif node.last_copies:
        blast = ((f"If it died now, {count(node.last_copies, 'dirty block')} would have no copy left.", "bad"),)
    else:
        blast = (("No dirty block has its only copy here.", "ok"),)
    where = f" · {'head node · ' if node.is_head else ''}{node.host} · persister {node.persister}"
    holds = f" · {count(node.blocks, 'block')} of {size(node.capacity_bytes)} · {count(node.restarts, 'restart')}"
    detail: tuple[Line, ...] = (((node.node_id, "strong"),), ((where.removeprefix(" · ") + holds, "plain"),), blast)
    return Row(node.node_id, cells, detail, "rayfs nodes")


# --- persists --------------------------------------------------------------------------------------------------------

PERSIST_COLUMNS = (
    Column("State", 9),
    Column("Path", 0, keep_end=True),
    Column("Kind", 6, from_cells=VERY_WIDE_CELLS),
    Column("Size", 8, right=True),
    Column("Copies", 6, right=True, from_cells=WIDE_CELLS),
    Column("Age", 6, right=True, from_cells=WIDE_CELLS),
    Column("Parts", 7, right=True, from_cells=WIDE_CELLS),
    Column("Tries", 5, right=True, from_cells=VERY_WIDE_CELLS),
    Column("Next", 6, right=True),
    Column("Reason", 13, wide_width=22),
)


def persists(snapshot: ClusterSnapshot) -> Table:
    """What the under store does not hold as wanted, in the master's order of risk."""
    totals = snapshot.totals
    reasons = Counter(headline(row.last_error) for row in snapshot.persists if row.state == "failed" and row.last_error)
    failed = max(totals.failed_persists, sum(row.state == "failed" for row in snapshot.persists))
    changes = count(totals.pending_changes, "delete or move", "deletes or moves")
    worst = ", ".join(f"{reason} ({number})" for reason, number in reasons.most_common(2))
    summary: Line = (
        (f"{count(totals.pending_persists, 'file')} to persist", "plain"),
        (f" · {totals.persisting} running", "accent" if totals.persisting else "dim"),
        (f" · {failed} failed", "bad" if failed else "dim"),
        (f": {worst}" if worst else "", "bad"),
        (f" · {changes}" if totals.pending_changes else "", "plain"),
        (_more(len(snapshot.persists), totals.pending_persists + totals.pending_changes), "dim"),
    )
    rows = tuple(_persist(row) for row in snapshot.persists)
    return Table(PERSIST_COLUMNS, rows, summary, "Nothing waits: the under store holds what the namespace says.")


def _persist(row: PersistRow) -> Row:
    mark, tone = glyph(row.state)
    copies: Tone = "bad" if row.kind == "upload" and row.live_copies <= 1 else "plain"
    done = f"{row.parts_done}/{row.parts_total}" if row.parts_total else "-"
    upload = row.kind == "upload"
    cells = (
        Cell(f"{mark} {row.state}", tone),
        Cell(row.path),
        Cell(row.kind, "plain" if upload else "accent"),
        Cell(size(row.length) if upload else "-", "plain", row.length),
        Cell(str(row.live_copies) if upload else "-", copies, row.live_copies),
        Cell(compact(row.age_s), "plain", row.age_s),
        Cell(done, "accent" if row.state == "running" else "dim", row.parts_done),
        Cell(str(row.attempts), "warn" if row.attempts > 1 else "dim", row.attempts),
        Cell(_next_try(row), "plain", row.next_attempt_s if row.next_attempt_s is not None else -1.0),
        Cell(headline(row.last_error), "bad" if row.state == "failed" else "dim"),
    )
    when = f"next try in {duration(row.next_attempt_s)}" if row.next_attempt_s else "next try is due"
    progress = f"{done} parts sent" if row.state == "running" else when if row.state == "failed" else "in the queue"
    live = count(row.live_copies, "live copy", "live copies")
    facts = f"{row.kind} · {size(row.length)} · {live} · {duration(row.age_s)} old" if upload else row.kind
    detail: tuple[Line, ...] = (
        ((row.path, "strong"), (f"  -> {row.key}", "dim")),
        ((f"{facts} · {count(row.attempts, 'attempt')} · {progress}", "plain"),),
        ((readable(row.last_error) or "no attempt has failed", "bad" if row.last_error else "dim"),),
    )
    return Row(f"{row.kind} {row.key}", cells, detail, f"rayfs history {shlex.quote(row.path)}")


def _next_try(row: PersistRow) -> str:
    if row.state == "running":
        return "now"
    if row.next_attempt_s is None:
        return "-"
    return compact(row.next_attempt_s) if row.next_attempt_s >= 0.5 else "due"


# --- replication -----------------------------------------------------------------------------------------------------

REPLICATION_COLUMNS = (
    Column("State", 8),
    Column("Path", 0, keep_end=True),
    Column("Live", 4, right=True),
    Column("Target", 6, right=True),
    Column("Blocks", 6, right=True),
    Column("Size", 8, right=True, from_cells=WIDE_CELLS),
    Column("Cause", 10, wide_width=32),
)


def replication(snapshot: ClusterSnapshot) -> Table:
    """Files whose live copies are not at their target, fewest first."""
    totals = snapshot.totals
    under, over = totals.under_replicated_blocks, totals.over_replicated_blocks
    summary: Line = (
        (f"{count(under, 'block')} under-replicated", "warn" if under else "ok"),
        (f" · {over:,} over-replicated", "accent" if over else "dim"),
        (f" · {count(len(snapshot.replication), 'file')}", "dim"),
        (_more(len(snapshot.replication), under + over), "dim"),
    )
    rows = []
    for row in snapshot.replication:
        state, tone = _copies(row.live, row.target)
        cells = (
            Cell(state, tone, row.live - row.target),
            Cell(row.path),
            Cell(str(row.live), tone, row.live),
            Cell(str(row.target), "plain", row.target),
            Cell(f"{row.blocks:,}", "plain", row.blocks),
            Cell(size(row.length), "plain", row.length),
            Cell(row.cause),
        )
        detail: tuple[Line, ...] = (
            ((row.path, "strong"),),
            ((f"{size(row.length)} · {count(row.blocks, 'block')} not at {row.target} copies · {row.cause}", "plain"),),
        )
        rows.append(Row(row.path, cells, detail, f"rayfs location {shlex.quote(row.path)}"))
    return Table(REPLICATION_COLUMNS, tuple(rows), summary, "Every block has the copies it should have.")


def _copies(live: int, target: int) -> tuple[str, Tone]:
    if live == 0:
        return "✖ none", "bad"
    if live < target:
        return ("◆ last", "bad") if live == 1 else ("▲ under", "warn")
    return "◐ over", "accent"


# --- failures --------------------------------------------------------------------------------------------------------

FAILURE_COLUMNS = (
    Column("What", 13),
    Column("Name", 0, keep_end=True),
    Column("Since", 6, right=True),
    Column("Reason", 23, wide_width=40),
)


def failures(snapshot: ClusterSnapshot) -> Table:
    """Everything that failed, worst first: lost files, nodes, persists, warnings."""
    totals = snapshot.totals
    rows = [*_lost_files(snapshot), *_failed_nodes(snapshot), *_failed_persists(snapshot)]
    for text in warnings(snapshot):
        cells = (Cell("▲ warning", "warn", 4), Cell(""), Cell("", "plain", -1.0), Cell(text, "warn"))
        rows.append(Row(f"warning {text}", cells, (((text, "warn"),),), "rayfs doctor"))
    summary: Line = (
        (f"{count(totals.lost_files, 'lost file')}", "bad" if totals.lost_files else "dim"),
        (f" · {count(totals.nodes.lost, 'lost node')}", "bad" if totals.nodes.lost else "dim"),
        (f" · {count(totals.failed_persists, 'failed persist')}", "bad" if totals.failed_persists else "dim"),
        (_more(len(snapshot.lost), totals.lost_files), "dim"),
    )
    return Table(
        FAILURE_COLUMNS, tuple(rows), summary, "Nothing fails: no file lost, every node answers, every persist works."
    )


def _lost_files(snapshot: ClusterSnapshot) -> list[Row]:
    rows = []
    for lost in snapshot.lost:
        names = ", ".join(short_node(node_id) for node_id in lost.missing_nodes) or "unknown nodes"
        cells = (
            Cell("✖ LOST", "bad", 0),
            Cell(lost.path, "bad"),
            Cell(compact(lost.since_s), "plain", lost.since_s),
            Cell(f"was on {names}", "bad"),
        )
        advice = f"No copy is left; it was on {names}. It heals when one of them comes back with its replicas."
        detail: tuple[Line, ...] = (((lost.path, "strong"), (f"  {size(lost.length)}", "dim")), ((advice, "bad"),))
        rows.append(Row(f"lost {lost.path}", cells, detail, f"rayfs history {shlex.quote(lost.path)}"))
    return rows


def _failed_nodes(snapshot: ClusterSnapshot) -> list[Row]:
    rows = []
    for node in snapshot.nodes:
        silent = node.state in ("lost", "suspect")
        if not silent and node.persister == "up":
            continue
        what, tone = (
            (f"{glyph(node.state)[0]} node {node.state}", glyph(node.state)[1]) if silent else ("▲ persister", "warn")
        )
        reason = f"no heartbeat for {duration(node.heartbeat_age_s)}" if silent else "its persister is down"
        cells = (
            Cell(what, tone, 1),
            Cell(f"{short_node(node.node_id)} {node.host}"),
            Cell(compact(node.heartbeat_age_s) if silent else "", "plain", node.heartbeat_age_s),
            Cell(reason, tone),
        )
        rows.append(Row(f"node {node.node_id}", cells, _node(node).detail, "rayfs nodes"))
    return rows


def _failed_persists(snapshot: ClusterSnapshot) -> list[Row]:
    rows = []
    for row in sorted(snapshot.persists, key=lambda row: row.state != "failed"):
        if row.last_error and row.state in ("failed", "running"):
            shown = _persist(row)
            again = row.state == "running"
            cells = (
                Cell("▶ retrying" if again else "✖ persist", "accent" if again else "bad", 3 if again else 2),
                Cell(row.path),
                Cell(compact(row.age_s), "plain", row.age_s),
                Cell(headline(row.last_error), "dim" if again else "bad"),
            )
            rows.append(Row(f"persist {shown.key}", cells, shown.detail, shown.cli))
    return rows


# --- events ----------------------------------------------------------------------------------------------------------

EVENT_COLUMNS = (
    Column("Time", 8),
    Column("Level", 9),
    Column("Kind", 11, from_cells=WIDE_CELLS),
    Column("Message", 0),
    Column("About", 46, from_cells=WIDE_CELLS, keep_end=True),
)


def events(snapshot: ClusterSnapshot) -> Table:
    """The cluster's log, newest first."""
    levels = Counter(event.level for event in snapshot.events)
    summary: Line = (
        (count(len(snapshot.events), "event"), "plain"),
        (f" · {count(levels['warning'], 'warning')}", "warn" if levels["warning"] else "dim"),
        (f" · {count(levels['error'], 'error')}", "bad" if levels["error"] else "dim"),
    )
    rows = []
    for event in sorted(snapshot.events, key=lambda event: -event.number):
        mark, tone = glyph(event.level)
        about = event.path or (short_node(event.node_id) if event.node_id else "")
        message = readable(event.message)
        cells = (
            Cell(clock(event.at), "dim", event.at),
            Cell(f"{mark} {event.level}", tone),
            Cell(event.kind),
            Cell(message, "plain" if event.level == "info" else tone),
            Cell(about),
        )
        detail: tuple[Line, ...] = (((message, "strong"),), ((event.path or event.node_id or "", "plain"),))
        cli = f"rayfs history {shlex.quote(event.path)}" if event.path else "rayfs events"
        rows.append(Row(str(event.number), cells, detail, cli))
    return Table(EVENT_COLUMNS, tuple(rows), summary, "Nothing has happened yet.")
