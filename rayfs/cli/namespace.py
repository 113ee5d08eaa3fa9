"""``ls``, ``stat``, ``mkdir``, ``mv``, ``rm``, ``touch`` and ``test``: files and directories by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from rayfs.cli.command import Session, Verb, pass_session
from rayfs.cli.outcome import ExitCode, Tally
from rayfs.cli.output import local_time, print_columns, print_document, print_fields, print_line
from rayfs.errors import NotADirectory, RequestRefused

if TYPE_CHECKING:
    from rayfs.core.model import FileStatus

UNLISTED = frozenset({"replicas"})
"""What a listing does not know, because it is made without a look at each block; `rayfs stat` does."""

STAT_NAMES = {"name": "path", "size": "length", "mtime": "modified", "persistence": "persistence_state"}
"""fsspec's names for what ``stat --json`` calls otherwise; a script reads the same names from both."""

Info = Mapping[str, Any]
"""What fsspec calls the details of one path."""


@click.command("ls", cls=Verb, examples=["rayfs ls /out", "rayfs ls -R -h /out", "rayfs ls --json '/out/*.parquet'"])
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option("-R", "-r", "--recursive", is_flag=True, help="With everything below.")
@click.option("-d", "--directory", is_flag=True, help="Directories themselves, not what is in them.")
@click.option("-h", "--human-readable", is_flag=True, help="Sizes such as 3.1 MB.")
@pass_session
def ls(session: Session, paths: tuple[str, ...], recursive: bool, directory: bool, human_readable: bool) -> ExitCode:
    """List files and directories.

    Columns: persistence state, share in cache, size, modification time and path.
    """
    if recursive and directory:
        raise click.UsageError("give -R or -d, not both")
    tally = Tally()
    for path in session.expand(paths or ("/",), tally):
        with tally.attempt():
            rows = _listing(session, path, recursive=recursive, directory=directory)
            if session.json:
                for row in rows:
                    print_line({STAT_NAMES.get(name, name): row[name] for name in row if name not in UNLISTED})
            else:
                print_columns((_columns(row, human=human_readable) for row in rows), right=(1, 2))
    return tally.exit_code


def _listing(session: Session, path: str, *, recursive: bool, directory: bool) -> Iterator[Info]:
    info = session.fs.info(path)
    if directory or info["type"] == "file":
        yield info
        return
    for row in session.fs.ls(path, detail=True):
        yield row
        if recursive and row["type"] == "directory":
            yield from _listing(session, row["name"], recursive=True, directory=False)


def _columns(row: Info, *, human: bool) -> tuple[str, ...]:
    from rayfs.admin.units import size

    if row["type"] == "directory":
        return "DIR", "-", "-", local_time(row.get("mtime") or 0), row["name"]
    length = size(row["size"]) if human else str(row["size"])
    cached = f"{row.get('in_cache_percent', 0):.0f}%"
    return str(row["persistence"]), cached, length, local_time(row.get("mtime") or 0), row["name"]


@click.command("stat", cls=Verb, examples=["rayfs stat /out/a.parquet", "rayfs stat --json /out/a.parquet"])
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@pass_session
def stat(session: Session, paths: tuple[str, ...]) -> ExitCode:
    """Show all that is known of a file or directory.

    State, checksum, blocks with their replicas, and how its persist goes.
    """
    tally = Tally()
    for path in session.expand(paths, tally):
        with tally.attempt():
            status = session.fs.status(path)
            if not session.json:
                _print_status(status)
            elif len(paths) == 1 and status.path == session.path(paths[0]):
                print_document(status)
            else:
                print_line(status)
    return tally.exit_code


def _print_status(status: FileStatus) -> None:
    from rayfs.admin.units import duration, short_node, size

    fields = [("path", status.path), ("type", status.type)]
    if status.type == "file":
        fields += [
            ("length", f"{status.length} ({size(status.length)})"),
            ("state", str(status.persistence_state)),
            ("write type", str(status.write_type or "-")),
            ("checksum", status.checksum or "-"),
            ("in cache", f"{status.in_cache_percent:.0f}%"),
            ("block size", size(status.block_size)),
        ]
        if status.replication is not None:
            levels = status.replication
            fields.append(("replication", f"durable {levels.durable}, min {levels.min}, max {levels.max}"))
    fields += [
        ("modified", local_time(status.modified)),
        ("pinned", "yes" if status.pinned else "no"),
        ("file id", f"{status.file_id:x}"),
        ("generation", str(status.generation)),
    ]
    if status.persist.attempts:
        fields.append(("persist attempts", str(status.persist.attempts)))
    if status.persist.last_error:
        fields.append(("last error", status.persist.last_error))
    if status.persist.next_attempt_s is not None:
        fields.append(("next attempt", f"in {duration(status.persist.next_attempt_s)}"))
    print_fields(fields)
    for block in status.blocks:
        nodes = " ".join(map(short_node, block.replicas)) or "no replica"
        click.echo(f"  block {block.id}  {size(block.length)}  {block.checksum}  {nodes}")


@click.command("mkdir", cls=Verb, examples=["rayfs mkdir -p /out/2026/01"])
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("-p", "--parents", is_flag=True, help="Make parents as needed; a directory that exists is no error.")
@pass_session
def mkdir(session: Session, paths: tuple[str, ...], parents: bool) -> ExitCode:
    """Make directories."""
    tally = Tally()
    for text in paths:
        with tally.attempt():
            path = session.path(text)
            if parents:
                session.fs.makedirs(path, exist_ok=True)
            else:
                session.fs.mkdir(path, create_parents=False)
    return tally.exit_code


@click.command("mv", cls=Verb, examples=["rayfs mv /out/_temporary/part-0 /out/part-0", "rayfs mv '/in/*.csv' /done"])
@click.argument("sources", nargs=-1, required=True, metavar="SRC...")
@click.argument("target", metavar="DST")
@click.option("-f", "--force", is_flag=True, help="Replace files that exist.")
@pass_session
def mv(session: Session, sources: tuple[str, ...], target: str, force: bool) -> ExitCode:
    """Move or rename files and directories.

    Into DST where it is a directory. One commit of metadata, whatever the size; the under store
    follows in the background.
    """
    tally, destination = Tally(), session.path(target)
    found = list(session.expand(sources, tally))
    into = session.fs.isdir(destination)
    if not into and (len(found) > 1 or target.endswith("/")):
        raise NotADirectory(f"{destination} must be a directory that exists; make it with: rayfs mkdir", destination)
    for source in found:
        with tally.attempt():
            landing = f"{destination.rstrip('/')}/{source.rpartition('/')[2]}" if into else destination
            session.fs.mv(source, landing, recursive=True, overwrite=force)
    return tally.exit_code


@click.command("rm", cls=Verb, examples=["rayfs rm /out/a.parquet", "rayfs rm -r /out/_temporary", "rayfs rm '/tmp/*'"])
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("-r", "-R", "--recursive", is_flag=True, help="Directories with all that is in them.")
@click.option("-f", "--force", is_flag=True, help="A path that does not exist is no error.")
@pass_session
def rm(session: Session, paths: tuple[str, ...], recursive: bool, force: bool) -> ExitCode:
    """Delete files, and with -r directories.

    The under store follows in the background; `rayfs persist` waits for it.
    """
    tally = Tally()
    for path in session.expand(paths, tally, missing_ok=force):
        with tally.attempt():
            if path == "/":
                raise RequestRefused("/ is not removed as a whole; to remove all that is in it: rayfs rm -r '/*'")
            try:
                session.fs.rm(path, recursive=recursive)
            except FileNotFoundError:
                if not force:
                    raise
    return tally.exit_code


@click.command("touch", cls=Verb, examples=["rayfs touch /out/_SUCCESS"])
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@pass_session
def touch(session: Session, paths: tuple[str, ...]) -> ExitCode:
    """Make empty files, or set the time of those that exist."""
    tally = Tally()
    for text in paths:
        with tally.attempt():
            session.fs.touch(session.path(text), truncate=False)
    return tally.exit_code


@click.command("test", cls=Verb, examples=["rayfs test -e /out/_SUCCESS && start-job"])
@click.option("-e", "question", flag_value="exists", default=True, help="It exists [default].")
@click.option("-f", "question", flag_value="file", help="It is a file.")
@click.option("-d", "question", flag_value="directory", help="It is a directory.")
@click.option("-s", "question", flag_value="filled", help="It is a file that is not empty, or a directory.")
@click.option("-z", "question", flag_value="empty", help="It is an empty file.")
@click.argument("path")
@pass_session
def test(session: Session, path: str, question: str) -> ExitCode:
    """Answer by exit code: 0 true, 1 false."""
    try:
        info = session.fs.info(session.path(path))
    except FileNotFoundError:
        info = {"type": "nothing", "size": -1}
    kind, length = info["type"], info["size"]
    answers = {
        "exists": kind != "nothing",
        "file": kind == "file",
        "directory": kind == "directory",
        "filled": kind == "directory" or length > 0,
        "empty": kind == "file" and length == 0,
    }
    if session.json:
        print_document({"path": session.path(path), question: answers[question]})
    return ExitCode.OK if answers[question] else ExitCode.FAILED


VERBS = {"ls": ls, "stat": stat, "mkdir": mkdir, "mv": mv, "rm": rm, "touch": touch, "test": test}
