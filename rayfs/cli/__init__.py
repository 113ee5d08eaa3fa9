"""The shell: ``rayfs VERB ...``, one file per group of verbs.

May know the configuration, the client and admin; the verbs ``start``, ``stop`` and ``demo`` also ``actors.launch`` and
``rayfs.testing``. Data goes to stdout, progress and messages to stderr. Exit codes are ``outcome.ExitCode``.

Invariant: the modules of this package import click, the core's plain types and the standard library only; Ray, boto3,
pyarrow, Textual and rich are imported inside the verbs that need them, so that ``rayfs --help`` answers at once.
"""

from __future__ import annotations

from collections.abc import Sequence


def main(args: Sequence[str] | None = None) -> None:
    """Entry point of the console script ``rayfs``; ends the process with the verb's exit code."""
    from rayfs.cli.verbs import shell

    shell.main(args)
