"""S3 as an under store: every change conditional, checksummed and told apart from a change that may still happen.

May know boto3 (imported only here and in ``s3_client.py``, and both only when a store is opened), ``rayfs.core``'s
values and ``rayfs.errors``. Keys are ``prefix/key``; the object's metadata carries the file id in hex under
``rayfs-file-id``.

What stores were seen to do, and how this one stays safe:

- PUT with If-Match and If-None-Match: AWS documents it, SeaweedFS 4.48 and moto 5.2.5 honour it, ``check`` tries it.
  So a small file is exactly one request: the checksum in PUT's own answer is the store's word, and HEAD is asked only
  where it is missing.
- Complete and copy: moto ignores their conditions and the copy's source condition. So the key (and the source) is
  looked at first, and the condition is sent as well. For delete too, because some stores ignore If-Match there; then
  a stranger's object can only be hit within the moment between the two requests, and on no store that honours it.
- moto answers 500 for an upload id that it does not know: no refusal, so the caller settles the key.
- moto checks no checksum and repeats PUT's back; ``payload`` compares the bytes before they leave. SeaweedFS ignores
  MpuObjectSize.
- SeaweedFS has real directories. It keeps neither checksum nor metadata of a ``dir/`` marker, so HEAD knows no file
  id there (PUT's answer here still has it), answers HEAD and If-None-Match for directories that only have children,
  and lists an empty one for a while.
- A Complete that was answered is described by HEAD: the caller compares length, checksum and file id with its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from rayfs.core.checksum import from_base64, to_base64
from rayfs.core.orders import Condition, FoundObject, SentPart, StoreEntry
from rayfs.core.paths import MAX_KEY_BYTES, RESERVED
from rayfs.errors import FileNotFound, InvalidPath, UnderStoreError, UnderStoreUnavailable
from rayfs.understore.base import ListingPage, PreconditionFailed
from rayfs.understore.probe import probe
from rayfs.understore.s3_client import Answers, PastTheEnd, make_client, payload, sending

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Buffer

FILE_ID = "rayfs-file-id"
"""Object metadata key: the RayFS file id in hex."""

MINIMUM_PART = 5 << 20
MAXIMUM_PARTS = 10_000
MAXIMUM_COPY = 5 << 30
PAGE = 1000
"""Limits of S3 itself (Amazon S3 User Guide, "multipart upload limits", CopyObject, ListObjectsV2)."""

COPY_PART = 512 << 20
COPY_THREADS = 8
"""A copy over ``MAXIMUM_COPY`` is made of parts of this size, so many at a time; S3 moves the bytes itself."""


class S3Store:
    """An S3 bucket, or a prefix in one, at AWS or any endpoint. Thread-safe; see ``UnderStore`` for the methods."""

    multipart = True
    minimum_part = MINIMUM_PART
    maximum_parts = MAXIMUM_PARTS

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        endpoint: str | None = None,
        region: str | None = None,
        addressing_style: str | None = None,
        sse_algorithm: str | None = None,
        storage_class: str | None = None,
        max_pool_connections: int = 32,
        copy_limit: int = MAXIMUM_COPY,
        copy_part: int = COPY_PART,
    ) -> None:
        """``copy_limit`` and ``copy_part`` in bytes: stores with other limits than S3's, and tests, may lower them."""
        self._bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        self.uri = f"s3://{bucket}/{self._prefix}".rstrip("/")
        self._client = make_client(
            endpoint=endpoint,
            region=region,
            addressing_style=addressing_style,
            max_pool_connections=max_pool_connections,
        )
        self._answers = Answers.of(self._client, bucket)
        self._extra: dict[str, Any] = {}
        if sse_algorithm:
            self._extra["ServerSideEncryption"] = sse_algorithm
        if storage_class:
            self._extra["StorageClass"] = storage_class
        self._copy_limit, self._copy_part = copy_limit, copy_part
        self._bucket_seen = False

    # --- writing whole objects ---------------------------------------------------------------------------------------

    def put(
        self, key: str, body: Sequence[Buffer], *, length: int, crc: int, file_id: int, condition: Condition | None
    ) -> FoundObject:
        try:
            return self._put(key, body, length=length, crc=crc, file_id=file_id, condition=condition)
        except PreconditionFailed:
            if not key.endswith("/") or condition != Condition(None) or self.head(key) is not None:
                raise
        # SeaweedFS takes a directory that only has children for its marker. Markers are empty: nothing is overwritten.
        return self._put(key, body, length=length, crc=crc, file_id=file_id, condition=None)

    def _put(
        self, key: str, body: Sequence[Buffer], *, length: int, crc: int, file_id: int, condition: Condition | None
    ) -> FoundObject:
        full = self._full(key)
        content = payload(body, length=length, crc=crc, target=full)
        with self._answers.to("PUT", full, conditional=condition is not None), sending(content) as sized:
            answer = self._client.put_object(
                **sized,
                ChecksumAlgorithm="CRC64NVME",
                ChecksumCRC64NVME=to_base64(crc),
                **self._target(full),
                **self._described(file_id),
                **_headers(condition),
            )
            etag = _bare(answer["ETag"])
        if length == 0 or answer.get("ChecksumCRC64NVME") == to_base64(crc):
            return FoundObject(etag, length, crc, file_id)
        return self._found(key)

    # --- multipart ---------------------------------------------------------------------------------------------------

    def begin_upload(self, key: str, *, file_id: int) -> str:
        full = self._full(key)
        with self._answers.to("CreateMultipartUpload", full):
            return self._client.create_multipart_upload(
                ChecksumAlgorithm="CRC64NVME",
                ChecksumType="FULL_OBJECT",
                **self._target(full),
                **self._described(file_id),
            )["UploadId"]

    def send_part(
        self, key: str, upload_id: str, part: int, body: Sequence[Buffer], *, length: int, crc: int
    ) -> SentPart:
        full = self._full(key)
        content = payload(body, length=length, crc=crc, target=f"part {part} of {full}")
        with self._answers.to(f"UploadPart {part}", full), sending(content) as sized:
            answer = self._client.upload_part(
                UploadId=upload_id,
                PartNumber=part,
                **sized,
                ChecksumAlgorithm="CRC64NVME",
                ChecksumCRC64NVME=to_base64(crc),
                **self._target(full),
            )
            return SentPart(part, _bare(answer["ETag"]), crc)

    def finish_upload(
        self,
        key: str,
        upload_id: str,
        parts: Sequence[SentPart],
        *,
        length: int,
        crc: int,
        condition: Condition | None,
    ) -> FoundObject:
        named: list[dict[str, Any]] = [
            {"PartNumber": part.part, "ETag": _quoted(part.etag), "ChecksumCRC64NVME": to_base64(part.crc)}
            for part in sorted(parts, key=lambda part: part.part)
        ]
        return self._complete(key, upload_id, named, length=length, crc=crc, condition=condition)

    def _complete(
        self,
        key: str,
        upload_id: str,
        parts: list[dict[str, Any]],
        *,
        length: int,
        crc: int | None,
        condition: Condition | None,
    ) -> FoundObject:
        full = self._full(key)
        self._require(key, condition)
        checksum: dict[str, Any] = {} if crc is None else {"ChecksumCRC64NVME": to_base64(crc)}
        with self._answers.to("CompleteMultipartUpload", full, conditional=condition is not None):
            self._client.complete_multipart_upload(
                UploadId=upload_id,
                MultipartUpload={"Parts": parts},  # type: ignore[typeddict-item]  # built as plain dicts
                ChecksumType="FULL_OBJECT",
                MpuObjectSize=length,
                **checksum,
                **self._target(full),
                **_headers(condition),
            )
        return self._found(key)

    def abort_upload(self, key: str, upload_id: str) -> None:
        full = self._full(key)
        try:
            with self._answers.to("AbortMultipartUpload", full):
                self._client.abort_multipart_upload(UploadId=upload_id, **self._target(full))
        except UnderStoreError:
            if upload_id in self.uploads(key):
                raise

    def uploads(self, key: str) -> Sequence[str]:
        full = self._full(key)
        with self._answers.to("ListMultipartUploads", full):
            pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self._bucket, Prefix=full)
            return [upload["UploadId"] for page in pages for upload in page.get("Uploads", ()) if upload["Key"] == full]

    # --- copy and delete ---------------------------------------------------------------------------------------------

    def copy(
        self, source: str, source_etag: str, key: str, *, file_id: int, condition: Condition | None
    ) -> FoundObject:
        origin = self._source(source, source_etag)
        if key.endswith("/"):
            return self.put(key, [], length=0, crc=0, file_id=file_id, condition=condition)
        self._require(key, condition)
        if origin.length > self._copy_limit:
            return self._copy_by_parts(source, origin, key, file_id, condition)
        full = self._full(key)
        try:
            with self._answers.to("CopyObject", full, conditional=condition is not None):
                self._client.copy_object(
                    CopySource={"Bucket": self._bucket, "Key": self._full(source)},
                    CopySourceIfMatch=_quoted(source_etag),
                    MetadataDirective="REPLACE",
                    ChecksumAlgorithm="CRC64NVME",
                    **self._target(full),
                    **self._described(file_id),
                    **_headers(condition),
                )
        except (PreconditionFailed, FileNotFound):
            self._source(source, source_etag)  # says so if it was the source that changed
            raise
        return self._found(key)

    def _source(self, source: str, etag: str) -> FoundObject:
        found = self.head(source)
        if found is None or found.etag != etag:
            raise FileNotFound(
                f"The under store no longer has the object that was to be copied ({self.uri}/{source}, ETag {etag}).",
                source,
            )
        return found

    def _copy_by_parts(
        self, source: str, origin: FoundObject, key: str, file_id: int, condition: Condition | None
    ) -> FoundObject:
        full, upload_id = self._full(key), self.begin_upload(key, file_id=file_id)
        size = max(self._copy_part, -(-origin.length // MAXIMUM_PARTS))

        def copy_part(number: int) -> dict[str, Any]:
            first = (number - 1) * size
            last = min(first + size, origin.length) - 1
            with self._answers.to(f"UploadPartCopy {number}", full, conditional=True):
                answer = self._client.upload_part_copy(
                    UploadId=upload_id,
                    PartNumber=number,
                    CopySource={"Bucket": self._bucket, "Key": self._full(source)},
                    CopySourceIfMatch=_quoted(origin.etag),
                    CopySourceRange=f"bytes={first}-{last}",
                    **self._target(full),
                )["CopyPartResult"]
            part: dict[str, Any] = {"PartNumber": number, "ETag": _quoted(_bare(answer["ETag"]))}
            if "ChecksumCRC64NVME" in answer:
                part["ChecksumCRC64NVME"] = answer["ChecksumCRC64NVME"]
            return part

        try:
            try:
                with ThreadPoolExecutor(COPY_THREADS, thread_name_prefix="rayfs-copy") as pool:
                    parts = list(pool.map(copy_part, range(1, -(-origin.length // size) + 1)))
            except PreconditionFailed:
                self._source(source, origin.etag)
                raise
            return self._complete(key, upload_id, parts, length=origin.length, crc=origin.crc, condition=condition)
        except UnderStoreUnavailable:
            raise  # may still take effect: the caller settles the key, which aborts the upload
        except Exception:
            with suppress(UnderStoreError):
                self.abort_upload(key, upload_id)
            raise

    def delete(self, key: str, etag: str | None) -> None:
        full = self._full(key)
        match: dict[str, Any] = {}
        if etag is not None:
            found = self.head(key)
            if found is None:
                return
            if found.etag != etag:
                raise PreconditionFailed(
                    f"{self.uri}/{key} holds ETag {found.etag}, not {etag}; it was not deleted.", key
                )
            match["IfMatch"] = _quoted(etag)
        try:
            with self._answers.to("DELETE", full):
                self._client.delete_object(**self._target(full), **match)
        except (FileNotFound, PreconditionFailed):
            if self.head(key) is not None:
                raise

    # --- looking -----------------------------------------------------------------------------------------------------

    def head(self, key: str) -> FoundObject | None:
        full = self._full(key)
        try:
            with self._answers.to("HEAD", full):
                answer = self._client.head_object(ChecksumMode="ENABLED", **self._target(full))
                found = _described_by(answer)
        except FileNotFound:
            self._require_bucket()
            return None
        self._bucket_seen = True
        return found if _is_object(found.etag) else None

    def _found(self, key: str) -> FoundObject:
        """What the key holds after a write that was answered."""
        found = self.head(key)
        if found is None:
            raise UnderStoreUnavailable(
                f"{self.uri}/{key} was written and is gone again: something else deleted it.", key
            )
        return found

    def _require(self, key: str, condition: Condition | None) -> None:
        """Look before a conditional request that not every store honours."""
        if condition is None:
            return
        found = self.head(key)
        if (found.etag if found else None) != condition.etag:
            holds = f"ETag {found.etag}" if found else "nothing"
            raise PreconditionFailed(
                f"{self.uri}/{key} holds {holds}, which is not what it was last known to hold.", key
            )

    def _require_bucket(self) -> None:
        """HEAD's 404 does not tell a missing key from a missing bucket; asked until the bucket was seen once."""
        if not self._bucket_seen:
            try:
                with self._answers.to("HeadBucket", ""):
                    self._client.head_bucket(Bucket=self._bucket)
            except FileNotFound:
                raise UnderStoreError(
                    f"Bucket {self._bucket!r} does not exist at {self._answers.endpoint}: create it, or name another "
                    "one with --under-store."
                ) from None
            self._bucket_seen = True

    def read(self, key: str, *, offset: int, length: int, etag: str | None) -> bytes:
        if length <= 0:
            return b""
        full = self._full(key)
        match: dict[str, Any] = {} if etag is None else {"IfMatch": _quoted(etag)}
        try:
            with self._answers.to("GET", full):
                answer = self._client.get_object(
                    Range=f"bytes={offset}-{offset + length - 1}", **self._target(full), **match
                )
                whole = answer["Body"].read()
        except PastTheEnd:
            return b""
        return whole if answer.get("ContentRange") else whole[offset : offset + length]

    def list(self, prefix: str, *, recursive: bool = False, token: str | None = None) -> ListingPage:
        base = self._prefix + prefix
        options: dict[str, Any] = {} if recursive else {"Delimiter": "/"}
        if token is not None:
            options["ContinuationToken"] = token
        with self._answers.to("ListObjectsV2", base):
            page = self._client.list_objects_v2(Bucket=self._bucket, Prefix=base, MaxKeys=PAGE, **options)
        self._bucket_seen = True
        entries = [
            StoreEntry(item["Key"][len(base) :], item["Size"], _bare(item["ETag"]), item["LastModified"].timestamp())
            for item in page.get("Contents", ())
            if _is_object(item["ETag"])
        ]
        entries += [
            StoreEntry(common["Prefix"][len(base) :], 0, None, 0.0) for common in page.get("CommonPrefixes", ())
        ]
        if not prefix:
            entries = [entry for entry in entries if not entry.name.startswith(f"{RESERVED}/")]
        entries.sort(key=lambda entry: entry.name.encode())
        return ListingPage(tuple(entries), page.get("NextContinuationToken") if page.get("IsTruncated") else None)

    def check(self) -> None:
        """Tries all that RayFS needs: bucket, credentials for reading and writing, checksums, conditions."""
        with self._answers.to("ListObjectsV2", self._prefix):
            self._client.list_objects_v2(Bucket=self._bucket, Prefix=f"{self._prefix}{RESERVED}/", MaxKeys=1)
        self._bucket_seen = True
        probe(self, self._answers.endpoint)

    # --- requests ----------------------------------------------------------------------------------------------------

    def _full(self, key: str) -> str:
        full = self._prefix + key
        if not key or key.startswith("/") or len(full.encode()) > MAX_KEY_BYTES or "\0" in key:
            raise InvalidPath(
                f"{key!r} is no key that S3 can hold below {self.uri}: it must not be empty, start with a slash or "
                f"contain NUL, and may have {MAX_KEY_BYTES} bytes with the prefix.",
                key,
            )
        return full

    def _target(self, full: str) -> dict[str, Any]:
        return {"Bucket": self._bucket, "Key": full}

    def _described(self, file_id: int) -> dict[str, Any]:
        return {"Metadata": {FILE_ID: f"{file_id:x}"}, **self._extra}


def _headers(condition: Condition | None) -> dict[str, Any]:
    if condition is None:
        return {}
    return {"IfNoneMatch": "*"} if condition.etag is None else {"IfMatch": _quoted(condition.etag)}


def _described_by(answer: Mapping[str, Any]) -> FoundObject:
    """HEAD's answer; a checksum of another kind, or of parts, is none of ours."""
    length = int(answer["ContentLength"])
    checksum = answer.get("ChecksumCRC64NVME")
    try:
        file_id = int(answer.get("Metadata", {}).get(FILE_ID, ""), 16)
    except ValueError:
        file_id = None
    crc = from_base64(checksum) if checksum else (0 if length == 0 else None)
    return FoundObject(_bare(answer["ETag"]), length, crc, file_id)


def _is_object(etag: str) -> bool:
    """False for SeaweedFS's answer for a directory without a marker: the ETag of an object of no parts, or none."""
    return _bare(etag) != "" and not _bare(etag).endswith("-0")


def _bare(etag: str) -> str:
    return etag.strip('"')


def _quoted(etag: str) -> str:
    return f'"{etag}"'
