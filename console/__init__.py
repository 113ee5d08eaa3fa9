"""The console: a terminal screen that shows a RayFS cluster, and the same screens rendered once for tickets and tests.

Knows admin's sources and the snapshot types, never ray. Importing it loads neither Textual nor ray; ``run`` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rayfs.admin.source import AdminSource

__all__ = ["run", "run_source"]


def run(
    address: str | None,
    *,
    once: str | None = None,
    text: bool = False,
    svg: str | None = None,
    read_only: bool = False,
) -> None:
    """Show the cluster at ``address`` (None: the one the client would use) until the user quits.

    With ``once``, render that area to stdout (``text``) and to the file ``svg``, and return. Without, the console opens
    even where there is no cluster, and says so. Raises with ``once``: ``ClusterUnreachable`` when there is no cluster,
    ``InvalidArgument`` for an unknown area.
    """
    from rayfs.admin.live import LiveSource

    run_source(LiveSource(address), once=once, text=text, svg=svg, read_only=read_only)


def run_source(
    source: AdminSource,
    *,
    once: str | None = None,
    text: bool = False,
    svg: str | None = None,
    read_only: bool = False,
) -> None:
    """``run`` for any source."""
    from rayfs.console import terminal

    if once is None:
        terminal.open_console(source, read_only=read_only)
    else:
        terminal.render_once(source, once, text=text or svg is None, svg=svg)
