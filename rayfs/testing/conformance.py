"""A place in an under store to try it at: through RayFS's interface, and around it as a stranger would."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rayfs.core.checksum import combine, crc64
from rayfs.core.orders import Condition, FoundObject, SentPart
from rayfs.errors import FileNotFound
from rayfs.testing.servers import S3Server
from rayfs.understore.base import UnderStore
from rayfs.understore.open import open_under_store


@dataclass
class Place:
    """A fresh, empty prefix of an S3 server, or a fresh directory (``server`` None, ``bucket`` the directory)."""

    kind: str
    store: UnderStore
    bucket: str
    prefix: str = ""
    server: S3Server | None = None

    @classmethod
    def at_server(cls, kind: str, server: S3Server, bucket: str) -> Place:
        """A prefix of its own; the caller has put ``server.environment()`` into ``os.environ``."""
        prefix = f"run/{uuid.uuid4().hex}"
        store = open_under_store(f"s3://{bucket}/{prefix}", {"rayfs.underfs.s3.endpoint": server.endpoint})
        return cls(kind, store, bucket, prefix, server)

    @classmethod
    def in_directory(cls, directory: Path) -> Place:
        """An empty directory of this machine."""
        directory.mkdir()
        return cls("local", open_under_store(directory.as_uri(), {}), str(directory))

    def again(self, properties: Mapping[str, str] | None = None, *, uri: str | None = None) -> UnderStore:
        """Another store object, at this place or another of the same server."""
        endpoint = {} if self.server is None else {"rayfs.underfs.s3.endpoint": self.server.endpoint}
        return open_under_store(uri or self.store.uri, {**endpoint, **(properties or {})})

    def put(self, key: str, body: bytes, *, file_id: int = 0xF11E, condition: Condition | None = None) -> FoundObject:
        """Write a whole object."""
        return self.store.put(key, [body], length=len(body), crc=crc64(body), file_id=file_id, condition=condition)

    def send_parts(self, key: str, upload_id: str, bodies: Sequence[bytes]) -> tuple[list[SentPart], int, int]:
        """Send these parts; returns them with the whole object's length and checksum."""
        parts, length, crc = [], 0, 0
        for number, body in enumerate(bodies, 1):
            sum_ = crc64(body)
            parts.append(self.store.send_part(key, upload_id, number, [body], length=len(body), crc=sum_))
            length, crc = length + len(body), combine(crc, sum_, len(body))
        return parts, length, crc

    def upload(
        self, key: str, bodies: Sequence[bytes], *, file_id: int = 0xB16, condition: Condition | None = None
    ) -> FoundObject:
        """A whole multipart upload."""
        upload_id = self.store.begin_upload(key, file_id=file_id)
        parts, length, crc = self.send_parts(key, upload_id, bodies)
        return self.store.finish_upload(key, upload_id, parts, length=length, crc=crc, condition=condition)

    def read(self, key: str) -> bytes:
        """The whole object through the store."""
        found = self.store.head(key)
        if found is None:
            raise FileNotFound(f"{key} is not in {self.store.uri}.", key)
        return self.store.read(key, offset=0, length=found.length, etag=found.etag)

    def names(self, prefix: str = "", *, recursive: bool = False) -> list[str]:
        """All names of a listing, page after page."""
        names, token = [], None
        while True:
            page = self.store.list(prefix, recursive=recursive, token=token)
            names += [entry.name for entry in page.entries]
            token = page.token
            if token is None:
                return names

    def stranger_writes(self, key: str, body: bytes) -> None:
        """Somebody without RayFS writes at the key."""
        if self.server is None:
            path = Path(self.bucket) / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
        else:
            self.server.client().put_object(Bucket=self.bucket, Key=f"{self.prefix}/{key}", Body=body)
