"""What every zip reader reads in the same way: the directory and the headers before the contents say the same.

A zip tells everything twice. Python, 7-Zip and unzip go by the directory at its end (or what they take for it), others
by the headers as they come: bsdtar from a pipe, tools that repair or scan. Names in extra fields, gaps, a
second end record or other numbers in the second place make two archives of one.

Source: PKWARE's APPNOTE 6.3.10: 4.3.7 (local header), 4.3.9 (data descriptor), 4.3.16 (end), 4.4.4 (flags), 4.6.9.
"""

from __future__ import annotations

import stat
import struct
import zipfile
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from ollama_ferry.archives.one_reading import odd

_LOCAL = struct.Struct("<IHHHHHIIIHH")
_END = b"PK\x05\x06"
_TAIL = 65_557
_UNICODE_PATH = 0x7075
_DESCRIBED = 0x8
# What a compressor tells of itself, sizes behind the content, UTF-8 names.
_FLAGS = 0x2 | 0x4 | _DESCRIBED | 0x800
_FULL = 0xFFFFFFFF
_DOS_FOLDER = 0x10


def check_zip(file: BinaryIO, infos: Sequence[zipfile.ZipInfo], directory: int) -> None:
    """Check that a zip can be read in one way only.

    Args:
        file: seekable.
        infos: what the directory says of its members.
        directory: where it begins in the file, in bytes.

    Raises:
        ReadDifferently: it can't.
    """
    file.seek(-min(_TAIL, file.seek(0, 2)), 2)
    tail = file.read(_TAIL)
    at = tail.rfind(_END)
    if tail.count(_END) != 1 or at + 22 + int.from_bytes(tail[at + 20 : at + 22], "little") != len(tail):
        raise odd("the zip has several ends, or something behind its end: readers differ in which directory counts")
    position = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        shown = ascii(info.orig_filename[:200])
        gap = info.header_offset - position
        if gap:
            raise odd(f"there are {gap} bytes before the member {shown} that belong to none; some readers look there")
        file.seek(info.header_offset)
        local = file.read(_LOCAL.size)
        if len(local) < _LOCAL.size:
            raise odd(f"the member {shown} has no header before its content")
        _, _, flags, method, _, _, crc, packed, size, name_size, extra_size = _LOCAL.unpack(local)
        extra = file.read(name_size + extra_size)[name_size:]
        _check_member(info, shown)
        if (flags, method) != (info.flag_bits, info.compress_type):
            raise odd(f"the member {shown} is packed in another way by the header before its content")
        _check_names(info, extra, shown)
        position = info.header_offset + _LOCAL.size + name_size + extra_size + info.compress_size
        told, known = (crc, packed, size), (info.CRC, info.compress_size, info.file_size)
        if flags & _DESCRIBED and all(one in (0, _FULL, right) for one, right in zip(told, known, strict=True)):
            position += _descriptor(file, info, position, shown)
        elif not _same(told, info, extra):
            raise odd(f"the member {shown} has another size or sum in the header before its content")
    if position != directory:
        raise odd("there is something between the last member and the directory; some readers look there")


def _check_member(info: zipfile.ZipInfo, shown: str) -> None:
    if info.flag_bits & ~_FLAGS or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise odd(f"the member {shown} is encrypted, or packed in a way that not every reader knows")
    if "\0" in info.orig_filename or not info.orig_filename:
        raise odd(f"the name {shown} has a NUL in it, at which some readers end, or is empty")
    named = info.orig_filename.endswith("/")
    mode = info.external_attr >> 16
    marked = bool(info.external_attr & _DOS_FOLDER) or stat.S_ISDIR(mode)
    if (marked and not named) or (named and (info.file_size or stat.S_ISREG(mode))):
        raise odd(f"the member {shown} is a folder for some readers, and a file for others")


def _check_names(info: zipfile.ZipInfo, extra: bytes, shown: str) -> None:
    """Refuse another name in an extra field, which 7-Zip and unzip go by and Python does not."""
    for field in (info.extra, extra):
        for kind, content in _fields(field):
            if kind == _UNICODE_PATH and content[5:] != info.orig_filename.encode("utf-8", "surrogateescape"):
                raise odd(f"the member {shown} has another name in an extra field")


def _fields(extra: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        yield kind, extra[at + 4 : at + 4 + length]
        at += 4 + length


def _same(told: tuple[int, int, int], info: zipfile.ZipInfo, extra: bytes) -> bool:
    crc, packed, size = told
    large = next((content for kind, content in _fields(extra) if kind == 1), b"")
    if size == _FULL and len(large) >= 8:
        size, large = int.from_bytes(large[:8], "little"), large[8:]
    if packed == _FULL and len(large) >= 8:
        packed = int.from_bytes(large[:8], "little")
    return (crc, packed, size) == (info.CRC, info.compress_size, info.file_size)


def _descriptor(file: BinaryIO, info: zipfile.ZipInfo, position: int, shown: str) -> int:
    """Return the length of what tells the sizes behind a content."""
    file.seek(position)
    found = file.read(24)
    for form in ("<4xIII", "<III", "<4xIQQ", "<IQQ"):
        length = struct.calcsize(form)
        signed = not form.startswith("<4x") or found[:4] == b"PK\x07\x08"
        told = struct.unpack_from(form, found) if len(found) >= length and signed else ()
        if told == (info.CRC, info.compress_size, info.file_size):
            return length
    raise odd(f"the member {shown} has other sizes behind its content than in the directory")
