"""The index behind a packed archive: which files it holds, and where each frame starts. See docs/archive-format.md.

It stands in extra fields of empty gzip members (RFC 1952, 2.3.1.1) or in skippable zstd frames (RFC 8878, 3.1.2), which
every reader passes over. Nothing in it is trusted: it is checked against its own SHA-256, against the length of the
file and against itself, and whoever reads a file through it still has to hash what comes.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
import struct
from array import array
from bisect import bisect_right
from dataclasses import dataclass
from typing import BinaryIO

from ollama_ferry.archives.kinds import Kind
from ollama_ferry.archives.left_out import LeftOutBlob
from ollama_ferry.archives.members import MEMBER_LIMIT
from ollama_ferry.archives.unpacking import require_no_bomb
from ollama_ferry.errors import Damaged

FRAME_LIMIT = 1024 * 1024
"""The most bytes that one frame unpacks to."""

_MAGIC = b"OFINDEX1"
_TAIL_MAGIC = b"OFTAIL01"
# BusyBox 1.35 fails on extra fields of 30,000 bytes and takes 16,000.
_FIELD_LIMIT = 15_900
_GZIP_EXTRA = b"\x1f\x8b\x08\x04\x00\x00\x00\x00\x00\xff"
# An empty deflate block, its CRC-32 and its length.
_GZIP_EMPTY = b"\x03\x00" + bytes(8)
_SUBFIELD = b"OF"
_ZSTD_SKIPPABLE = 0x184D2A5F
_TAIL = struct.Struct("<8sQQ")
_GZIP_AROUND = len(_GZIP_EXTRA) + 2 + 4 + len(_GZIP_EMPTY)
_ZSTD_AROUND = 8
_FRAME = struct.Struct("<III")
_SMALLEST_FRAME = 10
_LEFT_OUT = re.compile(rb"([0-9]{1,19}) - ([0-9a-f]{64})")
_SIGNATURE = re.compile(rb"signature ((?:[A-Za-z0-9+/]{4}){1,30000}(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?)")
_FILE = re.compile(rb"([0-9]{1,19}) ([0-9]{1,19}) ([0-9a-f]{64}) ([^\n]{1,4096})")
# A frame that does not shrink is stored: 18 bytes around it and 5 for each 64 KiB.
_PACKED_LIMIT = FRAME_LIMIT + 1024
_INDEX_LIMIT = 16 * 1024 * 1024


@dataclass(frozen=True)
class IndexedFile:
    """A file of the archive.

    Attributes:
        path: as in the tar, not to be trusted.
        size: of its content, in bytes.
        offset: where its content begins, in bytes from the start of the unpacked tar.
        sha256: of its content, in hexadecimal.
    """

    path: str
    size: int
    offset: int
    sha256: str


class Frames:
    """Where each frame is: lengths packed and unpacked, and the CRC-32 of the packed bytes."""

    def __init__(self) -> None:
        self._starts = array("Q", [0])
        self._packed_starts = array("Q", [0])
        self._checks = array("Q")

    def add(self, packed: int, unpacked: int, crc32: int) -> None:
        """Add the next frame."""
        self._packed_starts.append(self._packed_starts[-1] + packed)
        self._starts.append(self._starts[-1] + unpacked)
        self._checks.append(crc32)

    def __len__(self) -> int:
        return len(self._checks)

    @property
    def packed_size(self) -> int:
        """The bytes of all frames in the file."""
        return self._packed_starts[-1]

    @property
    def size(self) -> int:
        """The bytes of all frames unpacked."""
        return self._starts[-1]

    def at(self, offset: int) -> int:
        """Return the number of the frame that holds a byte of the unpacked tar."""
        return bisect_right(self._starts, offset) - 1

    def start(self, number: int) -> int:
        """Return where a frame begins in the unpacked tar."""
        return self._starts[number]

    def place(self, number: int) -> tuple[int, int, int, int]:
        """Return a frame's offset in the file, its length there, its length unpacked, and its CRC-32."""
        begin, unpacked = self._packed_starts[number], self._starts[number]
        return (
            begin,
            self._packed_starts[number + 1] - begin,
            self._starts[number + 1] - unpacked,
            self._checks[number],
        )


@dataclass(frozen=True)
class Index:
    """What the index says.

    Attributes:
        files: the regular files of the tar, in its order.
        frames: the frames.
        left_out: the blobs that are not in it on purpose.
        signature: of whoever has signed its models, as ``ssh-keygen -Y sign`` writes it; empty for nobody.
    """

    files: tuple[IndexedFile, ...]
    frames: Frames
    left_out: tuple[LeftOutBlob, ...] = ()
    signature: str = ""


def index_bytes(index: Index, kind: Kind, writer: str) -> bytes:
    """Return what is written behind the last frame.

    Args:
        index: what it says; all frames of the file.
        kind: whether the archive is of gzip members or zstd frames.
        writer: the program's name and version.
    """
    lines = [f"{writer} {index.frames.size}"]
    lines += [f"{file.size} {file.offset} {file.sha256} {file.path}" for file in index.files]
    lines += [f"{size} - {sha256}" for sha256, size in index.left_out]
    lines += [f"signature {base64.b64encode(index.signature.encode()).decode()}"] if index.signature else []
    head = "".join(line + "\n" for line in lines).encode()
    table = b"".join(
        _FRAME.pack(packed, unpacked, crc32)
        for _, packed, unpacked, crc32 in map(index.frames.place, range(len(index.frames)))
    )
    payload = _MAGIC + struct.pack("<II", len(head), len(index.frames)) + head + table
    payload += hashlib.sha256(payload).digest()
    if len(payload) > _INDEX_LIMIT:
        # An archive of over a terabyte: no reader takes so large an index.
        return b""
    tail = _TAIL.pack(_TAIL_MAGIC, index.frames.packed_size, len(payload))
    if kind is Kind.TAR_ZST:
        return _skippable(payload) + _skippable(tail)
    parts = [payload[at : at + _FIELD_LIMIT] for at in range(0, len(payload), _FIELD_LIMIT)]
    return b"".join(map(_empty_member, [*parts, tail]))


def ends_with_index(end: bytes) -> bool:
    """Return whether the last bytes of a file, at least 50, are those of an index."""
    return _TAIL_MAGIC in end[-(_TAIL.size + _GZIP_AROUND) :]


def read_index(file: BinaryIO, packing: str) -> Index | None:
    """Read the index of an archive's file.

    Args:
        file: seekable.
        packing: ``gzip`` or ``zstd``.

    Returns:
        The index, or None where the file has none.

    Raises:
        Damaged: it has one, which is damaged, or does not fit the file.
    """
    around = _ZSTD_AROUND if packing == "zstd" else _GZIP_AROUND
    length = file.seek(0, io.SEEK_END)
    if length < _TAIL.size + around:
        return None
    file.seek(length - _TAIL.size - around)
    member = _read(file, _TAIL.size + around)
    inner = member[8:] if packing == "zstd" else member[16 : 16 + _TAIL.size]
    magic, begin, size = _TAIL.unpack(inner)
    if magic != _TAIL_MAGIC:
        # One that has lost a bit is still recognised, lest the damage go unnoticed.
        if sum(one == other for one, other in zip(magic, _TAIL_MAGIC, strict=True)) >= len(_TAIL_MAGIC) - 2:
            raise Damaged("its index is damaged")
        return None
    whole = _skippable(inner) if packing == "zstd" else _empty_member(inner)
    pieces = 1 if packing == "zstd" else -(-size // _FIELD_LIMIT)
    if member != whole or size > _INDEX_LIMIT or begin + size + pieces * around + len(member) != length:
        raise Damaged("its index is damaged")
    file.seek(begin)
    return _parse(_unwrap(file, size, packing), begin)


def _unwrap(file: BinaryIO, size: int, packing: str) -> bytes:
    """Read the payload out of the members around it, which must be exactly those that a writer makes."""
    payload = bytearray()
    while len(payload) < size:
        length = size if packing == "zstd" else min(_FIELD_LIMIT, size - len(payload))
        whole = _read(file, length + (_ZSTD_AROUND if packing == "zstd" else _GZIP_AROUND))
        piece = whole[_ZSTD_AROUND:] if packing == "zstd" else whole[16 : 16 + length]
        if len(piece) != length or whole != (_skippable(piece) if packing == "zstd" else _empty_member(piece)):
            raise Damaged("its index is damaged")
        payload += piece
    return bytes(payload)


def _parse(payload: bytes, packed_size: int) -> Index:
    if len(payload) < 48 or hashlib.sha256(memoryview(payload)[:-32]).digest() != payload[-32:]:
        raise Damaged("its index is damaged")
    if payload[:8] != _MAGIC:
        raise Damaged("its index has a format that this version does not know")
    head_size, count = struct.unpack_from("<II", payload, 8)
    if 16 + head_size + count * _FRAME.size + 32 != len(payload):
        raise Damaged("its index does not fit itself")
    files, left_out, signature = _read_text(payload[16 : 16 + head_size])
    frames = Frames()
    for packed, unpacked, crc32 in _FRAME.iter_unpack(memoryview(payload)[16 + head_size : -32]):
        if not _SMALLEST_FRAME <= packed <= _PACKED_LIMIT or not 0 < unpacked <= FRAME_LIMIT:
            raise Damaged("its index has a frame of an impossible size")
        frames.add(packed, unpacked, crc32)
    if frames.packed_size != packed_size:
        raise Damaged("its index does not fit the file")
    require_no_bomb(frames.size, packed_size)
    if any(file.offset + file.size > frames.size for file in files):
        raise Damaged("its index names files behind the end")
    return Index(files, frames, left_out, signature)


def _read_text(head: bytes) -> tuple[tuple[IndexedFile, ...], tuple[LeftOutBlob, ...], str]:
    """Read the lines of text: who wrote it, then a file each, a blob that was left out, or the signature."""
    if head.count(b"\n") > MEMBER_LIMIT + 1:
        raise Damaged(f"its index names more than {MEMBER_LIMIT} files")
    _, *lines = head.split(b"\n")
    if not lines or lines.pop():
        raise Damaged("its index is not of the form that it should have")
    files: list[IndexedFile] = []
    left_out: list[LeftOutBlob] = []
    signature = ""
    for line in lines:
        absent = _LEFT_OUT.fullmatch(line)
        if absent:
            left_out.append((absent[2].decode(), int(absent[1])))
            continue
        signed = _SIGNATURE.fullmatch(line)
        if signed and not signature:
            # What it is worth is found out by whoever asks for it.
            signature = base64.b64decode(signed[1]).decode("ascii", "replace")
            continue
        found = _FILE.fullmatch(line)
        if not found:
            raise Damaged("its index is not of the form that it should have")
        try:
            path = found[4].decode()
        except UnicodeDecodeError as error:
            raise Damaged("its index is not of the form that it should have") from error
        files.append(IndexedFile(path, int(found[1]), int(found[2]), found[3].decode()))
    return tuple(files), tuple(left_out), signature


def _empty_member(content: bytes) -> bytes:
    """Return an empty gzip member that carries some bytes in its extra field."""
    field = _SUBFIELD + struct.pack("<H", len(content)) + content
    return _GZIP_EXTRA + struct.pack("<H", len(field)) + field + _GZIP_EMPTY


def _skippable(content: bytes) -> bytes:
    """Return a zstd frame that decoders skip."""
    return struct.pack("<II", _ZSTD_SKIPPABLE, len(content)) + content


def _read(file: BinaryIO, size: int) -> bytes:
    parts = []
    while size and (chunk := file.read(size)):
        parts.append(chunk)
        size -= len(chunk)
    return b"".join(parts)
