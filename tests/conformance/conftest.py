"""The under stores of the conformance tests: a directory, moto, SeaweedFS; each server once for the whole run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rayfs.testing.conformance import Place
from rayfs.testing.servers import MotoServer, S3Server, SeaweedServer

BUCKET = "rayfs-conformance"


@pytest.fixture(scope="session")
def moto() -> Iterator[S3Server]:
    with MotoServer() as server:
        server.create_bucket(BUCKET)
        yield server


@pytest.fixture(scope="session")
def seaweed() -> Iterator[S3Server]:
    with SeaweedServer() as server:
        server.create_bucket(BUCKET)
        yield server


def _at(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Place:
    server: S3Server = request.getfixturevalue(request.param)
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    return Place.at_server(request.param, server, BUCKET)


@pytest.fixture(params=["moto", "seaweed"])
def s3(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A prefix of its own in each S3 server."""
    return _at(request, monkeypatch)


@pytest.fixture(params=["seaweed"])
def strict_s3(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A server that checks what S3 checks: credentials, checksums, every condition."""
    return _at(request, monkeypatch)


@pytest.fixture
def directory(tmp_path: Path) -> Place:
    """A local directory, with a space in its name."""
    return Place.in_directory(tmp_path / "under store")


@pytest.fixture(params=["local", "moto", "seaweed"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Every kind of under store, empty."""
    if request.param == "local":
        return Place.in_directory(tmp_path / "under store")
    return _at(request, monkeypatch)
