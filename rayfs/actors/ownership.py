"""Whose prefix of the under store it is: two clusters must never drive the same keys.

Runs on the head, in a task of ``launch``, because it is the head's credentials that count. The marker is written with
If-None-Match, so that of two clusters that start at once one is refused.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from rayfs.errors import RayFSError, RequestRefused, UnderStoreUnavailable

OWNER_KEY = ".rayfs/owner"
"""Marker object below the prefix: the id of the cluster that may write there."""


def check_under_store(uri: str, properties: Mapping[str, Any]) -> RayFSError | None:
    """On the head: whether the under store can be used with the head's credentials."""
    from rayfs.understore.open import open_under_store

    try:
        open_under_store(uri, properties).check()
    except RayFSError as error:
        return error
    return None


def claim_prefix(uri: str, properties: Mapping[str, Any], cluster_id: str) -> RayFSError | None:
    """On the head: make the prefix ours, or the error that says who owns it. Repeating it is harmless."""
    from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

    from rayfs.core.checksum import crc64
    from rayfs.core.orders import Condition
    from rayfs.understore.base import PreconditionFailed, Throttled
    from rayfs.understore.open import open_under_store

    store, body = open_under_store(uri, properties), cluster_id.encode()

    def claim() -> RayFSError | None:
        with contextlib.suppress(PreconditionFailed):
            store.put(OWNER_KEY, [body], length=len(body), crc=crc64(body), file_id=0, condition=Condition(None))
            return None
        found = store.head(OWNER_KEY)
        owner = store.read(OWNER_KEY, offset=0, length=found.length, etag=None).decode() if found else ""
        if owner == cluster_id:
            return None
        return RequestRefused(
            f"{uri} belongs to the RayFS cluster {owner or 'that is just starting'}; choose another prefix, or delete "
            f"{OWNER_KEY} below it once that cluster is gone for good"
        )

    try:
        again = retry_if_exception_type((UnderStoreUnavailable, Throttled))
        retrying = Retrying(
            retry=again, stop=stop_after_attempt(5), wait=wait_exponential_jitter(multiplier=0.2, max=5), reraise=True
        )
        return retrying(claim)
    except RayFSError as error:
        return error
