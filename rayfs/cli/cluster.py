"""``start``, ``stop``, ``status``, ``console`` and ``demo``: the cluster as a whole."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from rayfs.cli.command import Session, Verb, pass_session
from rayfs.cli.options import SECONDS
from rayfs.cli.outcome import ExitCode, complain, exit_code_of, say
from rayfs.cli.output import print_document, print_fields
from rayfs.errors import ClusterUnreachable, RayFSError

if TYPE_CHECKING:
    from rayfs.core.snapshot import ClusterSnapshot

UNDER_STORE_KEY = "rayfs.master.mount.table.root.ufs"


@click.command(
    "start",
    cls=Verb,
    starts_cluster=True,
    examples=[
        "rayfs start --nodes 3 --under-store file:///tmp/rayfs",
        "rayfs start --under-store s3://bucket/prefix -D rayfs.persist.concurrency=16",
        "rayfs start --address 10.0.0.1:6379 --under-store s3://bucket/prefix",
    ],
)
@click.option("--nodes", type=click.IntRange(min=1, max=64), metavar="K", help="Ray nodes on this machine [1].")
@click.option("--under-store", metavar="URI", help=f"s3://bucket/prefix or file:///directory [{UNDER_STORE_KEY}].")
@click.option("--timeout", type=SECONDS, default=120.0, metavar="S", help="Longest time to wait for all nodes [120].")
@pass_session
def start(session: Session, nodes: int | None, under_store: str | None, timeout: float) -> None:
    """Start RayFS.

    On the Ray cluster at --address, or on a new one on this machine. Refused (exit 5) where the under store's prefix
    belongs to another cluster, or a node has no rayfs or another version of it.
    """
    from rayfs.actors import launch

    given = session.properties.get(UNDER_STORE_KEY)
    if under_store and given and given != under_store:
        raise click.UsageError(f"--under-store says {under_store} and {UNDER_STORE_KEY} says {given}; give one")
    if under_store is not None:
        session.properties[UNDER_STORE_KEY] = under_store
    # Settings refuse a URI with credentials in it before it can be stored or shown anywhere.
    settings = session.settings
    address = session.address or (None if nodes else os.environ.get("RAYFS_ADDRESS") or os.environ.get("RAY_ADDRESS"))
    started = launch.start(address, settings, under_store=under_store, nodes=nodes, timeout_s=timeout)
    for warning in started.warnings:
        say(f"warning: {warning}")
    if session.json:
        print_document(started)
        return
    from rayfs.admin.units import count

    what = "runs" if started.created else "ran already"
    click.echo(
        f"RayFS {what} at {started.address} on {count(started.nodes, 'node')}, in front of {started.under_store}"
    )


@click.command("stop", cls=Verb, examples=["rayfs stop", "rayfs stop --timeout 10m"])
@click.option("--timeout", type=SECONDS, metavar="S", help="Give up after S seconds (exit 124); RayFS then goes on.")
@click.option("--discard-dirty", is_flag=True, help="Do not persist first: files that are not persisted are lost.")
@pass_session
def stop(session: Session, timeout: float | None, discard_dirty: bool) -> None:
    """Persist everything, then stop RayFS.

    Ray too, where `rayfs start` started it.
    """
    from rayfs.actors import launch
    from rayfs.client.address import find_address

    address = find_address(session.address)
    if not discard_dirty:
        _say_what_is_dirty(address)
    stopped = launch.stop(address, timeout_s=timeout, discard_dirty=discard_dirty)
    if session.json:
        print_document(stopped)
        return
    lost = f"; {stopped.discarded_files} files that were not persisted are gone" if stopped.discarded_files else ""
    click.echo(f"RayFS at {stopped.address} is stopped{lost}")


def _say_what_is_dirty(address: str) -> None:
    """Tell why stopping takes time, where that is known."""
    from rayfs.admin.live import LiveSource
    from rayfs.admin.units import count, size

    try:
        totals = LiveSource(address).snapshot().totals
    except ClusterUnreachable:
        return  # stop finds out by itself and says so
    if totals.dirty_files:
        say(f"persisting {count(totals.dirty_files, 'file')} ({size(totals.dirty_bytes)}) first")
    if totals.cache_only_files:
        say(f"{count(totals.cache_only_files, 'MUST_CACHE file')} will be gone: they are in the cache only")


@click.command("status", cls=Verb, examples=["rayfs status", "rayfs status --check && start-job"])
@click.option("--check", is_flag=True, help="Exit 1 where data is at risk, lost, or the master is down.")
@pass_session
def status(session: Session, check: bool) -> ExitCode:
    """Say how the cluster is.

    safe, persisting, degraded, at-risk, lost or down; with the reasons.
    """
    from rayfs.admin.live import LiveSource
    from rayfs.admin.verdict import is_failing, warnings

    try:
        snapshot = LiveSource(session.address).snapshot()
    except ClusterUnreachable as error:
        if session.json:
            print_document({"state": "down", "reasons": [error.message]})
        complain(error)
        return exit_code_of(error)
    said = warnings(snapshot)
    if session.json:
        about = ("version", "cluster_id", "under_store", "started_at", "taken_at", "gcs_persistent")
        print_document(asdict(snapshot.totals) | {name: getattr(snapshot, name) for name in about} | {"warnings": said})
    else:
        _print_status(snapshot)
        for warning in said:
            say(f"warning: {warning}")
    return ExitCode.FAILED if check and is_failing(snapshot.totals.state) else ExitCode.OK


def _print_status(snapshot: ClusterSnapshot) -> None:
    from rayfs.admin.units import count, duration, rate, short_node, size

    totals = snapshot.totals
    click.echo(totals.state + "".join(f"\n  {reason}" for reason in totals.reasons))
    nodes = f"{totals.nodes.live} live, {totals.nodes.lost} lost, {totals.nodes.draining} draining"
    dirty = f"{count(totals.dirty_files, 'file')}, {size(totals.dirty_bytes)}"
    if totals.oldest_dirty_s is not None:
        dirty += f", the oldest for {duration(totals.oldest_dirty_s)}"
    persisting = f"{totals.persisting} running, {totals.pending_persists} waiting, {totals.failed_persists} failed"
    if totals.pending_changes:
        persisting += f", {count(totals.pending_changes, 'delete or move', 'deletes and moves')} to do"
    if totals.dirty_files:
        persisting += f"; {rate(totals.persist_bytes_per_s)}, safe in {duration(totals.time_to_safe_s)}"
    print_fields(
        [
            ("under store", snapshot.under_store),
            ("nodes", nodes),
            ("cache", f"{size(totals.used_bytes)} of {size(totals.capacity_bytes)}"),
            ("not persisted", dirty),
            ("cache only", f"{count(totals.cache_only_files, 'file')}, {size(totals.cache_only_bytes)}"),
            ("persists", persisting),
            ("short of copies", count(totals.under_replicated_blocks, "block")),
            ("lost", count(totals.lost_files, "file")),
        ]
    )
    for row in snapshot.lost:
        missing = ", ".join(short_node(node) for node in row.missing_nodes)
        click.echo(f"  LOST {row.path} ({size(row.length)}); its copies were on {missing or 'nodes that are gone'}")


@click.command("console", cls=Verb, examples=["rayfs console", "rayfs console --once overview --text"])
@click.option("--once", metavar="AREA", help="Render one area to stdout and end.")
@click.option("--text", is_flag=True, help="With --once: as text, also where --svg is given.")
@click.option("--svg", metavar="FILE", help="With --once: as a picture into FILE.")
@click.option("--read-only", is_flag=True, help="Refuse every action that changes the cluster.")
@pass_session
def console(session: Session, once: str | None, text: bool, svg: str | None, read_only: bool) -> None:
    """Watch the cluster on this terminal."""
    from rayfs.console import run

    if once is None and (text or svg):
        raise click.UsageError("--text and --svg need --once AREA")
    run(session.address, once=once, text=text, svg=svg, read_only=read_only)


@click.command("demo", cls=Verb, examples=["rayfs demo"])
def demo() -> ExitCode:
    """Show the whole story on this machine.

    Five Ray nodes and an embedded S3: Ray tasks write a dataset with 3 replicas, two nodes are killed while it is
    dirty, repair brings back 3 copies, everything is persisted, and S3 is checked byte by byte.
    """
    try:
        from rayfs.testing.demo import run
    except ModuleNotFoundError as error:
        raise RayFSError(f"the demo needs {error.name}; install it with: pip install 'rayfs[test]'") from None
    return ExitCode.OK if run() else ExitCode.FAILED


VERBS = {"start": start, "stop": stop, "status": status, "console": console, "demo": demo}
