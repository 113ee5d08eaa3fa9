"""How the shell is typed, and how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from rayfs.cli.outcome import ExitCode, Tally, ends_process, exit_code_of, sentence_of
from rayfs.cli.verbs import MODULES
from rayfs.errors import (
    Busy,
    ClusterUnreachable,
    FileExists,
    FileNotFound,
    InvalidPath,
    InvalidProperty,
    NoSpace,
    RequestRefused,
    UnderStoreError,
    WaitTimedOut,
)

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Run

DURABLE = "rayfs.user.file.replication.durable"


class TestUsage:
    def test_help_lists_every_verb_whole(self, rayfs: Run) -> None:
        result = rayfs("--help")
        assert result.exit_code == ExitCode.OK
        assert [verb for verb in MODULES if f"\n  {verb} " not in result.stdout] == []
        assert "..." not in result.stdout.partition("Files:")[2]

    @pytest.mark.parametrize("verb", sorted(MODULES))
    def test_every_verb_has_help_with_examples_and_the_global_options(self, rayfs: Run, verb: str) -> None:
        result = rayfs(verb, "--help")
        assert result.exit_code == ExitCode.OK
        assert "--address" in result.stdout
        assert "Examples:" in result.stdout or "Commands:" in result.stdout

    @pytest.mark.parametrize(
        ("words", "says"),
        [
            (["lss"], "did you mean `ls`"),
            (["copyfromlocal"], "did you mean `copyFromLocal`"),
            (["zzzzzz"], "`rayfs --help` lists them"),
            (["stat"], "Missing argument"),
            (["ls", "--no-such-option"], "No such option"),
            (["persist", "--timeout", "soon", "/a"], "not a number of seconds"),
            (["persist", "--no-wait", "--timeout", "3", "/a"], "no meaning with --no-wait"),
            (["setReplication", "/a"], "give --min, --max or both"),
            (["setReplication", "--min", "3", "--max", "2", "/a"], "--max 2 is below --min 3"),
            (["head", "-c", "1XB", "/a"], "not a size"),
            (["head", "-c", "1", "-n", "1", "/a"], "not both"),
            (["ls", "-R", "-d", "/"], "not both"),
            (["ls", "rayfs://host:6379/a"], "choose the cluster with --address host:6379"),
            (["ls", "/a/../b"], "'..'"),
            (["ls", ""], "empty"),
            (["pathconf", "add", "/a", "durable"], "key=value"),
            (["pathconf", "add", "/a", "rayfs.persist.concurrency=3"], "belongs to the cluster"),
            (["start", "--under-store", "s3://key:secret@bucket/x"], "without credentials"),
            (["start"], "needs an under store"),
            (["completion", "tcsh"], "'tcsh' is not one of"),
            (["config", "show", "rayfs.user.tpyo"], "the nearest is"),
        ],
    )
    @pytest.mark.scenario("C3")
    def test_a_command_that_is_typed_wrongly_says_what_is_right(self, rayfs: Run, words: list[str], says: str) -> None:
        result = rayfs(*words)
        assert result.exit_code == ExitCode.USAGE
        assert says in result.stderr
        assert result.stdout == ""
        assert "secret" not in result.stderr

    @pytest.mark.parametrize(
        "words",
        [
            ["-D", f"{DURABLE}=3", "config", "show", DURABLE],
            [f"-D{DURABLE}=3", "config", "show", DURABLE],
            ["config", "show", DURABLE, "-D", f"{DURABLE}=3"],
            ["config", "show", f"-D{DURABLE}=3", DURABLE],
            ["config", "-D", f"{DURABLE}=3", "show", DURABLE],
            ["-D", f"{DURABLE}=2", "config", "show", "-D", f"{DURABLE}=3", DURABLE],
        ],
    )
    def test_properties_may_stand_anywhere_and_the_last_wins(self, rayfs: Run, words: list[str]) -> None:
        result = rayfs(*words)
        assert (result.exit_code, result.stdout) == (ExitCode.OK, f"{DURABLE}=3\n")

    @pytest.mark.parametrize(
        ("given", "says"),
        [
            (f"{DURABLE}=many", "a whole number of at least 1"),
            ("rayfs.user.file.replication.durabel=3", f"the nearest is {DURABLE}"),
            (DURABLE, "must be written key=value"),
        ],
    )
    @pytest.mark.scenario("C3")
    def test_a_bad_property_is_a_usage_error(self, rayfs: Run, given: str, says: str) -> None:
        result = rayfs("ls", "-D", given)
        assert result.exit_code == ExitCode.USAGE
        assert says in " ".join(result.stderr.split())

    @pytest.mark.parametrize("verb", ["ls", "stop", "status"])
    def test_a_property_of_the_cluster_is_refused_with_any_verb_but_start(self, rayfs: Run, verb: str) -> None:
        result = rayfs(verb, "-D", "rayfs.persist.concurrency=3")
        assert result.exit_code == ExitCode.USAGE
        assert "give it to `rayfs start`" in " ".join(result.stderr.split())

    @pytest.mark.parametrize("shell_name", ["bash", "zsh", "fish"])
    def test_completion_prints_a_script_for_the_shell(self, rayfs: Run, shell_name: str) -> None:
        result = rayfs("completion", shell_name)
        assert result.exit_code == ExitCode.OK
        assert "_RAYFS_COMPLETE" in result.stdout

    def test_the_shell_completes_verbs(self) -> None:
        env = {"_RAYFS_COMPLETE": "bash_complete", "COMP_WORDS": "rayfs copy", "COMP_CWORD": "1"}
        program = "from rayfs.cli import main; main()"
        ran = subprocess.run(
            [sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=60, check=False
        )
        assert ran.stdout.split() == ["plain,copyFromLocal", "plain,copyToLocal"]


class TestConfig:
    def test_show_prints_every_key_with_its_origin(self, rayfs: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RAYFS__USER__FILE__REPLICATION__DURABLE", "2")
        lines = rayfs("config", "show", "--origin").stdout.splitlines()
        found = dict(line.split("  ")[0].split("=", 1) for line in lines)
        assert found[DURABLE] == "2"
        assert next(line for line in lines if line.startswith(DURABLE)).endswith("environment")
        assert next(line for line in lines if "writetype" in line).endswith("default")

    def test_show_as_json_is_a_line_for_each_key(self, rayfs: Run) -> None:
        rows = [json.loads(line) for line in rayfs("--json", "config", "show", "--origin").stdout.splitlines()]
        assert {"key": "rayfs.user.block.size.bytes.default", "value": 64 << 20, "origin": "default"} in rows

    def test_a_bad_file_ends_with_a_sentence(self, rayfs: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "rayfs.yaml").write_text("rayfs.user.typo: 1\n")
        monkeypatch.setenv("RAYFS_CONF_DIR", str(tmp_path))
        result = rayfs("config", "show")
        assert (result.exit_code, result.stdout) == (ExitCode.USAGE, "")
        assert str(tmp_path / "rayfs.yaml") in result.stderr


def tally_of(*outcomes: OSError | None) -> Tally:
    """The tally after paths that ended like this; None is a success."""
    tally = Tally()
    for outcome in outcomes:
        with tally.attempt():
            if outcome is not None:
                raise outcome
    return tally


class TestEndings:
    @pytest.mark.parametrize(
        ("error", "code"),
        [
            (FileNotFound("x"), ExitCode.FAILED),
            (FileExists("x"), ExitCode.FAILED),
            (UnderStoreError("x"), ExitCode.FAILED),
            (NoSpace("x"), ExitCode.FAILED),
            (OSError("x"), ExitCode.FAILED),
            (InvalidProperty("x"), ExitCode.USAGE),
            (InvalidPath("x"), ExitCode.USAGE),
            (click.UsageError("x"), ExitCode.USAGE),
            (ClusterUnreachable("x"), ExitCode.UNREACHABLE),
            (Busy("x"), ExitCode.REFUSED),
            (RequestRefused("x"), ExitCode.REFUSED),
            (WaitTimedOut("x"), ExitCode.TIMED_OUT),
            (TimeoutError("x"), ExitCode.TIMED_OUT),
            (KeyboardInterrupt(), ExitCode.INTERRUPTED),
        ],
    )
    def test_each_error_has_its_exit_code(self, error: BaseException, code: ExitCode) -> None:
        def fail() -> None:
            raise error

        assert exit_code_of(error) == code
        assert ends_process(fail) == code

    def test_a_sentence_is_one_line_without_the_token_for_programs(self) -> None:
        assert sentence_of(NoSpace("no room\nfor it", "/a")) == "/a: no room for it"
        assert sentence_of(PermissionError(13, "Permission denied", "/tmp/x")) == "/tmp/x: Permission denied"

    def test_a_fault_of_ours_is_a_sentence_too(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert ends_process(lambda: 1 // 0) == ExitCode.FAILED
        told = capsys.readouterr().err
        assert told.startswith("rayfs: ZeroDivisionError")
        assert len(told.splitlines()) == 1

    def test_a_traceback_can_be_asked_for(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RAYFS_TRACEBACK", "1")
        assert ends_process(lambda: 1 // 0) == ExitCode.FAILED
        assert "Traceback" in capsys.readouterr().err

    def test_some_failures_are_told_from_all(self) -> None:
        assert tally_of(FileNotFound("x")).exit_code == ExitCode.FAILED
        assert tally_of(FileNotFound("x"), None).exit_code == ExitCode.SOME_PATHS_FAILED
        assert tally_of(None, None).exit_code == ExitCode.OK

    def test_all_refused_is_refused(self) -> None:
        assert tally_of(Busy("x"), Busy("y")).exit_code == ExitCode.REFUSED
        assert tally_of(Busy("x"), FileNotFound("y")).exit_code == ExitCode.FAILED

    @pytest.mark.parametrize("error", [ClusterUnreachable("x"), WaitTimedOut("x"), BrokenPipeError()])
    def test_what_no_other_path_can_mend_ends_the_verb(self, error: OSError) -> None:
        with pytest.raises(type(error)), Tally().attempt():
            raise error

    @pytest.mark.parametrize(
        "words", [["ls", "/"], ["status"], ["stop"], ["persist", "/a"], ["config", "show", "--cluster"]]
    )
    def test_without_a_cluster_every_verb_says_how_to_get_one(self, rayfs: Run, words: list[str]) -> None:
        result = rayfs(*words)
        assert (result.exit_code, result.stdout) == (ExitCode.UNREACHABLE, "")
        assert "rayfs start" in result.stderr

    @pytest.mark.parametrize("verb", ["ls", "status", "stop"])
    def test_a_ray_client_address_is_refused(self, rayfs: Run, verb: str) -> None:
        result = rayfs("--address", "ray://127.0.0.1:10001", verb)
        assert result.exit_code == ExitCode.UNREACHABLE
        assert "run this on a node of the cluster" in result.stderr

    def test_status_of_no_cluster_is_down_in_json(self, rayfs: Run) -> None:
        result = rayfs("status", "--json")
        assert result.exit_code == ExitCode.UNREACHABLE
        assert json.loads(result.stdout)["state"] == "down"


def test_the_reference_pages_are_up_to_date() -> None:
    script = Path(__file__).parents[3] / "docs" / "reference.py"
    ran = subprocess.run(
        [sys.executable, str(script), "--check"], capture_output=True, text=True, timeout=60, check=False
    )
    assert ran.returncode == 0, ran.stderr
