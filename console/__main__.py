"""``python -m rayfs.console``: the console on a live cluster, on a simulated one, or on a recording."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from rayfs.admin.source import AdminSource
from rayfs.console import run_source
from rayfs.errors import ClusterUnreachable, RayFSError


def main(arguments: list[str] | None = None) -> int:
    """Exit codes are those of ``rayfs``: 1 failed, 4 cluster unreachable."""
    parser = argparse.ArgumentParser(prog="python -m rayfs.console", description=__doc__)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--address", help="the cluster, as for rayfs --address")
    where.add_argument("--fake", type=int, metavar="SEED", help="a simulated cluster with a script of troubles")
    where.add_argument("--replay", type=Path, metavar="FILE", help="a recording, played again and again")
    parser.add_argument("--once", metavar="AREA", help="render one area and end")
    parser.add_argument("--text", action="store_true", help="with --once: to standard output")
    parser.add_argument("--svg", metavar="FILE", help="with --once: to a file")
    parser.add_argument("--read-only", action="store_true", help="refuse every action that changes the cluster")
    options = parser.parse_args(arguments)
    try:
        source = _source(options)
        run_source(source, once=options.once, text=options.text, svg=options.svg, read_only=options.read_only)
    except RayFSError as error:
        sys.stderr.write(f"rayfs: {error.message}\n")
        return 4 if isinstance(error, ClusterUnreachable) else 1
    return 0


def _source(options: argparse.Namespace) -> AdminSource:
    if options.fake is not None:
        from rayfs.admin.fake import FakeSource

        return FakeSource(options.fake, start=time.time())
    if options.replay is not None:
        from rayfs.admin.replay import ReplaySource

        return ReplaySource(options.replay, repeat=True)
    from rayfs.admin.live import LiveSource

    return LiveSource(options.address)


if __name__ == "__main__":
    raise SystemExit(main())
