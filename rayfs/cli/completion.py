"""``completion``: the script that teaches a shell to complete ``rayfs``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from rayfs.cli.command import Verb

COMPLETE_VARIABLE = "_RAYFS_COMPLETE"


@click.command(
    "completion",
    cls=Verb,
    examples=['eval "$(rayfs completion bash)"', "rayfs completion fish > ~/.config/fish/completions/rayfs.fish"],
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for a shell."""
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(click.Command("rayfs"), {}, "rayfs", COMPLETE_VARIABLE).source())


VERBS = {"completion": completion}
