"""What verbs print: JSON for programs, aligned columns for people, and progress bars on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress


def print_document(value: object) -> None:
    """One JSON document on stdout: frozen dataclasses, mappings, numbers and texts."""
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))


def print_line(value: object) -> None:
    """One line of JSON Lines on stdout."""
    import msgspec

    click.echo(msgspec.json.encode(value))


def print_columns(rows: Iterable[Sequence[str]], right: Sequence[int] = ()) -> None:
    """Rows with their columns aligned; those in ``right`` to the right. The last one is not padded."""
    kept = [list(row) for row in rows]
    if not kept:
        return
    widths = [max(len(row[at]) for row in kept) for at in range(len(kept[0]))]
    for row in kept:
        cells = [
            text if at == len(row) - 1 and at not in right else text.rjust(width) if at in right else text.ljust(width)
            for at, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        click.echo("  ".join(cells).rstrip())


def print_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Names and values of one thing, one a line."""
    print_columns([(f"{name}:", value) for name, value in fields])


def local_time(seconds: float) -> str:
    """A time stamp as ``ls`` shows it."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds)) if seconds else "-"


class Progress:
    """How far a long verb is, in bytes, under one label or more: what is cached and what is persisted are told apart.

    Draws bars on stderr where it is a terminal, else nothing. Safe to use from several threads.
    """

    def __init__(self, bars: RichProgress | None, labels: Sequence[str]) -> None:
        self._bars = bars
        self._tasks = {label: bars.add_task(label, total=0) for label in labels} if bars else {}
        self._total = 0

    @property
    def drawn(self) -> bool:
        """Whether anybody sees it."""
        return self._bars is not None

    def expect(self, length: int) -> None:
        """``length`` more bytes will come, under every label."""
        self._total += length
        if self._bars is not None:
            for task in self._tasks.values():
                self._bars.update(task, total=self._total)

    def advance(self, label: str, length: int) -> None:
        """``length`` more bytes are done."""
        if self._bars is not None:
            self._bars.advance(self._tasks[label], length)

    def done(self, label: str) -> int:
        """Bytes done so far; 0 where nothing is drawn."""
        return int(self._bars.tasks[self._tasks[label]].completed) if self._bars is not None else 0

    def reach(self, label: str, total: int) -> None:
        """So many bytes are done by now."""
        if self._bars is not None:
            self._bars.update(self._tasks[label], completed=max(0, total))


@contextmanager
def progress(*labels: str, wanted: bool = True) -> Iterator[Progress]:
    """Bars on stderr for as long as the block runs."""
    if not wanted or not sys.stderr.isatty():
        yield Progress(None, labels)
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description:<9}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        yield Progress(bars, labels)
