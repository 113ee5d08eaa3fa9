"""``FaultProxy``: a real HTTP proxy in front of S3 that breaks what it is told to break, and remembers every request.

    with FaultProxy(server.endpoint) as proxy:
        rule = proxy.lose_answer(operation="PUT_OBJECT", key="data/out/*", times=1)
        ...                                        # use proxy.endpoint as rayfs.underfs.s3.endpoint
        rule.wait_for_hits()
        assert proxy.committed("PUT_OBJECT", key="data/out/a") == 1

It runs in a thread of its own with an event loop of its own, takes connections of any process on this machine, and
passes bytes on unchanged (the Host header too, so signatures stay valid). Every method may be called from any thread
at any time. Requests pass, in this order: outage, hold, latency, then the first other rule that matches, in the order
they were made. Bounds: ``log`` keeps the last ``LOG_ENTRIES`` exchanges, ``PARKED`` requests can wait for late
delivery.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, deque
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

from rayfs.errors import UnderStoreUnavailable, WaitTimedOut
from rayfs.testing.exchange import Carrier, Client
from rayfs.testing.faults import Exchange, Fault, Rule, as_operations, classify
from rayfs.testing.relay import LIMIT, BrokenMessageError, Head, Pacer, read_head, reset

LOG_ENTRIES = 50_000
PARKED = 1000
START_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Parked:
    """A whole request whose client was cut off, waiting for ``deliver``."""

    head: Head
    body: bytes
    exchange: Exchange


class FaultProxy:
    """One proxy in front of ``upstream`` (``http://host:port``); ``port`` 0 takes a free one."""

    def __init__(self, upstream: str, port: int = 0) -> None:
        url = urlsplit(upstream)
        if url.scheme != "http" or url.hostname is None:
            raise ValueError(f"{upstream!r} is no http://host:port that the fault proxy can stand in front of")
        self._upstream = (url.hostname, url.port or 80)
        self._port = port
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._changed = threading.Condition()
        self._rules: list[Rule] = []
        self._gates: dict[Rule, asyncio.Event] = {}
        self._counts: Counter[str] = Counter()
        self._log: deque[Exchange] = deque(maxlen=LOG_ENTRIES)
        self._parked: list[Parked] = []
        self._clients: set[Client] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._total: Pacer | None = None
        self._per_connection: float | None = None

    # --- life --------------------------------------------------------------------------------------------------------

    @property
    def endpoint(self) -> str:
        """URL to give to S3 clients instead of the store's; starts the proxy if nobody has."""
        self.start()
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> Self:
        """Listen; returns once connections are taken. Harmless when repeated, also after ``stop``."""
        if self._thread is not None:
            return self
        self._loop = loop = asyncio.new_event_loop()
        started = threading.Event()
        failures: list[BaseException] = []

        def run() -> None:
            asyncio.set_event_loop(loop)
            try:
                server = loop.run_until_complete(
                    asyncio.start_server(self._accept, "127.0.0.1", self._port, limit=LIMIT, backlog=1024)
                )
            except OSError as error:
                failures.append(error)
                started.set()
                return
            self._port = server.sockets[0].getsockname()[1]
            started.set()
            loop.run_forever()
            server.close()
            loop.run_until_complete(self._end_connections())

        self._thread = threading.Thread(target=run, name="rayfs-faultproxy", daemon=True)
        self._thread.start()
        if not started.wait(START_TIMEOUT_S) or failures:
            self.stop()
            raise UnderStoreUnavailable(f"The fault proxy could not listen on port {self._port}: {failures}.")
        return self

    def stop(self) -> None:
        """Cut every connection and end the thread; harmless when repeated."""
        thread, self._thread = self._thread, None
        loop, self._loop = self._loop, None
        if thread is None or loop is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _cut_all(self) -> None:
        for client in list(self._clients):
            reset(client.writer)

    async def _end_connections(self) -> None:
        self._cut_all()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- faults ------------------------------------------------------------------------------------------------------

    def latency(self, seconds: float, **when: Any) -> Rule:
        """Each matching request waits so long. ``when``, here and below: operation, key, times, after (``Rule``)."""
        return self._add(Rule(Fault.LATENCY, seconds=seconds, **_when(when)))

    def hold(self, **when: Any) -> Rule:
        """The store held shut: matching requests wait until ``release``, or the rule's ``off``."""
        return self._add(Rule(Fault.HOLD, **_when(when)))

    def release(self) -> None:
        """End every hold; what waited goes on."""
        self._end(Fault.HOLD)

    def reset(self, **when: Any) -> Rule:
        """The connection breaks before the request reaches the store."""
        return self._add(Rule(Fault.RESET, **_when(when)))

    def answer(self, status: int, code: str, **when: Any) -> Rule:
        """The proxy answers instead of the store: any status with any S3 error code."""
        return self._add(Rule(Fault.ANSWER, status=status, code=code, **_when(when)))

    def slow_down(self, **when: Any) -> Rule:
        """503 SlowDown."""
        return self.answer(503, "SlowDown", **when)

    def lose_answer(self, **when: Any) -> Rule:
        """The store does it, and the client never hears of it."""
        return self._add(Rule(Fault.LOSE_ANSWER, **_when(when)))

    def cut_answer(self, **when: Any) -> Rule:
        """The store does it, and its answer breaks off in the middle (of the body, where there is one)."""
        return self._add(Rule(Fault.CUT_ANSWER, **_when(when)))

    def error_inside(self, code: str = "InternalError", *, forward: bool = False, **when: Any) -> Rule:
        """200 with an error inside; ``forward``: the store does it all the same."""
        return self._add(Rule(Fault.ERROR_INSIDE, code=code, forward=forward, **_when(when)))

    def corrupt(self, **when: Any) -> Rule:
        """The first byte of the body is flipped on its way to the store."""
        return self._add(Rule(Fault.CORRUPT, **_when(when)))

    def deliver_late(self, **when: Any) -> Rule:
        """The client is cut off at once; the request is kept whole and reaches the store with ``deliver``."""
        return self._add(Rule(Fault.DELIVER_LATE, **_when(when)))

    def outage(self) -> Rule:
        """Nobody gets through: open connections break, also in the middle of a request, and new ones are refused."""
        rule = self._add(Rule(Fault.OUTAGE))
        self._call(self._cut_all)
        return rule

    def limit_bandwidth(self, total: float | None = None, per_connection: float | None = None) -> None:
        """Bytes a second of bodies, both ways together; None is no limit."""
        self._total = Pacer(total) if total else None
        self._per_connection = per_connection

    def clear(self) -> None:
        """End every fault; what is held goes on, what is parked stays parked."""
        self.limit_bandwidth()
        for fault in Fault:
            self._end(fault)

    def _add(self, rule: Rule) -> Rule:
        rule.changed, rule.ended = self._changed, self._ended
        with self._changed:
            self._rules.append(rule)
        return rule

    def _end(self, fault: Fault) -> None:
        with self._changed:
            ending = [rule for rule in self._rules if rule.fault is fault]
        for rule in ending:
            rule.off()

    def _ended(self, rule: Rule) -> None:
        with self._changed:
            if rule in self._rules:
                self._rules.remove(rule)
            gate = self._gates.pop(rule, None)
        if gate is not None:
            self._call(gate.set)

    def _call(self, act: Callable[[], object]) -> None:
        """Do it in the proxy's thread; nothing where the proxy does not run."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(act)

    # --- late delivery -----------------------------------------------------------------------------------------------

    @property
    def parked(self) -> tuple[Exchange, ...]:
        """Requests that wait for ``deliver``, oldest first."""
        with self._changed:
            return tuple(parked.exchange for parked in self._parked)

    def deliver(self, timeout: float = 60.0) -> tuple[Exchange, ...]:
        """Send every parked request to the store now, oldest first; returns them with the store's answers."""
        self.start()
        assert self._loop is not None
        with self._changed:
            parked, self._parked = self._parked, []
        asyncio.run_coroutine_threadsafe(self._deliver(parked), self._loop).result(timeout)
        return tuple(one.exchange for one in parked)

    def drop_parked(self) -> None:
        """Forget the parked requests: they never reach the store."""
        with self._changed:
            self._parked.clear()

    async def _deliver(self, parked: list[Parked]) -> None:
        for one in parked:
            await Carrier(self._upstream, self._note).deliver(one.head, one.body, one.exchange)

    def _park(self, head: Head, body: bytes, exchange: Exchange) -> None:
        with self._changed:
            if len(self._parked) >= PARKED:
                raise BrokenMessageError("too many requests wait for late delivery")
            self._parked.append(Parked(head, body, exchange))
            self._changed.notify_all()

    # --- what was seen -----------------------------------------------------------------------------------------------

    @property
    def counts(self) -> Counter[str]:
        """Requests by operation since the start or ``forget``, those that a fault took included."""
        with self._changed:
            return Counter(self._counts)

    @property
    def log(self) -> tuple[Exchange, ...]:
        """The last exchanges, oldest first."""
        with self._changed:
            return tuple(self._log)

    def requests(self, operation: str | Collection[str] | None = None, key: str | None = None) -> tuple[Exchange, ...]:
        """Logged exchanges of these operations at this key (a glob)."""
        probe = Rule(Fault.LATENCY, operation=as_operations(operation), key=key)
        return tuple(exchange for exchange in self.log if probe.matches(exchange))

    def committed(self, operation: str | Collection[str] | None = None, key: str | None = None) -> int:
        """How many of them the store took, whatever the client was told."""
        return sum(exchange.committed for exchange in self.requests(operation, key))

    def forget(self) -> None:
        """Empty ``log`` and ``counts``."""
        with self._changed:
            self._log.clear()
            self._counts.clear()

    def wait_for(self, true: Callable[[], bool], timeout: float = 30.0) -> None:
        """Return once ``true()`` is; it is asked at each change of log, counts and rules. ``WaitTimedOut`` if not."""
        with self._changed:
            if not self._changed.wait_for(true, timeout):
                raise WaitTimedOut(f"The fault proxy did not see what was waited for within {timeout:g} s.")

    # --- one client's connection -------------------------------------------------------------------------------------

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        client = Client(reader, writer)
        self._tasks.add(task)
        self._clients.add(client)
        carrier = Carrier(self._upstream, self._note)
        try:
            if self._strike_outage():
                reset(writer)
                return
            while (head := await read_head(reader)) is not None and await self._serve(client, carrier, head):
                pass
            writer.close()
        except (OSError, asyncio.IncompleteReadError):
            reset(writer)
        finally:
            self._tasks.discard(task)
            self._clients.discard(client)
            carrier.close()

    async def _serve(self, client: Client, carrier: Carrier, head: Head) -> bool:
        """One request. Returns whether the connection goes on."""
        method, target = head.start[0], head.start[1]
        exchange = Exchange(method, target, *classify(method, target, head.headers))
        with self._changed:
            self._counts[exchange.operation] += 1
            self._log.append(exchange)
            self._changed.notify_all()
        try:
            if self._strike_outage():
                reset(client.writer)
                return False
            rule = await self._pass_gates(exchange)
            client.pacers = [pacer for pacer in (self._total, self._own_pacer()) if pacer is not None]
            return await self._carry_out(rule, client, carrier, head, exchange)
        finally:
            exchange.done = exchange.fault is not Fault.DELIVER_LATE  # a parked one is not done when its client is
            self._note()

    async def _pass_gates(self, exchange: Exchange) -> Rule | None:
        """Wait at holds and latencies; returns the rule that decides the request, if any."""
        for rule in self._striking(exchange, {Fault.HOLD}, first=False):
            with self._changed:
                gate = self._gates.setdefault(rule, asyncio.Event()) if rule.on else None
            exchange.fault = Fault.HOLD
            if gate is not None:
                await gate.wait()
        for rule in self._striking(exchange, {Fault.LATENCY}, first=False):
            await asyncio.sleep(rule.seconds)
        decided = self._striking(exchange, set(Fault) - {Fault.HOLD, Fault.LATENCY, Fault.OUTAGE}, first=True)
        if not decided:
            return None
        exchange.fault = decided[0].fault
        return decided[0]

    def _striking(self, exchange: Exchange, faults: set[Fault], *, first: bool) -> list[Rule]:
        striking = []
        with self._changed:
            for rule in self._rules:
                if rule.fault in faults and rule.strikes(exchange):
                    striking.append(rule)
                    if first:
                        break
        return striking

    async def _carry_out(
        self, rule: Rule | None, client: Client, carrier: Carrier, head: Head, exchange: Exchange
    ) -> bool:
        fault = rule.fault if rule else None
        if rule is None or fault is Fault.CORRUPT:
            return await carrier.forward(client, head, exchange, corrupt=fault is Fault.CORRUPT)
        if fault is Fault.ANSWER:
            return await carrier.answer(client, head, exchange, rule.status, rule.code)
        if fault is Fault.ERROR_INSIDE:
            if rule.forward:
                await carrier.swallow(client, head, exchange)
                return await carrier.answer(client, head, exchange, 200, rule.code, body_read=True)
            return await carrier.answer(client, head, exchange, 200, rule.code)
        if fault is Fault.LOSE_ANSWER:
            await carrier.swallow(client, head, exchange)
        elif fault is Fault.CUT_ANSWER:
            return await carrier.forward(client, head, exchange, cut=True)
        elif fault is Fault.DELIVER_LATE:
            self._park(head, await carrier.take_body(client, head), exchange)
        reset(client.writer)
        return False

    def _strike_outage(self) -> bool:
        with self._changed:
            for rule in self._rules:
                if rule.fault is Fault.OUTAGE and rule.on:
                    rule.hits += 1
                    self._changed.notify_all()
                    return True
        return False

    def _own_pacer(self) -> Pacer | None:
        return Pacer(self._per_connection) if self._per_connection else None

    def _note(self) -> None:
        with self._changed:
            self._changed.notify_all()


def _when(given: dict[str, Any]) -> dict[str, Any]:
    unknown = set(given) - {"operation", "key", "times", "after"}
    if unknown:
        raise TypeError(f"a fault takes operation, key, times and after, not {sorted(unknown)}")
    return {**given, "operation": as_operations(given.get("operation"))}
