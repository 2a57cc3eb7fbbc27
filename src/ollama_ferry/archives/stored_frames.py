"""Frames whose content is stored as it is: made without copying it, and found again without unpacking.

A gzip member of stored deflate blocks (RFC 1951, 3.2.4; RFC 1952), or a zstd frame of raw blocks (RFC 8878, 3.1.1).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from ollama_ferry.engine.ports import Extent

# RFC 1952: magic, deflate, no flags, no mtime, no extra flags, unknown system: nothing that varies.
GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
"""What every frame of a .tar.gz begins with."""

ZSTD_HEADER = struct.Struct("<IBI")
"""Magic, descriptor and content size of a stored frame of a .tar.zst."""

ZSTD_MAGIC = 0xFD2FB528
# Single segment, content size in four bytes.
ZSTD_DESCRIPTOR = 0b1010_0000


@dataclass(frozen=True)
class StoredForm:
    """How a kind of frame stores content.

    Attributes:
        block: the most bytes that a block holds.
        head: the bytes before a block.
        before: the bytes before the first block.
        behind: the bytes behind the last one.
    """

    block: int
    head: int
    before: int
    behind: int

    def packed_size(self, size: int) -> int:
        """Return the length of a frame that stores so many bytes."""
        return self.before + size + self.head * max(1, -(-size // self.block)) + self.behind

    def parts(self, size: int) -> Iterator[tuple[int, int, bool]]:
        """Give where each block of a content begins and ends, and whether it is the last one."""
        last = max(0, (size - 1) // self.block * self.block)
        for start in range(0, last + 1, self.block):
            yield start, min(size, start + self.block), start == last


GZIP = StoredForm(block=0xFFFF, head=5, before=len(GZIP_HEADER), behind=8)
# RFC 8878, 3.1.1.2.4: a block holds at most 128 KiB.
ZSTD = StoredForm(block=128 * 1024, head=3, before=ZSTD_HEADER.size, behind=0)


def gzip_block_head(size: int, *, last: bool) -> bytes:
    """Return what stands before a stored deflate block."""
    return struct.pack("<BHH", last, size, size ^ 0xFFFF)


def zstd_block_head(size: int, *, last: bool) -> bytes:
    """Return what stands before a raw zstd block."""
    return (size << 3 | last).to_bytes(3, "little")


def stored_extents(frame: Extent, packing: str, size: int) -> list[Extent]:
    """Find where a stored frame has its content, by what stands before each block.

    Sums are not looked at: whoever takes the content hashes it.

    Args:
        frame: where the frame lies.
        packing: ``gzip`` or ``zstd``.
        size: of its content, in bytes.

    Returns:
        Where the content lies, in order; nothing where it is not stored in the form that we write.
    """
    form = GZIP if packing == "gzip" else ZSTD
    if frame.size != form.packed_size(size) or not hasattr(os, "pread"):
        return []
    fd, at = frame.file.fileno(), frame.offset
    head = GZIP_HEADER if packing == "gzip" else ZSTD_HEADER.pack(ZSTD_MAGIC, ZSTD_DESCRIPTOR, size)
    block_head = gzip_block_head if packing == "gzip" else zstd_block_head
    found: list[Extent] = []
    for start, end, last in form.parts(size):
        head += block_head(end - start, last=last)
        if os.pread(fd, len(head), at) != head:
            return []
        at += len(head)
        found.append(Extent(frame.file, at, end - start))
        at += end - start
        head = b""
    if packing == "gzip" and os.pread(fd, 8, at)[4:] != struct.pack("<I", size & 0xFFFFFFFF):
        return []
    return found
