"""Blocks of bzip2 and xz, to be put together as no packer does."""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

_BZIP2_BLOCK, _BZIP2_END = f"{0x314159265359:048b}", f"{0x177245385090:048b}"


@dataclass
class Bzip2Block:
    """A bzip2 file of one block, whose parts may be changed; texts are of bits.

    Attributes:
        start: from its magic to which bytes are used.
        selectors: which table each fifty symbols have, by its place among those that were used last.
        tables: the lengths of codes.
        rest: the content, and the file's end.
        detour: how often the first length of all goes to and fro.
    """

    start: str
    selectors: list[int]
    tables: list[list[int]]
    rest: str
    detour: int = 0

    @classmethod
    def of(cls, data: bytes) -> Bzip2Block:
        """Pack data, a few hundred kilobytes at the most."""
        bits = "".join(f"{byte:08b}" for byte in bz2.compress(data)[4:])
        at = 48 + 32 + 1 + 24
        used = bits[at + 16 : at + 16 + 16 * bits[at : at + 16].count("1")]
        at += 16 + len(used)
        start, counts = bits[:at], (int(bits[at : at + 3], 2), int(bits[at + 3 : at + 18], 2))
        at += 18
        selectors = []
        for _ in range(counts[1]):
            selectors.append(bits.index("0", at) - at)
            at += selectors[-1] + 1
        tables: list[list[int]] = []
        for _ in range(counts[0]):
            length, lengths = int(bits[at : at + 5], 2), []
            at += 5
            for _ in range(used.count("1") + 2):
                while bits[at] == "1":
                    length += 1 if bits[at + 1] == "0" else -1
                    at += 2
                at += 1
                lengths.append(length)
            tables.append(lengths)
        return cls(start, selectors, tables, bits[at : bits.rindex(_BZIP2_END) + 48 + 32])

    def randomised(self) -> Bzip2Block:
        """Say that it is randomised, which changes nothing in less than 618 bytes."""
        self.start = self.start[: 48 + 32] + "1" + self.start[48 + 32 + 1 :]
        return self

    def with_magic_in_its_selectors(self) -> Bzip2Block:
        """Add selectors that nobody needs, whose bits are the start of a block."""
        self.selectors += [len(ones) for ones in _BZIP2_BLOCK.split("0")]
        return self

    def packed(self) -> bytes:
        """Return the file."""
        told = f"{len(self.tables):03b}{len(self.selectors):015b}" + "".join(
            "1" * place + "0" for place in self.selectors
        )
        detour = "1011" * self.detour
        for lengths in self.tables:
            told += f"{lengths[0]:05b}{detour}0"
            detour = ""
            for before, length in pairwise(lengths):
                told += ("10" if length > before else "11") * abs(length - before) + "0"
        bits = self.start + told + self.rest
        bits += "0" * (-len(bits) % 8)
        return b"BZh9" + int(bits, 2).to_bytes(len(bits) // 8, "big")


def xz_of(blocks: Sequence[bytes], *, filtered: int = -1, dictionary: int = 0, sizes: bool = False) -> bytes:
    """Return an xz file of several blocks (xz file format, 2 to 4), without checks.

    Args:
        filtered: the number of the block that goes through a filter for x86 first.
        dictionary: the code of the dictionary's size.
        sizes: tell the sizes of each block in its head.
    """
    flags = b"\0\0"
    made, records = b"\xfd7zXZ\0" + flags + _crc(flags), b""
    for number, data in enumerate(blocks):
        filters = [{"id": lzma.FILTER_LZMA2, "preset": 0}]
        told = b"\x21\x01" + bytes([dictionary])
        if number == filtered:
            filters.insert(0, {"id": lzma.FILTER_X86})
            told = b"\x04\0" + told
        packed = lzma.compress(data, lzma.FORMAT_RAW, filters=filters)
        told = (
            bytes([len(filters) - 1 | (0xC0 if sizes else 0)])
            + (_number(len(packed)) + _number(len(data)) if sizes else b"")
            + told
        )
        told += bytes(-(1 + len(told)) % 4)
        head = bytes([(len(told) + 1) // 4]) + told
        head += _crc(head)
        made += head + packed + bytes(-len(packed) % 4)
        records += _number(len(head) + len(packed)) + _number(len(data))
    index = b"\0" + _number(len(blocks)) + records
    index += bytes(-len(index) % 4)
    index += _crc(index)
    footer = struct.pack("<I", len(index) // 4 - 1) + flags
    return made + index + _crc(footer) + footer + b"YZ"


def _crc(data: bytes) -> bytes:
    return struct.pack("<I", zlib.crc32(data))


def _number(number: int) -> bytes:
    """Write a number as xz does: seven bits a byte, the lowest ones first."""
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*made, number])
