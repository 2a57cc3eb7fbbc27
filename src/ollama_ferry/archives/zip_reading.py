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
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import BinaryIO

from ollama_ferry.archives.members import MEMBER_LIMIT, Member, MemberKind
from ollama_ferry.archives.portable_tar import odd
from ollama_ferry.archives.portable_zip import check_zip, has_windows_paths
from ollama_ferry.archives.unpacking import decoding_errors
from ollama_ferry.archives.zip_methods import member_decoder, require_read
from ollama_ferry.errors import Damaged

_TAIL = 65_557
_LOCAL_HEADER = 30
_CHUNK = 256 * 1024
# A tenth of a second or two.
_QUICKLY_UNPACKED = 32 * 1024 * 1024
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
        exact: it is for a verdict on what others restore: what Windows alone restores is refused, too.

    Raises:
        ReadDifferently: it is a zip that readers differ in.
        Damaged: it is no zip, or one that is not supported.
    """

    def __init__(self, file: BinaryIO, *, lenient: bool = False, exact: bool = False) -> None:
        self._file = file
        self._lock = Lock()
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
                f"the zip is encrypted: the member {locked.orig_filename[:200]!r} has a password",
                hint="Unpack it with its password (7z x), and import the folder: ollama-ferry import ./FOLDER",
            )
        if not lenient:
            check_zip(file, self._infos, self._zip.start_dir)
        self._separator = "\\" if has_windows_paths(self._infos) else "/"
        if self._separator != "/" and exact:
            raise odd(
                "its names have backslashes (PowerShell 5 writes such), of which few readers but Windows make folders",
                hint="`ollama-ferry import` takes it, and hashes every byte. For others make it anew by 7-Zip or tar.",
                lenient=False,
            )

    def __iter__(self) -> Iterator[Member]:
        """Give the members in order; ``offset`` is the member's number."""
        for number, info in enumerate(self._infos):
            mode = info.external_attr >> 16
            # orig_filename still has what follows a NUL.
            name = info.orig_filename.replace(self._separator, "/")
            if name.endswith("/") or stat.S_ISDIR(mode):
                kind = MemberKind.FOLDER
            elif stat.S_ISLNK(mode):
                kind = MemberKind.LINK
            elif stat.S_IFMT(mode) and not stat.S_ISREG(mode):
                kind = MemberKind.DEVICE
            else:
                kind = MemberKind.FILE
            self._check_name(info)
            yield Member(name, kind, info.file_size, number)

    def _check_name(self, info: zipfile.ZipInfo) -> None:
        """Compare a name in the directory with the one before the content, of members that nobody opens too."""
        if not 0 <= info.header_offset < self._length:
            raise Damaged(f"the member {info.orig_filename[:200]!r} is said to be where the file is not")
        self._file.seek(info.header_offset)
        head = self._file.read(_LOCAL_HEADER)
        length = int.from_bytes(head[26:28], "little")
        name = self._file.read(length)
        encoding = "utf-8" if info.flag_bits & 0x800 else "cp437"
        if head[:4] != b"PK\x03\x04" or name != info.orig_filename.encode(encoding, "replace"):
            raise Damaged(f"the member {info.orig_filename[:200]!r} has another name before its content")

    @contextmanager
    def open(self, number: int) -> Iterator[MemberData]:
        """Open a member by its number.

        Raises:
            Damaged: it is encrypted, or packed by a method that is not read.
            UsageError: what reads its method is not installed.
        """
        info = self._infos[number]
        require_read(info.compress_type, repr(info.filename[:200]))
        if info.flag_bits & 0x1:
            raise Damaged(f"the member {info.filename[:200]!r} is encrypted")
        yield MemberData(self._file, self._lock, info)

    def costs_to_search(self, number: int) -> bool:
        """Return whether a byte of a member is found only by unpacking much of it."""
        info = self._infos[number]
        return info.compress_type != zipfile.ZIP_STORED and info.file_size > _QUICKLY_UNPACKED

    def check_contents(self, numbers: Iterable[int]) -> None:
        """Read members to their ends: a reader that gives up at one restores nothing behind it.

        Raises:
            Damaged: one is damaged.
        """
        for number in numbers:
            with self.open(number) as data:
                while data.read(_CHUNK):
                    pass


class MemberData:
    """The content of one member, in order: exactly what the directory says of it, no byte more in the file.

    ``zipfile`` ends at the size that was stated, where others unpack all that is there.

    Args:
        file: the zip; read by others as well.
        lock: held while it is read.
        info: what the directory says.

    Raises:
        Damaged: it is empty, and something is there.
    """

    def __init__(self, file: BinaryIO, lock: Lock, info: zipfile.ZipInfo) -> None:
        self._file = file
        self._lock = lock
        self._name = info.filename
        self._decoder = member_decoder(info.compress_type, info.flag_bits, info.file_size)
        self._left = info.file_size
        self._packed_left = info.compress_size
        self._crc, self._stated_crc = 0, info.CRC
        with lock:
            file.seek(info.header_offset + _LOCAL_HEADER - 4)
            lengths = file.read(4)
        if len(lengths) < 4:
            raise self._damaged("it has no header before its content")
        self._at = info.header_offset + _LOCAL_HEADER + sum(struct.unpack("<HH", lengths))
        if self._decoder is None and self._left != self._packed_left:
            raise self._damaged(f"it is said to have {self._left} bytes, and {self._packed_left} are stored")
        if not self._left:
            self._finish()

    def read(self, size: int, /) -> bytes:
        """Give at most ``size`` bytes.

        Raises:
            Damaged: the content is damaged, cut short, or longer than was said.
        """
        size = min(size, self._left)
        if size <= 0:
            return b""
        data = self._next(size)
        if not data:
            raise self._damaged(f"it ends {self._left} bytes early")
        self._left -= len(data)
        self._crc = zlib.crc32(data, self._crc)
        if not self._left:
            self._finish()
        return data

    def _next(self, size: int) -> bytes:
        decoder = self._decoder
        if decoder is None:
            return self._packed(size)
        while not decoder.eof:
            wanted = decoder.needs_input
            packed = self._packed(_CHUNK) if wanted else b""
            try:
                data = decoder.decompress(packed, size)
            except decoding_errors() as error:
                raise self._damaged(str(error)) from error
            if data or (wanted and not packed):
                return data
        return b""

    def _packed(self, size: int) -> bytes:
        with self._lock:
            try:
                self._file.seek(self._at)
                data = self._file.read(min(size, self._packed_left))
            except _ERRORS as error:
                raise self._damaged(str(error)) from error
        self._at += len(data)
        self._packed_left -= len(data)
        return data

    def _finish(self) -> None:
        """Check that nothing is left of it."""
        decoder = self._decoder
        if decoder is not None and (self._next(1) or not decoder.eof or decoder.unused_data or self._packed_left):
            raise self._damaged("its content does not end where its size says")
        if self._crc != self._stated_crc:
            raise self._damaged("its CRC-32 is another one")

    def _damaged(self, why: str) -> Damaged:
        return Damaged(f"the member {self._name[:200]!r} is damaged ({why})")


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
    elif length - size > 0xFFFFFFFF:
        # Its offsets are what is left of them modulo 4 GiB; Apple's own program guesses the rest.
        raise Damaged(
            "it has more than 4 GiB and no zip64 directory, as the Finder makes zips: where what is can't be told",
            hint="Unpack it on the Mac, and carry the folder by tar: tar -cf models.tar -C FOLDER .",
        )
    if size > _DIRECTORY_LIMIT:
        raise Damaged(f"its zip directory of {size} bytes is not read")
    file.seek(0)
    return int(count)
