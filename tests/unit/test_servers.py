"""The S3 servers of the test kit: they answer when entered, and nothing of them is left, however it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from rayfs.errors import UnderStoreUnavailable
from rayfs.testing import servers
from rayfs.testing.servers import MotoServer, free_ports

STARTER = """
from rayfs.testing.servers import MotoServer
server = MotoServer().start()
print(server.pid, server.port, flush=True)
input()
"""


def listens(port: int) -> bool:
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", port)) == 0


def test_a_server_answers_when_entered_and_is_gone_with_its_files_when_left() -> None:
    with MotoServer() as server:
        server.create_bucket("data")
        assert [bucket["Name"] for bucket in server.client().list_buckets()["Buckets"]] == ["data"]
        pid, port = server.pid, server.port
        group = [process for process in psutil.process_iter() if os.getpgid(process.pid) == pid]
        directory = Path(psutil.Process(pid).cwd())
    assert len(group) == 2
    psutil.wait_procs(group, timeout=10)
    assert not any(process.is_running() for process in group)
    assert not listens(port)
    assert not directory.exists()


def test_a_server_and_its_files_go_with_the_process_that_started_it() -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert starter.stdin is not None
    assert starter.stdout is not None
    with starter.stdin, starter.stdout:
        pid, port = map(int, starter.stdout.readline().split())
        server = psutil.Process(pid)
        directory = Path(server.cwd())
        assert listens(port)
        starter.send_signal(signal.SIGKILL)
        starter.wait(timeout=10)
    server.wait(timeout=10)
    assert not listens(port)
    assert not directory.exists()


def test_a_server_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(servers, "free_ports", lambda count: [taken.getsockname()[1]] * count)
        monkeypatch.setattr(MotoServer, "_answers", lambda _: False)
        with pytest.raises(UnderStoreUnavailable, match=r"(?s)did not start.*(in use|Address)"):
            MotoServer().start()


def test_ports_are_free_with_their_grpc_twins() -> None:
    ports = free_ports(4)
    assert len(set(ports)) == 4
    assert not any(listens(port) or listens(port + 10_000) for port in ports)
