"""What every test shares: the level of a test, and the record of which scenarios a run has shown.

A test's level is the folder it is in: tests/cluster and tests/ecosystem run on real Ray clusters, tests/simulation in
virtual time, the rest are unit tests. ``--scenario-report FILE`` appends a line for each scenario a test has shown, or
failed to; ``ci/scenarios`` reads those lines, never the source.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

pytest_plugins = ["clusters"]

HERE = Path(__file__).parent
FOLDER_MARKERS = {
    "cluster": ["cluster"],
    "conformance": ["conformance"],
    "console": ["console"],
    "ecosystem": ["ecosystem", "cluster"],
    "simulation": ["simulation"],
}
OUTCOMES = pytest.StashKey[dict[str, str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--scenario-report", type=Path, help="append the scenarios' results to this JSON Lines file")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    known = tomllib.loads((HERE / "scenarios.toml").read_text())
    for item in items:
        if item.path.is_relative_to(HERE):
            for marker in FOLDER_MARKERS.get(item.path.relative_to(HERE).parts[0], []):
                item.add_marker(marker)
        for scenario in item.iter_markers("scenario"):
            for id_ in scenario.args:
                if id_ not in known:
                    raise pytest.UsageError(f"{item.nodeid} is marked scenario({id_!r}); scenarios.toml has no such id")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    target: Path | None = item.config.getoption("--scenario-report")
    outcomes = item.stash.setdefault(OUTCOMES, {})
    # An expected failure is reported as skipped, so "passed" in all phases means shown.
    outcomes[report.when] = report.outcome
    if target is not None and report.when == "teardown":
        shown = all(outcomes.get(phase) == "passed" for phase in ("setup", "call", "teardown"))
        outcome = "passed" if shown else "skipped" if "failed" not in outcomes.values() else "failed"
        rows = [
            {"id": id_, "level": _level(item), "outcome": outcome, "test": item.nodeid}
            for scenario in item.iter_markers("scenario")
            for id_ in scenario.args
        ]
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("a") as lines:
            lines.writelines(json.dumps(row) + "\n" for row in rows)
    return report


def _level(item: pytest.Item) -> str:
    for level in ("cluster", "simulation"):
        if item.get_closest_marker(level) is not None:
            return level
    return "unit"
