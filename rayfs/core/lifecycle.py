"""The life of a file as a total table, and the one place where a file's state changes.

    OPEN --SEAL--> SEALING --PUBLISH_CACHED--> CACHED --ASK_PERSIST--+
                     |  |                                            v
                     |  +------PUBLISH_DIRTY-----------------------> DIRTY --STORED--> PERSISTED
                     +---WRITE_THROUGH--> THROUGH --PUBLISH_STORED------------------------^
    Any of them --REMOVE / ABANDON--> GONE, from where nothing leads back.

A (state, event) that is not in the table raises ``IllegalTransition`` with the file's history. LOST is not a state: it
is derived from the replicas that are alive.
"""

from __future__ import annotations

from enum import StrEnum

from rayfs.core.model import HistoryEntry, PersistenceState

HISTORY_LIMIT = 32
"""Entries kept per file: the first two (how it was made) and the newest."""


class FileState(StrEnum):
    """Where a file is in its life."""

    OPEN = "OPEN"
    SEALING = "SEALING"
    THROUGH = "THROUGH"
    CACHED = "CACHED"
    DIRTY = "DIRTY"
    PERSISTED = "PERSISTED"
    GONE = "GONE"


class FileEvent(StrEnum):
    """What can happen to a file."""

    SEAL = "seal"
    REPLACE_HOLDER = "replace-holder"
    WRITE_THROUGH = "write-through"
    PUBLISH_CACHED = "publish-cached"
    PUBLISH_DIRTY = "publish-dirty"
    PUBLISH_STORED = "publish-stored"
    ASK_PERSIST = "ask-persist"
    UPLOAD_STARTED = "upload-started"
    UPLOAD_FAILED = "upload-failed"
    STORED = "stored"
    RENAMED = "renamed"
    MOVED_IN_STORE = "moved-in-store"
    UNDER_REPLICATED = "under-replicated"
    REPAIRED = "repaired"
    TRIMMED = "trimmed"
    FREED = "freed"
    CHANGED_IN_STORE = "changed-in-store"
    OVERWRITTEN_IN_STORE = "overwritten-in-store"
    CLIENT_CHANGE = "changed"
    ABANDON = "abandon"
    REMOVE = "remove"


_S, _E = FileState, FileEvent

TRANSITIONS: dict[tuple[FileState, FileEvent], FileState] = {
    (_S.OPEN, _E.SEAL): _S.SEALING,
    (_S.OPEN, _E.ABANDON): _S.GONE,
    (_S.SEALING, _E.REPLACE_HOLDER): _S.SEALING,
    (_S.SEALING, _E.WRITE_THROUGH): _S.THROUGH,
    (_S.SEALING, _E.PUBLISH_CACHED): _S.CACHED,
    (_S.SEALING, _E.PUBLISH_DIRTY): _S.DIRTY,
    (_S.SEALING, _E.ABANDON): _S.GONE,
    (_S.THROUGH, _E.UPLOAD_STARTED): _S.THROUGH,
    (_S.THROUGH, _E.UPLOAD_FAILED): _S.THROUGH,
    (_S.THROUGH, _E.PUBLISH_STORED): _S.PERSISTED,
    (_S.THROUGH, _E.UNDER_REPLICATED): _S.THROUGH,
    (_S.THROUGH, _E.REPAIRED): _S.THROUGH,
    (_S.THROUGH, _E.ABANDON): _S.GONE,
    (_S.CACHED, _E.ASK_PERSIST): _S.DIRTY,
    (_S.CACHED, _E.RENAMED): _S.CACHED,
    (_S.CACHED, _E.UNDER_REPLICATED): _S.CACHED,
    (_S.CACHED, _E.REPAIRED): _S.CACHED,
    (_S.CACHED, _E.TRIMMED): _S.CACHED,
    (_S.CACHED, _E.CLIENT_CHANGE): _S.CACHED,
    (_S.CACHED, _E.REMOVE): _S.GONE,
    (_S.DIRTY, _E.ASK_PERSIST): _S.DIRTY,
    (_S.DIRTY, _E.UPLOAD_STARTED): _S.DIRTY,
    (_S.DIRTY, _E.UPLOAD_FAILED): _S.DIRTY,
    (_S.DIRTY, _E.STORED): _S.PERSISTED,
    (_S.DIRTY, _E.RENAMED): _S.DIRTY,
    (_S.DIRTY, _E.UNDER_REPLICATED): _S.DIRTY,
    (_S.DIRTY, _E.REPAIRED): _S.DIRTY,
    (_S.DIRTY, _E.TRIMMED): _S.DIRTY,
    (_S.DIRTY, _E.CLIENT_CHANGE): _S.DIRTY,
    (_S.DIRTY, _E.REMOVE): _S.GONE,
    (_S.PERSISTED, _E.RENAMED): _S.PERSISTED,
    (_S.PERSISTED, _E.MOVED_IN_STORE): _S.PERSISTED,
    (_S.PERSISTED, _E.UPLOAD_STARTED): _S.PERSISTED,
    (_S.PERSISTED, _E.UPLOAD_FAILED): _S.PERSISTED,
    (_S.PERSISTED, _E.TRIMMED): _S.PERSISTED,
    (_S.PERSISTED, _E.OVERWRITTEN_IN_STORE): _S.DIRTY,
    (_S.PERSISTED, _E.FREED): _S.PERSISTED,
    (_S.PERSISTED, _E.CHANGED_IN_STORE): _S.PERSISTED,
    (_S.PERSISTED, _E.UNDER_REPLICATED): _S.PERSISTED,
    (_S.PERSISTED, _E.REPAIRED): _S.PERSISTED,
    (_S.PERSISTED, _E.CLIENT_CHANGE): _S.PERSISTED,
    (_S.PERSISTED, _E.REMOVE): _S.GONE,
}

PERSISTENCE: dict[FileState, PersistenceState] = {
    FileState.CACHED: PersistenceState.NOT_PERSISTED,
    FileState.DIRTY: PersistenceState.TO_BE_PERSISTED,
    FileState.PERSISTED: PersistenceState.PERSISTED,
}


class IllegalTransition(AssertionError):
    """An event that the table does not allow; the message carries the file's story."""


def step(state: FileState, event: FileEvent, story: list[HistoryEntry], subject: str) -> FileState:
    """The state after ``event``; raises ``IllegalTransition`` with the story of ``subject`` where the table has
    none.
    """
    after = TRANSITIONS.get((state, event))
    if after is None:
        lines = "; ".join(f"{entry.at:.3f} {entry.event} {entry.detail}".rstrip() for entry in story)
        raise IllegalTransition(f"{subject} is {state} and cannot take '{event}'; its history: {lines or 'none'}")
    return after


def remember(story: list[HistoryEntry], entry: HistoryEntry) -> None:
    """Append to a bounded story, dropping the oldest entry after the first two."""
    story.append(entry)
    if len(story) > HISTORY_LIMIT:
        del story[2]
