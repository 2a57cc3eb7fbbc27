"""Turn a run of bytes into one frame: a gzip member, a zstd frame, or the bytes themselves.

A frame is a list of buffers, to be written one after the other, in one call where that can be. Of what is stored they
are parts of the bytes that came in: nothing is copied. Frames are independent: any number of threads may pack them, and
each can be unpacked alone. The same input gives the same frame on every machine that has the same accelerators.

Sources: RFC 1951 and 1952 (gzip), RFC 8878 (zstd).
"""

from __future__ import annotations

import struct
import threading
import zlib
from collections.abc import Callable
from typing import Any

from ollama_ferry.archives.kinds import Compression, Kind
from ollama_ferry.archives.stored_frames import (
    GZIP,
    GZIP_HEADER,
    ZSTD,
    ZSTD_DESCRIPTOR,
    ZSTD_HEADER,
    ZSTD_MAGIC,
    gzip_block_head,
    zstd_block_head,
)
from ollama_ferry.archives.zstd_library import load_zstd

Frame = list[bytes | memoryview]
Packer = Callable[[bytes], Frame]

# What packing has to leave of a frame at most. `auto` counts what both ends pay: 4-bit weights shrink by 4.5 % and take
# three times as long, 16-bit ones by 8 to 22 %. `fast` is for slow sticks and lines, where time is bytes.
_WORTH_IT = {Compression.AUTO: 0.93, Compression.FAST: 0.99}
# A part is off by a little: what is near the limit is packed, and then decided on.
_IN_DOUBT = 0.003
_PROBE = 16 * 1024
_PROBED_FROM = 256 * 1024


def packer(kind: Kind, compression: Compression) -> Packer:
    """Choose how frames are packed.

    Raises:
        UsageError: zstd is wanted and neither Python nor a package has it.
    """
    if kind is Kind.TAR:
        return lambda data: [data]
    if kind is Kind.TAR_GZ:
        if compression is Compression.NONE:
            return stored_gzip
        deflate = _deflate_best if compression is Compression.BEST else _fast_deflate()
        return ChoosingPacker(lambda data: gzip_member(data, deflate(data)), deflate, stored_gzip, compression)
    if compression is Compression.NONE:
        return stored_zstd
    compress = _zstd(19 if compression is Compression.BEST else 1)
    return ChoosingPacker(lambda data: [compress(data)], compress, stored_zstd, compression)


class ChoosingPacker:
    """Stores the frames that are not worth packing.

    What is not worth it costs its reader too: a stored frame is read ten times as fast. `auto` and `fast` look at two
    parts of a frame first: weights are even, and of what is not, a frame that would shrink may be stored.

    Args:
        pack: packs a frame.
        shrink: what it does to the content.
        store: makes a frame of content as it is.
        compression: how much has to be saved.

    Attributes:
        stored: the bytes of content that were stored.
        foregone: the bytes that packing these would have saved, about.
    """

    def __init__(self, pack: Packer, shrink: Callable[[bytes], bytes], store: Packer, compression: Compression) -> None:
        self.stored = 0
        self.foregone = 0
        self._pack, self._shrink, self._store = pack, shrink, store
        self._limit = _WORTH_IT.get(compression, 1.0)
        self._probes = compression in _WORTH_IT
        self._counting = threading.Lock()

    def __call__(self, data: bytes) -> Frame:
        if self._probes and len(data) >= _PROBED_FROM:
            quarter = len(data) // 4
            probes = (data[at : at + _PROBE] for at in (quarter, 3 * quarter))
            left = sum(len(self._shrink(probe)) for probe in probes) / (2 * _PROBE)
            if left > self._limit + _IN_DOUBT:
                return self._stored(data, left)
        packed = self._pack(data)
        left = sum(map(len, packed)) / len(data)
        return packed if left < self._limit else self._stored(data, left)

    def _stored(self, data: bytes, left: float) -> Frame:
        with self._counting:
            self.stored += len(data)
            self.foregone += int(len(data) * max(0.0, 1 - left))
        return self._store(data)


def stored_gzip(data: bytes) -> Frame:
    """Return a gzip member of stored deflate blocks: 5 bytes more for each 64 KiB."""
    view = memoryview(data)
    frame: Frame = [GZIP_HEADER]
    for start, end, last in GZIP.parts(len(data)):
        frame += [gzip_block_head(end - start, last=last), view[start:end]]
    frame.append(_gzip_trailer(data))
    return frame


def gzip_member(data: bytes, deflated: bytes) -> Frame:
    """Return a gzip member around an already deflated stream."""
    return [b"".join((GZIP_HEADER, deflated, _gzip_trailer(data)))]


def stored_zstd(data: bytes) -> Frame:
    """Return a zstd frame of raw blocks, its content size given, without a checksum."""
    view = memoryview(data)
    frame: Frame = [ZSTD_HEADER.pack(ZSTD_MAGIC, ZSTD_DESCRIPTOR, len(data))]
    for start, end, last in ZSTD.parts(len(data)):
        frame += [zstd_block_head(end - start, last=last), view[start:end]]
    return frame


def _gzip_trailer(data: bytes) -> bytes:
    return struct.pack("<II", crc32(data), len(data) & 0xFFFFFFFF)


def _load_isal() -> Any:
    try:
        from isal import igzip_lib, isal_zlib
    except ImportError:
        return None
    return igzip_lib, isal_zlib


_isal = _load_isal()
crc32: Callable[..., int] = _isal[1].crc32 if _isal else zlib.crc32


def accelerated() -> bool:
    """Return whether gzip frames are packed by isal rather than by zlib."""
    return _isal is not None


def _fast_deflate() -> Callable[[bytes], bytes]:
    if _isal is None:
        return _deflate_zlib_fast
    igzip = _isal[0]
    level, flag, memory = 1, igzip.COMP_DEFLATE, igzip.MEM_LEVEL_EXTRA_LARGE

    def deflate(data: bytes) -> bytes:
        packed: bytes = igzip.compress(data, level, flag, memory)
        return packed

    return deflate


def _deflate_zlib_fast(data: bytes) -> bytes:
    # Weights have no repeats worth finding: Huffman coding alone is nearly all of the gain, and twice as fast.
    deflater = zlib.compressobj(1, zlib.DEFLATED, -15, 9, zlib.Z_HUFFMAN_ONLY)
    return deflater.compress(data) + deflater.flush()


def _deflate_best(data: bytes) -> bytes:
    try:
        import deflate
    except ImportError:
        deflater = zlib.compressobj(9, zlib.DEFLATED, -15, 9)
        return deflater.compress(data) + deflater.flush()
    packed: bytes = bytes(deflate.deflate_compress(data, 12))
    return packed


def _zstd(level: int) -> Callable[[bytes], bytes]:
    """Return a compressor of whole frames: content size and checksum in each."""
    zstd = load_zstd("writing a .tar.zst")
    parameter = zstd.CompressionParameter
    options = {parameter.compression_level: level, parameter.checksum_flag: 1}

    def compress(data: bytes) -> bytes:
        packed: bytes = zstd.compress(data, options=options)
        return packed

    return compress
