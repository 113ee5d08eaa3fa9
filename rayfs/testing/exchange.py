"""Carries one request of the fault proxy to the store and its answer back, whole or as a fault wants it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from rayfs.testing.faults import Exchange
from rayfs.testing.relay import LIMIT, PIECE, BrokenMessageError, Head, Pacer, has_no_body, read_body, read_head

CONTINUE_WAIT_S = 1.0
"""How long a store may take over 100 Continue before the body is sent anyway, as botocore does it."""

LINGER_S = 1.0
"""How long a client that was refused early may go on sending before its connection is cut."""

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass(eq=False)
class Client:
    """A client's connection and the bandwidth limits on its present request."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    pacers: list[Pacer] = field(default_factory=list)

    async def pace(self, size: int) -> None:
        """Wait until so many bytes may pass."""
        for pacer in self.pacers:
            await pacer.take(size)

    @property
    def piece(self) -> int:
        """Bytes to pass on at a time: a tenth of a second's worth where there is a limit."""
        return min([PIECE, *(max(1024, int(pacer.rate / 10)) for pacer in self.pacers)])


class Carrier:
    """One connection to the store, reused while the client's lasts."""

    def __init__(self, upstream: tuple[str, int], note: Callable[[], None]) -> None:
        self._upstream = upstream
        self._note = note
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    def close(self) -> None:
        """End the connection to the store."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._reader is None or self._writer is None or self._reader.at_eof() or self._writer.is_closing():
            self.close()
            self._reader, self._writer = await asyncio.open_connection(*self._upstream, limit=LIMIT)
        return self._reader, self._writer

    async def forward(
        self, client: Client, head: Head, exchange: Exchange, *, corrupt: bool = False, cut: bool = False
    ) -> bool:
        """Pass the request and its answer on. ``cut``: only half of the answer. Returns whether the client stays."""
        response = await self._request(client, head, exchange, corrupt=corrupt)
        reader = self._reader
        assert reader is not None
        exchange.client_status = None if cut else response.status
        empty = has_no_body(head.start[0], response) or response.headers.get("content-length") == "0"
        client.writer.write(response.raw[: len("HTTP/1.1 2")] if cut and empty else response.raw)
        stays = not (response.closes or head.closes or cut)
        if not empty:
            stays = stays and ("content-length" in response.headers or "transfer-encoding" in response.headers)
            async for part in read_body(reader, response, until_end=True, piece=client.piece):
                await client.pace(len(part))
                client.writer.write(part[: len(part) // 2] if cut else part)
                await client.writer.drain()
                if cut:
                    break
        await client.writer.drain()
        if response.closes or cut:
            self.close()
        return stays

    async def swallow(self, client: Client, head: Head, exchange: Exchange) -> None:
        """Pass the request on and keep its answer."""
        response = await self._request(client, head, exchange)
        reader = self._reader
        assert reader is not None
        if not has_no_body(head.start[0], response):
            async for _ in read_body(reader, response, until_end=True):
                pass
        self.close()

    async def answer(
        self, client: Client, head: Head, exchange: Exchange, status: int, code: str, *, body_read: bool = False
    ) -> bool:
        """Answer in the store's place with an S3 error document."""
        early = head.expects_continue and not body_read
        if not early and not body_read:
            async for _ in read_body(client.reader, head):
                pass
        text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{code}</Message></Error>'
        body = b"" if head.start[0] == "HEAD" else text.encode()
        client.writer.write(
            f"HTTP/1.1 {status} {code}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n"
            f"{'Connection: close' if early else 'x-amz-request-id: faultproxy'}\r\n\r\n".encode()
            + body
        )
        exchange.client_status = status
        await client.writer.drain()
        if early:
            with suppress(TimeoutError, OSError):
                async with asyncio.timeout(LINGER_S):
                    while await client.reader.read(PIECE):
                        pass
        return not early and not head.closes

    async def take_body(self, client: Client, head: Head) -> bytes:
        """The whole body of a request that does not go on now."""
        if head.expects_continue:
            client.writer.write(CONTINUE)
        return b"".join([part async for part in read_body(client.reader, head)])

    async def deliver(self, head: Head, body: bytes, exchange: Exchange) -> None:
        """Send a parked request over a connection of its own; the answer goes into ``exchange``."""
        reader, writer = await self._open()
        try:
            writer.write(head.raw + body)
            await writer.drain()
            exchange.store_status = (await _final_head(reader)).status
        finally:
            exchange.done = True
            self.close()
            self._note()

    async def _request(self, client: Client, head: Head, exchange: Exchange, *, corrupt: bool = False) -> Head:
        """Send the request while listening for an early refusal; returns the answer's head."""
        reader, writer = await self._open()
        writer.write(head.raw)
        await writer.drain()
        if head.expects_continue:
            refusal = await self._await_continue(reader)
            if refusal is not None:
                return self._answered(exchange, refusal)
            client.writer.write(CONTINUE)
        answer = asyncio.create_task(_final_head(reader))
        try:
            await self._send_body(client, head, writer, answer, corrupt=corrupt)
            return self._answered(exchange, await answer)
        finally:
            answer.cancel()
            answer.add_done_callback(lambda task: task.cancelled() or task.exception())  # heard, and told by the body

    @staticmethod
    async def _await_continue(reader: asyncio.StreamReader) -> Head | None:
        """None when the body may be sent; else the refusal."""
        try:
            async with asyncio.timeout(CONTINUE_WAIT_S):
                first = await read_head(reader)
        except TimeoutError:
            return None
        if first is None:
            raise BrokenMessageError("the store closed the connection")
        return None if first.status == 100 else first

    async def _send_body(
        self, client: Client, head: Head, writer: asyncio.StreamWriter, answer: asyncio.Task[Head], *, corrupt: bool
    ) -> None:
        """Once the store has answered, or has gone, the rest is read and dropped, so that the client can hear it."""
        async for part in read_body(client.reader, head, piece=client.piece):
            await client.pace(len(part))
            if answer.done():
                continue
            sent, corrupt = (bytes([part[0] ^ 0xFF]) + part[1:] if corrupt else part), False
            with suppress(OSError):
                writer.write(sent)
                await writer.drain()

    def _answered(self, exchange: Exchange, response: Head) -> Head:
        exchange.store_status = response.status
        self._note()
        return response


async def _final_head(reader: asyncio.StreamReader) -> Head:
    while True:
        head = await read_head(reader)
        if head is None:
            raise BrokenMessageError("the store closed the connection without an answer")
        if head.status >= 200:
            return head
