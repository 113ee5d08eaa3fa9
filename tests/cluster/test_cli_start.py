"""``rayfs start`` and ``rayfs stop`` as a person types them, and what they say when something is not as it should."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rayfs.cli.outcome import ExitCode

if TYPE_CHECKING:
    from rayfs.testing import LocalCluster
    from rayfs.testing.servers import SeaweedServer

pytestmark = pytest.mark.long

BUCKET = "cluster-tests"
Ended = subprocess.CompletedProcess[str]
Run = Callable[..., Ended]


@pytest.fixture
def rayfs(tmp_path: Path) -> Iterator[Run]:
    """The shell with a state directory of the test's own; whatever it started ends with the test."""
    environment = {**os.environ, "RAYFS_STATE_DIR": str(tmp_path / "state")}
    for name in ("RAYFS_ADDRESS", "RAY_ADDRESS"):
        environment.pop(name, None)

    def run(*words: str, **env: str) -> Ended:
        program = [sys.executable, "-c", "from rayfs.cli import main; main()", *words]
        return subprocess.run(
            program, env={**environment, **env}, capture_output=True, text=True, timeout=240, check=False
        )

    yield run
    run("stop", "--discard-dirty")


@pytest.fixture
def own(server: SeaweedServer) -> tuple[str, str]:
    """A prefix that nobody owns, and the property that leads to its server."""
    return f"s3://{BUCKET}/{uuid.uuid4().hex[:8]}", f"-Drayfs.underfs.s3.endpoint={server.endpoint}"


def one_sentence(ended: Ended) -> str:
    """What was said: one line, and no traceback."""
    said = [line for line in ended.stderr.splitlines() if line.startswith("rayfs: ")]
    assert len(said) == 1, ended.stderr
    assert "Traceback" not in ended.stderr
    return said[0]


def test_a_cluster_is_started_used_from_other_processes_and_stopped(rayfs: Run, own: tuple[str, str]) -> None:
    uri, endpoint = own
    started = rayfs("--json", "start", "--nodes", "2", "--under-store", uri, endpoint)
    assert started.returncode == ExitCode.OK, started.stderr
    facts = json.loads(started.stdout)
    assert (facts["nodes"], facts["under_store"], facts["gcs_persistent"]) == (2, uri, True)

    assert rayfs("touch", "/out/x").returncode == ExitCode.OK
    assert rayfs("--address", facts["address"], "test", "-z", "/out/x").returncode == ExitCode.OK
    assert rayfs("status", "--check").returncode == ExitCode.OK
    stopped = rayfs("stop", "--timeout", "120")
    assert stopped.returncode == ExitCode.OK, stopped.stderr

    gone = rayfs("ls", "--address", facts["address"])
    assert gone.returncode == ExitCode.UNREACHABLE
    assert facts["address"] in one_sentence(gone)
    unknown = rayfs("ls")
    assert unknown.returncode == ExitCode.UNREACHABLE
    assert "rayfs start" in one_sentence(unknown)


def test_a_wrong_address_is_said_at_once(rayfs: Run) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody answers there
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for verb in ("ls", "status", "stop"):
            result = rayfs("--address", address, verb)
            assert result.returncode == ExitCode.UNREACHABLE
            assert address in one_sentence(result)


def test_an_endpoint_that_does_not_answer_is_named(rayfs: Run, cluster: LocalCluster) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
        result = rayfs(
            "start", "--address", cluster.address, "--under-store", f"s3://{BUCKET}/x", "-D",
            f"rayfs.underfs.s3.endpoint={endpoint}",
        )  # fmt: skip
    assert result.returncode == ExitCode.FAILED
    assert endpoint in one_sentence(result)


def test_a_missing_bucket_is_named(rayfs: Run, cluster: LocalCluster, own: tuple[str, str]) -> None:
    result = rayfs("start", "--address", cluster.address, "--under-store", "s3://no-such-bucket/x", own[1])
    assert result.returncode == ExitCode.FAILED
    assert "no-such-bucket" in one_sentence(result)


def test_wrong_credentials_are_said_without_repeating_them(rayfs: Run, own: tuple[str, str]) -> None:
    wrong = {"AWS_ACCESS_KEY_ID": "AKWRONGWRONGWRONG", "AWS_SECRET_ACCESS_KEY": "not-the-secret"}
    result = rayfs("start", "--nodes", "1", "--under-store", own[0], own[1], **wrong)
    assert result.returncode == ExitCode.FAILED
    assert "credentials" in one_sentence(result)
    assert "not-the-secret" not in result.stderr
    assert rayfs("ls").returncode == ExitCode.UNREACHABLE


def test_a_prefix_of_another_cluster_is_refused(rayfs: Run, cluster: LocalCluster, own: tuple[str, str]) -> None:
    result = rayfs("start", "--nodes", "1", "--under-store", cluster.under_store, own[1])
    assert result.returncode == ExitCode.REFUSED
    assert cluster.under_store in one_sentence(result)
    assert rayfs("ls").returncode == ExitCode.UNREACHABLE


def test_another_under_store_for_a_running_cluster_is_refused(
    rayfs: Run, cluster: LocalCluster, own: tuple[str, str]
) -> None:
    result = rayfs("start", "--address", cluster.address, "--under-store", own[0], own[1])
    assert result.returncode == ExitCode.REFUSED
    assert cluster.under_store in one_sentence(result)
