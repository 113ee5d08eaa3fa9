"""What every source of snapshots is, and the one place where a snapshot becomes bytes and back.

Knows the snapshot types only. The master encodes with ``msgspec.json.encode`` as ``encode`` does here, so a newer
master's extra fields are ignored and an older one's missing fields take their defaults.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from rayfs.core.snapshot import ClusterSnapshot
from rayfs.errors import ClusterUnreachable

STALE_AFTER_S = 10.0
"""Age at which a snapshot no longer speaks for the cluster: ten publications missed, of one a second."""


class AdminSource(Protocol):
    """Somewhere that pictures of a cluster come from."""

    @property
    def name(self) -> str:
        """One word: live, fake, replay."""

    @property
    def description(self) -> str:
        """Which cluster, for a person: an address, a seed, a file name."""

    def snapshot(self) -> ClusterSnapshot:
        """The newest picture. Raises ``ClusterUnreachable`` when there is none; called from one thread at a time."""


def identity(snapshot: ClusterSnapshot) -> tuple[int, float]:
    """The same for the same picture: which master took it, and when by its own clock."""
    return snapshot.epoch, snapshot.taken_at


_decoder = msgspec.json.Decoder(ClusterSnapshot)
_encoder = msgspec.json.Encoder()


def encode(snapshot: ClusterSnapshot) -> bytes:
    """JSON, as the master publishes it."""
    return _encoder.encode(snapshot)


def decode(raw: bytes) -> ClusterSnapshot:
    """The snapshot that ``raw`` holds; ``ClusterUnreachable`` when it is not one (a master of another version)."""
    try:
        return _decoder.decode(raw)
    except msgspec.MsgspecError as error:
        raise ClusterUnreachable(
            f"The published snapshot cannot be read ({error}); use the rayfs version that the cluster runs."
        ) from error
