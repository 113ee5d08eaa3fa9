"""``config`` and ``pathconf``: properties as this client sees them, as the cluster runs with them, and of paths."""

from __future__ import annotations

import click

from rayfs.cli.command import Session, VerbGroup, parse_assignments, pass_session
from rayfs.cli.output import print_columns, print_line
from rayfs.config import PROPERTIES, PropertyValue, property_of


@click.group("config", cls=VerbGroup)
def config() -> None:
    """Show properties and their origins."""


@config.command(
    "show",
    examples=["rayfs config show --origin", "rayfs config show rayfs.user.block.size.bytes.default"],
)
@click.argument("keys", nargs=-1, metavar="[KEY]...")
@click.option("--origin", is_flag=True, help="Where each value comes from: default, file, environment or flag.")
@click.option("--cluster", is_flag=True, help="What the running cluster was started with.")
@pass_session
def show(session: Session, keys: tuple[str, ...], origin: bool, cluster: bool) -> None:
    """Print properties as key=value; all of them, or the named ones."""
    if origin and cluster:
        raise click.UsageError("a running cluster does not say where its values came from; leave out --origin")
    wanted = [property_of(key).key for key in keys] or list(PROPERTIES)
    values: dict[str, PropertyValue]
    if cluster:
        from rayfs.admin.live import LiveSource

        running = LiveSource(session.address).snapshot().config
        values = {key: running[key] for key in wanted if key in running}
    else:
        values = {key: session.settings[key] for key in wanted}
    if session.json:
        for key, value in values.items():
            print_line({"key": key, "value": value} | ({"origin": session.settings.origin(key)} if origin else {}))
        return
    lines = [(f"{key}={PROPERTIES[key].render(value)}", key) for key, value in values.items()]
    print_columns([(line, session.settings.origin(key)) if origin else (line,) for line, key in lines])


@click.group("pathconf", cls=VerbGroup)
def pathconf() -> None:
    """Show and set properties of paths.

    They hold for all that is below, at once and without a restart.
    """


@pathconf.command("list", examples=["rayfs pathconf list"])
@pass_session
def list_paths(session: Session) -> None:
    """Print all paths that have properties of their own."""
    _print(session, session.fs.path_properties("/", below=True))


@pathconf.command("show", examples=["rayfs pathconf show /out"])
@click.argument("path")
@pass_session
def show_path(session: Session, path: str) -> None:
    """Print the properties that hold at PATH by its own setting and its parents'."""
    _print(session, session.fs.path_properties(session.path(path)))


@pathconf.command("add", examples=["rayfs pathconf add /out rayfs.user.file.replication.durable=3"])
@click.argument("path")
@click.argument("assignments", nargs=-1, required=True, metavar="KEY=VALUE...")
@pass_session
def add(session: Session, path: str, assignments: tuple[str, ...]) -> None:
    """Set properties for PATH and all that is below it. Files that exist keep what they were written with."""
    where, properties = session.path(path), parse_assignments(assignments)
    session.fs.set_path_properties(where, properties)


@pathconf.command("remove", examples=["rayfs pathconf remove /out", "rayfs pathconf remove /out KEY"])
@click.argument("path")
@click.argument("keys", nargs=-1, metavar="[KEY]...")
@pass_session
def remove(session: Session, path: str, keys: tuple[str, ...]) -> None:
    """Take properties away from PATH: the named ones, or all."""
    where = session.path(path)
    own = session.fs.path_properties(where).get(where, {})
    unwanted = [property_of(key).key for key in keys] or list(own)
    session.fs.set_path_properties(where, dict.fromkeys(unwanted))


def _print(session: Session, found: dict[str, dict[str, PropertyValue]]) -> None:
    for path, values in sorted(found.items()):
        if session.json:
            print_line({"path": path, "properties": values})
        else:
            print_columns([(path, f"{key}={property_of(key).render(value)}") for key, value in sorted(values.items())])


VERBS: dict[str, click.Command] = {"config": config, "pathconf": pathconf}
