"""What a snapshot means for the operator: how bad, what to warn of, what to say when the master is silent. Pure."""

from __future__ import annotations

import re
from dataclasses import replace

from rayfs.admin.units import duration
from rayfs.core.snapshot import ClusterSnapshot
from rayfs.errors import RETRYABLE_TOKEN

STATES = ("safe", "persisting", "degraded", "at-risk", "lost", "down")
"""Verdicts from best to worst (DESIGN section 8)."""

FAILING_STATES = frozenset({"at-risk", "lost", "down"})
"""``status --check`` and ``fsck`` exit 1 in these."""


_STORE_CODE = re.compile(r"\((\d{3}\b[^)]*)\)")


def is_failing(state: str) -> bool:
    """Whether ``status --check`` fails. A word that is not known counts as failing."""
    return state in FAILING_STATES or state not in STATES


def warnings(snapshot: ClusterSnapshot) -> tuple[str, ...]:
    """The master's warnings, each one sentence, and one for a control service in memory, which must never go unsaid."""
    found = list(snapshot.warnings)
    if not snapshot.gcs_persistent and not any("control service" in text for text in found):
        found.append(
            "Ray's control service keeps its state in memory: if it crashes, what is not yet persisted is lost. "
            "Clusters made by rayfs start keep it on disk."
        )
    return tuple(dict.fromkeys(found))


def readable(error: str | None) -> str:
    """An error without the token that is there for programs."""
    return (error or "").removesuffix(f" [{RETRYABLE_TOKEN}]")


def headline(error: str | None) -> str:
    """The words that failures are grouped by: the store's code (``503 SlowDown``), else how the sentence begins."""
    text = readable(error)
    code = _STORE_CODE.search(text)
    return code[1] if code else re.split(r"[.;:(] ?", text, maxsplit=1)[0].strip()


def as_down(snapshot: ClusterSnapshot, silent_s: float) -> ClusterSnapshot:
    """``snapshot`` with the verdict ``down``: its figures are the last that the master published, ``silent_s`` ago."""
    reason = (
        f"The master has published nothing for {duration(silent_s)}; these figures are its last. "
        "Ray restarts it by itself; if this lasts, run rayfs doctor."
    )
    totals = replace(snapshot.totals, state="down", reasons=(reason, *snapshot.totals.reasons))
    return replace(snapshot, totals=totals)
