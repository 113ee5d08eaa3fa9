"""The table of verbs and the group that loads each one's module when it is called for."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

import rayfs
from rayfs.cli.command import global_options
from rayfs.cli.outcome import ends_process

SECTIONS: dict[str, dict[str, str]] = {
    "Files": {
        "ls": "namespace",
        "stat": "namespace",
        "mkdir": "namespace",
        "mv": "namespace",
        "rm": "namespace",
        "touch": "namespace",
        "test": "namespace",
        "count": "summary",
        "du": "summary",
        "checksum": "summary",
    },
    "Data": {
        "copyFromLocal": "upload",
        "copyToLocal": "download",
        "cp": "download",
        "cat": "reading",
        "head": "reading",
        "tail": "reading",
    },
    "Cache and durability": {
        "persist": "caching",
        "free": "caching",
        "pin": "caching",
        "unpin": "caching",
        "setReplication": "caching",
        "location": "summary",
        "history": "summary",
        "pathconf": "properties",
    },
    "Cluster": {
        "start": "cluster",
        "stop": "cluster",
        "status": "cluster",
        "console": "cluster",
        "demo": "cluster",
        "config": "properties",
        "completion": "completion",
    },
}
"""Verbs by section of the help, each with the module of ``rayfs.cli`` that defines it."""

MODULES = {verb: module for verbs in SECTIONS.values() for verb, module in verbs.items()}


class Shell(click.Group):
    """The group ``rayfs``: verbs are found by the table, errors become exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        """Every verb, in the order of the help."""
        return list(MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # click's signature
        """The verb, loaded; None for a word that is not one."""
        module = MODULES.get(cmd_name)
        if module is None:
            return None
        loaded = import_module(f"rayfs.cli.{module}")
        commands: dict[str, click.Command] = loaded.VERBS
        return commands[cmd_name]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with the nearest verb for a typing error."""
        word = args[0] if args else ""
        if word and not word.startswith("-") and word not in MODULES:
            import difflib

            spelled = {verb.lower(): verb for verb in MODULES}
            near = difflib.get_close_matches(word.lower(), spelled, n=1, cutoff=0.5)
            hint = f"; did you mean `{spelled[near[0]]}`?" if near else "; `rayfs --help` lists them"
            raise click.UsageError(f"there is no verb {word!r}{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The verbs with one line each, in sections."""
        width = formatter.width - 6 - max(map(len, MODULES))
        for section, verbs in SECTIONS.items():
            rows = []
            for verb in verbs:
                command = self.get_command(ctx, verb)
                assert command is not None
                rows.append((verb, command.get_short_help_str(width)))
            with formatter.section(section):
                formatter.write_dl(rows)

    def main(  # type: ignore[override]  # click has overloads for the two modes
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> Any:
        """Run; with click's standalone mode (the default) end the process with the verb's exit code."""
        if not extra.pop("standalone_mode", True):
            return super().main(args, prog_name or "rayfs", standalone_mode=False, **extra)
        sys.exit(
            ends_process(lambda: super(Shell, self).main(args, prog_name or "rayfs", standalone_mode=False, **extra))
        )


@click.group(
    cls=Shell,
    context_settings={"max_content_width": 100},
    params=list(global_options()),
    epilog="`rayfs VERB --help` shows a verb with examples. Exit codes: 0 ok, 1 failed or false, 2 usage, 3 some paths "
    "failed, 4 cluster unreachable, 5 refused as unsafe, 124 timed out, 130 interrupted.",
)
@click.version_option(rayfs.__version__, prog_name="rayfs", message="%(prog)s %(version)s")
def shell() -> None:
    """RayFS: a replicated, asynchronous write cache in front of S3.

    Paths are /a/b or rayfs:///a/b. Quote patterns ('/out/*.parquet'): RayFS expands them.
    """
