"""Rendering an area once, the module's command line, and what importing the console loads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rayfs import console
from rayfs.admin.fake import FakeSource
from rayfs.admin.replay import Recorder
from rayfs.admin.source import AdminSource
from rayfs.console.__main__ import main
from rayfs.errors import ClusterUnreachable, InvalidArgument

FREE_PORT = "127.0.0.1:1"


def test_importing_the_console_and_admin_loads_neither_ray_nor_textual():
    code = (
        "import sys, rayfs.console, rayfs.admin.fake, rayfs.admin.replay, rayfs.admin.live;"
        "print([name for name in ('ray', 'textual', 'boto3', 'pyarrow', 'sqlalchemy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_a_console_on_a_simulated_cluster_never_loads_ray():
    code = (
        "import sys; from rayfs.console.__main__ import main;"
        "code = main(['--fake', '7', '--once', 'nodes']); sys.exit(code or 'ray' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "5 live" in done.stdout


def test_once_prints_the_area_as_text_and_writes_it_as_a_picture(tmp_path, capsys):
    console.run_source(FakeSource(7), once="nodes", text=True, svg=str(tmp_path / "nodes.svg"))
    assert "2 [Nodes]" in capsys.readouterr().out
    picture = (tmp_path / "nodes.svg").read_text()
    assert picture.startswith("<svg")
    assert "live" in picture


def test_once_with_a_picture_alone_prints_nothing(tmp_path, capsys):
    console.run_source(FakeSource(7), once="overview", svg=str(tmp_path / "overview.svg"))
    assert capsys.readouterr().out == ""


def test_the_same_picture_is_the_same_file(tmp_path):
    for name in ("one", "two"):
        console.run_source(FakeSource(7), once="overview", svg=str(tmp_path / name))
    assert (tmp_path / "one").read_text() == (tmp_path / "two").read_text()


def test_an_area_nobody_knows_is_refused_with_the_names_of_those_there_are():
    with pytest.raises(InvalidArgument, match="the areas are overview, nodes, persists"):
        console.run_source(FakeSource(7), once="attic")


def test_once_without_a_cluster_says_what_to_do_and_exits_4(capsys):
    with pytest.raises(ClusterUnreachable, match="Nothing answers at"):
        console.run(FREE_PORT, once="overview")
    assert main(["--address", FREE_PORT, "--once", "overview"]) == 4
    assert "start a cluster with: rayfs start" in capsys.readouterr().err


def test_a_recording_is_shown_on_the_same_screens(tmp_path, capsys):
    recorder = Recorder(tmp_path / "recording.jsonl")
    recorder.record(_source(57).snapshot())
    recorder.close()
    assert main(["--replay", str(tmp_path / "recording.jsonl"), "--once", "overview"]) == 0
    assert "under store throttled" in capsys.readouterr().out


def test_a_recording_that_is_not_there_exits_1(capsys):
    assert main(["--replay", str(Path("no") / "such"), "--once", "overview"]) == 1
    assert "cannot be read" in capsys.readouterr().err


def _source(seconds: int) -> AdminSource:
    return FakeSource(7).advance(seconds)
