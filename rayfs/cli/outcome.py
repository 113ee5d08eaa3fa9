"""How a verb ends: exit codes, and the one place where errors become them and one sentence on stderr."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum

import click

from rayfs.errors import (
    RETRYABLE_TOKEN,
    Busy,
    ClusterUnreachable,
    InvalidArgument,
    RayFSError,
    RequestRefused,
)


class ExitCode(IntEnum):
    """What the shell's caller learns. Scripts rely on the numbers."""

    OK = 0
    FAILED = 1  # or false, for `test` and `status --check`
    USAGE = 2
    SOME_PATHS_FAILED = 3
    UNREACHABLE = 4
    REFUSED = 5  # doing it would be unsafe
    TIMED_OUT = 124  # as timeout(1)
    INTERRUPTED = 130  # 128 + SIGINT


_CODES: tuple[tuple[type[BaseException], ExitCode], ...] = (
    (ClusterUnreachable, ExitCode.UNREACHABLE),
    (TimeoutError, ExitCode.TIMED_OUT),
    (Busy, ExitCode.REFUSED),
    (RequestRefused, ExitCode.REFUSED),
    (InvalidArgument, ExitCode.USAGE),
    (click.UsageError, ExitCode.USAGE),
    (click.Abort, ExitCode.INTERRUPTED),
    (KeyboardInterrupt, ExitCode.INTERRUPTED),
)
"""First match wins; anything else is FAILED."""


def exit_code_of(error: BaseException) -> ExitCode:
    """The exit code that ``error`` ends a verb with."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), ExitCode.FAILED)


def sentence_of(error: BaseException) -> str:
    """What ``error`` says to a person, in one line. The token for programs that retry is left out."""
    if isinstance(error, click.ClickException):
        text = error.format_message()
    elif isinstance(error, RayFSError):
        text = error.message
        if error.path and error.path not in text:
            text = f"{error.path}: {text}"
    elif isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    elif isinstance(error, OSError):
        text = str(error) or type(error).__name__
    else:
        text = f"{type(error).__name__}: {error} (a fault in RayFS; RAYFS_TRACEBACK=1 shows where)"
    return " ".join(text.replace(f"[{RETRYABLE_TOKEN}]", "").split())


def complain(error: BaseException) -> None:
    """Print the error's sentence on stderr; with RAYFS_TRACEBACK in the environment the traceback before it."""
    if os.environ.get("RAYFS_TRACEBACK"):
        traceback.print_exception(error)
    click.echo(f"rayfs: {sentence_of(error)}", err=True)


def say(message: str) -> None:
    """A message for a person: stderr, so that stdout is data only."""
    click.echo(message, err=True)


def ends_process(run: Callable[[], object]) -> int:
    """Run a verb and answer its exit code, whatever happens in it."""
    try:
        result = run()
        sys.stdout.flush()
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.UsageError as error:
        error.show()
        return ExitCode.USAGE
    except BrokenPipeError:
        # The reader of the pipe has gone (`rayfs cat x | head`): nobody is left to tell, nor for the flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FAILED
    except (KeyboardInterrupt, click.Abort):
        say("rayfs: interrupted")
        return ExitCode.INTERRUPTED
    except Exception as error:  # noqa: BLE001  # the last resort: a person gets a sentence, never a traceback
        complain(error)
        return exit_code_of(error)
    return result if isinstance(result, int) else ExitCode.OK


@dataclass
class Tally:
    """Outcomes of a verb over many paths: failures are said as they happen, and the rest goes on."""

    done: int = 0
    failures: list[BaseException] = field(default_factory=list)
    partial: bool = False

    @contextmanager
    def attempt(self, *, counts: bool = True) -> Iterator[None]:
        """One path's work, a success if it ``counts``. The cluster being away, or a time limit, ends the whole verb."""
        try:
            yield
        except (ClusterUnreachable, TimeoutError, BrokenPipeError):
            raise
        except OSError as error:
            self.fail(error)
        else:
            self.done += counts

    def fail(self, error: BaseException) -> None:
        """Count and say one failure."""
        self.failures.append(error)
        complain(error)

    @property
    def exit_code(self) -> ExitCode:
        """0, 3 when some succeeded or ``partial`` says so, else the failures' own code (1 when they differ)."""
        if not self.failures:
            return ExitCode.OK
        if self.done or self.partial:
            return ExitCode.SOME_PATHS_FAILED
        codes = {exit_code_of(error) for error in self.failures}
        return codes.pop() if len(codes) == 1 else ExitCode.FAILED
