"""Record snapshots to a bounded JSON Lines file, and a source that plays one back.

One line is one snapshot as ``rayfs.admin.source.encode`` writes it, so a recording can be read with ``jq`` and attached
to a report. It holds what the console shows: paths, node ids, errors and configuration; no file contents, no
credentials.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path

from rayfs.admin.source import decode, encode, identity
from rayfs.core.snapshot import ClusterSnapshot
from rayfs.errors import ClusterUnreachable, InvalidArgument

RECORDING_BYTES = 64 << 20
"""Default bound of a recording: some hours of a small cluster at one snapshot a second."""


class Recorder:
    """Appends snapshots to ``path``. At the bound the older half goes, in whole lines and one atomic replacement."""

    def __init__(self, path: Path, limit_bytes: int = RECORDING_BYTES) -> None:
        self._path = path
        self._limit = limit_bytes
        self._last: tuple[int, float] | None = None
        self._file = path.open("ab")

    def record(self, snapshot: ClusterSnapshot) -> None:
        """Append, unless it is the picture that was appended last."""
        if identity(snapshot) == self._last:
            return
        line = encode(snapshot) + b"\n"
        if self._file.tell() + len(line) > self._limit:
            self._drop_older_half(room_for=len(line))
        self._file.write(line)
        self._file.flush()
        self._last = identity(snapshot)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _drop_older_half(self, room_for: int) -> None:
        self._file.close()
        kept: deque[bytes] = deque()
        kept_bytes = 0
        with self._path.open("rb") as recording:
            for line in recording:
                kept.append(line)
                kept_bytes += len(line)
                while kept and kept_bytes > max(0, min(self._limit // 2, self._limit - room_for)):
                    kept_bytes -= len(kept.popleft())
        shorter = self._path.with_name(self._path.name + ".shorter")
        shorter.write_bytes(b"".join(kept))
        shorter.replace(self._path)
        self._file = self._path.open("ab")


class ReplaySource:
    """Plays a recording, one snapshot per call; at the end it stays on the last one, or with ``repeat`` begins anew."""

    name = "replay"

    def __init__(self, path: Path, *, repeat: bool = False) -> None:
        try:
            self._lines = path.open("rb")
        except OSError as error:
            raise InvalidArgument(f"The recording {path} cannot be read: {error.strerror}.") from error
        self._repeat = repeat
        self._last: ClusterSnapshot | None = None
        self.description = f"the recording {path.name}"

    def snapshot(self) -> ClusterSnapshot:
        """The next picture. A last line that was cut off in the middle counts as the end."""
        line = self._lines.readline()
        if not line.endswith(b"\n") and self._repeat:
            self._lines.seek(0)
            line = self._lines.readline()
        if line.endswith(b"\n"):
            self._last = decode(line)
        if self._last is None:
            raise ClusterUnreachable(f"There is no snapshot in {self.description}; record one first.")
        return self._last

    def close(self) -> None:
        """Close the file."""
        self._lines.close()
