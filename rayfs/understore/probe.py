"""Finds out, by trying, whether a store does what RayFS's promises rest on: keep checksums and honour conditions."""

from __future__ import annotations

import uuid
from contextlib import suppress

from rayfs.core.checksum import crc64
from rayfs.core.orders import Condition
from rayfs.core.paths import RESERVED
from rayfs.errors import UnderStoreError
from rayfs.understore.base import PreconditionFailed, UnderStore

BODY = b"RayFS was here"


def probe(store: UnderStore, name: str) -> None:
    """Write, try to overwrite, and delete one small object below ``.rayfs/``; ``UnderStoreError`` says what is missing.

    ``name`` is what the sentence calls the store.
    """
    key, crc = f"{RESERVED}/probe-{uuid.uuid4().hex}", crc64(BODY)
    written = store.put(key, [BODY], length=len(BODY), crc=crc, file_id=0, condition=Condition(None))
    try:
        if written.crc != crc:
            raise UnderStoreError(
                f"{name} does not keep CRC64NVME checksums, so RayFS could not tell whether an upload arrived whole; "
                "use a store that does."
            )
        for condition in (Condition(None), Condition("0" * 32)):
            with suppress(PreconditionFailed):
                store.put(key, [BODY], length=len(BODY), crc=crc, file_id=0, condition=condition)
                raise UnderStoreError(
                    f"{name} ignores If-Match or If-None-Match on PUT, so RayFS could overwrite what others wrote; "
                    "use a store that honours them."
                )
    finally:
        store.delete(key, None)
