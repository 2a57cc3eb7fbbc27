"""Make tars in many dialects, right ones and odd ones, out of a seeded generator.

Each begins as the files of two models; then headers, records, members, the end and the packing are spoilt in a few
places. Wherever readers may differ in a size, the content between is itself a tar that holds wrong blobs, so that
whoever reads on in the middle of it restores what nobody has checked.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import zlib
from collections.abc import Callable
from functools import partial
from random import Random

from ollama_ferry.archives.index import Frames, Index, IndexedFile, index_bytes
from ollama_ferry.archives.kinds import Kind
from ollama_ferry.archives.members import MemberKind
from ollama_ferry.archives.tar_reading import TarReader
from ollama_ferry.archives.unpacking import unpacked
from ollama_ferry.errors import Damaged
from support.hostile import (
    BLOCK,
    END,
    MADE,
    OTHER,
    base256,
    blob_name,
    empty_members,
    frame_of,
    gzip_of,
    header,
    long_name,
    octal,
    padded,
    pax,
    pax_record,
    sha256,
    zstd_of,
)

POSIX, GNU, V7 = b"ustar\x0000", b"ustar  \0", bytes(8)
WRONG = b"wrong weights"
OURS = [blob_name(MADE.weights), blob_name(MADE.config), MADE.manifest_name, blob_name(OTHER.weights)]
HIDDEN = b"".join(header(name.encode(), len(WRONG)) + padded(WRONG) for name in OURS[:3])

NAMES = [
    b"notes.txt", b"notes.txt/", b"./notes.txt", b"blobs", b"blobs/", b"./", b".", b"", b"manifests/registry.ollama.ai",
    *(name.encode() for name in OURS), *(b"./" + name.encode() for name in OURS),
    *(name.encode() + b"/" for name in OURS),
    b"x" * 100, b"x" * 99, b"y/" * 60 + b"z", b"z" * 256, b"blobs//" + OURS[0].encode()[6:],
    OURS[0].encode() + b"/.", OURS[0].upper().encode(), "blobs/é".encode(), b"a b", b"-x", b"BZh91AY&SY", b"PK\x03\x04",
    b"070707", b"#mtree", b"blobs/._sha256-x", OURS[2].encode() + b"/x", b"manifests",
]  # fmt: skip
KINDS = [
    b"0",
    b"\0",
    b"5",
    b"7",
    b"1",
    b"2",
    b"3",
    b"6",
    b"D",
    b"S",
    b"L",
    b"K",
    b"x",
    b"g",
    b"M",
    b"V",
    b"X",
    b"A",
    b"N",
    b" ",
]
KEYS = [
    b"path", b"size", b"linkpath", b"GNU.sparse.major", b"GNU.sparse.realsize", b"GNU.sparse.name", b"SUN.holesdata",
    b"SCHILY.realsize", b"SCHILY.filetype", b"SCHILY.offset", b"SCHILY.xattr.user.x", b"SCHILY.fflags", b"SCHILY.dev",
    b"LIBARCHIVE.xattr.user.x", b"LIBARCHIVE.creationtime", b"hdrcharset", b"charset", b"comment", b"mtime", b"atime",
    b"ctime", b"uid", b"gid", b"uname", b"gname", b"GNU.volume.filename", b"VENDOR.x", b"RHT.security.selinux",
]  # fmt: skip
NUMBERS = [0, 1, 12, 13, 511, 512, 513, 1024, 1536, 2048, 3072, 4096, 2**33, 2**63 - 1, 2**64 - 512]


def made(random: Random) -> tuple[str, bytes]:
    """Return an archive: what its name ends with, and its bytes."""
    tar = _tar(random)
    extension = random.choice([".tar"] * 6 + [".tar.gz"] * 4 + [".tar.zst"] * 3 + [".tar.xz", ".tar.bz2"])
    data = _PACKERS[extension](random, tar)
    if random.random() < 0.05:
        spoilt = bytearray(data)
        at = random.choice([random.randrange(len(spoilt)), random.randrange(min(600, len(spoilt)))])
        spoilt[at] ^= 1 << random.randrange(8)
        data = bytes(spoilt)
    return extension, data


# -- members


def _tar(random: Random) -> bytes:
    dialect = random.choice([POSIX] * 12 + [GNU] * 12 + [V7])
    prefix = random.choice([b""] * 6 + [b"./", b"models/", b"usr/share/ollama/.ollama/models/", b"y/" * 30])
    parts = []
    for model in [MADE, OTHER][: random.choice([1, 1, 2])]:
        for name, content in model.files.items():
            parts.append(_member(random, dialect, prefix + name.encode(), content))
    if random.random() < 0.3:
        parts.insert(0, header(prefix + b"blobs/", 0, b"5", magic=dialect) if len(prefix) < 90 else b"")
    for _ in range(random.choice([0, 0, 0, 0, 1, 1, 1, 2])):
        parts.insert(random.randrange(len(parts) + 1), _odd(random, dialect))
    if random.random() < 0.2:
        at = random.randrange(len(parts))
        parts[at] = _spoilt(random, parts[at])
    return b"".join(parts) + _end(random)


def _member(random: Random, magic: bytes, name: bytes, content: bytes) -> bytes:
    """Write a member as some tar does."""
    kind = b"\0" if magic == V7 else b"0"
    start, prefix = b"", b""
    if len(name) > 100 or random.random() < 0.08:
        how = random.choice(["L", "x", "prefix"]) if magic != V7 else "L"
        cut = name.find(b"/", max(0, len(name) - 101))
        if how == "prefix" and magic == POSIX and 0 < cut < 155:
            prefix, name = name[:cut], name[cut + 1 :]
        elif how == "x":
            start = pax({b"path": name})
        else:
            start = long_name(name)
    elif random.random() < 0.08:
        start = _records(random)
    size: int | bytes = len(content)
    if random.random() < 0.06:
        size = _size(random, len(content))
    return start + header(name, size, kind, prefix=prefix, magic=magic) + padded(content)


def _size(random: Random, number: int) -> bytes:
    return random.choice(
        [
            octal(number), b"%011o " % number, b"%12o" % number, b"%11o\0" % number, b"%o" % number, b"%o \0" % number,
            base256(number), b"%012o" % number, b"%o\0\0007" % number, b" %o\0 7" % number, b"\0%010o\0" % number,
            b"0o%o" % number, b"%o," % number, b"-%o" % number, b"+%o" % number, b"%d" % number, b"\t%o " % number,
            b"\x80\1" + number.to_bytes(10, "big"), b"\xff" + number.to_bytes(11, "big"),
            b"\xc0" + number.to_bytes(11, "big"),
            b"0000000%o89" % number, base256(-1), bytes(12), b" " * 12,
        ]
    )  # fmt: skip


def _records(random: Random) -> bytes:
    records = [(random.choice(KEYS), _value(random)) for _ in range(random.choice([1, 1, 2, 3]))]
    if random.random() < 0.2:
        records.append((records[0][0], _value(random)))
    content = b"".join(pax_record(key, value) for key, value in records)
    if random.random() < 0.1:
        content = random.choice(
            [content + b"\0", content[:-1], b" " + content, b"0" + content, content + b"junk", content * 2]
        )
    kind = random.choice([b"x", b"x", b"x", b"g", b"X"])
    name = random.choice([b"PaxHeaders/x", b"pax_global_header", b"", OURS[0].encode(), b"x" * 100, b"notes"])
    return header(name, len(content), kind, magic=random.choice([POSIX, POSIX, GNU, V7])) + padded(content)


def _value(random: Random) -> bytes:
    return random.choice(
        [
            random.choice(NAMES), b"%d" % random.choice(NUMBERS), b"%d" % len(MADE.weights), b"1700000000.5", b"-1.5",
            b"", b"0", b"1", b" 1", b"0x10", b"1e3", b"\xff\xfe", b"a\0b", b"a\nb", b"a\n20 path=blobs/evil\n",
            b"binary", b"BINARY",
            b"9" * 30, b"10.", b".5", b"root", b"uchg", b"dir", b"1 2 3", b"YQ==", OURS[0].encode(),
        ]
    )  # fmt: skip


def _odd(random: Random, magic: bytes) -> bytes:
    """Return a member that has nothing to do with the models, or tells lies about them."""
    name = random.choice(NAMES)
    content = random.choice([b"", b"x", HIDDEN, MADE.weights, WRONG, padded(WRONG) + HIDDEN])
    how = random.randrange(12)
    if how == 0:
        return header(name, len(content), random.choice(KINDS), magic=magic) + padded(content)
    if how == 1:
        return header(name, len(content), b"0", magic=magic, link=random.choice(NAMES)) + padded(content)
    if how == 2:
        return header(name, _size(random, len(content)), random.choice([b"0", b"0", b"5"]), magic=magic) + padded(
            content
        )
    if how == 3:
        names = [
            long_name(random.choice(NAMES), random.choice([b"L", b"L", b"K"])) for _ in range(random.choice([1, 1, 2]))
        ]
        return b"".join(names) + header(name, len(content), magic=magic) + padded(content)
    if how == 4:
        return (
            b"".join(_records(random) for _ in range(random.choice([1, 1, 2])))
            + header(name, len(content), magic=magic)
            + padded(content)
        )
    if how == 5:
        both = [_records(random), long_name(random.choice(NAMES))]
        random.shuffle(both)
        return b"".join(both) + header(name, len(content), magic=magic) + padded(content)
    if how == 6:
        return header(
            name,
            len(content),
            prefix=random.choice(NAMES),
            magic=random.choice([POSIX, GNU, V7, b"ustar\0\0\0", b"ustar   "]),
        ) + padded(content)
    if how == 7:
        return bytes(BLOCK * random.choice([1, 1, 2, 3]))
    if how == 8:
        return _spoilt(random, header(name, len(content), magic=magic) + padded(content))
    if how == 9:
        return header(name, len(content), b"0", magic=magic) + padded(content)
    if how == 10:
        # The same file again, in another spelling perhaps, with the same content or another one.
        ours = random.choice([MADE, OTHER])
        again, right = random.choice(list(ours.files.items()))
        spelt = random.choice(
            [
                again,
                "./" + again,
                again.replace("/", "//"),
                "models/" + again,
                again.upper(),
                "x/../" + again,
                "/" + again,
            ]
        )
        return header(spelt.encode()[:100], len(right), magic=magic) + padded(
            random.choice([right, right, bytes(len(right))])
        )
    text = random.choice([b"x\0y\0", b"x\0\0", b"", b"\0", b"blobs/x" * 20, OURS[0].encode()])
    return (
        header(b"././@LongLink", len(text), b"L", magic=GNU)
        + padded(text)
        + header(name, len(content), magic=magic)
        + padded(content)
    )


def _spoilt(random: Random, member: bytes) -> bytes:
    """Write something into a field of a header, and mend its sum, mostly."""
    fields = [(0, 100), (100, 8), (108, 8), (116, 8), (124, 12), (136, 12), (148, 8), (156, 1), (157, 100), (257, 8),
              (265, 32), (297, 32), (329, 8), (337, 8), (345, 155), (345, 12), (386, 24), (482, 13), (475, 25), (495,
              17), (500, 12)]  # fmt: skip
    made = bytearray(member)
    blocks = [at for at in range(0, len(made), BLOCK) if made[at + 257 : at + 262] == b"ustar" or at == 0]
    begin = random.choice(blocks) if blocks else 0
    at, length = random.choice(fields)
    value = random.choice(
        [
            b"\0" * length, b" " * length, b"7" * length, b"0000644", b"0000000",
            b"\x80" + b"\0" * (length - 2) + b"\1", b"\xff" * length,
            b"xyz", b"1", b"\0x", b"%o\0" % random.choice(NUMBERS), b"%o " % random.choice(NUMBERS),
            bytes([random.randrange(256)]),
            random.choice(NAMES), b"0000000 \0 0", b"-1", b"0100644\0", b"0000000\0junk", b"ustar\0\0\0",
            b"ustar  \0", random.choice(KINDS),
        ]
    )  # fmt: skip
    if random.random() < 0.5:
        value = value[:length].ljust(length, b"\0")
    where = begin + at + (random.randrange(length) if len(value) == 1 else 0)
    made[where : where + min(len(value), length)] = value[:length]
    if at == 148 and random.random() < 0.8:
        total = sum(made[begin : begin + 148]) + sum(made[begin + 156 : begin + BLOCK]) + 256
        signed = total - 256 * sum(b > 127 for b in (*made[begin : begin + 148], *made[begin + 156 : begin + BLOCK]))
        forms = [b"%06o\0 " % total, b"%07o\0" % total, b"%06o \0" % total, b"%6o\0 " % total, b"%08o" % total,
        b"%o" % total,
                 b"%07o " % total, b" %06o\0" % total, b"%6o \0" % total, b"%06o\0 " % max(0, signed),
                 b"%06o\0x" % total]  # fmt: skip
        made[begin + 148 : begin + 156] = random.choice(forms)[:8].ljust(8, b"\0")
    elif random.random() < 0.95:
        made[begin + 148 : begin + 156] = b" " * 8
        made[begin + 148 : begin + 156] = b"%06o\0 " % sum(made[begin : begin + BLOCK])
    return bytes(made)


def _end(random: Random) -> bytes:
    if random.random() < 0.85:
        return END + bytes(random.choice([0, 0, 512, 8 * 1024]))
    return random.choice(
        [
            b"", bytes(BLOCK), bytes(100), END + HIDDEN + END, bytes(BLOCK) + HIDDEN + END, END + b"junk",
            END + HIDDEN, END + OTHER.tar(),
            END + bytes(100), END + b"x" * BLOCK, bytes(3 * BLOCK) + HIDDEN, END + bytes(20 * 1024) + HIDDEN + END,
        ]
    )  # fmt: skip


# -- packing


def _cut(random: Random, data: bytes) -> list[bytes]:
    """Cut data into parts for members of their own, with hidden ones between."""
    cuts = sorted(random.randrange(len(data) + 1) for _ in range(random.choice([0, 0, 1, 2])))
    return [data[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def _indexed(random: Random, data: bytes, pack: Callable[[bytes], bytes], kind: Kind) -> bytes:
    """Return an archive with an index, which tells the truth but for a frame that hides others, or a file not told."""
    frames, found, packed = [part for part in _cut(random, data) if part] or [b"x"], Frames(), []
    for part in frames:
        frame = pack(part)
        if random.random() < 0.15:
            frame += random.choice([pack(HIDDEN) + frame, b"junk" + frame, frame, bytes(9)])
        found.add(len(frame), len(part), zlib.crc32(frame))
        packed.append(frame)
    files = []
    try:
        reader = TarReader(unpacked(io.BytesIO(data), ""), lenient=True)
        for member in reader:
            if member.kind is MemberKind.FILE:
                content = b"".join(iter(partial(reader.read, 65536), b""))
                path = member.name.encode("utf-8", "replace").decode()
                files.append(IndexedFile(path, member.size, member.offset, sha256(content)))
    except Damaged:
        pass
    if files and random.random() < 0.15:
        files.pop(random.randrange(len(files)))
    return b"".join(packed) + index_bytes(Index(tuple(files), found), kind, "fuzz")


def _gzip(random: Random, data: bytes) -> bytes:
    if random.random() < 0.3:
        return _indexed(random, data, frame_of, Kind.TAR_GZ)
    made = []
    for part in _cut(random, data):
        member = gzip_of(part)
        if random.random() < 0.25:
            flags = random.choice([4, 8, 16, 4 | 8 | 16, 2, 2 | 4, 1, 32, 64, 128, 8 | 2])
            extra = random.choice([b"", b"OF\2\0ab", b"x" * 16_000, b"x" * 30_000, b"x" * 65_535])
            text = random.choice([b"name\0", b"\0", b"n" * 3000 + b"\0", b"n" * 100_000 + b"\0", b"\xff\n/\0"])
            head = (
                b"\x1f\x8b\x08"
                + bytes([flags])
                + struct.pack("<IBB", random.choice([0, 2**31]), random.choice([0, 2, 255]), random.choice([0, 3, 255]))
            )
            head += (
                (struct.pack("<H", len(extra)) + extra if flags & 4 else b"")
                + (text if flags & 8 else b"")
                + (text if flags & 16 else b"")
            )
            if flags & 2:
                head += struct.pack("<H", (zlib.crc32(head) + random.choice([0, 1])) & 0xFFFF)
            member = head + member[10:]
        made.append(member)
        if random.random() < 0.06:
            made.append(
                random.choice(
                    [
                        bytes(1),
                        bytes(512),
                        b"\x1f",
                        b"junk",
                        b"\x1f\x8b\x08",
                        gzip_of(HIDDEN),
                        gzip_of(b""),
                        empty_members(b"x" * 100),
                        gzip.compress(HIDDEN),
                    ]
                )
            )
    return b"".join(made)


def _zstd(random: Random, data: bytes) -> bytes:
    if random.random() < 0.3:
        return _indexed(random, data, zstd_of, Kind.TAR_ZST)
    made = []
    for part in _cut(random, data):
        made.append(zstd_of(part))
        if random.random() < 0.1:
            skipped = random.choice([b"", b"abc", HIDDEN, zstd_of(HIDDEN)])
            made.append(
                random.choice(
                    [
                        struct.pack("<II", 0x184D2A50 + random.randrange(16), len(skipped)) + skipped, bytes(1),
                        bytes(512), b"junk", zstd_of(HIDDEN),
                        zstd_of(b""), b"\x28\xb5\x2f\xfd", struct.pack("<II", 0x184D2A50, 500),
                    ]
                )
            )  # fmt: skip
    if random.random() < 0.05:
        made.insert(0, struct.pack("<II", 0x184D2A50 + random.randrange(16), 3) + b"abc")
    return b"".join(made)


def _xz(random: Random, data: bytes) -> bytes:
    check = random.choice([lzma.CHECK_CRC64] * 3 + [lzma.CHECK_CRC32, lzma.CHECK_SHA256, lzma.CHECK_NONE])
    filters: list[dict[str, int]] = [{"id": lzma.FILTER_LZMA2, "preset": 0}]
    if random.random() < 0.2:
        filters.insert(0, {"id": random.choice([lzma.FILTER_X86, lzma.FILTER_DELTA, lzma.FILTER_ARM])})
    made = []
    for part in _cut(random, data):
        made.append(lzma.compress(part, check=check, filters=filters))
        if random.random() < 0.1:
            made.append(random.choice([bytes(4), bytes(1), b"junk", lzma.compress(b""), lzma.compress(HIDDEN)]))
    return b"".join(made)


def _bzip2(random: Random, data: bytes) -> bytes:
    made = []
    for part in _cut(random, data):
        made.append(bz2.compress(part, 1))
        if random.random() < 0.1:
            made.append(random.choice([bytes(4), b"junk", bz2.compress(b""), bz2.compress(HIDDEN)]))
    return b"".join(made)


_PACKERS: dict[str, Callable[[Random, bytes], bytes]] = {
    ".tar": lambda random, data: data,
    ".tar.gz": _gzip,
    ".tar.zst": _zstd,
    ".tar.xz": _xz,
    ".tar.bz2": _bzip2,
}
