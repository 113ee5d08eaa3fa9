"""What the console's tests share: an app on a simulated cluster that moves only when asked, and text snapshots.

A snapshot is the screen as plain text, kept in ``__snapshots__`` so that a change of a screen reads as a diff;
``pytest tests/console --snapshot-update`` writes them anew.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from rayfs.admin.fake import MOMENTS, FakeSource
from rayfs.admin.source import AdminSource
from rayfs.console.app import ConsoleApp
from rayfs.console.capture import screen_text

SNAPSHOTS = Path(__file__).parent / "__snapshots__"
NARROW = (80, 24)
WIDE = (120, 40)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--snapshot-update", action="store_true", help="write the console's text snapshots anew")


@pytest.fixture(autouse=True)
def _in_utc() -> Iterator[None]:
    """The console shows local time; snapshots are of one time zone."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "UTC"
    time.tzset()
    yield
    os.environ.pop("TZ")
    if before is not None:
        os.environ["TZ"] = before
    time.tzset()


@pytest.fixture
def like_snapshot(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """``like_snapshot(text, name)`` fails with a diff when the text is not what ``__snapshots__/name.txt`` holds."""

    def compare(text: str, name: str) -> None:
        kept = SNAPSHOTS / f"{name}.txt"
        if request.config.getoption("--snapshot-update", default=False):
            kept.parent.mkdir(exist_ok=True)
            kept.write_text(text, encoding="utf-8")
        assert kept.exists(), f"no snapshot {kept.name}; write it with --snapshot-update"
        assert text.splitlines() == kept.read_text(encoding="utf-8").splitlines()

    return compare


@dataclass
class Console:
    """An open console. ``now`` is its clock; it stands still until a test moves it."""

    app: ConsoleApp
    pilot: Pilot[None]
    clock: list[float]

    async def press(self, *keys: str) -> None:
        await self.pilot.press(*keys)
        await self.pilot.pause()
        await self.pilot.pause()

    async def refresh(self, times: int = 1) -> None:
        """Press r, and wait for what the source says to it."""
        for _ in range(times):
            heard = self.app.next_word()
            await self.pilot.press("r")
            await heard
        await self.pilot.pause()
        await self.pilot.pause()

    def pass_time(self, seconds: float) -> None:
        self.clock[0] += seconds
        self.app.redraw()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let the app go on until it has come to rest where ``condition`` holds: a layout takes several rounds."""
        for _ in range(500):
            if condition():
                return
            await self.pilot.pause(0.01)
        raise AssertionError(f"never came true; the screen is\n{self.text}")

    @property
    def text(self) -> str:
        return screen_text(self.app)

    @property
    def table(self) -> Any:
        return self.app.screen.query_one("LiveTable")


@asynccontextmanager
async def open_on(source: AdminSource, size: tuple[int, int] = NARROW, **options: Any) -> AsyncIterator[Console]:
    clock = [1000.0]
    app = ConsoleApp(source, None, clock=lambda: clock[0], **options)
    heard = app.next_word()
    async with app.run_test(size=size, notifications=True) as pilot:
        await heard
        await pilot.pause()
        await pilot.pause()
        yield Console(app, pilot, clock)


@pytest.fixture
def console_on() -> Callable[..., AbstractAsyncContextManager[Console]]:
    """Opens a console on a source; it fetches when opened, and after that only when asked."""
    return open_on


@pytest.fixture
def fake_at() -> Callable[[str], FakeSource]:
    """A simulated cluster whose next picture is of that moment of its script."""
    return lambda moment: FakeSource(7).advance(MOMENTS[moment] - 1)
