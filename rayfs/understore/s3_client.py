"""How RayFS talks to S3 through boto3: one client, request bodies without copies, and answers told apart.

The only room besides ``s3.py`` that knows boto3. Credentials come from boto3's own chain and from nowhere else; none
is ever put into a message. Invariant: an error is called a refusal only where the store said so in a whole answer.
Everything else (no connection, a time-out, a broken or half answer, 500, 502, 504, a 200 with an error inside) may
still take effect and is ``UnderStoreUnavailable``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3.session
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    InvalidConfigError,
    InvalidRegionError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
)
from urllib3.exceptions import HTTPError

from rayfs.core.checksum import crc64, to_base64
from rayfs.errors import FileNotFound, InvalidArgument, UnderStoreError, UnderStoreUnavailable
from rayfs.understore.base import NotSent, PreconditionFailed, Throttled

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from typing_extensions import Buffer

JOIN_BELOW = 256 << 10
"""Bytes up to which a body of several buffers is joined: one send is cheaper than sparing a copy this small."""

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 60.0
"""Longest silence of the store inside an answer. S3 sends white space while it completes a long multipart upload."""

THROTTLE_CODES = frozenset(
    {"SlowDown", "SlowDownRead", "SlowDownWrite", "Throttling", "ThrottlingException", "RequestLimitExceeded",
     "RequestThrottled", "TooManyRequests", "TooManyRequestsException", "BandwidthLimitExceeded"}
)  # fmt: skip
"""Codes with which S3 and its relatives ask for a slower pace; botocore's own list, and MinIO's two."""

TRANSIENT_CODES = frozenset({"RequestTimeout", "RequestTimeoutException", "IncompleteBody"})
"""Answers with a 4xx status that only say that the connection broke."""

CREDENTIALS_HINT = (
    "credentials come from boto3's own chain on each node (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, "
    "~/.aws, or the machine's role)"
)


class PastTheEnd(UnderStoreError):
    """A range that begins at or after the object's end."""


class BufferBody:
    """A request body made of several buffers, sent one after another without joining or copying them.

    urllib3 sends what it iterates over with ``sendall``, straight from the buffers.
    """

    def __init__(self, buffers: Sequence[memoryview], length: int) -> None:
        self._buffers = buffers
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[memoryview]:
        return iter(self._buffers)


def payload(body: Sequence[Buffer], *, length: int, crc: int, target: str) -> bytes | BufferBody:
    """The body to send, once its bytes are known to be the ones that were acknowledged.

    Reading them once more here costs little beside sending them, and keeps rotten memory from being uploaded also to
    a store that checks nothing itself. ``UnderStoreError`` when length or checksum differ: nothing was sent.
    """
    buffers = [memoryview(buffer).cast("B") for buffer in body]
    actual_length, actual = sum(map(len, buffers)), 0
    for buffer in buffers:
        actual = crc64(buffer, actual)
    if actual_length != length or actual != crc:
        raise UnderStoreError(
            f"The bytes for {target} are not the ones that were written ({actual_length} bytes, CRC64NVME "
            f"{to_base64(actual)}; expected {length} bytes, {to_base64(crc)}); nothing was sent: take another replica."
        )
    if length <= JOIN_BELOW:
        return b"".join(buffers)
    return BufferBody([buffer for buffer in buffers if len(buffer)], length)


def make_client(
    *, endpoint: str | None, region: str | None, addressing_style: str | None, max_pool_connections: int
) -> S3Client:
    """A thread-safe client of its own session.

    No retries (the reconciler decides what is sent again). Payloads are not signed with SHA-256 over plain HTTP
    either: the CRC64NVME header is signed, and the store checks the payload with it.
    """
    s3: dict[str, Any] = {"payload_signing_enabled": False}
    if addressing_style:
        s3["addressing_style"] = addressing_style
    config = Config(
        retries={"total_max_attempts": 1},
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        max_pool_connections=max_pool_connections,
        tcp_keepalive=True,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        user_agent_extra="rayfs",
        s3=s3,  # type: ignore[arg-type]  # a plain dictionary of the keys that the stubs name
    )
    try:
        client: S3Client = boto3.session.Session().client(
            "s3", endpoint_url=endpoint, region_name=region, config=config
        )
    except ProfileNotFound:
        raise UnderStoreError(
            f"The AWS profile that AWS_PROFILE names does not exist on this node; {CREDENTIALS_HINT}."
        ) from None
    except (ValueError, InvalidConfigError, InvalidRegionError) as error:
        raise InvalidArgument(
            f"The S3 under store's settings are not usable ({error}); check rayfs.underfs.s3.endpoint and .region."
        ) from None
    for operation in ("PutObject", "UploadPart"):
        client.meta.events.register(f"before-call.s3.{operation}", _expect_continue)
        client.meta.events.register(f"before-send.s3.{operation}", _attach_body)
    return client


_body: ContextVar[bytes | BufferBody | None] = ContextVar("rayfs_s3_body", default=None)


@contextmanager
def sending(content: bytes | BufferBody) -> Iterator[dict[str, Any]]:
    """Parameters of the boto3 call made inside, which sends ``content`` as the body of its one request.

    The body goes around botocore, which takes only ``bytes`` and files, makes a file of every body, asks 100 Continue
    for it however small it is, and reads it in small pieces. So the request is made and signed with its length, its
    checksum and no body (the payload itself is never signed), and gets the body when it is sent.
    """
    token = _body.set(content)
    try:
        yield {"ContentLength": len(content)}
    finally:
        _body.reset(token)


def _expect_continue(params: dict[str, Any], **_: Any) -> None:
    """Let the store refuse a big body before it is sent: without this a refusal looks like a broken connection."""
    if isinstance(_body.get(), BufferBody):
        params["headers"]["Expect"] = "100-continue"


def _attach_body(request: Any, **_: Any) -> None:
    request.body = _body.get() or None


@dataclass(frozen=True, slots=True)
class Answers:
    """Turns what boto3 raises into RayFS's errors, with a sentence that names endpoint, bucket and key."""

    endpoint: str
    bucket: str

    @classmethod
    def of(cls, client: S3Client, bucket: str) -> Answers:
        """For this client; user and password inside an endpoint URL are left out."""
        url = urlsplit(client.meta.endpoint_url)
        host = url.netloc.rpartition("@")[2]
        return cls(f"{url.scheme}://{host}", bucket)

    @contextmanager
    def to(self, request: str, key: str, *, conditional: bool = False) -> Iterator[None]:
        """Around one request. ``conditional``: it had If-Match, so that "no such key" means the condition failed."""
        what = f"{request} s3://{self.bucket}/{key}"
        try:
            yield
        except ClientError as error:
            raise self._answered(error, what, key, conditional) from None
        except (NoCredentialsError, PartialCredentialsError):
            raise UnderStoreError(f"No credentials for {what} were found: {CREDENTIALS_HINT}; give some.") from None
        except ParamValidationError as error:
            raise UnderStoreError(f"boto3 refused to send {what}: {error}.") from None
        except (EndpointConnectionError, ConnectTimeoutError) as error:
            raise NotSent(
                f"The under store at {self.endpoint} could not be reached for {what} ({type(error).__name__}); "
                "check that it runs and can be reached from this node, and rayfs.underfs.s3.endpoint."
            ) from None
        except (BotoCoreError, HTTPError, OSError, KeyError) as error:
            # KeyError: http.client takes a head that broke off for a whole one, so the ETag or the length is missing.
            raise UnderStoreUnavailable(
                f"The under store at {self.endpoint} gave no whole answer to {what} ({type(error).__name__}); "
                "check that it runs and can be reached from this node, and rayfs.underfs.s3.endpoint."
            ) from None

    def _answered(self, error: ClientError, what: str, key: str, conditional: bool) -> OSError:
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500))
        code = str(error.response.get("Error", {}).get("Code", status))
        said = f"{status}" if code == str(status) else f"{status} {code}"
        if status == 429 or (status != 500 and code in THROTTLE_CODES):  # 500: inside a 200, so nothing is certain
            return Throttled(f"The under store at {self.endpoint} asked to slow down at {what} ({said}).")
        if (status >= 500 and status != 501) or status < 300 or code in TRANSIENT_CODES:
            return UnderStoreUnavailable(
                f"The under store at {self.endpoint} failed at {what} ({said}); it may still take effect."
            )
        if status in (409, 412) or (conditional and code == "NoSuchKey"):
            return PreconditionFailed(f"{what} was refused ({said}): the key does not hold what it was last known to.")
        if code in ("NoSuchKey", "404"):  # HEAD has no body, so no code either: s3.py tells the missing bucket apart
            return FileNotFound(f"The under store has no object at s3://{self.bucket}/{key}.", key)
        if status == 416:
            return PastTheEnd(f"{what} was refused ({said}): the object ends before the range.")
        return UnderStoreError(self._refused(status, code, said, what))

    def _refused(self, status: int, code: str, said: str, what: str) -> str:
        if code == "NoSuchBucket":
            return (
                f"Bucket {self.bucket!r} does not exist at {self.endpoint}: create it, or name another one with "
                "--under-store."
            )
        if code == "RequestTimeTooSkewed":
            return f"{self.endpoint} refused {what} ({said}): set this node's clock right."
        if status in (401, 403):
            return (
                f"{self.endpoint} refused {what} ({said}); {CREDENTIALS_HINT}: check that they are right and allow "
                f"this on bucket {self.bucket!r}."
            )
        if status < 400 or code in ("AuthorizationHeaderMalformed", "IllegalLocationConstraintException"):
            return (
                f"{self.endpoint} refused {what} ({said}): bucket {self.bucket!r} is in another region; set "
                "rayfs.underfs.s3.region."
            )
        if code == "NoSuchUpload":
            return (
                f"{what} was refused ({said}): the upload was completed or aborted; look at the key, then begin anew."
            )
        if code in ("BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch"):
            return (
                f"{what} was refused ({said}): the bytes did not arrive with the checksum sent along; send them again."
            )
        return f"{self.endpoint} refused {what} ({said}); look the code up in the store's documentation."
