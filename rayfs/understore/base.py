"""What the rest of RayFS needs of an under store.

Keys are full keys below the store's own prefix, without a leading slash (``out/a.parquet``); a store adds its prefix
itself. Each method sends one request (or a bounded few) and never retries. Errors: ``UnderStoreError`` for a definite
refusal (with ``PreconditionFailed`` and ``Throttled`` apart), ``UnderStoreUnavailable`` where no answer came and a
write may still take effect, ``FileNotFound`` for a missing key on read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from rayfs.core.orders import Condition, FoundObject, SentPart, StoreEntry
from rayfs.errors import UnderStoreError, UnderStoreUnavailable

if TYPE_CHECKING:
    from typing_extensions import Buffer


class PreconditionFailed(UnderStoreError):
    """The key does not hold what the condition said; nothing was changed."""


class Throttled(UnderStoreError):
    """The store asked for a slower pace (503 SlowDown, 429); nothing was changed."""

    retryable = True


class NotSent(UnderStoreUnavailable):
    """The store could not be reached at all, so nothing was changed and nothing can still change."""


@dataclass(frozen=True, slots=True)
class ListingPage:
    """One page of a listing; ``token`` asks for the next one, None after the last."""

    entries: tuple[StoreEntry, ...]
    token: str | None


class UnderStore(Protocol):
    """An object store. Instances are thread-safe and made in each process that needs one (``open_under_store``)."""

    uri: str
    multipart: bool  # False: objects of any size go by ``put``
    minimum_part: int  # bytes of every part but the last
    maximum_parts: int

    def put(
        self, key: str, body: Sequence[Buffer], *, length: int, crc: int, file_id: int, condition: Condition | None
    ) -> FoundObject:
        """Write a whole object from ``body``'s buffers joined, without copying large ones; the store verifies ``crc``.

        Bytes that do not have ``length`` and ``crc`` are refused here, before anything is sent (``UnderStoreError``);
        so it is with ``send_part``. What comes back is the store's word, which the caller compares with its own.
        """
        ...

    def begin_upload(self, key: str, *, file_id: int) -> str:
        """Start a multipart upload with a full-object checksum; returns its id."""
        ...

    def send_part(
        self, key: str, upload_id: str, part: int, body: Sequence[Buffer], *, length: int, crc: int
    ) -> SentPart:
        """Send one part, verified by ``crc``."""
        ...

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
        """Make the object of its parts; a 200 with an error inside is an error. Returns what HEAD then says."""
        ...

    def abort_upload(self, key: str, upload_id: str) -> None:
        """Forget a multipart upload; one that is gone already is not an error."""
        ...

    def uploads(self, key: str) -> Sequence[str]:
        """Ids of multipart uploads in progress at exactly this key."""
        ...

    def copy(
        self, source: str, source_etag: str, key: str, *, file_id: int, condition: Condition | None
    ) -> FoundObject:
        """Server-side copy if the source still has the ETag (``FileNotFound`` if not); returns what the key then holds.

        Objects over 5 GiB are copied by parts.
        """
        ...

    def delete(self, key: str, etag: str | None) -> None:
        """Delete if the key has the ETag (None: whatever it has). A missing key is not an error."""
        ...

    def head(self, key: str) -> FoundObject | None:
        """What the key holds, or None."""
        ...

    def read(self, key: str, *, offset: int, length: int, etag: str | None) -> bytes:
        """A range of an object; ``PreconditionFailed`` if the key no longer has ``etag``."""
        ...

    def list(self, prefix: str, *, recursive: bool = False, token: str | None = None) -> ListingPage:
        """Objects below ``prefix`` (empty or ending in ``/``): its direct children and common prefixes, or all.

        RayFS's own ``.rayfs/`` is left out at the root. Names are relative to ``prefix``, in the order of their
        bytes; a common prefix ends in ``/``, and a marker object for the directory itself (``prefix``) has the empty
        name.
        """
        ...

    def check(self) -> None:
        """Raise ``UnderStoreError`` with a sentence that says what to do if the store cannot be used."""
        ...


__all__ = ["Condition", "FoundObject", "ListingPage", "NotSent", "PreconditionFailed", "Throttled", "UnderStore"]
