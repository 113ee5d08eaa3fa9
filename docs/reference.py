"""Write the reference pages of the shell and of the properties from the code that they describe.

python docs/reference.py            writes docs/reference/*.md
python docs/reference.py --check    exits 1 and names the pages that are out of date
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from rayfs.cli.command import Verb, global_options
from rayfs.cli.outcome import ExitCode
from rayfs.cli.verbs import SECTIONS, shell
from rayfs.config import DEFAULTS_FILE, PROPERTIES, Settings

PAGES = Path(__file__).parent / "reference"
NOTE = "<!-- Made from the code by docs/reference.py. Do not edit. -->"

MEANINGS = {
    ExitCode.OK: "ok",
    ExitCode.FAILED: "failed, or false (`test`, `status --check`)",
    ExitCode.USAGE: "the command line or a property is wrong",
    ExitCode.SOME_PATHS_FAILED: "some paths failed, the others are done",
    ExitCode.UNREACHABLE: "no cluster answers",
    ExitCode.REFUSED: "refused, because doing it would be unsafe",
    ExitCode.TIMED_OUT: "a time limit ended the wait",
    ExitCode.INTERRUPTED: "interrupted from the keyboard",
}


def cli_page() -> str:
    """All verbs with their arguments, options and examples, and the exit codes."""
    lines = ["# The shell", NOTE, "", "Options that every verb takes, before or after it:", ""]
    lines += [_option(option) for option in global_options()]
    with click.Context(shell, info_name="rayfs") as context:
        for section, verbs in SECTIONS.items():
            lines += ["", f"## {section}"]
            for name in verbs:
                command = shell.get_command(context, name)
                assert command is not None
                lines += _verb(command, context)
    lines += ["", "## Exit codes", "", "| code | meaning |", "|---|---|"]
    lines += [f"| {code.value} | {MEANINGS[code]} |" for code in ExitCode]
    return "\n".join(lines) + "\n"


def _verb(command: click.Command, parent: click.Context) -> Iterator[str]:
    context = click.Context(command, parent=parent, info_name=command.name)
    pieces = [piece for piece in command.collect_usage_pieces(context) if piece != "[OPTIONS]"]
    own = [param for param in command.params if isinstance(param, click.Option) and param.expose_value]
    yield from ("", f"### {context.command_path[len('rayfs ') :]}", "", "```")
    yield " ".join([context.command_path, *(["[OPTIONS]"] if own else []), *pieces])
    yield "```"
    yield ""
    yield _paragraphs(command.help or "")
    if own:
        yield from ("", *(_option(option) for option in own))
    if isinstance(command, Verb) and command.examples:
        yield from ("", "```sh", *command.examples, "```")
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _verb(inner, context)


def _option(option: click.Option) -> str:
    names = ", ".join([*option.opts, *option.secondary_opts])
    value = "" if option.is_flag else f" {option.metavar or option.type.name.upper()}"
    return f"- `{names}{value}`: {option.help}"


def _paragraphs(text: str) -> str:
    paragraphs = [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]
    return "\n\n".join(filter(None, paragraphs))


def properties_page() -> str:
    """All properties with their defaults, what they take, and why the default is what it is."""
    defaults, reasons = Settings.load(env={}), _reasons()
    lines = ["# Properties", NOTE, "", _paragraphs(_INTRODUCTION)]
    for scope, title in (("client", "The client's"), ("cluster", "The cluster's")):
        lines += ["", f"## {title}"]
        for key, known in PROPERTIES.items():
            if known.scope == scope:
                default = known.render(defaults[key])
                lines += [
                    "",
                    f"### {key}",
                    "",
                    f"Default: {f'`{default}`' if default else 'none'}. Takes {known.accepts()}.",
                ]
                lines += ["", reasons[key]]
    return "\n".join(lines) + "\n"


_INTRODUCTION = """
Sources, later wins: the defaults below, `$RAYFS_CONF_DIR/rayfs.yaml` (keys nested or dotted), the environment
(`RAYFS__USER__FILE__WRITETYPE__DEFAULT` for `rayfs.user.file.writetype.default`), the path's own (`rayfs pathconf`),
`rayfs.connect(...)` or `-D key=value`, the call.

Sizes take B KB MB GB TB, powers of 1024; durations take ms s m h d; -1 means never, or no limit. Values are taken
literally. `rayfs.user.*` belongs to the client and takes effect at once; all others are read when the cluster starts.
"""


def _reasons() -> dict[str, str]:
    """The comment above each key of the defaults file."""
    found: dict[str, str] = {}
    comment: list[str] = []
    for line in DEFAULTS_FILE.read_text("utf-8").splitlines():
        if line.startswith("# "):
            comment.append(line[2:])
            continue
        if line.startswith("rayfs."):
            found[line.partition(":")[0]] = " ".join(comment)
        comment = []
    return found


def main() -> int:
    """Write the pages, or with ``--check`` compare them."""
    pages = {PAGES / "cli.md": cli_page(), PAGES / "properties.md": properties_page()}
    if "--check" not in sys.argv:
        PAGES.mkdir(exist_ok=True)
        for file, text in pages.items():
            file.write_text(text, "utf-8")
        return 0
    stale = [file for file, text in pages.items() if not file.exists() or file.read_text("utf-8") != text]
    for file in stale:
        sys.stderr.write(f"{file.relative_to(PAGES.parents[1])} is out of date; run: python docs/reference.py\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
