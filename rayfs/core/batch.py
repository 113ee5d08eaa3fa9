"""One client request whose files are completed together, and answered when none is left."""

from __future__ import annotations

from dataclasses import dataclass

from rayfs.core.effects import Effect, Reply
from rayfs.core.operations import Published
from rayfs.errors import RayFSError


@dataclass(slots=True)
class Batch:
    """``single``: the answer is the one file's, not a tuple of one."""

    session: str
    sequence: int
    single: bool
    answers: list[Published | RayFSError | None]
    waiting: int

    def finish(self, position: int, answer: Published | RayFSError, effects: list[Effect]) -> None:
        """One file's answer; the last one sends the reply. A second answer for the same file changes nothing."""
        if self.answers[position] is not None:
            return
        self.answers[position] = answer
        self.waiting -= 1
        if self.waiting == 0:
            whole = self.answers[0] if self.single else tuple(self.answers)
            effects.append(Reply(self.session, self.sequence, whole))
