"""CRC64NVME: the one checksum of RayFS, from the writer's memory to S3's answer and back.

The polynomial is NVMe's, which S3 keeps as a full-object checksum and which combines, so that 1 MiB chunks make blocks,
blocks make files, and nothing is read twice. The arithmetic is AWS's own library (hardware instructions).
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import TYPE_CHECKING

from awscrt import checksums

from rayfs.core.model import Block, BlockSum

if TYPE_CHECKING:
    from typing_extensions import Buffer

CHUNK = 1 << 20
"""Bytes a single checksum covers when data is written; a ranged read verifies the chunks it touches."""


def crc64(body: Buffer, previous: int = 0) -> int:
    """Checksum of ``body``, going on from ``previous``."""
    return int(checksums.crc64nvme(memoryview(body), previous))


def combine(first: int, second: int, second_length: int) -> int:
    """Checksum of two byte strings joined, from their checksums and the second's length."""
    return int(checksums.combine_crc64nvme(first, second, second_length))


def sum_block(body: Buffer) -> BlockSum:
    """Sums of a block: one for each ``CHUNK``; an empty block has none."""
    view = memoryview(body).cast("B")
    return BlockSum(len(view), tuple(crc64(view[at : at + CHUNK]) for at in range(0, len(view), CHUNK)))


def block_crc(sums: BlockSum) -> int:
    """The block's checksum from its chunks'."""
    total, left = 0, sums.length
    for chunk in sums.chunks:
        size = min(CHUNK, left)
        total, left = combine(total, chunk, size), left - size
    return total


def file_crc(blocks: Iterable[Block]) -> int:
    """The file's checksum from its blocks'."""
    total = 0
    for block in blocks:
        total = combine(total, block.crc, block.length)
    return total


def to_base64(crc: int) -> str:
    """As S3 sends it: base64 of eight big-endian bytes."""
    return base64.b64encode(crc.to_bytes(8, "big")).decode("ascii")


def from_base64(text: str) -> int:
    """Inverse of ``to_base64``."""
    return int.from_bytes(base64.b64decode(text), "big")


def render(crc: int) -> str:
    """As people see it: ``crc64nvme:`` and base64."""
    return f"crc64nvme:{to_base64(crc)}"
