"""Archives that are built from a fuzzer's bytes: near enough to a right one to get far, and then spoilt."""

from __future__ import annotations

import bz2
import hashlib
import lzma
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from support.hostile import (
    BLOCK,
    END,
    MADE,
    OTHER,
    Model,
    ZipEntry,
    base256,
    blob_name,
    entry,
    gzip_of,
    header,
    long_name,
    manifest,
    member,
    octal,
    padded,
    pax,
    zip_entries,
    zip_of,
    zstd_of,
)

T = TypeVar("T")


class Choices:
    """Choices made by some bytes; when these are used up, the first choice is taken always."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def byte(self) -> int:
        at = self._at
        self._at += 1
        return self._data[at] if at < len(self._data) else 0

    def number(self, below: int) -> int:
        found, reach = self.byte(), 256
        while reach < below:
            found, reach = found * 256 + self.byte(), reach * 256
        return found % below

    def one_of(self, options: Sequence[T]) -> T:
        return options[self.number(len(options))]

    def chance(self, one_in: int) -> bool:
        # The choice of used-up bytes is no: what is not chosen is right.
        return self.number(one_in) == one_in - 1

    def bytes(self, most: int) -> bytes:
        return bytes(self.byte() for _ in range(self.number(most + 1)))


NAMES = [
    b"notes.txt",
    blob_name(MADE.weights).encode(),
    blob_name(MADE.config).encode(),
    MADE.manifest_name.encode(),
    OTHER.manifest_name.encode(),
    b"models/" + MADE.manifest_name.encode(),
    b"blobs",
    b"blobs/",
    b"manifests/",
    b"../outside/evil",
    b"/etc/evil",
    b"blobs/sha256-" + b"0" * 64,
    b"blobs/x\0y",
    b"blobs/\xff\x1b[2J\n",
    b"x/" * 120 + b"x",
    b"",
]
KINDS = [b"0", b"\0", b"5", b"1", b"2", b"3", b"6", b"7", b"D", b"S", b"L", b"K", b"x", b"g", b"M", b"V"]
KEYS = [b"path", b"size", b"linkpath", b"GNU.sparse.name", b"GNU.sparse.major", b"comment", b"mtime", b"\x1b[2J"]
NUMBERS = [0, 1, 511, 512, 513, 2**31, 2**33, 2**62, 2**63 - 512, 2**63 - 1, 2**63, 2**64 - 1, 2**88 - 1, -1, -512]
JSON_VALUES = [
    b"null", b"true", b"0", b"-1", b"1.5", b"1e999", b"9223372036854775808", b'""', b'"\\ud800"', b'"\x1b"',
    b"[]", b"{}", b"[[[]]]", b'{"":{}}', b'"sha256:' + b"a" * 64 + b'"', b'"sha256:../../x"', b"NaN", b"[" * 1500,
]  # fmt: skip


def spoilt_manifest(choices: Choices, model: Model) -> bytes:
    raw = model.manifest
    for _ in range(choices.number(3)):
        how = choices.number(4)
        if how == 0:
            raw = raw.replace(b"2400", choices.one_of(JSON_VALUES))
        elif how == 1:
            raw = raw.replace(choices.one_of([b'"size"', b'"digest"', b'"layers"', b'"config"']), b'"mediaType"', 1)
        elif how == 2:
            raw = raw[:-1] + b',"layers":' + choices.one_of(JSON_VALUES) + b"}"
        else:
            layers = [entry(model.weights, "model", size=choices.one_of(NUMBERS)) for _ in range(choices.number(3))]
            raw = manifest(entry(model.config, "config"), layers)
    return raw


def spoilt_header(choices: Choices, block: bytes) -> bytes:
    """Write something into a header, and mend its sum, mostly."""
    made = bytearray(block)
    for _ in range(1 + choices.number(3)):
        at = choices.number(BLOCK)
        made[at] = choices.byte()
    if not choices.chance(8):
        made[148:156] = b" " * 8
        made[148:156] = b"%06o\0 " % sum(made)
    return bytes(made)


def size_field(choices: Choices) -> bytes:
    number = choices.one_of(NUMBERS)
    how = choices.number(3)
    if how == 0 and 0 <= number < 8**11:
        return octal(number)
    if how == 2:
        return choices.bytes(12)
    return base256(number)


def any_member(choices: Choices) -> bytes:
    name, how = choices.one_of(NAMES), choices.number(10)
    content = choices.one_of([b"", b"x", MADE.weights, MADE.config, MADE.manifest, OTHER.manifest])
    if how == 0:
        return member(name, content)
    if how == 1:
        return member(name, content, choices.one_of(KINDS), link=choices.one_of(NAMES))
    if how == 2:
        return header(name, size_field(choices), choices.one_of(KINDS)) + padded(content)
    if how == 3:
        return long_name(name, choices.one_of([b"L", b"K"])) * (1 + choices.number(10)) + member(b"x", content)
    if how == 4:
        values = [name, b"%d" % choices.one_of(NUMBERS), b"%d" % len(content), choices.bytes(20)]
        records = {choices.one_of(KEYS): choices.one_of(values) for _ in range(choices.number(4))}
        return pax(records, choices.one_of([b"x", b"g"])) * (1 + choices.number(10)) + member(b"x", content)
    if how == 5:
        text = choices.bytes(60)
        return header(b"x", len(text), choices.one_of([b"x", b"g", b"L"])) + padded(text) + member(b"x", content)
    if how == 6:
        return spoilt_header(choices, header(name, len(content))) + padded(content)
    if how == 7:
        return bytes(BLOCK * choices.number(4))
    if how == 8:
        return left_out(choices)
    return choices.bytes(100)


def left_out(choices: Choices) -> bytes:
    """Return a header that names what is left out: true, a lie, or damaged."""
    lines = [b"%d %s\n" % blob for blob in left_out_blobs(choices)] + [choices.bytes(30)]
    title = choices.one_of([b"ollama-ferry leaves out\n", b"ollama-ferry leaves out", b""])
    return pax({b"comment": title + b"".join(lines)}, choices.one_of([b"g", b"x"]))


def left_out_blobs(choices: Choices) -> list[tuple[int, bytes]]:
    known = [MADE.weights, MADE.config, OTHER.weights, b"of nobody"]
    found = []
    for _ in range(choices.number(4)):
        content = choices.one_of(known)
        size = choices.one_of(NUMBERS) if choices.chance(3) else len(content)
        found.append((size, hashlib.sha256(content).hexdigest().encode()))
    return found


def build_tar(choices: Choices) -> bytes:
    parts: list[bytes] = []
    models = [MADE, OTHER][: 1 + choices.number(2)]
    if choices.chance(4):
        parts.append(left_out(choices))
    for model in models:
        files = [(name, content) for name, content in model.files.items() if not choices.chance(12)]
        if choices.chance(4):
            files.reverse()
        for name, content in files:
            while choices.chance(4) and len(parts) < 40:
                parts.append(any_member(choices))
            if name == model.manifest_name and choices.chance(3):
                content = spoilt_manifest(choices, model)
            parts.append(member(name, content))
    while choices.chance(4) and len(parts) < 40:
        parts.append(any_member(choices))
    if not choices.chance(12):
        parts.append(END)
    return b"".join(parts)


def build_zip(choices: Choices) -> bytes:
    entries = zip_entries(MADE, deflated=not choices.chance(2))
    made = []
    for one in entries:
        fields: dict[str, Any] = dict(vars(one))
        for _ in range(choices.number(3)):
            key = choices.one_of(
                ["method", "flags", "mode", "size", "packed_size", "crc", "local_size", "offset", "extra", "name"]
            )
            if key == "extra":
                numbers = [struct.pack("<Q", choices.one_of(NUMBERS) & (2**64 - 1)) for _ in range(choices.number(4))]
                fields["extra"] = struct.pack("<HH", 1, 8 * len(numbers)) + b"".join(numbers)
                fields[choices.one_of(["size", "packed_size", "offset"])] = 0xFFFFFFFF
            elif key == "name":
                fields["name"] = choices.one_of(NAMES)
            elif key in ("method", "flags", "mode"):
                fields[key] = choices.number(65536)
            else:
                fields[key] = choices.one_of([0, 1, 100, 2**31, 0xFFFFFFFE, 0xFFFFFFFF, len(one.content)])
        made.append(ZipEntry(**fields))
    zip64 = None
    if choices.chance(6):
        zip64 = (choices.one_of(NUMBERS) & (2**64 - 1), choices.one_of(NUMBERS) & (2**64 - 1))
    size = choices.one_of([0, 1, 300, 0xFFFFFFFE, 0xFFFFFFFF]) if choices.chance(6) else None
    offset = choices.one_of([0, 1, 300, 0xFFFFFFFE, 0xFFFFFFFF]) if choices.chance(6) else None
    return zip_of(
        made,
        directory_size=size,
        directory_offset=offset,
        zip64=zip64,
        comment=choices.bytes(50),
        before=choices.bytes(3),
    )


def indexed(choices: Choices, data: bytes) -> bytes:
    """Pack a tar as export does, with an index behind it that may lie."""
    from ollama_ferry.archives.index import Frames, Index, IndexedFile, index_bytes
    from ollama_ferry.archives.kinds import Kind
    from ollama_ferry.archives.packing import stored_gzip, stored_zstd

    kind = choices.one_of([Kind.TAR_GZ, Kind.TAR_ZST])
    frames = Frames()
    parts = []
    for at in range(0, len(data), 4096):
        part = data[at : at + 4096]
        packed = b"".join(map(bytes, (stored_gzip if kind is Kind.TAR_GZ else stored_zstd)(part)))
        told = choices.one_of(NUMBERS[1:7]) if choices.chance(40) else len(part)
        frames.add(len(packed), told & 0xFFFFFFFF, zlib.crc32(packed) ^ choices.chance(60))
        parts.append(packed)
    files = []
    at = 0
    while at + BLOCK <= len(data):
        block = data[at : at + BLOCK]
        try:
            size = int(block[124:135], 8)
        except ValueError:
            break
        at += BLOCK
        path, stated, offset = block[:100].rstrip(b"\0").decode("latin-1"), size, at
        if choices.chance(12):
            path = choices.one_of(NAMES).decode("latin-1")
        if choices.chance(12):
            stated = choices.one_of(NUMBERS)
        if choices.chance(12):
            offset = choices.one_of(NUMBERS)
        files.append(IndexedFile(path, stated, offset, hashlib.sha256(data[at : at + size]).hexdigest()))
        at += size + -size % BLOCK
    absent = tuple((sha256.decode(), size) for size, sha256 in left_out_blobs(choices)) if choices.chance(3) else ()
    return b"".join(parts) + index_bytes(Index(tuple(files), frames, absent), kind, "fuzz")


PACKINGS: list[Callable[[bytes], bytes]] = [
    bytes,
    gzip_of,
    zstd_of,
    lambda data: lzma.compress(data, preset=0),
    lambda data: bz2.compress(data, 1),
    lambda data: gzip_of(data[:700]) + gzip_of(data[700:]),
    lambda data: zstd_of(data[:700]) + struct.pack("<II", 0x184D2A50, 3) + b"abc" + zstd_of(data[700:]),
]


def build(data: bytes) -> bytes:
    """Build an archive out of a fuzzer's bytes."""
    choices = Choices(data)
    how = choices.number(12)
    if how == 11:
        return choices.bytes(2000)
    if how >= 9:
        made = build_zip(choices)
    elif how >= 7:
        made = indexed(choices, build_tar(choices))
    else:
        made = PACKINGS[how](build_tar(choices))
    spoilt = bytearray(made)
    while spoilt and choices.chance(3):
        at = choices.number(len(spoilt)) if choices.chance(2) else max(0, len(spoilt) - 1 - choices.number(100))
        edit = choices.number(4)
        if edit == 0:
            spoilt[at] ^= 1 << choices.number(8)
        elif edit == 1:
            spoilt[at : at + 4] = struct.pack("<I", choices.one_of(NUMBERS) & 0xFFFFFFFF)
        elif edit == 2:
            del spoilt[at : at + 1 + choices.number(600)]
        else:
            spoilt[at:at] = choices.bytes(20)
    return bytes(spoilt)
