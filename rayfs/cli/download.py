"""``copyToLocal`` and ``cp``: files and trees out of RayFS, to this machine or to another path."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import click

from rayfs.cli.command import Session, Verb, pass_session
from rayfs.cli.outcome import ExitCode, Tally
from rayfs.cli.output import progress
from rayfs.cli.reading import copy_all, to_stdout
from rayfs.cli.transfer import CACHED, Copied, Transfer
from rayfs.core.paths import is_within
from rayfs.errors import FileExists, InvalidArgument, IsADirectory, NotADirectory

STDOUT = "-"


@click.command(
    "copyToLocal",
    cls=Verb,
    examples=[
        "rayfs copyToLocal /out/a.parquet .",
        "rayfs copyToLocal '/out/*.parquet' results",
        "rayfs copyToLocal /a -",
    ],
)
@click.argument("sources", nargs=-1, required=True, metavar="SRC...")
@click.argument("target", metavar="DST")
@click.option("-f", "--force", is_flag=True, help="Replace files that exist.")
@click.option("--no-progress", is_flag=True, help="No bars, also on a terminal.")
@pass_session
def copy_to_local(session: Session, sources: tuple[str, ...], target: str, force: bool, no_progress: bool) -> ExitCode:
    """Copy files and directories to this machine.

    If DST is a directory the sources go into it, else one source becomes DST. `-` writes to stdout. Each file appears
    when it is complete.
    """
    if target == STDOUT:
        return to_stdout(session, sources, copy_all)
    tally = Tally()
    found = list(session.expand(sources, tally))
    destination = Path(target)
    into = destination.is_dir()
    if not into and (len(found) > 1 or target.endswith("/")):
        raise NotADirectory(f"{target} must be a directory that exists on this machine; make it with mkdir")
    with progress(CACHED, wanted=not no_progress) as bars:
        transfer = Transfer(session.json, bars, tally)
        tree = Tree(session, transfer)
        copies = (
            copy
            for path in found
            for copy in tree.copies(
                path,
                str(destination / path.rpartition("/")[2]) if into else str(destination),
                lambda at: Path(at).mkdir(exist_ok=True),
                lambda source, at: _to_local(session, source, Path(at), force, transfer),
            )
        )
        transfer.run(copies)
    return tally.exit_code


@click.command("cp", cls=Verb, examples=["rayfs cp /out/a.parquet /backup/a.parquet", "rayfs cp -r /out /backup"])
@click.argument("sources", nargs=-1, required=True, metavar="SRC...")
@click.argument("target", metavar="DST")
@click.option("-r", "-R", "--recursive", is_flag=True, help="Directories with all that is in them.")
@click.option("-f", "--force", is_flag=True, help="Replace files that exist.")
@pass_session
def cp(session: Session, sources: tuple[str, ...], target: str, recursive: bool, force: bool) -> ExitCode:
    """Copy files within RayFS.

    The copies are written as any new file is, with the write type that holds at DST.
    """
    tally, destination = Tally(), session.path(target)
    found = list(session.expand(sources, tally))
    into = session.fs.isdir(destination)
    if not into and (len(found) > 1 or target.endswith("/")):
        raise NotADirectory(f"{destination} must be a directory that exists; make it with: rayfs mkdir", destination)
    with progress(CACHED) as bars:
        transfer = Transfer(session.json, bars, tally)
        tree = Tree(session, transfer, recursive=recursive)
        copies = (
            copy
            for path in found
            for copy in tree.copies(
                path,
                _not_inside(path, f"{destination.rstrip('/')}/{path.rpartition('/')[2]}" if into else destination),
                lambda at: session.fs.makedirs(at, exist_ok=True),
                lambda source, at: _within(session, source, at, force, transfer),
            )
        )
        transfer.run(copies)
    return tally.exit_code


class Tree:
    """Walks RayFS a directory at a time and yields a copy for each file."""

    def __init__(self, session: Session, transfer: Transfer, *, recursive: bool = True) -> None:
        self.fs = session.fs
        self.tally = transfer.tally
        self.bars = transfer.progress
        self.recursive = recursive

    def copies(
        self,
        source: str,
        target: str,
        make_directory: Callable[[str], object],
        copy_file: Callable[[str, str], Copied],
    ) -> Iterator[Callable[[], Copied]]:
        """One call for each file at and below ``source``; directories are made on the way."""
        waiting = [(source, target)]
        while waiting:
            path, landing = waiting.pop()
            with self.tally.attempt(counts=False):
                info = self.fs.info(path)
                if info["type"] == "file":
                    self.bars.expect(info["size"])
                    yield partial(copy_file, path, landing)
                    continue
                if not self.recursive:
                    raise IsADirectory(f"{path} is a directory; add -r to copy it with all that is in it", path)
                rows = self.fs.ls(path, detail=True)
                make_directory(landing)
                self.tally.done += 1
                waiting += [(row["name"], f"{landing.rstrip('/')}/{row['name'].rpartition('/')[2]}") for row in rows]


def _to_local(session: Session, source: str, target: Path, force: bool, transfer: Transfer) -> Copied:
    if target.is_dir():
        raise IsADirectory(f"{target} is a directory on this machine; it is not replaced by the file {source}")
    if target.exists() and not force:
        raise FileExists(f"{target} exists on this machine; add -f to replace it")
    # Written beside its place and renamed, so that what stands there is whole, whenever this ends.
    partial_file = target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}.partial")
    try:
        with session.fs.open(source, "rb") as file, partial_file.open("xb") as out:
            length = transfer.pump(file, out)
        partial_file.replace(target)
    finally:
        partial_file.unlink(missing_ok=True)
    return Copied(source, str(target), length)


def _within(session: Session, source: str, target: str, force: bool, transfer: Transfer) -> Copied:
    with session.fs.open(source, "rb") as file, session.fs.open(target, "wb" if force else "xb") as out:
        return Copied(source, target, transfer.pump(file, out))


def _not_inside(source: str, target: str) -> str:
    if is_within(target, source):
        raise InvalidArgument(f"{source} cannot be copied to {target}, which is the same or inside of it", source)
    return target


VERBS = {"copyToLocal": copy_to_local, "cp": cp}
