"""The bytes of an archive as they were before packing; the packing is known by content, never by a file's name.

gzip (RFC 1952), zstd (RFC 8878), xz and bzip2 files may consist of many members, and all of them are read. What one
call gives is bounded, whatever the members claim, so a bomb costs time in proportion to what is asked of it.
"""

from __future__ import annotations

import io
import lzma
import zlib
from collections.abc import Callable
from typing import Any, Protocol

from ollama_ferry.archives.portable_packing import Look, check_gzip_header, new_look
from ollama_ferry.archives.portable_tar import odd
from ollama_ferry.archives.zstd_library import load_zstd
from ollama_ferry.errors import Damaged, UsageError

CHUNK = 1024 * 1024
"""How many bytes are asked for at a time."""

XZ_MEMORY = 100 * 1024 * 1024
"""What unpacking xz or LZMA may take, in bytes; xz -9 wants 65 MiB."""

# zstd's own limit without --long.
_ZSTD_WINDOW_LOG = 27
# Tapes and some writers pad with zeros behind the end; more than this is something else.
PADDING_LIMIT = 64 * 1024 * 1024
# What unpacks to this many times its packed size is a bomb, not weights. BF16 shrinks to 3/4, and zeros are rare.
_EXPANSION_LIMIT = 200
_EXPANSION_FROM = 256 * 1024 * 1024
# What a decoder gets at a time: what is left of it at a member's end is copied.
_FEED = 64 * 1024


class Input(Protocol):
    """What an archive is read from; every binary file does."""

    def read(self, size: int, /) -> bytes: ...


class Decoder(Protocol):
    """What bz2, lzma, zstd and isal have in common: one member, a bounded step at a time."""

    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class Unpacked(Protocol):
    """The unpacked bytes, in order."""

    @property
    def position(self) -> int:
        """How many bytes were given or skipped."""
        ...

    def read(self, size: int, /) -> bytes:
        """Give at most ``size`` bytes, and none only at the end.

        Raises:
            Damaged: the packed bytes are not what their format says, or end in the middle.
        """
        ...

    def skip(self, count: int) -> None:
        """Pass over bytes.

        Raises:
            Damaged: as in ``read``, or there are not so many.
        """
        ...


def packing_of(start: bytes) -> str:
    """Tell what packed some data: ``gzip``, ``zstd``, ``xz``, ``bzip2``, ``zip``, or an empty text for anything else.

    Args:
        start: at least its first six bytes.
    """
    if start[:2] == b"\x1f\x8b":
        return "gzip"
    # Skippable frames have sixteen magic numbers (RFC 8878, 3.1.2).
    if start[:4] == b"\x28\xb5\x2f\xfd" or (start[1:4] == b"\x2a\x4d\x18" and start[:1] and start[0] & 0xF0 == 0x50):
        return "zstd"
    if start[:6] == b"\xfd7zXZ\x00":
        return "xz"
    if start[:3] == b"BZh":
        return "bzip2"
    if start[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return "zip"
    return ""


def unpacked(data: Input, packing: str, *, lenient: bool = False, exact: bool = False) -> Unpacked:
    """Return the unpacked bytes of a file or stream.

    Args:
        data: at its start. What can seek is skipped by seeking where nothing is packed.
        packing: as :func:`packing_of` tells it.
        lenient: take framing that not every reader takes in the same way.
        exact: unpack as strictly as others do, though it takes longer.

    Raises:
        UsageError: it is zstd, which this Python lacks.
    """
    if not packing:
        return _Plain(data)
    return _Packed(data, packing, _decoders(packing, exact=exact), lenient=lenient)


def new_decoder(packing: str) -> Decoder:
    """Return what unpacks one member of a packing, a bounded step at a time.

    Args:
        packing: ``gzip``, ``zstd``, ``xz`` or ``bzip2``.

    Raises:
        UsageError: it is zstd, which this Python lacks.
    """
    return _decoders(packing, exact=True)()


def require_no_bomb(unpacked_size: int, packed_size: int) -> None:
    """Refuse what unpacks to so much that it can't be models.

    Raises:
        Damaged: it does.
    """
    if unpacked_size > _EXPANSION_FROM and unpacked_size > _EXPANSION_LIMIT * packed_size:
        raise Damaged(
            f"it unpacks to more than {_EXPANSION_LIMIT} times its packed size: these are no models",
            hint="If you trust it, unpack it to a plain .tar first, and use that.",
        )


class Joined(io.RawIOBase):
    """Some bytes that were read ahead, then the stream that they came from."""

    def __init__(self, start: bytes, rest: Input) -> None:
        self._start = start
        self._at = 0
        self._rest = rest

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        """Give at most ``size`` bytes."""
        if self._at == len(self._start):
            self._start, self._at = b"", 0
            return self._rest.read(size)
        # Without a copy of what is left: a tar is asked for by blocks.
        piece = self._start[self._at :] if size < 0 else self._start[self._at : self._at + size]
        self._at += len(piece)
        return piece


class Peeked:
    """Unpacked bytes of which the first were looked at: they come again.

    Args:
        start: what was read of them.
        rest: what gives the others.
    """

    def __init__(self, start: bytes, rest: Unpacked) -> None:
        self._start = start
        self._rest = rest

    @property
    def position(self) -> int:
        return self._rest.position - len(self._start)

    def read(self, size: int, /) -> bytes:
        if not self._start:
            return self._rest.read(size)
        given, self._start = self._start[:size], self._start[size:]
        return given

    def skip(self, count: int) -> None:
        passed = min(count, len(self._start))
        self._start = self._start[passed:]
        self._rest.skip(count - passed)


def peek(data: Unpacked, count: int) -> tuple[bytes, Unpacked]:
    """Return the next bytes, fewer only at the end, and what gives all with them."""
    start = b""
    while len(start) < count and (more := data.read(count - len(start))):
        start += more
    return start, Peeked(start, data)


class _Plain:
    """Bytes that are not packed."""

    def __init__(self, data: Input) -> None:
        self.position = 0
        self._data = data
        self._seek: Callable[[int], object] | None = None
        if isinstance(data, io.IOBase) and data.seekable():
            begin = data.tell()
            self._length = data.seek(0, io.SEEK_END) - begin
            data.seek(begin)
            self._seek = lambda position: data.seek(begin + position)

    def read(self, size: int, /) -> bytes:
        chunk = self._data.read(size)
        self.position += len(chunk)
        return chunk

    def skip(self, count: int) -> None:
        if self._seek is None:
            read_over(self, count)
            return
        if count > self._length - self.position:
            # Seeking behind the end would go unnoticed.
            raise Damaged(f"it ends {count - self._length + self.position} bytes early")
        self._seek(self.position + count)
        self.position += count


class _Packed:
    """Bytes out of members, one after the other."""

    def __init__(self, data: Input, packing: str, new_decoder: Callable[[], Decoder], *, lenient: bool) -> None:
        self._lenient = lenient
        self.position = 0
        self._data = data
        self._packing = packing
        self._new_decoder = new_decoder
        self._errors = decoding_errors()
        self._decoder: Decoder | None = None
        self._look: Look | None = None
        # What was read of the file and not yet given to a decoder: the buffer from a byte on.
        self._buffer = b""
        self._at = 0
        self._taken = 0
        self._members = 0

    def read(self, size: int, /) -> bytes:
        while True:
            if self._decoder is None:
                if not self._next_member():
                    return b""
                self._decoder = self._new_decoder()
            decoder = self._decoder
            fed = b""
            if decoder.needs_input:
                if self._at == len(self._buffer) and not self._fetch():
                    raise Damaged(f"it is cut short: it ends in the middle of its {self._packing} data")
                fed = self._buffer[self._at : self._at + _FEED]
                self._at += len(fed)
            try:
                chunk = decoder.decompress(fed, size)
            except self._errors as error:
                why = "needs more memory than is allowed" if "emory" in str(error) else "are damaged"
                raise Damaged(f"its {self._packing} data {why} ({error})") from error
            if self._look is not None:
                self._look.see(fed)
            if decoder.eof:
                if self._look is not None:
                    self._look.end()
                self._at -= len(decoder.unused_data)
                self._decoder = None
            if chunk:
                self.position += len(chunk)
                require_no_bomb(self.position, self._taken)
                return chunk

    def skip(self, count: int) -> None:
        read_over(self, count)

    def _next_member(self) -> bool:
        """Find the start of a further member; False at the end of the data."""
        zeros = self._members and self._skip_zeros()
        start = self._peek(6)
        if self._packing == "zstd":
            self._pass_skippable_frames()
            start = self._peek(6)
        if zeros and not self._lenient:
            raise odd(f"zeros follow its {self._packing} data, at which some readers end and others go on or give up")
        if not start and self._members:
            return False
        if packing_of(start) != self._packing:
            raise Damaged(f"something that is no {self._packing} data follows its end")
        if not self._lenient:
            self._look = new_look(self._packing)
            if self._packing == "gzip":
                check_gzip_header(self._peek)
        self._members += 1
        return True

    def _peek(self, count: int) -> bytes:
        """Return the next bytes without taking them; fewer at the end of the data."""
        while len(self._buffer) - self._at < count and self._fetch():
            pass
        return self._buffer[self._at : self._at + count]

    def _pass_skippable_frames(self) -> None:
        """Pass over frames without content; a decoder made for each of millions of them would take minutes."""
        while True:
            head = self._peek(8)
            if len(head) < 8 or head[0] & 0xF0 != 0x50 or head[1:4] != b"\x2a\x4d\x18":
                return
            self._members += 1
            self._at += 8
            left = int.from_bytes(head[4:], "little")
            while left:
                if self._at == len(self._buffer) and not self._fetch():
                    raise Damaged("it is cut short: it ends in the middle of its zstd data")
                passed = min(left, len(self._buffer) - self._at)
                self._at += passed
                left -= passed

    def _skip_zeros(self) -> int:
        """Pass over padding between and behind members, which gzip and xz allow; return how much it was."""
        passed = 0
        while passed < PADDING_LIMIT:
            if self._at == len(self._buffer) and not self._fetch():
                break
            if self._buffer[self._at]:
                break
            rest = self._buffer[self._at :].lstrip(b"\0")
            passed += len(self._buffer) - self._at - len(rest)
            self._buffer, self._at = rest, 0
            if rest:
                break
        return passed

    def _fetch(self) -> bool:
        more = self._data.read(CHUNK)
        self._taken += len(more)
        self._buffer, self._at = self._buffer[self._at :] + more, 0
        return bool(more)


class ZlibDecoder:
    """A gzip member, or a zip's, read by zlib or zlib-ng, with the interface of the others."""

    def __init__(self, inflate: Any) -> None:
        self._inflate = inflate

    @property
    def eof(self) -> bool:
        return bool(self._inflate.eof)

    @property
    def needs_input(self) -> bool:
        return not self._inflate.eof and not self._inflate.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return bytes(self._inflate.unused_data)

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return bytes(self._inflate.decompress(self._inflate.unconsumed_tail + data, max(0, max_length)))


def _decoders(packing: str, *, exact: bool) -> Callable[[], Decoder]:
    if packing == "xz":
        return lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, XZ_MEMORY)
    if packing == "bzip2":
        import bz2

        return bz2.BZ2Decompressor
    if packing == "zstd":
        zstd = load_zstd("reading what zstd packed")
        options = {zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}

        def zstd_decoder() -> Decoder:
            decoder: Decoder = zstd.ZstdDecompressor(options=options)
            return decoder

        return zstd_decoder
    # isal takes codes that are not complete, at which zlib and most others give up.
    igzip = None if exact else _igzip()
    zlib_ng = None if exact else _zlib_ng()
    if zlib_ng is not None:
        # Of a single stream of weights it makes a tenth more a second than isal, and as much of others.
        return lambda: ZlibDecoder(zlib_ng.decompressobj(31))
    if igzip is None:
        return lambda: ZlibDecoder(zlib.decompressobj(31))

    def isal_decoder() -> Decoder:
        decoder: Decoder = igzip.IgzipDecompressor(igzip.DECOMP_GZIP)
        return decoder

    return isal_decoder


def _igzip() -> Any:
    try:
        from isal import igzip_lib
    except ImportError:
        return None
    return igzip_lib


def _zlib_ng() -> Any:
    try:
        from zlib_ng import zlib_ng
    except ImportError:
        return None
    return zlib_ng


def decoding_errors() -> tuple[type[Exception], ...]:
    """Return what decoders raise for damaged data."""
    found: list[type[Exception]] = [zlib.error, lzma.LZMAError, OSError, EOFError, ValueError, MemoryError]
    igzip = _igzip()
    if igzip is not None:
        found.append(igzip.IsalError)
    zlib_ng = _zlib_ng()
    if zlib_ng is not None:
        found.append(zlib_ng.error)
    try:
        found.append(load_zstd("reading").ZstdError)
    except UsageError:
        pass
    return tuple(found)


def read_over(data: Unpacked, count: int) -> None:
    """Pass over bytes by reading them."""
    while count:
        chunk = data.read(min(count, CHUNK))
        if not chunk:
            raise Damaged(f"it ends {count} bytes early")
        count -= len(chunk)
