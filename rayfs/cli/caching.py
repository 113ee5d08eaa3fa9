"""``persist``, ``free``, ``pin``, ``unpin`` and ``setReplication``: what stays cached, and what is stored."""

from __future__ import annotations

import time
from collections.abc import Sequence

import click

from rayfs.cli.command import Session, Verb, pass_session
from rayfs.cli.options import SECONDS
from rayfs.cli.outcome import ExitCode, Tally, say
from rayfs.cli.output import print_document, print_line, progress
from rayfs.core.operations import PersistProgress
from rayfs.errors import WaitTimedOut

POLL_S = 1.0
"""How long one question about progress waits for its answer to change; each is one call to the master."""


@click.command(
    "persist",
    cls=Verb,
    examples=["rayfs persist /out", "rayfs persist --timeout 5m '/out/*.parquet'", "rayfs persist --no-wait /out"],
)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--wait/--no-wait", default=True, help="Wait until the under store holds what the paths say [wait].")
@click.option("--timeout", type=SECONDS, metavar="S", help="Give up waiting after S seconds (exit 124); uploads go on.")
@pass_session
def persist(session: Session, paths: tuple[str, ...], wait: bool, timeout: float | None) -> ExitCode:
    """Persist files and directories now.

    Waits for uploads, and for deletes and moves below the paths, unless --no-wait.
    """
    if timeout is not None and not wait:
        raise click.UsageError("--timeout has no meaning with --no-wait")
    tally, asked, files = Tally(), [], 0
    for path in session.expand(paths, tally):
        with tally.attempt():
            files += int(session.fs.persist(path, wait=False) or 0)
            asked.append(path)
    left = _await(session, asked, timeout) if wait and asked else None
    if session.json:
        print_document({"paths": asked, "files": files, "waited": wait, "done": left.done if left else not asked})
    elif wait and asked:
        say("the under store holds " + (asked[0] if len(asked) == 1 else f"all {len(asked)} paths"))
    return tally.exit_code


def _await(session: Session, paths: Sequence[str], timeout_s: float | None) -> PersistProgress:
    """Wait until nothing at or below ``paths`` is missing in the under store; failures are said as they change."""
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    said: dict[str, str] = {}
    most = 0
    with progress("persisted") as bars:
        while True:
            left_s = POLL_S if deadline is None else max(0.0, min(POLL_S, deadline - time.monotonic()))
            found: PersistProgress = session.fs.await_persisted(paths, timeout=left_s)
            if found.waiting_bytes > most:
                bars.expect(found.waiting_bytes - most)
                most = found.waiting_bytes
            bars.reach("persisted", most - found.waiting_bytes)
            if found.done:
                return found
            for path, reason in found.failures.items():
                if said.get(path) != reason:
                    say(f"rayfs: {path}: {reason} (RayFS tries again)")
            said = dict(found.failures)
            if deadline is not None and time.monotonic() >= deadline:
                raise _timed_out(found, timeout_s or 0.0)


def _timed_out(found: PersistProgress, timeout_s: float) -> WaitTimedOut:
    from rayfs.admin.units import count, size

    parts = []
    if found.waiting:
        parts.append(f"{count(found.waiting, 'file')} ({size(found.waiting_bytes)})")
    if found.pending_changes:
        parts.append(count(found.pending_changes, "delete or move", "deletes and moves"))
    missing = " and ".join(parts)
    return WaitTimedOut(f"after {timeout_s:g} s the under store still lacks {missing}; RayFS goes on in the background")


@click.command("free", cls=Verb, examples=["rayfs free /out/a.parquet", "rayfs free -r /out"])
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("-r", "-R", "--recursive", is_flag=True, help="Directories with all that is in them.")
@click.option("-f", "--force", is_flag=True, help="Pinned files too. Files that are not persisted are never freed.")
@pass_session
def free(session: Session, paths: tuple[str, ...], recursive: bool, force: bool) -> ExitCode:
    """Drop cached copies of persisted files.

    A file that is not persisted yet is refused (exit 5), with --force too.
    """
    tally = Tally()
    for path in session.expand(paths, tally):
        with tally.attempt():
            freed = session.fs.free(path, recursive=recursive, force=force)
            if session.json:
                print_line({"path": path, "files": freed})
    return tally.exit_code


def _pin_verb(name: str, pinned: bool, text: str) -> click.Command:
    def run(session: Session, paths: tuple[str, ...]) -> ExitCode:
        tally = Tally()
        for path in session.expand(paths, tally):
            with tally.attempt():
                (session.fs.pin if pinned else session.fs.unpin)(path)
                if session.json:
                    print_line({"path": path, "pinned": pinned})
        return tally.exit_code

    argument = click.Argument(["paths"], nargs=-1, required=True, metavar="PATH...")
    examples = [f"rayfs {name} /reference"]
    return Verb(name, callback=pass_session(run), params=[argument], help=text, examples=examples)


pin = _pin_verb("pin", True, "Keep files and directories cached until they are unpinned.")
unpin = _pin_verb("unpin", False, "Let pinned files and directories leave the cache again.")


@click.command("setReplication", cls=Verb, examples=["rayfs setReplication --min 2 --max 3 -R /hot"])
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("--min", "minimum", type=click.IntRange(min=0), help="Fewest copies that stay cached once persisted.")
@click.option("--max", "maximum", type=click.IntRange(min=-1), help="Most copies once persisted; -1 is no limit.")
@click.option("-R", "-r", "--recursive", is_flag=True, help="Directories with all that is in them.")
@pass_session
def set_replication(
    session: Session, paths: tuple[str, ...], minimum: int | None, maximum: int | None, recursive: bool
) -> ExitCode:
    """Change how many copies of files are kept."""
    if minimum is None and maximum is None:
        raise click.UsageError("give --min, --max or both")
    if minimum is not None and maximum is not None and 0 <= maximum < minimum:
        raise click.UsageError(f"--max {maximum} is below --min {minimum}")
    tally = Tally()
    for path in session.expand(paths, tally):
        with tally.attempt():
            changed = session.fs.set_replication(path, min=minimum, max=maximum, recursive=recursive)
            if session.json:
                print_line({"path": path, "files": changed})
    return tally.exit_code


VERBS = {"persist": persist, "free": free, "pin": pin, "unpin": unpin, "setReplication": set_replication}
