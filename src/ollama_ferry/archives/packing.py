"""Turn a run of bytes into one frame: a gzip member, a zstd frame, or the bytes themselves.

A frame is a list of few buffers, to be written one after the other: each one costs a call, after which another thread
may have to be waited for, so what is small is joined. Frames are independent: any number of threads may pack them, and
each can be unpacked alone. The same input gives the same frame on every machine that has the same accelerators.

Sources: RFC 1951 and 1952 (gzip), RFC 8878 (zstd).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Any

from ollama_ferry.archives.kinds import Compression, Kind
from ollama_ferry.archives.zstd_library import load_zstd

Frame = list[bytes]
Packer = Callable[[bytes], Frame]

# RFC 1952: magic, deflate, no flags, no mtime, no extra flags, unknown system: nothing that varies.
GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
"""What every frame of a .tar.gz begins with."""

_STORED_LIMIT = 0xFFFF
# Five-bit and some six-bit weights save 0.2 % at the cost of packing all of them.
_WORTH_IT = 0.01
_PROBE = 32 * 1024
_PROBED_FROM = 256 * 1024
# RFC 8878, 3.1.1.2.4: a block holds at most 128 KiB.
_ZSTD_BLOCK = 128 * 1024
_ZSTD_MAGIC = 0xFD2FB528


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
        return _choosing(lambda data: gzip_member(data, deflate(data)), deflate, stored_gzip, compression)
    if compression is Compression.NONE:
        return stored_zstd
    compress = _zstd(19 if compression is Compression.BEST else 1)
    return _choosing(lambda data: [compress(data)], compress, stored_zstd, compression)


def stored_gzip(data: bytes) -> Frame:
    """Return a gzip member of stored deflate blocks: 5 bytes more for each 64 KiB."""
    view = memoryview(data)
    frame: list[bytes | memoryview] = [GZIP_HEADER]
    last = max(0, (len(data) - 1) // _STORED_LIMIT * _STORED_LIMIT)
    for start in range(0, last + 1, _STORED_LIMIT):
        part = view[start : start + _STORED_LIMIT]
        frame.append(struct.pack("<BHH", start == last, len(part), len(part) ^ 0xFFFF))
        frame.append(part)
    frame.append(_gzip_trailer(data))
    return [b"".join(frame)]


def gzip_member(data: bytes, deflated: bytes) -> Frame:
    """Return a gzip member around an already deflated stream."""
    return [b"".join((GZIP_HEADER, deflated, _gzip_trailer(data)))]


def stored_zstd(data: bytes) -> Frame:
    """Return a zstd frame of raw blocks, its content size given, without a checksum."""
    view = memoryview(data)
    # Single segment, content size in four bytes.
    frame: list[bytes | memoryview] = [struct.pack("<IBI", _ZSTD_MAGIC, 0b1010_0000, len(data))]
    last = max(0, (len(data) - 1) // _ZSTD_BLOCK * _ZSTD_BLOCK)
    for start in range(0, last + 1, _ZSTD_BLOCK):
        part = view[start : start + _ZSTD_BLOCK]
        frame.append((len(part) << 3 | (start == last)).to_bytes(3, "little"))
        frame.append(part)
    return [b"".join(frame)]


def _choosing(pack: Packer, shrink: Callable[[bytes], bytes], store: Packer, compression: Compression) -> Packer:
    """Return a packer that stores the frames which are not worth packing.

    What is not worth it costs its reader too: a stored frame is read ten times as fast. `auto` looks at two parts of
    each frame first: weights are even, and of what is not, a frame that would shrink may be stored.
    """
    limit = 1.0 - _WORTH_IT if compression is Compression.AUTO else 1.0

    def packer(data: bytes) -> Frame:
        if compression is Compression.AUTO and len(data) >= _PROBED_FROM:
            quarter = len(data) // 4
            probes = (data[at : at + _PROBE] for at in (quarter, 3 * quarter))
            if sum(len(shrink(probe)) for probe in probes) > limit * 2 * _PROBE:
                return store(data)
        packed = pack(data)
        return packed if sum(map(len, packed)) < limit * len(data) else store(data)

    return packer


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
