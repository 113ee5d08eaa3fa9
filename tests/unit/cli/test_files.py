"""Copying, reading and naming files: the verbs on a file system that is in memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rayfs.cli.outcome import ExitCode
from rayfs.cli.output import Progress
from rayfs.cli.reading import VERBS as READING
from rayfs.cli.transfer import Copied, Transfer

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Memory, Run


@pytest.fixture
def local(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "empty").mkdir()
    (tree / "a.txt").write_bytes(b"a" * 10)
    (tree / "deep" / "b.bin").write_bytes(bytes(range(256)) * 300)
    return tree


class TestCopyFromLocal:
    def test_a_file_gets_the_name_that_is_given(self, rayfs_on: Run, fs: Memory, local: Path) -> None:
        assert rayfs_on("copyFromLocal", str(local / "a.txt"), "/new.txt").exit_code == ExitCode.OK
        assert fs.cat("/new.txt") == b"a" * 10

    def test_a_directory_that_exists_means_into_it(self, rayfs_on: Run, fs: Memory, local: Path) -> None:
        fs.mkdir("/out")
        assert rayfs_on("copyFromLocal", str(local / "a.txt"), str(local / "deep"), "/out").exit_code == ExitCode.OK
        assert sorted(fs.find("/out")) == ["/out/a.txt", "/out/deep/b.bin"]

    def test_a_tree_becomes_a_name_that_is_new(self, rayfs_on: Run, fs: Memory, local: Path) -> None:
        assert rayfs_on("copyFromLocal", str(local), "/out").exit_code == ExitCode.OK
        assert sorted(fs.find("/out", withdirs=True)) == [
            "/out",
            "/out/a.txt",
            "/out/deep",
            "/out/deep/b.bin",
            "/out/empty",
        ]
        assert fs.cat("/out/deep/b.bin") == (local / "deep" / "b.bin").read_bytes()

    def test_a_trailing_slash_makes_the_directory(self, rayfs_on: Run, fs: Memory, local: Path) -> None:
        assert rayfs_on("copyFromLocal", str(local / "a.txt"), "/new/").exit_code == ExitCode.OK
        assert fs.cat("/new/a.txt") == b"a" * 10

    def test_several_sources_need_a_directory(self, rayfs_on: Run, fs: Memory, local: Path) -> None:
        result = rayfs_on("copyFromLocal", str(local / "a.txt"), str(local / "deep"), "/new")
        assert result.exit_code == ExitCode.FAILED
        assert "rayfs mkdir" in result.stderr
        assert not fs.exists("/new")

    def test_a_file_that_exists_is_replaced_only_with_force(self, rayfs_on: Run, fs: Memory, local: Path) -> None:
        fs.pipe("/x", b"old")
        assert rayfs_on("copyFromLocal", str(local / "a.txt"), "/x").exit_code == ExitCode.FAILED
        assert fs.cat("/x") == b"old"
        assert rayfs_on("copyFromLocal", "-f", str(local / "a.txt"), "/x").exit_code == ExitCode.OK
        assert fs.cat("/x") == b"a" * 10

    def test_links_are_followed_and_a_broken_one_is_said(self, rayfs_on: Run, fs: Memory, local: Path) -> None:
        (local / "good").symlink_to("a.txt")
        (local / "broken").symlink_to("gone")
        result = rayfs_on("copyFromLocal", str(local), "/out")
        assert result.exit_code == ExitCode.SOME_PATHS_FAILED
        assert "broken leads to gone, which does not exist" in result.stderr
        assert fs.cat("/out/good") == b"a" * 10
        assert not fs.exists("/out/broken")

    def test_a_broken_link_alone_is_said_in_the_same_way(self, rayfs_on: Run, tmp_path: Path) -> None:
        (tmp_path / "broken").symlink_to("gone")
        result = rayfs_on("copyFromLocal", str(tmp_path / "broken"), "/x")
        assert result.exit_code == ExitCode.SOME_PATHS_FAILED

    def test_a_link_to_a_directory_above_ends(self, rayfs_on: Run, fs: Memory, local: Path) -> None:
        (local / "deep" / "up").symlink_to(local)
        result = rayfs_on("copyFromLocal", str(local), "/out")
        assert result.exit_code == ExitCode.SOME_PATHS_FAILED
        assert "leads back" in result.stderr
        assert not fs.exists("/out/deep/up/a.txt")

    def test_a_pipe_in_a_tree_is_left_out(self, rayfs_on: Run, local: Path) -> None:
        os.mkfifo(local / "pipe")
        result = rayfs_on("copyFromLocal", str(local), "/out")
        assert result.exit_code == ExitCode.SOME_PATHS_FAILED
        assert "neither a file nor a directory" in result.stderr

    def test_stdin_is_a_dash(self, rayfs_on: Run, fs: Memory) -> None:
        body = bytes(range(256)) * 1000
        assert rayfs_on("copyFromLocal", "-", "/x", stdin=body).exit_code == ExitCode.OK
        assert fs.cat("/x") == body

    def test_stdin_into_a_directory_has_no_name(self, rayfs_on: Run, fs: Memory) -> None:
        fs.mkdir("/out")
        result = rayfs_on("copyFromLocal", "-", "/out", stdin=b"x")
        assert result.exit_code == ExitCode.FAILED
        assert "needs the path of a file" in result.stderr

    def test_a_missing_source_among_good_ones_is_some_failed(self, rayfs_on: Run, fs: Memory, local: Path) -> None:
        fs.mkdir("/out")
        result = rayfs_on("copyFromLocal", str(local / "a.txt"), str(local / "gone"), "/out")
        assert result.exit_code == ExitCode.SOME_PATHS_FAILED
        assert "gone does not exist on this machine" in result.stderr

    def test_json_is_a_line_for_each_file(self, rayfs_on: Run, local: Path) -> None:
        result = rayfs_on("copyFromLocal", "--json", str(local), "/out")
        rows = sorted((row["path"], row["length"]) for row in map(json.loads, result.stdout.splitlines()))
        assert rows == [("/out/a.txt", 10), ("/out/deep/b.bin", 76800)]


def test_an_interrupt_ends_the_copies_that_are_under_way() -> None:
    transfer = Transfer(json=False, progress=Progress(None, ()))
    started, given_up = threading.Event(), threading.Event()

    def endless() -> Copied:
        with Path("/dev/zero").open("rb") as source, Path("/dev/null").open("wb") as target:
            started.set()
            try:
                transfer.pump(source, target)
            except InterruptedError:
                given_up.set()
                raise
        return Copied("", "", 0)

    def copies() -> Iterator[Callable[[], Copied]]:
        yield endless
        assert started.wait(30)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        transfer.run(copies())
    assert given_up.is_set()
    assert transfer.files == 0


class TestCopyOut:
    def test_a_tree_comes_back_as_it_was(self, rayfs_on: Run, local: Path, tmp_path: Path) -> None:
        rayfs_on("copyFromLocal", str(local), "/out")
        assert rayfs_on("copyToLocal", "/out", str(tmp_path / "back")).exit_code == ExitCode.OK
        names = sorted(str(path.relative_to(local)) for path in local.rglob("*"))
        assert sorted(str(path.relative_to(tmp_path / "back")) for path in (tmp_path / "back").rglob("*")) == names
        assert (tmp_path / "back" / "deep" / "b.bin").read_bytes() == (local / "deep" / "b.bin").read_bytes()

    def test_a_local_file_is_replaced_only_with_force(self, rayfs_on: Run, fs: Memory, tmp_path: Path) -> None:
        fs.pipe("/x", b"new")
        target = tmp_path / "x"
        target.write_bytes(b"old")
        assert rayfs_on("copyToLocal", "/x", str(target)).exit_code == ExitCode.FAILED
        assert target.read_bytes() == b"old"
        assert rayfs_on("copyToLocal", "-f", "/x", str(tmp_path)).exit_code == ExitCode.OK
        assert target.read_bytes() == b"new"

    def test_a_copy_that_fails_leaves_nothing_behind(self, rayfs_on: Run, tmp_path: Path) -> None:
        result = rayfs_on("copyToLocal", "/gone", str(tmp_path / "x"))
        assert result.exit_code == ExitCode.FAILED
        assert list(tmp_path.iterdir()) == []

    def test_a_dash_is_stdout(self, rayfs_on: Run, fs: Memory) -> None:
        fs.pipe({"/a": b"\x00one", "/b": b"two\xff"})
        assert rayfs_on("copyToLocal", "/a", "/b", "-").stdout_bytes == b"\x00onetwo\xff"

    def test_patterns_are_expanded_here(self, rayfs_on: Run, fs: Memory, tmp_path: Path) -> None:
        fs.pipe({"/in/a.csv": b"a", "/in/b.csv": b"b", "/in/c.txt": b"c"})
        assert rayfs_on("copyToLocal", "/in/*.csv", str(tmp_path)).exit_code == ExitCode.OK
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "b.csv"]

    def test_a_name_with_a_pattern_in_it_is_that_name(self, rayfs_on: Run, fs: Memory) -> None:
        fs.pipe({"/a[1]": b"literal", "/a1": b"matched"})
        assert rayfs_on("cat", "/a[1]").stdout == "literal"

    def test_cp_copies_a_tree_with_r_only(self, rayfs_on: Run, fs: Memory) -> None:
        fs.pipe({"/a/x": b"x", "/a/b/y": b"y"})
        refused = rayfs_on("cp", "/a", "/c")
        assert refused.exit_code == ExitCode.FAILED
        assert "add -r" in refused.stderr
        assert rayfs_on("cp", "-r", "/a", "/c").exit_code == ExitCode.OK
        assert fs.cat("/c/b/y") == b"y"

    @pytest.mark.parametrize("target", ["/a", "/a/b", "/a/new"])
    def test_a_directory_is_not_copied_into_itself(self, rayfs_on: Run, fs: Memory, target: str) -> None:
        fs.pipe({"/a/x": b"x", "/a/b/y": b"y"})
        before = fs.find("/")
        result = rayfs_on("cp", "-r", "/a", target)
        assert result.exit_code == ExitCode.USAGE
        assert fs.find("/") == before


class TestReading:
    def test_cat_goes_on_after_a_file_that_is_missing(self, rayfs_on: Run, fs: Memory) -> None:
        fs.pipe({"/a": b"1", "/c": b"3"})
        result = rayfs_on("cat", "/a", "/b", "/c")
        assert (result.exit_code, result.stdout) == (ExitCode.SOME_PATHS_FAILED, "13")
        assert "/b" in result.stderr

    def test_a_pattern_without_a_match_is_an_error(self, rayfs_on: Run) -> None:
        result = rayfs_on("cat", "/*.none")
        assert result.exit_code == ExitCode.FAILED
        assert "nothing matches /*.none" in result.stderr

    def test_head_and_tail_show_a_kilobyte(self, rayfs_on: Run, fs: Memory) -> None:
        body = bytes(range(256)) * 16
        fs.pipe("/x", body)
        assert rayfs_on("head", "/x").stdout_bytes == body[:1024]
        assert rayfs_on("tail", "/x").stdout_bytes == body[-1024:]
        assert rayfs_on("head", "-c", "2KB", "/x").stdout_bytes == body[:2048]
        assert rayfs_on("tail", "-c", "9GB", "/x").stdout_bytes == body

    @pytest.mark.parametrize("ends_in_newline", [True, False])
    @pytest.mark.parametrize("wanted", [0, 1, 2, 4999, 5000, 5001])
    def test_lines_are_counted_from_either_end(
        self, rayfs_on: Run, fs: Memory, wanted: int, ends_in_newline: bool
    ) -> None:
        lines = [b"%d %s\n" % (at, b"x" * (at % 50)) for at in range(5000)]
        body = b"".join(lines) if ends_in_newline else b"".join(lines)[:-1]
        lines = body.splitlines(keepends=True)
        fs.pipe("/x", body)
        assert rayfs_on("head", "-n", str(wanted), "/x").stdout_bytes == b"".join(lines[:wanted])
        assert rayfs_on("tail", "-n", str(wanted), "/x").stdout_bytes == b"".join(
            lines[len(lines) - wanted :] if wanted <= len(lines) else lines
        )

    @pytest.mark.parametrize("verb", sorted(READING))
    def test_an_empty_file_shows_nothing(self, rayfs_on: Run, fs: Memory, verb: str) -> None:
        fs.pipe("/x", b"")
        result = rayfs_on(verb, "/x")
        assert (result.exit_code, result.stdout, result.stderr) == (ExitCode.OK, "", "")

    def test_a_reader_that_goes_away_is_no_error_message(self) -> None:
        program = "from rayfs.cli import main; main()"
        command = f"{sys.executable} -c '{program}' config show | head -n 1"
        ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
        assert len(ran.stdout.splitlines()) == 1
        assert ran.stderr == ""


class TestNamespace:
    @pytest.mark.parametrize(
        ("flag", "true"),
        [
            ("-e", ["/d", "/full", "/empty"]),
            ("-f", ["/full", "/empty"]),
            ("-d", ["/d"]),
            ("-s", ["/d", "/full"]),
            ("-z", ["/empty"]),
        ],
    )
    def test_test_answers_by_exit_code(self, rayfs_on: Run, fs: Memory, flag: str, true: list[str]) -> None:
        fs.pipe({"/full": b"x", "/empty": b""})
        fs.mkdir("/d")
        found = [path for path in ("/d", "/full", "/empty", "/gone") if rayfs_on("test", flag, path).exit_code == 0]
        assert found == true

    def test_rm_of_a_missing_path_is_an_error_but_with_force(self, rayfs_on: Run) -> None:
        assert rayfs_on("rm", "/gone").exit_code == ExitCode.FAILED
        assert rayfs_on("rm", "-f", "/gone", "/none*").exit_code == ExitCode.OK

    def test_rm_never_removes_the_root(self, rayfs_on: Run, fs: Memory) -> None:
        fs.pipe("/x", b"x")
        result = rayfs_on("rm", "-r", "-f", "/")
        assert result.exit_code == ExitCode.REFUSED
        assert fs.exists("/x")

    def test_count_and_du_add_up(self, rayfs_on: Run, fs: Memory) -> None:
        fs.pipe({"/a/x": b"x" * 10, "/a/b/y": b"y" * 5})
        assert json.loads(rayfs_on("count", "--json", "/a").stdout)["bytes"] == 15
        assert rayfs_on("count", "/a").stdout.splitlines()[1].split() == ["2", "2", "15", "/a"]
        rows = [json.loads(line) for line in rayfs_on("du", "--json", "/a").stdout.splitlines()]
        assert [(row["path"], row["bytes"]) for row in rows] == [("/a/b", 5), ("/a/x", 10)]
        assert rayfs_on("du", "-s", "/a").stdout.splitlines()[1].split()[-1] == "/a"
