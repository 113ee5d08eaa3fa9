"""The shell in this process, without a cluster: a runner, and a file system in memory."""

from __future__ import annotations

from typing import Any, Protocol

import pytest
from click.testing import CliRunner, Result
from fsspec.implementations.memory import MemoryFileSystem

from rayfs.cli.command import Session
from rayfs.cli.verbs import shell


class Memory(MemoryFileSystem):  # type: ignore[misc]  # fsspec has no types
    """fsspec's own file system in memory, one for each test."""

    cachable = False

    def __init__(self) -> None:
        super().__init__()
        self.store: dict[str, Any] = {}
        self.pseudo_dirs = [""]


class Run(Protocol):
    """One run of the shell with these words."""

    def __call__(self, *words: str, stdin: bytes | None = None) -> Result: ...


@pytest.fixture(autouse=True)
def _no_cluster_here(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYFS_STATE_DIR", str(tmp_path_factory.mktemp("state")))
    for name in ("RAYFS_ADDRESS", "RAY_ADDRESS", "RAYFS_CONF_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def rayfs() -> Run:
    """The shell as it is."""
    return lambda *words, stdin=None: CliRunner().invoke(shell, list(words), obj=Session(), input=stdin)


@pytest.fixture
def fs() -> Memory:
    return Memory()


@pytest.fixture
def rayfs_on(fs: Memory) -> Run:
    """The shell on ``fs`` in the place of a cluster: any fsspec file system does for the verbs that copy and read."""

    def run(*words: str, stdin: bytes | None = None) -> Result:
        session = Session()
        session.fs = fs
        return CliRunner().invoke(shell, list(words), obj=session, input=stdin)

    return run
