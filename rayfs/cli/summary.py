"""``count``, ``du``, ``checksum``, ``location`` and ``history``: figures and facts about paths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click

from rayfs.cli.command import Session, Verb, pass_session
from rayfs.cli.outcome import ExitCode, Tally
from rayfs.cli.output import print_columns, print_line
from rayfs.errors import IsADirectory


@dataclass(slots=True)
class Usage:
    """What is at and below a path. A byte that is cached counts once; ``dirty_bytes`` are not persisted yet."""

    path: str
    directories: int = 0
    files: int = 0
    bytes: int = 0
    cached_bytes: int = 0
    dirty_bytes: int = 0

    def add(self, info: Mapping[str, Any]) -> None:
        """Count one entry."""
        if info["type"] == "directory":
            self.directories += 1
            return
        length = int(info["size"])
        self.files += 1
        self.bytes += length
        self.cached_bytes += round(length * float(info.get("in_cache_percent", 0)) / 100)
        if info.get("persistence") in ("TO_BE_PERSISTED", "LOST"):
            self.dirty_bytes += length


def _usage(session: Session, path: str) -> Usage:
    """Walk the tree, a directory at a time."""
    usage, waiting = Usage(path), [session.fs.info(path)]
    while waiting:
        info = waiting.pop()
        usage.add(info)
        if info["type"] == "directory":
            waiting.extend(session.fs.ls(info["name"], detail=True))
    return usage


@click.command("count", cls=Verb, examples=["rayfs count /out"])
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@pass_session
def count(session: Session, paths: tuple[str, ...]) -> ExitCode:
    """Count directories, files and bytes."""
    tally, rows = Tally(), [("DIRS", "FILES", "BYTES", "PATH")]
    for path in session.expand(paths, tally):
        with tally.attempt():
            usage = _usage(session, path)
            if session.json:
                print_line(usage)
            rows.append((str(usage.directories), str(usage.files), str(usage.bytes), path))
    if not session.json and len(rows) > 1:
        print_columns(rows, right=(0, 1, 2))
    return tally.exit_code


@click.command("du", cls=Verb, examples=["rayfs du -h /out", "rayfs du -s '/out/*'"])
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option("-s", "--summarize", is_flag=True, help="One line for each PATH, not for what is in it.")
@click.option("-h", "--human-readable", is_flag=True, help="Sizes such as 3.1 MB.")
@pass_session
def du(session: Session, paths: tuple[str, ...], summarize: bool, human_readable: bool) -> ExitCode:
    """Show bytes: in all, in the cache, and not persisted yet."""
    from rayfs.admin.units import size

    tally, rows = Tally(), [("BYTES", "CACHED", "DIRTY", "PATH")]
    for path in session.expand(paths or ("/",), tally):
        with tally.attempt():
            info = session.fs.info(path)
            inside = info["type"] == "directory" and not summarize
            for each in sorted(row["name"] for row in session.fs.ls(path, detail=True)) if inside else [path]:
                usage = _usage(session, each)
                if session.json:
                    print_line(usage)
                show = size if human_readable else str
                rows.append((show(usage.bytes), show(usage.cached_bytes), show(usage.dirty_bytes), each))
    if not session.json and len(rows) > 1:
        print_columns(rows, right=(0, 1, 2))
    return tally.exit_code


@click.command("checksum", cls=Verb, examples=["rayfs checksum '/out/*.parquet'"])
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@pass_session
def checksum(session: Session, paths: tuple[str, ...]) -> ExitCode:
    """Print checksums of files, as S3 keeps them (CRC64NVME)."""
    tally = Tally()
    for path in session.expand(paths, tally):
        with tally.attempt():
            status = session.fs.status(path)
            if status.type == "directory":
                raise IsADirectory(f"{path} is a directory; checksums are of files: rayfs checksum '{path}/*'", path)
            if session.json:
                print_line({"path": path, "checksum": status.checksum, "length": status.length})
            else:
                click.echo(f"{status.checksum or '-'}  {path}")
    return tally.exit_code


@click.command("location", cls=Verb, examples=["rayfs location /out/a.parquet"])
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@pass_session
def location(session: Session, paths: tuple[str, ...]) -> ExitCode:
    """Show on which nodes the blocks of files are."""
    from rayfs.admin.units import short_node

    tally = Tally()
    for path in session.expand(paths, tally):
        with tally.attempt():
            status = session.fs.status(path)
            if status.type == "directory":
                raise IsADirectory(f"{path} is a directory; only files have blocks: rayfs location '{path}/*'", path)
            if session.json:
                print_line({"path": path, "blocks": status.blocks})
                continue
            rows = [(path, block.id, " ".join(map(short_node, block.replicas)) or "-") for block in status.blocks]
            print_columns(rows or [(path, "-", "only in the under store" if status.length else "an empty file")])
    return tally.exit_code


@click.command("history", cls=Verb, examples=["rayfs history /out/a.parquet"])
@click.argument("path")
@pass_session
def history(session: Session, path: str) -> None:
    """Show what happened to a file, oldest first."""
    import datetime as dt

    for entry in session.fs.history(session.path(path)):
        if session.json:
            print_line(entry)
        else:
            at = dt.datetime.fromtimestamp(entry.at).astimezone().isoformat(" ", "milliseconds")
            click.echo(f"{at}  {entry.event}  {entry.detail}".rstrip())


VERBS = {"count": count, "du": du, "checksum": checksum, "location": location, "history": history}
