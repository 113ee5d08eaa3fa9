"""Copies between local files, RayFS and pipes: how bytes are moved, how many files at a time, and how it ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import IO

from rayfs.cli.outcome import Tally
from rayfs.cli.output import Progress, print_line

CACHED = "cached"
"""Label of the bar that copies move."""

BUFFER_BYTES = 4 << 20
"""Bytes moved at a time: large enough for full speed, small enough to be interrupted at once."""

PARALLEL_COPIES = 32
"""Files at a time: small ones that are closed together share an exchange with the master and its commit."""

PARALLEL_STREAMS = 4
"""Of these, files that go block by block; each has a few blocks of memory on its way."""

"""Files under way at a time. More does not help: one file's blocks travel to several nodes already."""


@dataclass(frozen=True, slots=True)
class Copied:
    """One file that was copied; a line of ``--json``."""

    source: str
    path: str
    length: int


@dataclass
class Transfer:
    """The copies of one command line: what they add up to, and who is told."""

    json: bool
    progress: Progress
    tally: Tally = field(default_factory=Tally)
    files: int = 0
    length: int = 0
    streams: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(PARALLEL_STREAMS))
    _ending: threading.Event = field(default_factory=threading.Event)

    def pump(self, source: IO[bytes], target: IO[bytes]) -> int:
        """Copy until the end; the number of bytes. Raises when the command is ending, so that nothing is published."""
        total = 0
        while chunk := source.read(BUFFER_BYTES):
            self._check()
            target.write(chunk)
            total += len(chunk)
            self.progress.advance(CACHED, len(chunk))
        self._check()
        return total

    def run(self, copies: Iterable[Callable[[], Copied]]) -> None:
        """Run the copies, a few at a time; a failed one is said and the rest goes on.

        ``copies`` is read as needed, so a tree of any size takes bounded memory. What ends the command (an interrupt, a
        cluster that is away) also ends the copies under way, and their files are not published.
        """
        with ThreadPoolExecutor(PARALLEL_COPIES, thread_name_prefix="copy") as pool:
            running: set[Future[Copied]] = set()
            try:
                for copy in copies:
                    running.add(pool.submit(self._unless_ending, copy))
                    if len(running) >= 2 * PARALLEL_COPIES:
                        running = self._settle(running)
                while running:
                    running = self._settle(running)
            except BaseException:
                self._ending.set()
                raise

    def report(self, copied: Copied) -> None:
        """Count a file that is copied, and print its line of JSON."""
        self.files += 1
        self.length += copied.length
        if self.json:
            print_line(copied)

    def _settle(self, running: set[Future[Copied]]) -> set[Future[Copied]]:
        """Wait for the next copies to end and count them; those still running."""
        finished, left = wait(running, return_when=FIRST_COMPLETED)
        for future in finished:
            with self.tally.attempt():
                self.report(future.result())
        return left

    def _unless_ending(self, copy: Callable[[], Copied]) -> Copied:
        self._check()
        return copy()

    def _check(self) -> None:
        if self._ending.is_set():
            raise InterruptedError("given up, because the command is ending")
