"""Read the members of a zip archive from outside.

Source: PKWARE's APPNOTE, 4.3.16 (end of central directory), 4.4. The standard library's ``zipfile`` does the reading;
what it would read into memory or unpack without a bound is refused before.
"""

from __future__ import annotations

import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, BinaryIO

from ollama_ferry.archives.members import MEMBER_LIMIT, Member, MemberKind
from ollama_ferry.archives.portable_zip import check_zip
from ollama_ferry.errors import Damaged

_TAIL = 65_557
_LOCAL_HEADER = 30
# About 150 bytes a member of Ollama's layout, 47 at the least; zipfile makes a kilobyte of each in memory.
_DIRECTORY_LIMIT = 4 * 1024 * 1024
# What zipfile raises for lies; an OSError is a seek to a place that no file has.
_ERRORS = (
    zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError, OverflowError, OSError, struct.error,
    zlib.error,
)  # fmt: skip


class ZipReader:
    """The members of a zip file; each can be opened alone.

    Args:
        file: seekable, and left open.
        lenient: take what not every reader takes in the same way.

    Raises:
        ReadDifferently: it is a zip that readers differ in.
        Damaged: it is no zip, or one that is not supported.
    """

    def __init__(self, file: BinaryIO, *, lenient: bool = False) -> None:
        self._file = file
        self._length = file.seek(0, io.SEEK_END)
        count = _check_directory(file)
        try:
            self._zip = zipfile.ZipFile(file)
        except _ERRORS as error:
            raise Damaged(f"its zip directory is damaged ({error})") from error
        self._infos = self._zip.infolist()
        if len(self._infos) > MEMBER_LIMIT:
            raise Damaged(f"it has more than {MEMBER_LIMIT} members")
        if len(self._infos) != count:
            raise Damaged(f"its zip directory has {len(self._infos)} members instead of {count}")
        end = 0
        for info in sorted(self._infos, key=lambda info: info.header_offset):
            if info.header_offset < end:
                raise Damaged("its members overlap")
            end = info.header_offset + _LOCAL_HEADER + info.compress_size
        locked = next((info for info in self._infos if info.flag_bits & 0x1), None)
        if locked is not None:
            raise Damaged(
                f"the zip is encrypted: the member {locked.filename[:200]!r} has a password",
                hint="Unpack it with its password (7z x), and import the folder: ollama-ferry import ./FOLDER",
            )
        if not lenient:
            check_zip(file, self._infos, self._zip.start_dir)

    def __iter__(self) -> Iterator[Member]:
        """Give the members in order; ``offset`` is the member's number."""
        for number, info in enumerate(self._infos):
            mode = info.external_attr >> 16
            if info.filename.endswith("/") or stat.S_ISDIR(mode):
                kind = MemberKind.FOLDER
            elif stat.S_ISLNK(mode):
                kind = MemberKind.LINK
            elif stat.S_IFMT(mode) and not stat.S_ISREG(mode):
                kind = MemberKind.DEVICE
            else:
                kind = MemberKind.FILE
            self._check_name(info)
            # orig_filename still has what follows a NUL.
            yield Member(info.orig_filename, kind, info.file_size, number)

    def _check_name(self, info: zipfile.ZipInfo) -> None:
        """Compare a name in the directory with the one before the content, of members that nobody opens too."""
        if not 0 <= info.header_offset < self._length:
            raise Damaged(f"the member {info.orig_filename[:200]!a} is said to be where the file is not")
        self._file.seek(info.header_offset)
        head = self._file.read(_LOCAL_HEADER)
        length = int.from_bytes(head[26:28], "little")
        name = self._file.read(length)
        encoding = "utf-8" if info.flag_bits & 0x800 else "cp437"
        if head[:4] != b"PK\x03\x04" or name != info.orig_filename.encode(encoding, "replace"):
            raise Damaged(f"the member {info.orig_filename[:200]!a} has another name before its content")

    @contextmanager
    def open(self, number: int) -> Iterator[MemberData]:
        """Open a member by its number.

        Raises:
            Damaged: it is encrypted, or packed by something else than deflate.
        """
        info = self._infos[number]
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise Damaged(f"the member {info.filename[:200]!a} is packed by the method {info.compress_type}")
        if info.flag_bits & 0x1:
            raise Damaged(f"the member {info.filename[:200]!r} is encrypted")
        try:
            opened = self._zip.open(info)
        except _ERRORS as error:
            raise Damaged(f"the member {info.filename[:200]!a} is damaged ({error})") from error
        with opened:
            yield MemberData(opened, info.filename)


class MemberData:
    """The content of one member, in order."""

    def __init__(self, opened: IO[bytes], name: str) -> None:
        self._opened = opened
        self._name = name

    def read(self, size: int, /) -> bytes:
        """Give at most ``size`` bytes.

        Raises:
            Damaged: the content is damaged or cut short.
        """
        try:
            return self._opened.read(size)
        except _ERRORS as error:
            raise Damaged(f"the member {self._name[:200]!a} is damaged ({error})") from error


def _check_directory(file: BinaryIO) -> int:
    """Refuse a directory that is too large to be read into memory; return how many members it should have."""
    length = file.seek(0, io.SEEK_END)
    file.seek(max(0, length - _TAIL))
    tail = file.read(_TAIL)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) < at + 22:
        raise Damaged(
            "it is cut short: the directory at the end of the zip is missing",
            hint="Copy it again. A zip in several parts (.z01) becomes one file by: zip -s 0 FILE.zip --out whole.zip",
        )
    count, size = struct.unpack_from("<HI", tail, at + 10)
    # As zipfile does: where there is a zip64 locator, the record before it counts, whatever the other says.
    if at >= 76 and tail[at - 20 : at - 16] == b"PK\x06\x07":
        (count,) = struct.unpack_from("<Q", tail, at - 76 + 32)
        size = max(struct.unpack_from("<Q", tail, at - 76 + 40)[0], size if size != 0xFFFFFFFF else 0)
    elif size == 0xFFFFFFFF:
        raise Damaged("its zip64 directory is damaged")
    if size > _DIRECTORY_LIMIT:
        raise Damaged(f"its zip directory of {size} bytes is not read")
    file.seek(0)
    return int(count)
