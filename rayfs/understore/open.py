"""From an under store's URI to an open ``UnderStore``; boto3 is imported only when the URI is S3's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote

from rayfs.core.operations import PropertyValue
from rayfs.errors import InvalidArgument
from rayfs.understore.base import UnderStore

S3_PROPERTIES = "rayfs.underfs.s3"
BUCKET_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{1,61}[a-zA-Z0-9]")
"""What any S3 store may call a bucket; AWS itself is stricter and says so."""


def open_under_store(uri: str, properties: Mapping[str, PropertyValue]) -> UnderStore:
    """Open ``s3://bucket/prefix`` or ``file:///dir``; sends nothing yet (``check`` does).

    ``properties`` are the cluster's: ``rayfs.underfs.s3.endpoint``, ``.region``, ``.addressing.style`` (AUTO, PATH,
    VIRTUAL), ``.sse.algorithm`` and ``.storage.class`` are read. ``InvalidArgument`` where the URI or a value can
    never work.
    """
    scheme, separator, rest = uri.partition("://")
    if separator and scheme == "s3":
        return _open_s3(uri, rest, properties)
    if separator and scheme == "file":
        return _open_directory(uri, rest)
    raise InvalidArgument(f"{uri!r} is no under store that RayFS knows; write s3://bucket/prefix or file:///directory.")


def _open_s3(uri: str, rest: str, properties: Mapping[str, PropertyValue]) -> UnderStore:
    bucket, _, prefix = rest.partition("/")
    if not BUCKET_NAME.fullmatch(bucket):
        raise InvalidArgument(f"{uri!r} names no bucket that S3 can have; write s3://bucket/prefix.")
    prefix = prefix.strip("/")
    if any(part in ("", ".", "..") for part in prefix.split("/")) and prefix:
        raise InvalidArgument(f"The prefix of {uri!r} has an empty, '.' or '..' part; write s3://bucket/prefix.")
    endpoint = _text(properties, "endpoint")
    if endpoint is not None and not re.match(r"https?://[^/\s]+", endpoint):
        raise InvalidArgument(
            f"{S3_PROPERTIES}.endpoint is {endpoint!r}, which is no URL; write it as https://host or http://host:port."
        )
    from rayfs.understore.s3 import S3Store  # boto3: 0.3 s that nobody without S3 should wait for

    style = (_text(properties, "addressing.style") or "AUTO").lower()
    if style not in ("auto", "path", "virtual"):
        raise InvalidArgument(f"{S3_PROPERTIES}.addressing.style is {style!r}; it takes AUTO, PATH or VIRTUAL.")
    return S3Store(
        bucket,
        prefix,
        endpoint=endpoint,
        region=_text(properties, "region"),
        addressing_style=None if style == "auto" else style,
        sse_algorithm=_text(properties, "sse.algorithm"),
        storage_class=_text(properties, "storage.class"),
    )


def _open_directory(uri: str, rest: str) -> UnderStore:
    path = unquote(rest)
    if not path.startswith("/") or "\0" in path:
        raise InvalidArgument(
            f"{uri!r} names no absolute directory on this machine; write file:///directory with three slashes."
        )
    from rayfs.understore.local import LocalStore

    return LocalStore(path)


def _text(properties: Mapping[str, PropertyValue], name: str) -> str | None:
    value = properties.get(f"{S3_PROPERTIES}.{name}")
    return str(value) if value not in (None, "") else None
