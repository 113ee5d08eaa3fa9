"""HTTP/1.1 framing for the fault proxy: heads and bodies pass through byte for byte, so that signatures stay valid.

Knows streams and HTTP's framing (RFC 9112 section 6), nothing of S3 or of faults. Header blocks and chunks are
bounded by ``LIMIT``.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field

LIMIT = 1 << 20
"""Bytes a stream buffers before it stops reading; also the longest header block."""

PIECE = 256 << 10
"""Bytes passed on at a time."""


class BrokenMessageError(ConnectionError):
    """The peer went away in the middle of a message, or sent what is not HTTP."""


@dataclass(frozen=True, slots=True)
class Head:
    """Start line and headers of a request or a response, with the bytes that they came in."""

    raw: bytes
    start: tuple[str, ...]
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def status(self) -> int:
        """Of a response."""
        return int(self.start[1])

    @property
    def closes(self) -> bool:
        """Whether the sender ends the connection after this message."""
        connection = self.headers.get("connection", "").lower()
        return "close" in connection or ("HTTP/1.0" in self.start and "keep-alive" not in connection)

    @property
    def expects_continue(self) -> bool:
        """Whether a request waits for 100 before it sends its body."""
        return self.headers.get("expect", "").lower() == "100-continue"


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """The next message's head; None where the peer closed between messages."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise BrokenMessageError("connection closed inside a header") from None
        return None
    except (asyncio.LimitOverrunError, OSError) as error:
        raise BrokenMessageError(str(error)) from None
    first, *lines = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
    start = tuple(first.split(" ", 2))
    if len(start) < 2 or "HTTP/1" not in first:
        raise BrokenMessageError("not HTTP/1")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return Head(raw, start, headers)


def has_no_body(method: str, response: Head) -> bool:
    """Responses that end with their head, whatever their headers say."""
    return method == "HEAD" or response.status in (204, 304) or 100 <= response.status < 200


async def read_body(
    reader: asyncio.StreamReader, head: Head, *, until_end: bool = False, piece: int = PIECE
) -> AsyncIterator[bytes]:
    """A message's body as it came, chunk sizes too. ``until_end``: without a length it lasts until the peer closes."""
    try:
        if "chunked" in head.headers.get("transfer-encoding", "").lower():
            async for part in _read_chunked(reader, piece):
                yield part
        elif "content-length" in head.headers:
            async for part in _read_exactly(reader, int(head.headers["content-length"]), piece):
                yield part
        elif until_end:
            while part := await reader.read(piece):
                yield part
    except (OSError, ValueError, asyncio.IncompleteReadError) as error:
        raise BrokenMessageError(f"broken body: {error}") from None


async def _read_exactly(reader: asyncio.StreamReader, left: int, piece: int) -> AsyncIterator[bytes]:
    while left > 0:
        part = await reader.read(min(left, piece))
        if not part:
            raise BrokenMessageError("connection closed inside a body")
        left -= len(part)
        yield part


async def _read_chunked(reader: asyncio.StreamReader, piece: int) -> AsyncIterator[bytes]:
    while True:
        line = await reader.readuntil(b"\r\n")
        yield line
        size = int(line.partition(b";")[0], 16)
        if size:
            async for part in _read_exactly(reader, size + 2, piece):
                yield part
            continue
        while line != b"\r\n" or size:
            line = await reader.readuntil(b"\r\n")
            size = 0
            yield line
        return


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection with RST, as a crashed peer or a firewall does."""
    connection = writer.get_extra_info("socket")
    if connection is not None:
        with suppress(OSError):  # closed already
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Pacer:
    """Lets through at most ``rate`` bytes a second, with no burst beyond one piece, for all its callers together."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._free_at = 0.0

    async def take(self, size: int) -> None:
        """Wait until ``size`` bytes may pass."""
        now = asyncio.get_running_loop().time()
        begin = max(now, self._free_at)
        self._free_at = begin + size / self.rate
        if self._free_at > now:
            await asyncio.sleep(self._free_at - now)
