"""``cat``, ``head`` and ``tail``: bytes of files on stdout."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import IO

import click

from rayfs.cli.command import Session, Verb, pass_session
from rayfs.cli.options import SIZE
from rayfs.cli.outcome import ExitCode, Tally
from rayfs.cli.transfer import BUFFER_BYTES

DEFAULT_BYTES = 1024
"""What ``head`` and ``tail`` show without an option, as in Hadoop's and Alluxio's shells."""


@click.command("cat", cls=Verb, examples=["rayfs cat /out/_SUCCESS", "rayfs cat '/logs/*.txt' | sort"])
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@pass_session
def cat(session: Session, paths: tuple[str, ...]) -> ExitCode:
    """Write files to stdout, one after the other."""
    return to_stdout(session, paths, copy_all)


@click.command("head", cls=Verb, examples=["rayfs head /logs/a.txt", "rayfs head -n 5 '/logs/*.txt'"])
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("-c", "--bytes", "length", type=SIZE, help="So many bytes, for example 4KB [1KB].")
@click.option("-n", "--lines", type=click.IntRange(min=0), help="So many lines instead.")
@pass_session
def head(session: Session, paths: tuple[str, ...], length: int | None, lines: int | None) -> ExitCode:
    """Write the beginning of files to stdout."""
    _one_unit(length, lines)
    if lines is not None:
        wanted = lines
        return to_stdout(session, paths, lambda source, out: _first_lines(source, out, wanted))
    limit = DEFAULT_BYTES if length is None else length
    return to_stdout(session, paths, lambda source, out: _copy_up_to(source, out, limit))


@click.command("tail", cls=Verb, examples=["rayfs tail /logs/a.txt", "rayfs tail -n 20 /logs/a.txt"])
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("-c", "--bytes", "length", type=SIZE, help="So many bytes, for example 4KB [1KB].")
@click.option("-n", "--lines", type=click.IntRange(min=0), help="So many lines instead.")
@pass_session
def tail(session: Session, paths: tuple[str, ...], length: int | None, lines: int | None) -> ExitCode:
    """Write the end of files to stdout."""
    _one_unit(length, lines)

    def show(source: IO[bytes], out: IO[bytes]) -> None:
        end = source.seek(0, 2)
        start = max(0, end - (DEFAULT_BYTES if length is None else length))
        source.seek(start if lines is None else _start_of_last_lines(source, end, lines))
        copy_all(source, out)

    return to_stdout(session, paths, show)


def _one_unit(length: int | None, lines: int | None) -> None:
    if length is not None and lines is not None:
        raise click.UsageError("give -c or -n, not both")


def to_stdout(session: Session, patterns: tuple[str, ...], show: Callable[[IO[bytes], IO[bytes]], None]) -> ExitCode:
    """Show each file on stdout; one that fails is said and the others follow."""
    tally, out = Tally(), sys.stdout.buffer
    for path in session.expand(patterns, tally):
        with tally.attempt(), session.fs.open(path, "rb") as source:
            show(source, out)
    out.flush()
    return tally.exit_code


def copy_all(source: IO[bytes], out: IO[bytes]) -> None:
    """Everything from where ``source`` stands."""
    while chunk := source.read(BUFFER_BYTES):
        out.write(chunk)


def _copy_up_to(source: IO[bytes], out: IO[bytes], length: int) -> None:
    while length > 0 and (chunk := source.read(min(BUFFER_BYTES, length))):
        out.write(chunk)
        length -= len(chunk)


def _first_lines(source: IO[bytes], out: IO[bytes], lines: int) -> None:
    while lines > 0 and (chunk := source.read(1 << 16)):
        found = chunk.count(b"\n")
        if found < lines:
            lines -= found
            out.write(chunk)
            continue
        end = 0
        for _ in range(lines):
            end = chunk.index(b"\n", end) + 1
        out.write(chunk[:end])
        return


def _start_of_last_lines(source: IO[bytes], end: int, lines: int) -> int:
    """Offset of the last ``lines`` lines, found from the end backwards; a last line needs no newline."""
    if lines == 0 or end == 0:
        return end
    wanted, at = lines, end
    source.seek(end - 1)
    if source.read(1) == b"\n":
        wanted += 1
    while at > 0:
        start = max(0, at - (1 << 16))
        source.seek(start)
        chunk = source.read(at - start)
        if chunk.count(b"\n") >= wanted:
            cut = len(chunk)
            for _ in range(wanted):
                cut = chunk.rindex(b"\n", 0, cut)
            return start + cut + 1
        wanted -= chunk.count(b"\n")
        at = start
    return 0


VERBS = {"cat": cat, "head": head, "tail": tail}
