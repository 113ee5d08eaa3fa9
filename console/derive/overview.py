"""The overview: the verdict with its reasons, the flow from writer to under store, space, nodes and rates. Pure.

Each function takes the width it has and gives lines; what matters most comes first, because short screens cut the end.
"""

from __future__ import annotations

from collections.abc import Iterable

from rayfs.admin.units import count, duration, rate, short_node, size
from rayfs.admin.verdict import readable, warnings
from rayfs.console.derive.figures import bar, clock, glyph, percent, shorten, spark
from rayfs.console.history import History
from rayfs.console.tones import Line, Span, Tone
from rayfs.core.snapshot import ClusterSnapshot, Totals

MEANINGS = {
    "safe": "The under store holds everything that was acknowledged.",
    "persisting": "Every dirty block has all its copies; the under store is catching up.",
    "degraded": "No data is lost; something needs time or attention.",
    "at-risk": "One more failure can lose acknowledged data.",
    "lost": "Acknowledged data has no live copy.",
    "down": "The master does not publish: these figures are old.",
}

BUSY_BYTES_PER_S = 1 << 20
"""Below this a rate counts as standing still."""

CROWDED = 0.85
"""Part of the capacity in use above which space is shown as scarce."""

FULL_SOON_S = 600.0
"""Time to full below which an operator should act."""

STILL_BYTES_PER_S = 4 << 10
"""Below this a rate is what is left of a moving average: nothing moves, and no time can be told from it."""

THROTTLE_SIGNS = ("SlowDown", "503", "429", "TooManyRequests", "Throttl")


def safety(snapshot: ClusterSnapshot, width: int, height: int) -> list[Line]:
    """Is my data safe, and when will it all be in the under store."""
    totals = snapshot.totals
    mark, tone = glyph(totals.state)
    lines: list[Line] = [
        ((f"{mark} {totals.state.upper()}", "bad" if tone == "bad" else tone), (f"  {_outlook(totals)}", "strong")),
        ((_debt(totals), "plain"),),
    ]
    reasons: list[Line] = [((f"{mark} {reason}", tone),) for reason in totals.reasons]
    warned: list[Line] = [((f"▲ {text}", "warn"),) for text in warnings(snapshot)]
    if len(lines) + len(reasons) + len(warned) > height:
        reasons = [((text, tone),) for text in _packed([f"{mark} {reason}" for reason in totals.reasons], width)]
    lines += reasons or [((MEANINGS.get(totals.state, ""), "dim"),)]
    lines += warned
    return [tuple((shorten(text, width), span_tone) for text, span_tone in line) for line in lines]


def _packed(texts: list[str], width: int) -> list[str]:
    """As many texts on each line as fit."""
    lines: list[str] = []
    for text in texts:
        if lines and len(lines[-1]) + len(text) + 2 <= width:
            lines[-1] += f"  {text}"
        else:
            lines.append(text)
    return lines


def _outlook(totals: Totals) -> str:
    """One sentence about when."""
    if totals.state == "down":
        return "master silent"
    if not totals.dirty_files and not totals.pending_changes:
        return "everything is in the under store"
    if not totals.dirty_files:
        return f"{count(totals.pending_changes, 'delete or move', 'deletes or moves')} left to do in the under store"
    if totals.time_to_safe_s is None or totals.persist_bytes_per_s < STILL_BYTES_PER_S:
        return "not moving: nothing reaches the under store now"
    rest = "the rest" if totals.lost_files else "all"
    return f"{rest} in the under store in about {duration(totals.time_to_safe_s)}"


def _debt(totals: Totals) -> str:
    parts = []
    if totals.dirty_files:
        oldest = f", oldest {duration(totals.oldest_dirty_s)}" if totals.oldest_dirty_s is not None else ""
        parts.append(f"{size(totals.dirty_bytes)} dirty in {count(totals.dirty_files, 'file')}{oldest}")
    else:
        parts.append("nothing dirty")
    if totals.pending_changes and totals.dirty_files:
        parts.append(count(totals.pending_changes, "delete or move", "deletes or moves") + " pending")
    if totals.cache_only_files:
        parts.append(f"{size(totals.cache_only_bytes)} cache-only")
    return " · ".join(parts)


def bottleneck(snapshot: ClusterSnapshot) -> Line:
    """What holds up the way into the under store, by name."""
    totals = snapshot.totals
    errors = [row.last_error or "" for row in snapshot.persists if row.state == "failed"]
    if not totals.dirty_files:
        return (("bottleneck  ", "dim"), ("none: nothing is waiting", "ok"))
    behind = totals.persist_bytes_per_s < max(BUSY_BYTES_PER_S, 0.8 * totals.write_bytes_per_s)
    if behind and any(sign in error for error in errors for sign in THROTTLE_SIGNS):
        return (("bottleneck  ", "dim"), ("under store throttled: it asks to slow down", "warn"))
    if errors and totals.persist_bytes_per_s < BUSY_BYTES_PER_S:
        return (("bottleneck  ", "dim"), ("under store refuses or does not answer: see 5 Failures", "bad"))
    if totals.nodes.live == 0:
        return (("bottleneck  ", "dim"), ("no live node", "bad"))
    if totals.persist_bytes_per_s < BUSY_BYTES_PER_S and not totals.persisting:
        return (("bottleneck  ", "dim"), ("none yet: files wait for their time to be persisted", "plain"))
    if totals.write_bytes_per_s > totals.persist_bytes_per_s * 1.1:
        return (("bottleneck  ", "dim"), ("under store: written faster than persisted, dirty grows", "accent"))
    return (("bottleneck  ", "dim"), ("writer: the under store keeps up", "ok"))


def flow(snapshot: ClusterSnapshot, width: int) -> list[Line]:
    """write -> replicate -> persist -> under store, each with its figures."""
    totals = snapshot.totals
    under, failed = totals.under_replicated_blocks, totals.failed_persists
    queue: Span = (f"{totals.pending_persists} left, {totals.persisting} run", "dim")
    stages: tuple[tuple[Span, Span, Span], ...] = (
        (("write", "strong"), (rate(totals.write_bytes_per_s), "plain"), (count(totals.files, "file"), "dim")),
        (
            ("replicate", "strong"),
            (f"{under:,} under", "warn") if under else ("all copies live", "ok"),
            (f"{totals.over_replicated_blocks:,} over", "dim"),
        ),
        (
            ("persist", "strong"),
            (rate(totals.persist_bytes_per_s), "plain"),
            (f"✖ {failed} failed", "bad")
            if failed
            else (f"{totals.persisting} run, {totals.pending_persists} wait", "dim"),
        ),
        (
            ("under store", "strong"),
            (snapshot.under_store, "plain"),
            queue if failed else ("", "dim"),
        ),
    )
    arrow = " ──▶ "
    column = max(10, (width - 3 * len(arrow)) // 4)
    lines: list[Line] = []
    for row in range(3):
        spans: list[Span] = []
        for index, stage in enumerate(stages):
            text, tone = stage[row]
            spans.append((shorten(text, column, keep_end=index == 3).ljust(column), tone))
            if index < 3:
                spans.append((arrow if row == 0 else " " * len(arrow), "accent"))
        lines.append(tuple(spans))
    return [*lines, bottleneck(snapshot)]


def space(snapshot: ClusterSnapshot, width: int) -> list[Line]:
    """Used and dirty of the capacity."""
    totals = snapshot.totals
    whole = totals.capacity_bytes
    used_tone: Tone = "warn" if whole and totals.used_bytes / whole > CROWDED else "ok"
    figures: tuple[tuple[str, int, Tone], ...] = (
        ("used ", totals.used_bytes, used_tone),
        ("dirty", _dirty_copies(snapshot), "accent"),
    )
    lines: list[Line] = []
    for name, amount, tone in figures:
        drawn = bar(amount / whole if whole else 0.0, max(4, width - 21), tone)
        lines.append(((f"{name} ", "dim"), *drawn, (f" {size(amount):>8} {percent(amount, whole):>4}", "plain")))
    ending: Span = ("", "dim")
    if totals.time_to_full_s is not None:
        soon = totals.time_to_full_s < FULL_SOON_S
        ending = (f" · full in {duration(totals.time_to_full_s)}", "warn" if soon else "dim")
    return [*lines, ((f"of {size(whole)}", "dim"), ending)]


def _dirty_copies(snapshot: ClusterSnapshot) -> int:
    """Bytes that dirty replicas take on the nodes that capacity and use are counted of, all copies counted."""
    return sum(node.dirty_bytes for node in snapshot.nodes if node.state in ("live", "draining"))


def nodes(snapshot: ClusterSnapshot, width: int) -> list[Line]:
    """How many are live, and each as a glyph; troubled ones by name."""
    counts = snapshot.totals.nodes
    lines: list[Line] = [
        (
            (f"{counts.live} live", "ok" if counts.live else "bad"),
            (f" · {counts.lost} lost", "bad" if counts.lost else "dim"),
            (f" · {counts.draining} draining", "accent" if counts.draining else "dim"),
        ),
        tuple(glyph(node.state) for node in snapshot.nodes[:width]),
    ]
    troubled = [node for node in snapshot.nodes if node.state != "live"]
    named = "  ".join(f"{glyph(node.state)[0]} {short_node(node.node_id)} {node.state}" for node in troubled)
    lines.append(((shorten(named, width), "warn"),) if named else (("every node answers", "dim"),))
    return lines


def rates(snapshot: ClusterSnapshot, history: History, width: int) -> list[Line]:
    """Sparklines of what goes in, what comes out, and what is between."""
    totals = snapshot.totals
    series: tuple[tuple[str, Iterable[float], Tone, str], ...] = (
        ("write", history.write_bytes_per_s, "ok", rate(totals.write_bytes_per_s)),
        ("persist", history.persist_bytes_per_s, "accent", rate(totals.persist_bytes_per_s)),
        ("dirty", history.dirty_bytes, "warn", size(totals.dirty_bytes)),
    )
    length = max(4, width - 18)
    return [
        ((f"{name:<8}", "dim"), (spark(values, length), tone), (f"{figure:>10}", "plain"))
        for name, values, tone, figure in series
    ]


def latest(snapshot: ClusterSnapshot, width: int, height: int) -> list[Line]:
    """The newest events, newest first."""
    rows = sorted(snapshot.events, key=lambda event: -event.number)[: max(0, height)]
    lines: list[Line] = []
    for event in rows:
        mark, tone = glyph(event.level)
        about = event.path or (short_node(event.node_id) if event.node_id else "")
        message = readable(event.message)
        text = message if about in message else f"{message} {about}"
        lines.append(((f"{clock(event.at)} ", "dim"), (f"{mark} ", tone), (shorten(text, width - 11), tone)))
    return lines or [(("nothing has happened yet", "dim"),)]
