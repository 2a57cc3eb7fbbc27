"""How the content of a zip's member is packed: the methods that are read, and the names of the others.

Sources: PKWARE's APPNOTE 6.3.10, 4.4.3.2 (version needed), 4.4.5 (methods), 5.5 (Deflate64), 5.8 (LZMA). Explorer packs
by Deflate64 what is larger than 2 GB; 7-Zip and WinZip have the others.
"""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Callable
from typing import Any

from ollama_ferry.archives.unpacking import XZ_MEMORY, Decoder, ZlibDecoder, new_decoder
from ollama_ferry.errors import Damaged, UsageError

STORED = 0
_UNREAD = {
    1: "Shrink", 2: "Reduce", 3: "Reduce", 4: "Reduce", 5: "Reduce", 6: "Implode", 10: "PKWARE's Implode", 16: "CMPSC",
    18: "TERSE", 94: "MP3", 96: "JPEG", 97: "WavPack", 98: "PPMd",
}  # fmt: skip
# What a member with the method may say is needed for it; 7-Zip's numbers, for PKWARE has none for some.
_VERSIONS = {STORED: 45, 8: 45, 9: 45, 12: 46, 14: 63, 93: 63, 95: 63}
# A flag of LZMA: a mark ends it, not its size (4.4.4, bit 1).
_END_MARK = 0x2
_LZMA_HEADER = 4
_LZMA_PROPERTIES = 5
# Some 18 bits give up to 64 KiB, so this gives 8 MiB at most, and the library has them twice for a moment.
_DEFLATE64_STEP = 256


def require_read(method: int, shown: str) -> None:
    """Check that a member's method is one that is read here.

    Args:
        method: by number.
        shown: the member's name, in quotes.

    Raises:
        Damaged: it is not.
    """
    if method not in _VERSIONS:
        raise Damaged(
            f"the member {shown} is packed by {_UNREAD.get(method, 'something')} (method {method}), which is not read",
            hint="Unpack the zip (7z x FILE.zip -oFOLDER), and import the folder: ollama-ferry import ./FOLDER",
        )


def version_needed(method: int) -> int:
    """Return the highest version (times ten) that a member packed by a method that is read may need."""
    return _VERSIONS[method]


def member_decoder(method: int, flags: int, size: int) -> Decoder | None:
    """Return what unpacks a member; None where it is stored.

    Args:
        method: one that is read (see :func:`require_read`).
        flags: of the member.
        size: of its content, unpacked, in bytes.

    Raises:
        UsageError: what reads it is not installed.
    """
    unpacks: dict[int, Callable[[], Decoder]] = {
        8: lambda: ZlibDecoder(zlib.decompressobj(-zlib.MAX_WBITS)),
        9: _deflate64,
        12: lambda: new_decoder("bzip2"),
        14: lambda: _Lzma(None if flags & _END_MARK else size),
        93: lambda: new_decoder("zstd"),
        95: lambda: new_decoder("xz"),
    }
    return unpacks[method]() if method != STORED else None


class _Lzma:
    """A member packed by LZMA: four bytes of version and length, five of properties, then the data.

    Args:
        size: of the content in bytes, at which it ends; None where a mark ends it.
    """

    def __init__(self, size: int | None) -> None:
        self._left = size
        self._header = b""
        self._inner: lzma.LZMADecompressor | None = None

    @property
    def eof(self) -> bool:
        return self._left == 0 or (self._inner is not None and self._inner.eof)

    @property
    def needs_input(self) -> bool:
        return not self.eof and (self._inner is None or self._inner.needs_input)

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data if self._inner is not None else b""

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        if self._inner is None:
            self._header += data
            if len(self._header) < _LZMA_HEADER + _LZMA_PROPERTIES:
                return b""
            self._inner, data = self._begun()
        if self._left is not None:
            max_length = self._left if max_length < 0 else min(max_length, self._left)
        given = self._inner.decompress(data, max_length)
        if self._left is not None:
            self._left -= len(given)
        return given

    def _begun(self) -> tuple[lzma.LZMADecompressor, bytes]:
        length = int.from_bytes(self._header[2:_LZMA_HEADER], "little")
        first, *dictionary = self._header[_LZMA_HEADER : _LZMA_HEADER + _LZMA_PROPERTIES]
        window = int.from_bytes(bytes(dictionary), "little")
        if length != _LZMA_PROPERTIES or first >= 9 * 5 * 5:
            raise ValueError("its LZMA properties are damaged")
        # A raw stream has no limit of memory of its own: this is asked for before anything is read.
        if window > XZ_MEMORY:
            raise MemoryError(f"a dictionary of {window} bytes")
        rest, lc = divmod(first, 9)
        pb, lp = divmod(rest, 5)
        filters = [{"id": lzma.FILTER_LZMA1, "dict_size": window, "lc": lc, "lp": lp, "pb": pb}]
        return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters), self._header[_LZMA_HEADER + _LZMA_PROPERTIES :]


class _Deflate64:
    """A member packed by Deflate64: the library gives all that some bytes unpack to, so it gets few at a time."""

    def __init__(self, inflater: Any) -> None:
        self._inflater = inflater
        # What came and was not given to the library yet: from a byte on. And what came out of it, likewise.
        self._packed, self._taken = b"", 0
        self._given, self._at = b"", 0

    @property
    def eof(self) -> bool:
        return bool(self._inflater.eof) and self._at == len(self._given)

    @property
    def needs_input(self) -> bool:
        return not self._inflater.eof and self._taken == len(self._packed) and self._at == len(self._given)

    @property
    def unused_data(self) -> bytes:
        return self._packed[self._taken :] if self._inflater.eof else b""

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        if data:
            self._packed, self._taken = self._packed[self._taken :] + data, 0
        while self._at == len(self._given) and self._taken < len(self._packed) and not self._inflater.eof:
            step = self._packed[self._taken : self._taken + _DEFLATE64_STEP]
            self._taken += len(step)
            self._given, self._at = self._inflater.inflate(step), 0
        end = len(self._given) if max_length < 0 else self._at + max_length
        piece = self._given[self._at : end]
        self._at += len(piece)
        return piece


def _deflate64() -> Decoder:
    try:
        import inflate64
    except ImportError:
        raise UsageError(
            "reading what Deflate64 packed, as Explorer does above 2 GB, needs inflate64, which this Python lacks",
            hint="Run: pip install inflate64   (or unpack the zip, and import the folder: ollama-ferry import FOLDER)",
        ) from None
    return _Deflate64(inflate64.Inflater())
