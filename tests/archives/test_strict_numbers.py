"""Numbers and codes at which some readers end: what verify passes, all of them read to its end."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest

from support.command_line import assert_one_clear_error, ferry
from support.hostile import END, MADE, header, member, padded, pax

PLAIN = b"".join(member(name.encode(), content) for name, content in MADE.files.items())


def with_field(at: int, value: bytes) -> bytes:
    """Return the model as a tar whose first header has these bytes somewhere."""
    parts = []
    for number, (name, content) in enumerate(MADE.files.items()):
        block = bytearray(header(name.encode(), len(content)))
        if not number:
            block[at : at + len(value)] = value
            block[148:156] = b" " * 8
            block[148:156] = b"%06o\0 " % sum(block)
        parts += [bytes(block), padded(content)]
    return b"".join(parts) + END


ODD = {
    "a time that 64 bits do not hold": with_field(136, b"\xff" + bytes(11)),
    "an owner of 40 bits": with_field(108, b"\x80\0" + (2**40).to_bytes(6, "big")),
    "a group of 40 bits": with_field(116, b"\x80\0" + (2**40).to_bytes(6, "big")),
    "an owner of 40 bits in PAX": pax({b"uid": b"9999999999"}) + PLAIN + END,
    "a key with NUL": pax({b"SCHILY.xattr.a\0b": b"x"}) + PLAIN + END,
}


@pytest.mark.parametrize("odd", ODD)
def test_numbers_that_end_some_readers_are_refused(tmp_path: Path, odd: str) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(ODD[odd])
    assert_one_clear_error(ferry("verify", path), 4)
    # Python's tarfile and others write times before 1970 so.
    path.write_bytes(with_field(136, b"\xff" * 11 + b"\x9c"))
    assert ferry("verify", path).returncode == 0


def codes(lengths: list[int]) -> dict[int, tuple[int, int]]:
    """Return the canonical Huffman codes of some lengths (RFC 1951, 3.2.2)."""
    code, found = 0, {}
    for length in range(1, 16):
        for symbol, own in enumerate(lengths):
            if own == length:
                found[symbol] = (code, length)
                code += 1
        code <<= 1
    return found


def deflated(data: bytes, literals: list[int], distances: list[int]) -> bytes:
    """Return one deflate block with these lengths of codes, complete or not."""
    bits: list[int] = []

    def put(value: int, count: int) -> None:
        bits.extend(value >> place & 1 for place in range(count))

    def code(pair: tuple[int, int]) -> None:
        bits.extend(pair[0] >> place & 1 for place in range(pair[1] - 1, -1, -1))

    put(1, 1)
    put(2, 2)
    put(len(literals) - 257, 5)
    put(len(distances) - 1, 5)
    order = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15]
    values = sorted(set(literals + distances))
    values += [one for one in range(16) if one not in values][: -len(values) % 4 if len(values) != 2 else 0]
    lengths = [len(values).bit_length() - 1 if symbol in values else 0 for symbol in range(19)]
    last = max(place for place, symbol in enumerate(order) if lengths[symbol])
    put(last - 3, 4)
    for symbol in order[: last + 1]:
        put(lengths[symbol], 3)
    for length in literals + distances:
        code(codes(lengths)[length])
    table = codes(literals)
    for byte in data:
        code(table[byte])
    code(table[256])
    bits += [0] * (-len(bits) % 8)
    return bytes(sum(bits[at + place] << place for place in range(8)) for at in range(0, len(bits), 8))


@pytest.mark.parametrize(
    ("literals", "distances"), [([8] * 255 + [9, 9], [2, 2]), ([9] * 257, [1, 1])], ids=["distances", "literals"]
)
def test_codes_that_are_not_complete_are_damage_to_verify(
    tmp_path: Path, literals: list[int], distances: list[int]
) -> None:
    raw = PLAIN + END
    path = tmp_path / "a.tar.gz"
    packed = deflated(raw, literals, distances)
    path.write_bytes(b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + packed + struct.pack("<II", zlib.crc32(raw), len(raw)))
    assert_one_clear_error(ferry("verify", path), 4)
    whole = deflated(raw, [8] * 255 + [9, 9], [1, 1])
    path.write_bytes(b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + whole + struct.pack("<II", zlib.crc32(raw), len(raw)))
    assert ferry("verify", path).returncode == 0
