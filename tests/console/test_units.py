"""Sizes, times and node names as a person reads and types them; what a verdict means; bars and sparklines."""

from __future__ import annotations

import pytest

from rayfs.admin import units, verdict
from rayfs.admin.fake import FakeSource
from rayfs.console.derive import figures
from rayfs.errors import InvalidArgument

IDS = ["aabbcc0000", "aabbdd0000", "ff00110000"]


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KB"),
        (1536, "1.5 KB"),
        (3 << 30, "3.0 GB"),
        (180 << 20, "180 MB"),
        (1 << 60, "1024 PB"),
    ],
)
def test_sizes_are_powers_of_1024_in_few_characters(count, text):
    assert units.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0, "0 s"),
        (0.4, "400 ms"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (125, "2 min 05 s"),
        (12000, "3 h 20 min"),
        (200000, "2 d 7 h"),
    ],
)
def test_durations_have_two_units_at_most(seconds, text):
    assert units.duration(seconds) == text


@pytest.mark.parametrize(
    ("typed", "found"), [("naabbcc", IDS[0]), ("aabbd", IDS[1]), ("f", IDS[2]), ("nFF", IDS[2]), ("10.0.0.2", IDS[1])]
)
def test_a_unique_prefix_or_a_host_names_a_node(typed, found):
    assert units.resolve_node(typed, IDS, ["10.0.0.1", "10.0.0.2", "10.0.0.3"]) == found


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("naabb", "names 2 nodes (naabbcc, naabbdd); give more digits"),
        ("n1", "the nodes are naabbcc"),
        ("n", "No node"),
        ("", "No node"),
    ],
)
def test_a_name_of_no_node_or_of_several_is_refused_with_the_candidates(typed, said):
    with pytest.raises(InvalidArgument) as refused:
        units.resolve_node(typed, IDS)
    assert said in refused.value.message


def test_check_fails_from_at_risk_on_and_for_words_nobody_knows():
    assert [verdict.is_failing(state) for state in (*verdict.STATES, "odd")] == [False] * 3 + [True] * 4


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            "The under store at http://s3 asked to slow down at PUT s3://b/k (503 SlowDown). [RAYFS_RETRYABLE]",
            "503 SlowDown",
        ),
        ("1 of 1 blocks have no live copy (last on ndd537a)", "1 of 1 blocks have no live copy"),
        ("No answer; it may still take effect. [RAYFS_RETRYABLE]", "No answer"),
        (None, ""),
    ],
)
def test_failures_are_grouped_by_the_stores_code_or_by_how_the_sentence_begins(error, words):
    assert verdict.headline(error) == words


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "-"), (0.4, "0s"), (61, "1m01s"), (12000, "3h20m"), (200000, "2d07h")]
)
def test_durations_in_columns_take_six_cells_at_most(seconds, text):
    assert units.compact(seconds) == text


def test_a_silent_master_is_called_down_with_its_last_reasons_kept():
    snapshot = FakeSource(7).advance(57).snapshot()
    down = verdict.as_down(snapshot, 14)
    assert down.totals.state == "down"
    assert down.totals.reasons[0].startswith("The master has published nothing for 14 s")
    assert down.totals.reasons[1:] == snapshot.totals.reasons
    assert down.totals.dirty_bytes == snapshot.totals.dirty_bytes


@pytest.mark.parametrize(
    ("fraction", "drawn"), [(0, "░░░░"), (0.0001, "▏░░░"), (0.5, "██░░"), (1, "████"), (7, "████")]
)
def test_a_bar_fills_its_width_and_shows_the_smallest_part(fraction, drawn):
    assert "".join(text for text, _ in figures.bar(fraction, 4, "ok")) == drawn


def test_a_sparkline_shows_the_newest_values_from_zero_to_their_top():
    assert figures.spark([9, 0, 1, 2, 4], 4) == "▁▂▄█"
    assert figures.spark([0, 0], 4) == "  ▁▁"
    assert figures.spark([], 3) == "   "


def test_a_long_path_keeps_its_end_and_wide_characters_are_counted_by_cells():
    assert figures.shorten("/out/part-1.parquet", 10, keep_end=True) == "…1.parquet"
    assert figures.shorten("数据数据数据", 7) == "数据数…"
    assert figures.shorten("数据数据数据", 6, keep_end=True) == "…数据"
