"""Multipart uploads in progress: which parts are to be sent, on their way, or confirmed. In memory only.

A new master aborts an upload it finds in a row and does it again, so nothing here needs to survive.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from rayfs.core.keyrows import PlannedPart
from rayfs.core.orders import SentPart

PART_TRIES = 10
"""Tries of one part before the whole upload is given up and begun anew."""


@dataclass(slots=True)
class Upload:
    """The parts of one attempt. ``waiting`` is ordered; ``sending`` maps a part to its persister's incarnation."""

    file_id: int
    parts: dict[int, PlannedPart]
    waiting: list[int] = field(default_factory=list)
    sending: dict[int, str] = field(default_factory=dict)
    sent: dict[int, SentPart] = field(default_factory=dict)
    tries: dict[int, int] = field(default_factory=dict)
    finishing: bool = False

    def next_part(self) -> PlannedPart | None:
        """The next part to send, without taking it."""
        return self.parts[self.waiting[0]] if self.waiting else None

    def take(self, part: int, persister: str) -> None:
        """The part is on its way."""
        self.waiting.remove(part)
        self.sending[part] = persister

    def confirmed(self, sent: SentPart) -> None:
        """The store has the part; a repeat changes nothing."""
        self.sending.pop(sent.part, None)
        self.sent[sent.part] = sent

    def failed(self, part: int) -> bool:
        """The part is to be sent again; False when it was tried too often."""
        if self.sending.pop(part, None) is not None and part not in self.sent:
            self.waiting.insert(0, part)
        self.tries[part] = self.tries.get(part, 0) + 1
        return self.tries[part] < PART_TRIES

    @property
    def complete(self) -> bool:
        """Whether every part is confirmed."""
        return len(self.sent) == len(self.parts)

    def in_order(self) -> tuple[SentPart, ...]:
        """The confirmed parts by number."""
        return tuple(self.sent[part] for part in sorted(self.sent))
