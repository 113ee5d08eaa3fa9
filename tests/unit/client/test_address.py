"""Spellings of paths, and which cluster a client means."""

from __future__ import annotations

from pathlib import Path

import pytest

from rayfs.client.address import find_address, same_cluster, strip_protocol
from rayfs.errors import ClusterUnreachable, InvalidPath


@pytest.mark.scenario("C3")
@pytest.mark.parametrize("spelling", ["out/a", "/out/a", "rayfs://out/a", "rayfs:///out/a", "/out//a/"])
def test_all_spellings_of_a_path_are_one(spelling: str) -> None:
    assert strip_protocol(spelling) == "/out/a"


@pytest.mark.parametrize("spelling", ["", "/", "rayfs://", "rayfs:///"])
def test_the_root_has_one_spelling(spelling: str) -> None:
    assert strip_protocol(spelling) == "/"


@pytest.mark.scenario("C3")
def test_a_host_and_port_in_a_path_is_refused_with_the_right_form() -> None:
    with pytest.raises(InvalidPath, match=r"rayfs:///out/a .*--address 10\.0\.0\.1:6379"):
        strip_protocol("rayfs://10.0.0.1:6379/out/a")


@pytest.mark.scenario("C3")
@pytest.mark.parametrize("path", ["/a/../b", "/a\0b", "/" + "n" * 300])
def test_a_path_that_cannot_be_is_refused(path: str) -> None:
    with pytest.raises(InvalidPath):
        strip_protocol(path)


@pytest.fixture
def left_by_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAYFS_STATE_DIR", str(tmp_path))
    return tmp_path / "address"


def test_the_address_is_the_argument_then_rayfs_then_ray_then_what_start_left(left_by_start: Path) -> None:
    left_by_start.write_text("start:1\n")
    environment = {"RAYFS_ADDRESS": "rayfs:2", "RAY_ADDRESS": "ray:3"}
    assert find_address("given:4", environment) == "given:4"
    assert find_address(None, environment) == "rayfs:2"
    assert find_address(None, {"RAY_ADDRESS": "ray:3"}) == "ray:3"
    assert find_address(None, {}) == "start:1"


def test_without_any_address_the_error_says_what_to_do(left_by_start: Path) -> None:
    with pytest.raises(ClusterUnreachable, match="rayfs start"):
        find_address(None, {})


@pytest.mark.scenario("W19")
def test_a_ray_client_address_is_refused_in_one_sentence() -> None:
    with pytest.raises(ClusterUnreachable, match="on a node of the cluster"):
        find_address("ray://10.0.0.1:10001", {})


@pytest.mark.parametrize(
    ("address", "same"),
    [
        ("auto", True),
        ("10.0.0.1:6379", True),
        ("head:6379", True),
        ("127.0.0.1:6379", True),
        ("10.0.0.2:6379", False),
        ("10.0.0.1:6380", False),
    ],
)
def test_a_process_of_one_cluster_knows_an_address_of_another(address: str, same: bool) -> None:
    assert same_cluster(address, "10.0.0.1:6379") is same
