"""What all verbs share: the global options, before and after the verb, and the session that they describe."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import click

from rayfs.cli.outcome import Tally
from rayfs.config import Settings, property_of
from rayfs.errors import FileNotFound, InvalidPath, InvalidProperty

if TYPE_CHECKING:
    from rayfs.client import RayFileSystem

GLOB_CHARACTERS = frozenset("*?[")


@dataclass
class Session:
    """One run of ``rayfs``: what the global options said, and the file system they lead to."""

    address: str | None = None
    json: bool = False
    properties: dict[str, str] = field(default_factory=dict)

    @cached_property
    def settings(self) -> Settings:
        """All properties, with ``-D`` on top."""
        return Settings.load(self.properties)

    @cached_property
    def fs(self) -> RayFileSystem:
        """The client's file system, connected on first use."""
        from rayfs.client import connect

        return connect(self.address, config=dict(self.properties))

    def path(self, text: str) -> str:
        """The one spelling of a RayFS path: ``/a``, ``a``, ``rayfs:///a`` and ``rayfs://a`` are the same."""
        from rayfs.client.address import strip_protocol

        if not text:  # fsspec takes it for the root, and at a shell it is a variable that is not set
            raise InvalidPath("the path is empty; give an absolute path such as /out/a.parquet")
        return strip_protocol(text)

    def expand(self, patterns: Iterable[str], tally: Tally, *, missing_ok: bool = False) -> Iterator[str]:
        """Paths that the patterns name, in order; a pattern that names nothing is counted as a failure.

        A path that exists under the very name with glob characters in it is that path.
        """
        for pattern in patterns:
            found: list[str] = []
            with tally.attempt(counts=False):
                found = self._matches(self.path(pattern), missing_ok=missing_ok)
            yield from found

    def _matches(self, path: str, *, missing_ok: bool) -> list[str]:
        if not GLOB_CHARACTERS & set(path) or self.fs.exists(path):
            return [path]
        found = sorted(str(match) for match in self.fs.glob(path))
        if not found and not missing_ok:
            raise FileNotFound(f"nothing matches {path}; check the pattern with: rayfs ls", path)
        return found


pass_session = click.make_pass_decorator(Session, ensure=True)


def _read_properties(ctx: click.Context, _param: click.Parameter, values: Sequence[str]) -> None:
    session = ctx.ensure_object(Session)
    for text in values:
        key, equals, value = text.partition("=")
        if not equals:
            raise click.BadParameter(f"{text!r} must be written key=value, for example -D {_EXAMPLE_PROPERTY}", ctx)
        try:
            property_of(key).parse(value)
        except InvalidProperty as error:
            raise click.BadParameter(error.message, ctx) from None
        session.properties[key] = value


_EXAMPLE_PROPERTY = "rayfs.user.file.replication.durable=3"


def _set_address(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    if value is not None:
        ctx.ensure_object(Session).address = value


def _set_json(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value:
        ctx.ensure_object(Session).json = True


def global_options() -> list[click.Option]:
    """The options that every verb takes; given before or after it they mean the same, the last one wins."""
    return [
        click.Option(
            ["--address"],
            metavar="HOST:PORT",
            callback=_set_address,
            expose_value=False,
            help="Ray address of the cluster [RAYFS_ADDRESS, RAY_ADDRESS, else the cluster that `rayfs start` left].",
        ),
        click.Option(
            ["--json"],
            is_flag=True,
            callback=_set_json,
            expose_value=False,
            help="JSON on stdout: one document for one thing, JSON Lines for lists.",
        ),
        click.Option(
            ["-D", "properties"],
            metavar="KEY=VALUE",
            multiple=True,
            callback=_read_properties,
            expose_value=False,
            help=f"Set a property, for example -D {_EXAMPLE_PROPERTY}.",
        ),
    ]


class Verb(click.Command):
    """A verb; takes the global options too. ``starts_cluster`` allows properties that a cluster reads at its start."""

    def __init__(self, *args: Any, starts_cluster: bool = False, examples: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.starts_cluster = starts_cluster
        self.examples = tuple(examples)
        self.params.extend(global_options())

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb, after a look at which properties were given."""
        session = ctx.ensure_object(Session)
        foreign = [key for key in session.properties if property_of(key).scope == "cluster"]
        if foreign and not self.starts_cluster:
            raise click.UsageError(
                f"{foreign[0]} is read when the cluster starts; give it to `rayfs start`, not to {ctx.command_path}",
                ctx,
            )
        return super().invoke(ctx)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Examples, one a line, as they are typed."""
        if self.examples:
            with formatter.section("Examples"):
                for example in self.examples:
                    formatter.write(f"{' ' * formatter.current_indent}{example}\n")
        super().format_epilog(ctx, formatter)


class VerbGroup(click.Group):
    """A verb with verbs of its own (``rayfs pathconf add``)."""

    command_class = Verb

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.extend(global_options())


def parse_assignments(texts: Iterable[str]) -> dict[str, str]:
    """``key=value`` words as properties of the client, validated; a cluster's property is refused."""
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise click.UsageError(f"{text!r} must be written key=value")
        known = property_of(key)
        if known.scope == "cluster":
            raise click.UsageError(f"{key} belongs to the cluster, not to a path; only rayfs.user.* can be set here")
        known.parse(value)
        found[key] = value
    return found
