"""What keys do: areas, filter, sort, pause, refresh, help, command line, palette; and a source that goes and comes."""

from __future__ import annotations

from rayfs.admin.fake import FakeSource
from rayfs.console.actions import ACTIONS, AREAS
from rayfs.console.screens.help import HelpScreen
from rayfs.core.snapshot import ClusterSnapshot
from rayfs.errors import ClusterUnreachable


class Breakable:
    """A source that can be taken away and given back."""

    name, description = "breakable", "a cluster at 127.0.0.1:6379"

    def __init__(self, source: FakeSource) -> None:
        self.source, self.broken = source, False

    def snapshot(self) -> ClusterSnapshot:
        if self.broken:
            raise ClusterUnreachable("Nothing answers at 127.0.0.1:6379; start a cluster with: rayfs start")
        return self.source.snapshot()


async def test_number_keys_go_to_the_areas(console_on, fake_at):
    async with console_on(fake_at("lost")) as console:
        for number, area in enumerate(AREAS, start=1):
            await console.press(str(number))
            assert f"{number} [{area.title}]" in console.text


async def test_a_filter_shows_only_rows_with_all_its_words_and_without_the_negated_ones(console_on, fake_at):
    async with console_on(fake_at("lost")) as console:
        await console.press("5", "slash", *"slowdown !part-99061", "enter")
        assert {row.cells[3].text for row in console.table.shown} == {"503 SlowDown"}
        assert not any("part-99061" in row.cells[1].text for row in console.table.shown)
        assert f"{len(console.table.shown)} of 20 with slowdown !part-99061" in console.text
        await console.press("escape")
        assert len(console.table.shown) == 20


async def test_a_filter_without_a_match_says_how_to_end_it(console_on, fake_at):
    async with console_on(fake_at("lost")) as console:
        await console.press("2", "slash", *"nowhere", "enter")
        assert "No row has 'nowhere'; esc ends the filter." in console.text
        await console.refresh()
        assert console.table.shown == []
        await console.press("escape")
        assert len(console.table.shown) == 5


async def test_keys_typed_into_the_filter_are_text(console_on, fake_at):
    async with console_on(fake_at("lost")) as console:
        await console.press("5", "slash", *"1q")
        assert console.app.is_running
        assert "5 [Failures]" in console.text


async def test_sorting_keeps_the_cursor_on_its_row_and_survives_refreshes(console_on, fake_at):
    async with console_on(fake_at("throttled"), (160, 50)) as console:
        await console.press("3", "down", "down", "down")
        chosen = console.table.selected.key
        await console.press("s", "s", "s", "s")
        assert console.table.selected.key == chosen
        sizes = [row.cells[3].order for row in console.table.shown]
        assert sizes == sorted(sizes, reverse=True)
        await console.press("S")
        await console.refresh()
        assert console.table.selected.key == chosen
        sizes = [row.cells[3].order for row in console.table.shown]
        assert sizes == sorted(sizes)
        assert "Size ▲" in console.text


async def test_the_cursor_follows_its_row_and_the_screen_follows_the_cursor(console_on, fake_at):
    async with console_on(fake_at("throttled")) as console:
        await console.press("6", *["down"] * 20)
        chosen, line = console.table.selected.key, console.table.cursor_row - round(console.table.scroll_y)
        before = console.table.cursor_row
        await console.refresh(3)
        assert console.table.selected.key == chosen
        assert console.table.cursor_row > before
        assert console.table.cursor_row - round(console.table.scroll_y) == line


async def test_at_the_top_the_cursor_stays_on_the_newest_event(console_on, fake_at):
    async with console_on(fake_at("throttled")) as console:
        await console.press("6")
        newest = console.table.selected.key
        await console.refresh(3)
        assert int(console.table.selected.key) > int(newest)
        assert console.table.cursor_row == 0


async def test_a_refresh_touches_only_cells_that_changed(console_on, fake_at, monkeypatch):
    async with console_on(fake_at("safe")) as console:
        await console.press("2")
        touched = []
        update = console.table.update_cell_at
        monkeypatch.setattr(console.table, "update_cell_at", lambda *args: (touched.append(args), update(*args)))
        await console.refresh()
        assert touched == []


async def test_pause_says_so_and_refresh_still_fetches(console_on, fake_at):
    async with console_on(fake_at("throttled")) as console:
        await console.press("p")
        console.pass_time(30)
        await console.pilot.pause()
        assert "‖ paused" in console.text
        assert "paused at 08:00:58, 30 s old" in console.text
        await console.refresh()
        assert "paused at 08:00:59, 0 s old" in console.text
        await console.press("p")
        assert "paused" not in console.text


async def test_a_lost_source_keeps_the_last_picture_with_its_time_and_comes_back(console_on, fake_at):
    source = Breakable(fake_at("throttled"))
    async with console_on(source, (120, 40)) as console:
        source.broken = True
        console.pass_time(34)
        await console.refresh()
        assert "✖ a cluster at 127.0.0.1:6379: showing 08:00:58" in console.text
        assert "Nothing answers at 127.0.0.1:6379" in console.text
        assert "source lost, showing 08:00:58, 34 s old" in console.text
        assert "DEGRADED" in console.text
        source.broken = False
        await console.refresh()
        assert "source lost" not in console.text
        assert "Nothing answers" not in console.text
        assert "0 s old" in console.text


async def test_a_console_opened_without_a_cluster_says_why_and_waits(console_on, fake_at):
    source = Breakable(fake_at("safe"))
    source.broken = True
    async with console_on(source) as console:
        assert "nothing to show yet" in console.text
        assert "start a cluster with: rayfs start" in " ".join(console.text.split())
        source.broken = False
        await console.refresh()
        assert "● SAFE" in console.text


async def test_the_same_picture_again_does_not_become_younger(console_on, fake_at):
    class Stuck(Breakable):
        def snapshot(self) -> ClusterSnapshot:
            self.kept = getattr(self, "kept", None) or super().snapshot()
            return self.kept

    async with console_on(Stuck(fake_at("safe"))) as console:
        console.pass_time(7)
        await console.refresh()
        assert "7 s old" in console.text


async def test_help_lists_every_action_with_its_key(console_on, fake_at):
    async with console_on(fake_at("safe"), (120, 60)) as console:
        await console.press("question_mark")
        assert isinstance(console.app.screen, HelpScreen)
        for action in ACTIONS:
            assert any(
                (action.shown_key or action.key) in line and action.title in line for line in console.text.splitlines()
            ), action
        await console.press("escape")
        assert "1 [Overview]" in console.text


async def test_y_shows_and_copies_the_command_for_the_selected_row(console_on, fake_at):
    async with console_on(fake_at("lost")) as console:
        await console.press("y")
        assert console.app.clipboard == "rayfs status"
        await console.press("5", "y")
        assert console.app.clipboard == "rayfs history /out/run-2/date=2026-03-03/part-11018.parquet"
        assert "The same in a shell" in console.text


async def test_filter_and_sort_are_refused_where_there_is_no_table(console_on, fake_at):
    async with console_on(fake_at("safe")) as console:
        before = console.text
        await console.press("slash", "s")
        assert console.text == before


async def test_the_palette_offers_every_area(console_on, fake_at):
    async with console_on(fake_at("safe")) as console:
        await console.press("ctrl+p", *"replication")
        await console.app.workers.wait_for_complete()
        await console.press("enter")
        await console.pilot.pause()
        assert "4 [Replication]" in console.text


async def test_q_ends_the_console(console_on, fake_at):
    async with console_on(fake_at("safe")) as console:
        await console.press("q")
    assert not console.app.is_running


async def test_a_narrow_screen_made_wide_shows_more_columns_on_the_same_row(console_on, fake_at):
    async with console_on(fake_at("throttled")) as console:
        await console.press("3", "down", "down")
        chosen = console.table.selected.key
        assert "Parts" not in console.text
        await console.pilot.resize_terminal(120, 40)
        await console.until(lambda: "Parts" in console.text)
        assert console.table.selected.key == chosen


async def test_without_colour_every_state_is_still_said(console_on, fake_at, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    async with console_on(fake_at("lost")) as console:
        assert console.app.no_color
        await console.press("2")
        for word in ("● live", "✖ lost", "◐ draining"):
            assert word in console.text
