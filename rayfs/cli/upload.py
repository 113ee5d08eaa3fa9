"""``copyFromLocal``: local files, trees and stdin into RayFS."""

from __future__ import annotations

import os
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from rayfs.cli.command import Session, Verb, pass_session
from rayfs.cli.outcome import ExitCode, say
from rayfs.cli.output import Progress, progress
from rayfs.cli.transfer import CACHED, Copied, Transfer
from rayfs.core.operations import SMALL_FILE_BYTES
from rayfs.errors import FileNotFound, IsADirectory, NotADirectory, RayFSError

if TYPE_CHECKING:
    from rayfs.client import RayFileSystem

STDIN = "-"
PERSISTED = "persisted"
WATCH_S = 0.5
"""Pause between two looks at what is persisted, while bars are drawn."""


@click.command(
    "copyFromLocal",
    cls=Verb,
    examples=[
        "rayfs copyFromLocal part-0.parquet /out/part-0.parquet",
        "rayfs copyFromLocal -D rayfs.user.file.replication.durable=3 dataset /out",
        "generate | rayfs copyFromLocal - /out/rows.csv",
    ],
)
@click.argument("sources", nargs=-1, required=True, metavar="SRC...")
@click.argument("target", metavar="DST")
@click.option("-f", "--force", is_flag=True, help="Replace files that exist.")
@click.option("--no-progress", is_flag=True, help="No bars, also on a terminal.")
@pass_session
def copy_from_local(
    session: Session, sources: tuple[str, ...], target: str, force: bool, no_progress: bool
) -> ExitCode:
    """Copy files and directories of this machine into RayFS.

    If DST is a directory the sources go into it, else one source becomes DST. Links are followed; broken ones are
    reported. `-` reads stdin. Each file is there completely or not at all.
    """
    with progress(CACHED, PERSISTED, wanted=not no_progress) as bars:
        transfer = Transfer(session.json, bars)
        upload = Upload(session.fs, session.path(target), force, transfer)
        upload.settle_target(len(sources), slash=target.endswith("/"))
        with _watch_persists(session.fs, upload.target, bars):
            transfer.run(upload.copies(sources))
    if transfer.files:
        from rayfs.admin.units import count, size

        say(f"{count(transfer.files, 'file')} copied ({size(transfer.length)}) to {upload.target}")
    return transfer.tally.exit_code


@contextmanager
def _watch_persists(fs: RayFileSystem, target: str, bars: Progress) -> Iterator[None]:
    """Move the bar of what the under store has, for as long as the copy runs and somebody looks."""
    if not bars.drawn:
        yield
        return
    ended = threading.Event()

    def watch() -> None:
        while not ended.is_set():
            with suppress(RayFSError):  # nothing is there yet, or the copy itself will say what is wrong
                bars.reach(PERSISTED, bars.done(CACHED) - fs.await_persisted([target]).waiting_bytes)
            ended.wait(WATCH_S)

    watcher = threading.Thread(target=watch, name="watch-persists", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


class Upload:
    """The copies that a command line means."""

    def __init__(self, fs: RayFileSystem, target: str, force: bool, transfer: Transfer) -> None:
        self.fs = fs
        self.target = target
        self.force = force
        self.transfer = transfer
        self.tally = transfer.tally
        self.into_directory = False

    def settle_target(self, sources: int, *, slash: bool) -> None:
        """Find out whether the target is a directory to copy into; ``slash`` says that it was written as one."""
        self.into_directory = self.fs.isdir(self.target)
        if self.into_directory:
            return
        if sources > 1:
            problem = f"{self.target} must be a directory that exists to take several files; make it with: rayfs mkdir"
            raise NotADirectory(problem, self.target)
        if slash:
            self.fs.makedirs(self.target, exist_ok=True)
            self.into_directory = True

    def copies(self, sources: tuple[str, ...]) -> Iterator[Callable[[], Copied]]:
        """One call for each file; what cannot be copied is counted as a failure on the way."""
        for source in sources:
            if source == STDIN:
                self._copy_here(self._copy_stdin)
                continue
            path = Path(source)
            target = f"{self.target.rstrip('/')}/{_name_of(path)}" if self.into_directory else self.target
            yield from self._entry(path, target, ())

    def _copy_here(self, copy: Callable[[], Copied]) -> None:
        """Copy on this thread: on another one an interrupt does not end a read that waits for a pipe."""
        with self.tally.attempt():
            self.transfer.report(copy())

    def _entry(self, path: Path, target: str, above: tuple[tuple[int, int], ...]) -> Iterator[Callable[[], Copied]]:
        """A file, or everything in a directory. ``above`` are the directories on the way here: links may lead back."""
        try:
            found = path.stat()
            if not stat.S_ISDIR(found.st_mode):
                self.transfer.progress.expect(found.st_size)
                copy = partial(self._copy_file, path, target, found, bool(above))
                if stat.S_ISREG(found.st_mode) or above:
                    yield copy
                else:
                    self._copy_here(copy)
                return
            identity = (found.st_dev, found.st_ino)
            if identity in above:
                raise RayFSError(f"the link {path} leads back to a directory that it is in; it was left out")
            self._make_directory(target)
            names = sorted(entry.name for entry in os.scandir(path))
        except FileNotFoundError:
            self._missing(path)
        except OSError as error:
            self.tally.fail(error)
        else:
            self.tally.done += 1
            for name in names:
                yield from self._entry(path / name, f"{target}/{name}", (*above, identity))

    def _missing(self, path: Path) -> None:
        if path.is_symlink():
            self.tally.partial = True
            self.tally.fail(FileNotFound(f"the link {path} leads to {path.readlink()}, which does not exist"))
        else:
            self.tally.fail(FileNotFound(f"{path} does not exist on this machine"))

    def _make_directory(self, target: str) -> None:
        self.fs.makedirs(target, exist_ok=True)

    def _copy_file(self, path: Path, target: str, found: os.stat_result, in_tree: bool) -> Copied:
        # A pipe that is named on the command line (`<(generate)`) is meant; one found in a tree would wait for ever.
        if in_tree and not stat.S_ISREG(found.st_mode):
            raise RayFSError(f"{path} is neither a file nor a directory; it was left out")
        try:
            room = nullcontext() if found.st_size <= SMALL_FILE_BYTES else self.transfer.streams
            with room, path.open("rb", buffering=0) as source, self._open(target) as file:
                return Copied(str(path), target, self.transfer.pump(source, file))
        except RayFSError:
            raise
        except OSError as error:
            # An error while reading does not name its file; one of opening does.
            raise error if error.filename else OSError(error.errno, error.strerror, str(path)) from None

    def _copy_stdin(self) -> Copied:
        if self.into_directory:
            raise IsADirectory(f"{self.target} is a directory; stdin needs the path of a file", self.target)
        with self._open(self.target) as file:
            return Copied(STDIN, self.target, self.transfer.pump(sys.stdin.buffer, file))

    def _open(self, target: str) -> IO[bytes]:
        file: IO[bytes] = self.fs.open(target, "wb" if self.force else "xb")
        return file


def _name_of(path: Path) -> str:
    """The name a source gets in a directory: ``.`` and ``..`` have the name of the directory they are."""
    return path.name if path.name not in ("", "..") else path.resolve().name


VERBS = {"copyFromLocal": copy_from_local}
