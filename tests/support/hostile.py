"""Build hostile archives by hand: nothing of the code under test is used, and hardly anything of a library.

Sources: POSIX.1-2017 ``pax`` (ustar and pax headers), the GNU tar manual ("Basic Tar Format"), RFC 1951/1952 (gzip),
RFC 8878 (zstd), the xz file format 1.1.0, PKWARE's APPNOTE 6.3.10 (zip).
"""

from __future__ import annotations

import bz2
import functools
import hashlib
import json
import lzma
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

BLOCK = 512
MIB = 1024 * 1024
END = bytes(2 * BLOCK)


# -- tar


def octal(number: int, width: int = 12) -> bytes:
    """Write a number as a header has it: octal digits and a NUL."""
    return b"%0*o\0" % (width - 1, number)


def base256(number: int, width: int = 12) -> bytes:
    """Write a number in GNU's binary form; negative ones too."""
    if number < 0:
        return int(256**width + number).to_bytes(width, "big")
    found: int = number | 1 << (8 * width - 1)
    return found.to_bytes(width, "big")


def header(
    name: bytes,
    size: int | bytes = 0,
    kind: bytes = b"0",
    *,
    link: bytes = b"",
    prefix: bytes = b"",
    magic: bytes = b"ustar\x0000",
    wrong_sum: bool = False,
) -> bytes:
    """Return one header block with a right sum, whatever it says."""
    field = octal(size) if isinstance(size, int) else size.ljust(12, b"\0")
    block = bytearray(BLOCK)
    block[:100] = name[:100].ljust(100, b"\0")
    block[100:124] = (b"0000755" if kind == b"5" else b"0000644") + b"\x000000000\x000000000\x00"
    block[124:136] = field
    block[136:148] = octal(1_700_000_000)
    block[148:156] = b" " * 8
    block[156:157] = kind
    block[157:257] = link[:100].ljust(100, b"\0")
    block[257:265] = magic
    block[345:500] = prefix[:155].ljust(155, b"\0")
    block[148:156] = b"%06o\0 " % (sum(block) + wrong_sum)
    return bytes(block)


def padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % BLOCK)


def member(name: bytes | str, content: bytes = b"", kind: bytes = b"0", *, link: bytes = b"") -> bytes:
    """Return header, content and padding; a name that is too long gets a GNU long name before it."""
    raw = name.encode() if isinstance(name, str) else name
    start = long_name(raw) if len(raw) > 100 else b""
    return start + header(raw, len(content), kind, link=link) + padded(content)


def long_name(name: bytes, kind: bytes = b"L") -> bytes:
    """Return a GNU long name (``L``) or long link (``K``) for the member that follows."""
    content = name + b"\0"
    return header(b"././@LongLink", len(content), kind, magic=b"ustar  \0") + padded(content)


def pax_record(key: bytes, value: bytes) -> bytes:
    length = len(key) + len(value) + 3
    while len(b"%d" % length) + len(key) + len(value) + 3 != length:
        length = len(b"%d" % length) + len(key) + len(value) + 3
    return b"%d %s=%s\n" % (length, key, value)


def pax(records: dict[bytes, bytes], kind: bytes = b"x") -> bytes:
    """Return a PAX header for the member that follows (``x``), or for all that follow (``g``)."""
    content = b"".join(pax_record(key, value) for key, value in records.items())
    return header(b"PaxHeaders/x", len(content), kind) + padded(content)


# -- models


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def blob_name(content: bytes) -> str:
    return f"blobs/sha256-{sha256(content)}"


@dataclass(frozen=True)
class Model:
    """A model's files as an archive has them; ``replace`` makes a wrong one of it."""

    manifest: bytes
    config: bytes
    weights: bytes
    tag: str = "hostile"

    @property
    def manifest_name(self) -> str:
        return f"manifests/registry.ollama.ai/library/made/{self.tag}"

    @property
    def files(self) -> dict[str, bytes]:
        return {
            blob_name(self.config): self.config,
            blob_name(self.weights): self.weights,
            self.manifest_name: self.manifest,
        }

    def tar(self, *, before: bytes = b"", between: bytes = b"", after: bytes = b"", end: bytes = END) -> bytes:
        """Return a tar of the model with further bytes before, between blobs and manifest, and behind."""
        blobs = member(blob_name(self.config), self.config) + member(blob_name(self.weights), self.weights)
        return before + blobs + between + member(self.manifest_name, self.manifest) + after + end

    def with_manifest(self, manifest: bytes) -> Model:
        return replace(self, manifest=manifest)


def entry(content: bytes, kind: str, *, digest: str = "", size: object = None) -> dict[str, object]:
    """Return what a manifest says of a blob, or of another than that."""
    return {
        "mediaType": f"application/vnd.ollama.image.{kind}",
        "digest": digest or f"sha256:{sha256(content)}",
        "size": len(content) if size is None else size,
    }


def manifest(config: dict[str, object] | None, layers: Sequence[dict[str, object]]) -> bytes:
    return json.dumps({"schemaVersion": 2, "config": config, "layers": list(layers)}).encode()


def made_model(weights: bytes = b"weights " * 300, tag: str = "hostile") -> Model:
    """Return a model with which nothing is wrong."""
    config = b'{"model_format":"gguf"}'
    return Model(manifest(entry(config, "config"), [entry(weights, "model")]), config, weights, tag)


def model_with(weights_entry: dict[str, object], weights: bytes = b"weights " * 300) -> Model:
    """Return a model whose manifest says something else of its weights."""
    made = made_model(weights)
    return made.with_manifest(manifest(entry(made.config, "config"), [weights_entry]))


MADE = made_model()
OTHER = made_model(b"others  " * 300, "other")


# -- gzip, zstd, xz, bzip2


def gzip_of(data: bytes, level: int = 1) -> bytes:
    deflater = zlib.compressobj(level, zlib.DEFLATED, 31)
    return deflater.compress(data) + deflater.flush()


EMPTY_GZIP = b"\x1f\x8b\x08\0\0\0\0\0\0\xff\x03\0\0\0\0\0\0\0\0\0"


def gzip_bomb(start: bytes, zeros: int, end: bytes = b"") -> bytes:
    """Return a gzip file of some bytes, that many MiB of zeros at a thousandth of their size, and some more bytes."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    begin = deflater.compress(start) + deflater.flush(zlib.Z_FULL_FLUSH)
    once = deflater.compress(bytes(MIB)) + deflater.flush(zlib.Z_FULL_FLUSH)
    last = deflater.compress(end) + deflater.flush()
    crc = zlib.crc32(start)
    if zeros <= 8192:
        mib = bytes(MIB)
        for _ in range(zeros):
            crc = zlib.crc32(mib, crc)
    crc = zlib.crc32(end, crc)
    length = (len(start) + zeros * MIB + len(end)) & 0xFFFFFFFF
    return EMPTY_GZIP[:10] + begin + once * zeros + last + struct.pack("<II", crc, length)


def zstd_of(data: bytes) -> bytes:
    """Return a zstd frame of raw blocks."""
    frame = [struct.pack("<IBI", 0xFD2FB528, 0xA0, len(data))]
    for at in range(0, max(1, len(data)), 128 * 1024):
        part = data[at : at + 128 * 1024]
        frame.append((len(part) << 3 | (at + len(part) >= len(data))).to_bytes(3, "little") + part)
    return b"".join(frame)


def zstd_zeros(mib: int, window_log: int = 17) -> bytes:
    """Return a zstd frame that unpacks to zeros: four bytes for each 128 KiB."""
    block = (128 * 1024 << 3 | 1 << 1).to_bytes(3, "little") + b"\0"
    last = (0 << 3 | 1).to_bytes(3, "little")
    return struct.pack("<IBB", 0xFD2FB528, 0, (window_log - 10) << 3) + block * (8 * mib) + last


def bzip2_zeros(mib: int) -> bytes:
    """Return bzip2 members that unpack to zeros, at a millionth of their size."""
    return _bzip2_of_zeros() * -(-mib // 64)


@functools.cache
def _bzip2_of_zeros() -> bytes:
    packer = bz2.BZ2Compressor()
    return b"".join([*(packer.compress(bytes(MIB)) for _ in range(64)), packer.flush()])


def xz_with_dictionary(data: bytes, size_code: int) -> bytes:
    """Return an xz file whose header asks for a dictionary of another size; 40 is 4 GiB."""
    packed = bytearray(lzma.compress(data, lzma.FORMAT_XZ, filters=[{"id": lzma.FILTER_LZMA2, "preset": 0}]))
    # The stream header has 12 bytes; in the block header come its size, its flags, and the filter: 0x21, 1, dictionary.
    length = (packed[12] + 1) * 4
    assert packed[14:16] == b"\x21\x01"
    packed[16] = size_code
    packed[12 + length - 4 : 12 + length] = struct.pack("<I", zlib.crc32(packed[12 : 12 + length - 4]))
    return bytes(packed)


# -- the index behind a packed archive (docs/archive-format.md)


def index_of(head: bytes, frames: Sequence[tuple[int, int, int]] | bytes, *, begin: int | None = None) -> bytes:
    """Return an index in empty gzip members, with right sums, whatever it says.

    Args:
        head: the text.
        frames: length packed, length unpacked and CRC-32 of each; or the table as it is.
        begin: where the tail says that the index begins; None is behind the frames.
    """
    table = frames if isinstance(frames, bytes) else b"".join(struct.pack("<III", *frame) for frame in frames)
    payload = b"OFINDEX1" + struct.pack("<II", len(head), len(table) // 12) + head + table
    payload += hashlib.sha256(payload).digest()
    if begin is None:
        begin = sum(struct.unpack_from("<I", table, at)[0] for at in range(0, len(table), 12))
    return empty_members(payload) + tail_of(begin, len(payload))


def empty_members(payload: bytes) -> bytes:
    return b"".join(_empty_member(payload[at : at + 15_900]) for at in range(0, len(payload), 15_900))


def tail_of(begin: int, size: int) -> bytes:
    """Return the last member of an indexed gzip archive, which says where the index begins and how long it is."""
    return _empty_member(struct.pack("<8sQQ", b"OFTAIL01", begin, size))


def _empty_member(content: bytes) -> bytes:
    field = b"OF" + struct.pack("<H", len(content)) + content
    return b"\x1f\x8b\x08\x04\0\0\0\0\0\xff" + struct.pack("<H", len(field)) + field + b"\x03\0" + bytes(8)


def frame_of(data: bytes) -> bytes:
    """Return a gzip member as export writes frames: nothing in its header."""
    deflater = zlib.compressobj(1, zlib.DEFLATED, -15)
    return (
        EMPTY_GZIP[:10] + deflater.compress(data) + deflater.flush() + struct.pack("<II", zlib.crc32(data), len(data))
    )


def index_head(model: Model, data: bytes, **other: object) -> dict[str, object]:
    """Return what the index of a tar of a model says."""
    files = []
    for name, content in model.files.items():
        at = data.find(header(name.encode(), len(content))) if len(name) <= 100 else -1
        files.append([name, len(content), at + BLOCK, sha256(content)])
    return {"writer": "x", "unpacked": len(data), "files": files, **other}


def index_text(head: dict[str, object]) -> bytes:
    """Return what :func:`index_head` says in the form of the index: a line for the writer, then one a file."""
    lines = [f"{head['writer']} {head['unpacked']}".encode("utf-8", "surrogateescape")]
    for name, size, offset, digest in head["files"]:  # type: ignore[attr-defined]
        lines.append(f"{size} {offset} {digest} {name}".encode("utf-8", "surrogateescape"))
    return b"".join(line + b"\n" for line in lines)


# -- zip


@dataclass(frozen=True)
class ZipEntry:
    """One file of a zip; what is None is told as it is, anything else is a lie.

    Attributes:
        name: as it stands in both headers.
        content: before packing.
        deflated: whether it is packed; else it is stored.
        method: the number of the method that the headers name.
        flags: general purpose bits.
        mode: the Unix mode, in the upper half of the external attributes.
        size, packed_size, crc: what both headers say.
        local_size, local_name: what the local header says, if something else.
        offset: where the directory says that the local header is.
        extra, local_extra: the extra fields of the directory and of the local header.
        made_by, needs: the systems and versions that the directory and both headers name.
        attributes: all external ones, instead of the mode.
    """

    name: bytes
    content: bytes = b""
    deflated: bool = False
    method: int | None = None
    flags: int = 0
    mode: int = 0o100644
    size: int | None = None
    packed_size: int | None = None
    crc: int | None = None
    local_size: int | None = None
    local_name: bytes | None = None
    offset: int | None = None
    extra: bytes = b""
    local_extra: bytes = b""
    made_by: int = 0x031E
    needs: int = 20
    attributes: int | None = None


def zip_of(
    entries: Iterable[ZipEntry],
    *,
    before: bytes = b"",
    directory_size: int | None = None,
    directory_offset: int | None = None,
    comment: bytes = b"",
    zip64: tuple[int, int] | None = None,
) -> bytes:
    """Return a zip.

    Args:
        entries: its files.
        before: bytes before the first.
        directory_size, directory_offset: what the end record says instead of the truth.
        comment: of the archive.
        zip64: size and offset of the directory that a zip64 end record gives.
    """
    parts, directory = [before], []
    position = len(before)
    for one in entries:
        packed = one.content
        if one.deflated:
            deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
            packed = deflater.compress(one.content) + deflater.flush()
        method = (8 if one.deflated else 0) if one.method is None else one.method
        crc = zlib.crc32(one.content) if one.crc is None else one.crc
        size = len(one.content) if one.size is None else one.size
        packed_size = len(packed) if one.packed_size is None else one.packed_size
        local_name = one.name if one.local_name is None else one.local_name
        local_size = size if one.local_size is None else one.local_size
        local = struct.pack(
            "<IHHHHHIIIHH",
            0x04034B50,
            one.needs,
            one.flags,
            method,
            0,
            0x21,
            crc,
            packed_size,
            local_size,
            len(local_name),
            len(one.local_extra),
        )
        directory.append(
            struct.pack(
                "<IHHHHHHIIIHHHHHII",
                0x02014B50,
                one.made_by,
                one.needs,
                one.flags,
                method,
                0,
                0x21,
                crc,
                packed_size,
                size,
                len(one.name),
                len(one.extra),
                0,
                0,
                0,
                one.mode << 16 if one.attributes is None else one.attributes,
                position if one.offset is None else one.offset,
            )
            + one.name
            + one.extra
        )
        parts += [local, local_name, one.local_extra, packed]
        position += len(local) + len(local_name) + len(one.local_extra) + len(packed)
    whole = b"".join(directory)
    parts.append(whole)
    count = min(len(directory), 0xFFFF)
    if zip64 is not None:
        record = struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, count, count, *zip64)
        parts += [record, struct.pack("<IIQI", 0x07064B50, 0, position + len(whole), 1)]
    size = len(whole) if directory_size is None else directory_size
    offset = position if directory_offset is None else directory_offset
    parts.append(struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, count, count, size, offset, len(comment)) + comment)
    return b"".join(parts)


def zip_entries(model: Model, *, deflated: bool = True) -> list[ZipEntry]:
    """Return a model's files as a zip has them."""
    return [ZipEntry(name.encode(), content, deflated) for name, content in model.files.items()]
