"""What every zip reader reads in the same way: the directory and the headers before the contents say the same.

A zip tells everything twice. Python, 7-Zip and unzip go by the directory at its end (or what they take for it), others
by the headers as they come: bsdtar from a pipe, tools that repair or scan. Names in extra fields, gaps, a
second end record or other numbers in the second place make two archives of one. Attributes and extra fields can make
a link of a file, each for some readers. So this is a list of what is accepted: what the writers in use produce.

Sources: PKWARE's APPNOTE 6.3.10: 4.3.7 (local header), 4.3.9 (data descriptor), 4.3.16 (end), 4.4.2 (made by), 4.4.4
(flags), 4.4.15 (attributes), 4.5 and 4.6 (extra fields); Info-ZIP's ``proginfo/extrafld.txt``; Microsoft, "File
Attribute Constants".
"""

from __future__ import annotations

import re
import stat
import struct
import zipfile
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from ollama_ferry.archives.portable_tar import check_lengths, check_mode, odd
from ollama_ferry.archives.zip_methods import require_read, version_needed

_LOCAL = struct.Struct("<IHHHHHIIIHH")
_END = b"PK\x05\x06"
_ZIP64_LOCATOR = b"PK\x06\x07"
_ZIP64_END = b"PK\x06\x06"
# The record and what says where it is.
_ZIP64_RECORDS = 56 + 20
_TAIL = 65_557
_DESCRIBED = 0x8
# What a compressor tells of itself, sizes behind the content, UTF-8 names.
_FLAGS = 0x2 | 0x4 | _DESCRIBED | 0x800
_FULL = 0xFFFFFFFF
_DOS_FOLDER = 0x10
_UNIX, _DARWIN = 3, 19
# FAT, NTFS in PKWARE's list and in Info-ZIP's.
_WINDOWS = (0, 10, 11)
# Readers differ in what the attributes of others mean.
_MADE_BY = (*_WINDOWS, _UNIX, _DARWIN)
# Read-only, hidden, folder, archive, normal; sparse, packed and not indexed, as 7-Zip has them from NTFS. What has a
# reparse point (0x400) is a link for 7-Zip.
_ATTRIBUTES = 0x1 | 0x2 | _DOS_FOLDER | 0x20 | 0x80 | 0x200 | 0x800 | 0x2000
# That the upper half is a Unix mode, by 7-Zip and by macOS.
_MODE_MARKS = 0xC000
_ZIP64 = 0x0001
_UNICODE_PATH = 0x7075
_ALIGNED = 0xD935
_PATTERNS: dict[int, re.Pattern[bytes]] = {
    _ZIP64: re.compile(rb".{8,28}", re.DOTALL),
    # Times of NTFS, the only attribute that was ever defined.
    0x000A: re.compile(rb".{4}(\x01\x00\x18\x00.{24})?", re.DOTALL),
    # Security descriptors of NTFS, by Info-ZIP.
    0x4453: re.compile(rb".+", re.DOTALL),
    # Times and owners.
    0x5455: re.compile(rb"[\x00-\x07].{0,12}", re.DOTALL),
    0x5855: re.compile(rb".{8,16}", re.DOTALL),
    0x7855: re.compile(rb"(.{4})?", re.DOTALL),
    0x7875: re.compile(rb"\x01\x04.{4}\x04.{4}|\x01\x08.{8}\x08.{8}|\x01\x02.{2}\x02.{2}", re.DOTALL),
    _UNICODE_PATH: re.compile(rb"\x01.{4}.+", re.DOTALL),
    # The mark of jars.
    0xCAFE: re.compile(rb""),
    # What aligns a content, by Android's tools: a number and zeros.
    _ALIGNED: re.compile(rb".{0,2}\x00*", re.DOTALL),
}


def check_zip(file: BinaryIO, infos: Sequence[zipfile.ZipInfo], directory: int) -> None:
    """Check that a zip can be read in one way only.

    Args:
        file: seekable.
        infos: what the directory says of its members.
        directory: where it begins in the file, in bytes.

    Raises:
        ReadDifferently: it can't.
    """
    _check_end(file, directory)
    position = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        shown = repr(info.orig_filename[:200])
        gap = info.header_offset - position
        if gap:
            raise odd(f"there are {gap} bytes before the member {shown} that belong to none; some readers look there")
        file.seek(info.header_offset)
        local = file.read(_LOCAL.size)
        if len(local) < _LOCAL.size:
            raise odd(f"the member {shown} has no header before its content")
        _, version, flags, method, _, _, crc, packed, size, name_size, extra_size = _LOCAL.unpack(local)
        extra = file.read(name_size + extra_size)[name_size:]
        _check_member(info, shown)
        # bsdtar takes the upper half for the system that made the member, though only the directory tells that.
        if max(version, info.extract_version) > version_needed(info.compress_type) or info.reserved or info.volume:
            raise odd(f"the member {shown} is of a system, a version or a volume that some readers do not know")
        if (flags, method) != (info.flag_bits, info.compress_type):
            raise odd(f"the member {shown} is packed in another way by the header before its content")
        for field in (info.extra, extra):
            _check_extra(info, field, shown)
        position = info.header_offset + _LOCAL.size + name_size + extra_size + info.compress_size
        stated, known = (crc, packed, size), (info.CRC, info.compress_size, info.file_size)
        if flags & _DESCRIBED and all(one in (0, _FULL, right) for one, right in zip(stated, known, strict=True)):
            position += _descriptor(file, info, position, shown)
        elif not _same(stated, info, extra):
            raise odd(f"the member {shown} has another size or sum in the header before its content")
    if position != directory:
        raise odd("there is something between the last member and the directory; some readers look there")


def has_windows_paths(infos: Sequence[zipfile.ZipInfo]) -> bool:
    """Return whether a backslash parts the folders in its names: all were made on Windows, and none has a slash.

    Source: APPNOTE, 4.4.17.1, has slashes alone; .NET before 4.6.1, and PowerShell 5 with it, wrote backslashes
    (Microsoft, "Mitigation: ZipArchiveEntry.FullName Path Separator").
    """
    return any("\\" in info.orig_filename for info in infos) and all(
        info.create_system in _WINDOWS and "/" not in info.orig_filename for info in infos
    )


def _check_end(file: BinaryIO, directory: int) -> None:
    """Check that all records at the end tell of the same directory, which lies directly before them."""
    length = file.seek(0, 2)
    start = max(0, length - _TAIL)
    file.seek(start)
    tail = file.read(_TAIL)
    at = tail.rfind(_END)
    if tail.count(_END) != 1 or at + 22 + int.from_bytes(tail[at + 20 : at + 22], "little") != len(tail):
        raise odd("the zip has several ends, or something behind its end: readers differ in which directory counts")
    disk, first, here, *short = struct.unpack_from("<HHHHII", tail, at + 4)
    large, end = tuple(short), start + at
    if at >= 20 and tail[at - 20 : at - 16] == _ZIP64_LOCATOR:
        end -= _ZIP64_RECORDS
        record = tail[at - _ZIP64_RECORDS : at] if at >= _ZIP64_RECORDS else b""
        if record[:4] != _ZIP64_END or struct.unpack_from("<QHHII", record, 4)[0::3] != (44, 0):
            raise odd("the zip's zip64 record is not directly before its end; some readers go by it, others do not")
        wide_disk, wide_here, *wide = struct.unpack_from("<IQQQQ", record, 20)
        located = struct.unpack_from("<IQI", record, 60)
        large = tuple(wide)
        limits = (0xFFFF, _FULL, _FULL)
        # As soon as one number does not fit, some writers (Go) have none in the end of old.
        narrow = (tuple(map(min, large, limits)), *([limits] if any(map(int.__ge__, large, limits)) else []))
        if (wide_disk, wide_here, located) != (0, large[0], (0, end, 1)) or tuple(short) not in narrow:
            raise odd("the zip's two ends tell of different directories, and readers differ in which one counts")
    if (disk, first, here) != (0, 0, short[0]) or large[1:] != (end - directory, directory):
        raise odd("the zip's end tells of another place, or of other volumes, than where its directory is")


def _check_member(info: zipfile.ZipInfo, shown: str) -> None:
    # A reader that lacks the method says so: it leaves the member out, and makes nothing else of it.
    require_read(info.compress_type, shown)
    if info.flag_bits & ~_FLAGS:
        raise odd(f"the member {shown} is encrypted, or packed in a way that not every reader knows")
    if "\0" in info.orig_filename or not info.orig_filename:
        raise odd(f"the name {shown} has a NUL in it, at which some readers end, or is empty")
    check_lengths(info.orig_filename.encode("utf-8", "surrogateescape"))
    _check_attributes(info, shown)
    named = info.orig_filename.endswith(("/", "\\") if info.create_system in _WINDOWS else "/")
    mode = info.external_attr >> 16
    marked = bool(info.external_attr & _DOS_FOLDER) or stat.S_ISDIR(mode)
    if (marked and not named) or (named and (info.file_size or stat.S_ISREG(mode))):
        raise odd(f"the member {shown} is a folder for some readers, and a file for others")


def _check_attributes(info: zipfile.ZipInfo, shown: str) -> None:
    """Refuse attributes that make something else than a file or a folder of a member, for whichever reader."""
    unix = info.create_system in (_UNIX, _DARWIN)
    if info.create_system not in _MADE_BY:
        raise odd(f"the member {shown} was made by the system {info.create_system}, whose attributes readers differ in")
    mode = info.external_attr >> 16
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise odd(f"the member {shown} has the mode of something that is neither file nor folder")
    if mode and not stat.S_ISDIR(mode):
        check_mode(mode, shown)
    other = info.external_attr & 0xFFFF & ~_ATTRIBUTES & ~(_MODE_MARKS if unix else 0x8000)
    if other:
        raise odd(f"the member {shown} has the attributes {other:#x}, a link, a device or a system file for some")


def _check_extra(info: zipfile.ZipInfo, extra: bytes, shown: str) -> None:
    """Check an extra field: nothing in it is a name, a mode or a size of its own for any reader."""
    kinds = set()
    for kind, content in _fields(extra, shown):
        form = _PATTERNS.get(kind)
        if form is None:
            raise odd(f"the member {shown} has an extra field of the kind {kind:#06x}, which some readers go by")
        if not form.fullmatch(content) or kind in kinds:
            raise odd(f"the member {shown} has an extra field of the kind {kind:#06x} that readers differ in")
        kinds.add(kind)
        # 7-Zip and unzip go by it, Python does not.
        if kind == _UNICODE_PATH and content[5:] != info.orig_filename.encode("utf-8", "surrogateescape"):
            raise odd(f"the member {shown} has another name in an extra field")


def _fields(extra: bytes, shown: str) -> Iterator[tuple[int, bytes]]:
    at = 0
    # Old zipalign fills up with zeros that are no field.
    while extra[at : at + 4].strip(b"\0"):
        kind, length = struct.unpack_from("<HH", extra, at) if at + 4 <= len(extra) else (0, len(extra))
        if at + 4 + length > len(extra):
            raise odd(f"the member {shown} has an extra field that is cut short")
        yield kind, extra[at + 4 : at + 4 + length]
        at += 4 + length
    if len(extra) - at > 3:
        raise odd(f"the member {shown} has an extra field without a kind")


def _same(stated: tuple[int, int, int], info: zipfile.ZipInfo, extra: bytes) -> bool:
    crc, packed, size = stated
    large = next((content for kind, content in _fields(extra, "") if kind == _ZIP64), b"")
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
        stated = struct.unpack_from(form, found) if len(found) >= length and signed else ()
        if stated == (info.CRC, info.compress_size, info.file_size):
            return length
    raise odd(f"the member {shown} has other sizes behind its content than in the directory")
