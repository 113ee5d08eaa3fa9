"""Every area, drawn from the simulated cluster, looks as its snapshot says and shows what an operator must see."""

from __future__ import annotations

import pytest

from rayfs.admin.fake import FakeSource
from rayfs.console.actions import AREAS

SIZES = {"80x24": (80, 24), "120x40": (120, 40)}
KEYS = {area.name: str(number) for number, area in enumerate(AREAS, start=1)}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("moment", ["safe", "throttled", "lost"])
async def test_every_area_looks_as_its_snapshot(moment, size, console_on, fake_at, like_snapshot):
    async with console_on(fake_at(moment), SIZES[size]) as console:
        for area, key in KEYS.items():
            await console.press(key)
            like_snapshot(console.text, f"{area}-{moment}-{size}")


async def test_the_overview_says_whether_data_is_safe_when_it_will_be_and_what_holds_it_up(console_on, fake_at):
    async with console_on(fake_at("throttled")) as console:
        for said in ("DEGRADED", "all in the under store in about", "oldest", "15 files whose last persist failed"):
            assert said in console.text
        assert "bottleneck  under store throttled: it asks to slow down" in console.text


async def test_the_overview_at_rest_says_safe(console_on, fake_at):
    async with console_on(fake_at("safe")) as console:
        assert "● SAFE  everything is in the under store" in console.text


async def test_the_nodes_area_says_what_would_be_lost_with_the_selected_node(console_on, fake_at):
    async with console_on(fake_at("lost")) as console:
        await console.press("2")
        assert "If it died now, 55 dirty blocks would have no copy left." in console.text


async def test_the_persists_area_shows_the_whole_reason_of_the_selected_failure(console_on, fake_at):
    async with console_on(fake_at("throttled"), SIZES["120x40"]) as console:
        await console.press("3", "down")
        assert "RAYFS_RETRYABLE" not in console.text
        assert "asked to slow down at PUT (503 SlowDown)." in console.text
        assert "next try in" in console.text


async def test_the_failures_area_names_lost_files_first_and_where_they_were(console_on, fake_at):
    async with console_on(fake_at("lost")) as console:
        await console.press("5")
        kinds = [row.cells[0].text for row in console.table.shown]
        assert kinds == sorted(kinds, key=["✖ LOST", "✖ node lost", "✖ persist", "▶ retrying"].index)
        assert "was on n24083f, n24179c" in console.text


async def test_areas_without_anything_to_show_say_so(console_on, fake_at):
    async with console_on(fake_at("safe")) as console:
        for key, words in (
            ("3", "Nothing waits: the under store holds what the namespace says."),
            ("4", "Every block has the copies it should have."),
            ("5", "Nothing fails: no file lost, every node answers, every persist works."),
        ):
            await console.press(key)
            assert words in console.text


async def test_a_file_name_with_control_characters_and_markup_is_shown_as_text(console_on, fake_at):
    source = fake_at("throttled")
    files = source._cluster.files
    first = next(iter(files.values()))
    first.path = "/out/[bold]evil\x1b[2J\nname"
    async with console_on(source, SIZES["120x40"]) as console:
        await console.press("3")
        assert "/out/[bold]evil\ufffd[2J\ufffdname" in console.text


@pytest.mark.parametrize("size", SIZES)
async def test_no_line_is_wider_than_the_screen_and_every_panel_says_how_old_it_is(size, console_on):
    async with console_on(FakeSource(3).advance(84), SIZES[size]) as console:
        for key in KEYS.values():
            await console.press(key)
            lines = console.text.splitlines()
            assert max(map(len, lines)) <= SIZES[size][0]
            frames = [line.count("╰") for line in lines]
            ages = [line.count("0 s old ─╯") for line in lines]
            assert frames == ages
