"""The shell on a real cluster: every verb, as text and as JSON, with its exit codes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from rayfs.cli.outcome import ExitCode
from rayfs.cli.verbs import shell

if TYPE_CHECKING:
    from conftest import Store

    from rayfs.testing import FaultProxy, LocalCluster

MIB = 1 << 20
DURABLE = "rayfs.user.file.replication.durable"
WRITES = ("PUT_OBJECT", "BEGIN_UPLOAD")
Run = Callable[..., Result]


@pytest.fixture
def rayfs(cluster: LocalCluster) -> Run:
    """One run of the shell in this process, which belongs to the cluster already."""

    def run(*words: str, stdin: bytes | None = None) -> Result:
        return CliRunner().invoke(shell, ["--address", cluster.address, *words], input=stdin)

    return run


def document(result: Result) -> Any:
    assert result.exit_code == ExitCode.OK, result.stderr
    return json.loads(result.stdout)


def lines(result: Result) -> list[Any]:
    assert result.exit_code == ExitCode.OK, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def as_process(
    cluster: LocalCluster, *words: str, stdin: bytes = b"", **env: str
) -> subprocess.CompletedProcess[bytes]:
    """One run of the shell as a process of its own, as a person's is."""
    program = [sys.executable, "-c", "from rayfs.cli import main; main()", *words]
    environment = {**os.environ, "RAYFS_ADDRESS": cluster.address, **env}
    return subprocess.run(program, input=stdin, env=environment, capture_output=True, timeout=120, check=False)


class TestCopies:
    @pytest.mark.scenario("W1")
    def test_a_tree_goes_in_reaches_s3_and_comes_back(
        self, rayfs: Run, store: Store, directory: str, tmp_path: Path
    ) -> None:
        tree = tmp_path / "tree"
        (tree / "deep").mkdir(parents=True)
        bodies = {"big": os.urandom(3 * MIB + 17), "small": b"small", "empty": b"", "deep/one": b"1"}
        for name, body in bodies.items():
            (tree / name).write_bytes(body)
        block_size = "-Drayfs.user.block.size.bytes.default=1MB"
        copied = lines(rayfs("--json", "copyFromLocal", block_size, "-D", f"{DURABLE}=3", str(tree), directory))
        assert {row["path"]: row["length"] for row in copied} == {f"{directory}/{n}": len(b) for n, b in bodies.items()}
        status = document(rayfs("stat", "--json", f"{directory}/big"))
        assert [len(block["replicas"]) >= 1 for block in status["blocks"]] == [True] * 4

        assert rayfs("persist", "--timeout", "60", directory).exit_code == ExitCode.OK
        assert {name: store.read(f"{directory}/{name}") for name in bodies} == bodies
        assert rayfs("copyToLocal", directory, str(tmp_path / "back")).exit_code == ExitCode.OK
        assert {name: (tmp_path / "back" / name).read_bytes() for name in bodies} == bodies

    def test_stdin_and_stdout_of_a_process_carry_bytes(self, cluster: LocalCluster, directory: str) -> None:
        body = os.urandom(2 * MIB)
        written = as_process(cluster, "copyFromLocal", "-", f"{directory}/x", stdin=body)
        assert (written.returncode, written.stdout) == (ExitCode.OK, b"")
        read = as_process(cluster, "cat", f"{directory}/x")
        assert (read.returncode, read.stdout, read.stderr) == (ExitCode.OK, body, b"")

    def test_a_local_file_that_cannot_be_read_publishes_nothing(self, rayfs: Run, directory: str) -> None:
        # Its first page cannot be read by anybody, root included.
        result = rayfs("copyFromLocal", "/proc/self/mem", f"{directory}/x")
        assert result.exit_code == ExitCode.FAILED
        assert "Input/output error" in result.stderr
        assert rayfs("test", "-e", f"{directory}/x").exit_code == ExitCode.FAILED

    @pytest.mark.scenario("W13")
    def test_an_interrupted_copy_publishes_nothing(self, cluster: LocalCluster, directory: str) -> None:
        program = [sys.executable, "-c", "from rayfs.cli import main; main()", "copyFromLocal", "-", f"{directory}/x"]
        environment = {**os.environ, "RAYFS_ADDRESS": cluster.address}
        with subprocess.Popen(program, env=environment, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as copy:
            assert copy.stdin is not None
            copy.stdin.write(bytes(8 * MIB))  # more than a pipe holds: the copy is reading when this returns
            copy.stdin.flush()
            copy.send_signal(signal.SIGINT)
            assert copy.wait(60) == ExitCode.INTERRUPTED
        assert not cluster.fs.exists(f"{directory}/x")

    def test_an_existing_file_is_replaced_only_with_force(self, rayfs: Run, directory: str, tmp_path: Path) -> None:
        (tmp_path / "x").write_bytes(b"new")
        rayfs("copyFromLocal", "-", f"{directory}/x", stdin=b"old")
        refused = rayfs("copyFromLocal", str(tmp_path / "x"), f"{directory}/x")
        assert refused.exit_code == ExitCode.FAILED
        assert f"{directory}/x" in refused.stderr
        assert rayfs("cat", f"{directory}/x").stdout == "old"
        assert rayfs("copyFromLocal", "-f", str(tmp_path / "x"), directory).exit_code == ExitCode.OK
        assert rayfs("cat", f"{directory}/x").stdout == "new"

    def test_cp_makes_a_second_file(self, rayfs: Run, directory: str) -> None:
        rayfs("copyFromLocal", "-", f"{directory}/x", stdin=b"body")
        assert lines(rayfs("--json", "cp", "-r", directory, f"{directory}-copy"))[0]["length"] == 4
        assert rayfs("cat", f"{directory}-copy/x").stdout == "body"

    def test_head_and_tail_read_only_what_they_show(self, rayfs: Run, directory: str) -> None:
        rayfs("copyFromLocal", "-", f"{directory}/x", stdin=b"".join(b"%d\n" % at for at in range(300_000)))
        assert rayfs("head", "-n", "2", f"{directory}/x").stdout == "0\n1\n"
        assert rayfs("tail", "-n", "1", f"{directory}/x").stdout == "299999\n"


class TestNamespace:
    def test_directories_are_made_listed_moved_and_removed(self, rayfs: Run, directory: str) -> None:
        assert rayfs("mkdir", f"{directory}/a/b").exit_code == ExitCode.FAILED
        assert rayfs("mkdir", "-p", f"{directory}/a/b").exit_code == ExitCode.OK
        assert rayfs("touch", f"{directory}/a/x").exit_code == ExitCode.OK
        listed = {row["path"]: row["type"] for row in lines(rayfs("ls", "--json", "-R", directory))}
        assert listed == {f"{directory}/a": "directory", f"{directory}/a/b": "directory", f"{directory}/a/x": "file"}

        assert rayfs("mv", f"{directory}/a/x", f"{directory}/a/b").exit_code == ExitCode.OK
        assert rayfs("test", "-f", f"{directory}/a/b/x").exit_code == ExitCode.OK
        not_empty = rayfs("rm", f"{directory}/a")
        assert not_empty.exit_code == ExitCode.FAILED
        assert "-r" in not_empty.stderr or "recursive" in not_empty.stderr
        assert rayfs("rm", "-r", f"{directory}/a").exit_code == ExitCode.OK
        assert rayfs("test", "-e", f"{directory}/a").exit_code == ExitCode.FAILED

    def test_mv_replaces_a_file_only_with_force(self, rayfs: Run, directory: str) -> None:
        for name in ("x", "y"):
            rayfs("copyFromLocal", "-", f"{directory}/{name}", stdin=name.encode())
        assert rayfs("mv", f"{directory}/x", f"{directory}/y").exit_code == ExitCode.FAILED
        assert rayfs("cat", f"{directory}/y").stdout == "y"
        assert rayfs("mv", "-f", f"{directory}/x", f"{directory}/y").exit_code == ExitCode.OK
        assert rayfs("cat", f"{directory}/y").stdout == "x"

    def test_touch_sets_the_time_and_keeps_the_bytes(self, rayfs: Run, directory: str) -> None:
        rayfs("copyFromLocal", "-", f"{directory}/x", stdin=b"body")
        before = document(rayfs("stat", "--json", f"{directory}/x"))["modified"]
        assert rayfs("touch", f"{directory}/x").exit_code == ExitCode.OK
        assert document(rayfs("stat", "--json", f"{directory}/x"))["modified"] > before
        assert rayfs("cat", f"{directory}/x").stdout == "body"

    def test_ls_as_text_has_a_row_for_each_entry(self, rayfs: Run, directory: str) -> None:
        rayfs("copyFromLocal", "-", f"{directory}/x", stdin=b"x" * 2048)
        row = rayfs("ls", "-h", f"{directory}/*").stdout.split()
        assert row[0] in ("TO_BE_PERSISTED", "PERSISTED")
        assert row[-1] == f"{directory}/x"
        assert "2.0 KB" in " ".join(row)

    @pytest.mark.parametrize(
        "verb", ["ls", "stat", "cat", "rm", "checksum", "location", "persist", "free", "pin", "history"]
    )
    @pytest.mark.scenario("P13")
    def test_a_path_that_is_not_there_fails_with_its_name(self, rayfs: Run, directory: str, verb: str) -> None:
        result = rayfs(verb, f"{directory}/gone")
        assert (result.exit_code, result.stdout) == (ExitCode.FAILED, "")
        assert f"{directory}/gone" in result.stderr
        assert len(result.stderr.splitlines()) == 1


class TestFacts:
    def test_stat_says_all_that_is_promised(self, rayfs: Run, directory: str) -> None:
        rayfs("copyFromLocal", f"-D{DURABLE}=2", "-", f"{directory}/x", stdin=b"x" * MIB)
        status = document(rayfs("stat", "--json", f"{directory}/x"))
        assert status["path"] == f"{directory}/x"
        assert (status["type"], status["length"], status["write_type"]) == ("file", MIB, "ASYNC_THROUGH")
        assert status["persistence_state"] in ("TO_BE_PERSISTED", "PERSISTED")
        assert re.fullmatch(r"crc64nvme:[A-Za-z0-9+/]{11}=", status["checksum"])
        assert status["replication"]["durable"] == 2
        assert {"file_id", "generation", "in_cache_percent"} <= status.keys()
        assert {"id", "length", "checksum", "replicas"} == status["blocks"][0].keys()
        assert {"attempts", "last_error", "next_attempt_s", "age_s"} == status["persist"].keys()
        text = rayfs("stat", f"{directory}/x").stdout
        assert status["checksum"] in text
        assert f"n{status['blocks'][0]['replicas'][0][:6]}" in text

    def test_location_names_the_nodes(
        self, rayfs: Run, cluster: LocalCluster, directory: str, proxy: FaultProxy
    ) -> None:
        held = proxy.hold(operation=WRITES)
        rayfs("copyFromLocal", f"-D{DURABLE}=3", "-", f"{directory}/x", stdin=b"x" * MIB)
        block = lines(rayfs("location", "--json", f"{directory}/x"))[0]["blocks"][0]
        text = rayfs("location", f"{directory}/x").stdout
        held.off()
        known = {cluster.node_id(index) for index in cluster.nodes}
        assert len(set(block["replicas"]) & known) == 3
        assert all(f"n{node[:6]}" in text for node in block["replicas"])

    def test_checksum_is_the_one_of_stat(self, rayfs: Run, directory: str) -> None:
        rayfs("copyFromLocal", "-", f"{directory}/x", stdin=b"body")
        checksum = document(rayfs("stat", "--json", f"{directory}/x"))["checksum"]
        assert rayfs("checksum", f"{directory}/x").stdout == f"{checksum}  {directory}/x\n"
        assert rayfs("checksum", directory).exit_code == ExitCode.FAILED

    def test_count_and_du_agree(self, rayfs: Run, directory: str) -> None:
        for name in ("a/x", "a/y", "z"):
            rayfs("copyFromLocal", "-", f"{directory}/{name}", stdin=b"12345")
        assert lines(rayfs("count", "--json", directory))[0]["files"] == 3
        assert {row["path"]: row["bytes"] for row in lines(rayfs("du", "--json", directory))} == {
            f"{directory}/a": 10,
            f"{directory}/z": 5,
        }

    def test_history_begins_with_the_creation(self, rayfs: Run, directory: str) -> None:
        rayfs("copyFromLocal", "-", f"{directory}/x", stdin=b"body")
        rayfs("persist", f"{directory}/x")
        entries = lines(rayfs("history", "--json", f"{directory}/x"))
        assert len(entries) >= 2
        assert [entry["at"] for entry in entries] == sorted(entry["at"] for entry in entries)
        assert entries[-1]["event"] in rayfs("history", f"{directory}/x").stdout


class TestCaching:
    @pytest.mark.scenario("P13")
    def test_persist_that_does_not_get_done_times_out(self, rayfs: Run, proxy: FaultProxy, directory: str) -> None:
        held = proxy.hold(operation=WRITES)
        rayfs("copyFromLocal", "-", f"{directory}/x", stdin=b"body")
        late = rayfs("persist", "--timeout", "1", directory)
        assert late.exit_code == ExitCode.TIMED_OUT
        assert "1 file" in late.stderr
        assert rayfs("persist", "--no-wait", directory).exit_code == ExitCode.OK
        held.off()
        done = document(rayfs("persist", "--json", "--timeout", "60", directory, f"{directory}/x"))
        assert done["done"] is True

    @pytest.mark.scenario("E3")
    def test_free_of_a_dirty_file_is_refused_with_force_too(
        self, rayfs: Run, proxy: FaultProxy, directory: str
    ) -> None:
        held = proxy.hold(operation=WRITES)
        rayfs("copyFromLocal", "-", f"{directory}/x", stdin=b"body")
        refused = rayfs("free", "--force", f"{directory}/x")
        held.off()
        assert refused.exit_code == ExitCode.REFUSED
        assert "persist" in refused.stderr
        assert rayfs("persist", f"{directory}/x").exit_code == ExitCode.OK
        assert lines(rayfs("free", "--json", f"{directory}/x"))[0]["files"] == 1
        assert document(rayfs("stat", "--json", f"{directory}/x"))["in_cache_percent"] == 0
        assert rayfs("cat", f"{directory}/x").stdout == "body"

    def test_pin_and_unpin_show_in_stat(self, rayfs: Run, directory: str) -> None:
        rayfs("copyFromLocal", "-", f"{directory}/x", stdin=b"body")
        assert rayfs("pin", directory).exit_code == ExitCode.OK
        assert document(rayfs("stat", "--json", f"{directory}/x"))["pinned"] is True
        assert rayfs("unpin", directory).exit_code == ExitCode.OK
        assert document(rayfs("stat", "--json", f"{directory}/x"))["pinned"] is False

    def test_set_replication_changes_the_levels(self, rayfs: Run, directory: str) -> None:
        rayfs("copyFromLocal", "-", f"{directory}/x", stdin=b"body")
        assert lines(rayfs("setReplication", "--json", "--min", "2", "--max", "3", "-R", directory))[0]["files"] == 1
        levels = document(rayfs("stat", "--json", f"{directory}/x"))["replication"]
        assert (levels["min"], levels["max"]) == (2, 3)

    @pytest.mark.scenario("W16")
    def test_a_paths_properties_hold_below_it_until_they_are_removed(self, rayfs: Run, directory: str) -> None:
        assert rayfs("pathconf", "add", directory, f"{DURABLE}=2").exit_code == ExitCode.OK
        assert f"{DURABLE}=2" in rayfs("pathconf", "list").stdout
        assert lines(rayfs("pathconf", "show", "--json", directory)) == [
            {"path": directory, "properties": {DURABLE: 2}}
        ]
        rayfs("copyFromLocal", "-", f"{directory}/x", stdin=b"body")
        rayfs("copyFromLocal", f"-D{DURABLE}=3", "-", f"{directory}/y", stdin=b"body")
        assert document(rayfs("stat", "--json", f"{directory}/x"))["replication"]["durable"] == 2
        assert document(rayfs("stat", "--json", f"{directory}/y"))["replication"]["durable"] == 3
        assert rayfs("pathconf", "remove", directory).exit_code == ExitCode.OK
        assert rayfs("pathconf", "show", directory).stdout == ""

    @pytest.mark.scenario("W3")
    def test_never_is_a_value_that_a_path_may_have(self, rayfs: Run, directory: str) -> None:
        key = "rayfs.user.file.persistence.initial.wait.time"
        assert rayfs("pathconf", "add", directory, f"{key}=-1").exit_code == ExitCode.OK
        assert rayfs("pathconf", "show", directory).stdout.split() == [directory, f"{key}=-1"]
        rayfs("copyFromLocal", "-", f"{directory}/x", stdin=b"body")
        status = document(rayfs("stat", "--json", f"{directory}/x"))
        assert (status["persistence_state"], status["persist"]["next_attempt_s"]) == ("TO_BE_PERSISTED", None)
        assert rayfs("persist", "--timeout", "60", f"{directory}/x").exit_code == ExitCode.OK


class TestCluster:
    def test_status_has_every_figure(self, rayfs: Run, cluster: LocalCluster) -> None:
        found = document(rayfs("status", "--json"))
        promised = (
            "state reasons nodes capacity_bytes used_bytes dirty_bytes dirty_files cache_only_bytes pending_changes "
            "pending_persists persisting failed_persists under_replicated_blocks lost_files oldest_dirty_s "
            "persist_bytes_per_s time_to_safe_s time_to_full_s"
        )
        assert set(promised.split()) <= found.keys()
        assert found["nodes"]["live"] == len(cluster.nodes)
        assert found["under_store"] == cluster.under_store
        assert rayfs("status").stdout.splitlines()[0] == found["state"]
        assert rayfs("status", "--check").exit_code == ExitCode.OK

    def test_the_running_cluster_shows_its_properties(self, rayfs: Run) -> None:
        shown = rayfs("config", "show", "--cluster", "rayfs.persist.concurrency").stdout
        assert shown == "rayfs.persist.concurrency=8\n"

    def test_the_console_renders_an_area_once(self, rayfs: Run) -> None:
        result = rayfs("console", "--once", "overview", "--text")
        assert result.exit_code == ExitCode.OK
        assert result.stdout.strip()

    def test_starting_again_changes_nothing(self, cluster: LocalCluster) -> None:
        endpoint = f"-Drayfs.underfs.s3.endpoint={cluster.settings['rayfs.underfs.s3.endpoint']}"
        again = as_process(cluster, "--json", "start", "--under-store", cluster.under_store, endpoint)
        assert again.returncode == ExitCode.OK, again.stderr
        assert json.loads(again.stdout)["created"] is False
