"""Zips made to do harm."""

from __future__ import annotations

import os
import struct
from typing import Any

import pytest

from support.arena import (
    MEMORY_LIMIT,
    OF_CONFIG,
    SMALL_BLOB,
    WRONG_NAMES,
    A,
    Arena,
    assert_imported,
    assert_one_clear_error,
    assert_refused,
    needs_proc,
)
from support.hostile import (
    MADE,
    MIB,
    OTHER,
    ZipEntry,
    entry,
    manifest,
    sha256,
    zip_entries,
    zip_of,
)


def wrong_zips() -> dict[str, bytes]:
    config, weights, manifest_entry = zip_entries(MADE)
    good = zip_of(zip_entries(MADE))
    changed: dict[str, dict[str, Any]] = {
        "encrypted": {"flags": 1},
        "strongly encrypted": {"flags": 0x41},
        "patched": {"flags": 0x20},
        "unknown method": {"method": 99},
        "bzip2": {"method": 12},
        "lzma": {"method": 14},
        "deflate64": {"method": 9},
        "larger size": {"size": len(MADE.weights) + 1},
        "smaller size": {"size": len(MADE.weights) - 1},
        "size of nothing": {"size": 0},
        "size of 4 GiB": {"size": 0xFFFFFFFE},
        "packed size of nothing": {"packed_size": 0},
        "packed size of 4 GiB": {"packed_size": 0xFFFFFFFE},
        "wrong sum": {"crc": 1},
        "another name in the local header": {"local_name": b"../outside/evil"},
        "local header elsewhere": {"offset": 1},
        "local header at the end": {"offset": len(good) - 1},
        "local header behind the end": {"offset": 0xFFFFFFF0},
        "local header of another file": {"offset": 0},
        "local header at 2^64": {"offset": 0xFFFFFFFF, "extra": struct.pack("<HHQ", 1, 8, 2**64 - 1)},
        "local header at 2^63": {"offset": 0xFFFFFFFF, "extra": struct.pack("<HHQ", 1, 8, 2**63)},
        "local header at 2^62": {"offset": 0xFFFFFFFF, "extra": struct.pack("<HHQ", 1, 8, 2**62)},
        "zip64 size of 2^64": {"size": 0xFFFFFFFF, "extra": struct.pack("<HHQ", 1, 8, 2**64 - 1)},
        "zip64 packed size of 2^64": {"packed_size": 0xFFFFFFFF, "extra": struct.pack("<HHQ", 1, 8, 2**64 - 1)},
        "zip64 field that is cut": {"size": 0xFFFFFFFF, "extra": struct.pack("<HHI", 1, 4, 1)},
        "extra field that is cut": {"extra": struct.pack("<HH", 1, 200)},
        "symbolic link": {"mode": 0o120777},
        "device": {"mode": 0o020666},
        "fifo": {"mode": 0o010666},
        "socket": {"mode": 0o140666},
        "folder": {"mode": 0o040755},
        "name in UTF-8 that is none": {"name": b"blobs/\xff\xfe", "flags": 0x800},
    }
    found: dict[str, bytes] = {}
    for what, fields in changed.items():
        for whose, index in (("weights", 1), ("manifest", 2)):
            if "size" in fields and whose == "manifest" and "smaller" not in what and "larger" not in what:
                continue
            entries = [config, weights, manifest_entry]
            base = vars(entries[index])
            wrong: dict[str, Any] = dict(fields)
            if whose == "manifest" and what in ("larger size", "smaller size"):
                wrong = {"size": len(MADE.manifest) + (1000 if what == "larger size" else -1)}
            entries[index] = ZipEntry(**{**base, **wrong})
            found[f"{whose}: {what}"] = zip_of(entries)
    for what, name in WRONG_NAMES.items():
        found[f"name: {what}"] = zip_of([ZipEntry(name, b"evil", flags=_utf8_flag(name)), *zip_entries(MADE)])
    found["name: NUL"] = zip_of([ZipEntry(b"blobs/x\0../../outside/evil"), *zip_entries(MADE)])
    found["name: blob with NUL"] = zip_of([ZipEntry(weights.name + b"\0", b"evil"), *zip_entries(MADE)])
    found["name: folder as a blob"] = zip_of([ZipEntry(weights.name + b"/"), *zip_entries(MADE)])
    found["link for blobs"] = zip_of([ZipEntry(b"blobs", b"../outside", mode=0o120777), *zip_entries(MADE)])
    found["two blobs, the last wrong"] = zip_of([*zip_entries(MADE), ZipEntry(weights.name, b"x" * len(MADE.weights))])
    found["two blobs, the first wrong"] = zip_of([ZipEntry(weights.name, b"x" * len(MADE.weights)), *zip_entries(MADE)])
    found["two manifests"] = zip_of([*zip_entries(MADE), ZipEntry(manifest_entry.name, OTHER.manifest)])
    found["missing blob"] = zip_of([config, manifest_entry])
    found["directory cut"] = good[:-1]
    found["directory missing"] = good[:-22]
    found["half"] = good[: len(good) // 2]
    found["magic"] = b"PK\x03\x04"
    found["magic of an empty one"] = b"PK\x05\x06"
    found["directory of 4 GiB"] = zip_of(zip_entries(MADE), directory_size=0xFFFFFFFE)
    found["directory larger than the file"] = zip_of(zip_entries(MADE), directory_size=len(good) + 1000)
    found["directory a byte too large"] = zip_of(zip_entries(MADE), directory_size=_directory_size(good) + 1)
    found["directory a byte too small"] = zip_of(zip_entries(MADE), directory_size=_directory_size(good) - 1)
    found["directory of nothing"] = zip_of(zip_entries(MADE), directory_size=0xFFFFFFFF)
    found["zip64 directory of 2^64"] = zip_of(zip_entries(MADE), directory_size=0xFFFFFFFF, zip64=(2**64 - 1, 0))
    found["zip64 directory of 2^63"] = zip_of(zip_entries(MADE), zip64=(2**63, 0))
    found["zip64 directory of 2^62 elsewhere"] = zip_of(zip_entries(MADE), zip64=(2**62, 2**63))
    found["directory far behind"] = zip_of(zip_entries(MADE), directory_offset=0xFFFFFFF0)
    found["directory before its start"] = zip_of(zip_entries(MADE), directory_offset=2**31)
    found["zip64 directory far behind"] = zip_of(
        zip_entries(MADE), zip64=(_directory_size(good), 2**63 + 7), directory_size=0xFFFFFFFF
    )
    found["another end in its comment"] = zip_of(zip_entries(MADE), comment=b"PK\x05\x06" + bytes(10))
    found["a tar in its comment"] = zip_of(zip_entries(MADE), comment=OTHER.tar()[:65535])[:-10]
    return found


def _utf8_flag(name: bytes) -> int:
    try:
        name.decode()
    except UnicodeDecodeError:
        return 0x800
    return 0


def _directory_size(data: bytes) -> int:
    return int(struct.unpack_from("<I", data, data.rfind(b"PK\x05\x06") + 12)[0])


WRONG_ZIPS = wrong_zips()


# The content is whole and its sum is right, whatever these say: whoever reads all the same gets what he should.
LIES_ABOUT_NOTHING = {
    "manifest: larger size",
    "weights: packed size of 4 GiB",
    "manifest: packed size of 4 GiB",
    "weights: zip64 packed size of 2^64",
    "manifest: zip64 packed size of 2^64",
    "directory far behind",
    "directory before its start",
    "zip64 directory far behind",
    "a tar in its comment",
    # What short matches are packed to is the same by both.
    "manifest: deflate64",
    "weights: deflate64",
}


@pytest.mark.parametrize("what", WRONG_ZIPS)
def test_wrong_zip_is_refused(arena: Arena, what: str) -> None:
    done = arena.attack(WRONG_ZIPS[what])
    if what in LIES_ABOUT_NOTHING and done.code == 0:
        assert_imported(arena, done, MADE)
        return
    assert_refused(arena, done)
    assert_one_clear_error(arena.attack(WRONG_ZIPS[what], stdin=True), 4)


def test_zip_with_lies_that_nobody_reads_is_imported_where_that_is_asked_for(arena: Arena) -> None:
    config, weights, manifest_entry = zip_entries(MADE)
    lying = ZipEntry(weights.name, weights.content, True, local_size=17)
    assert_refused(arena, arena.attack(zip_of([config, lying, manifest_entry])))
    assert_imported(arena, arena.attack(zip_of([config, lying, manifest_entry]), "--lenient"), MADE)


def test_zip_that_has_the_same_twice_is_imported(arena: Arena) -> None:
    config, weights, manifest_entry = zip_entries(MADE)
    again = zip_of([ZipEntry(b"notes", b"x"), config, weights, manifest_entry, weights, config])
    assert_imported(arena, arena.attack(again), MADE)


def test_empty_zip_holds_no_model(arena: Arena) -> None:
    assert_refused(arena, arena.attack(zip_of([])), 3)


@needs_proc
@pytest.mark.parametrize("deflated", [True, False])
def test_zip_bomb_is_given_up(arena: Arena, deflated: bool) -> None:
    config, _, _ = zip_entries(MADE)
    zeros = bytes(2**28)
    digest = f"sha256:{sha256(zeros)}"
    honest = manifest(OF_CONFIG, [entry(b"", "model", digest=f"sha256:{A}", size=1000)])
    bomb = ZipEntry(SMALL_BLOB.encode(), zeros, deflated, size=1000, crc=0)
    done = arena.attack_apart(zip_of([config, bomb, ZipEntry(MADE.manifest_name.encode(), honest)]))
    assert_refused(arena, done)
    assert done.peak < MEMORY_LIMIT
    huge = manifest(OF_CONFIG, [entry(b"", "model", digest=digest, size=len(zeros))])
    # A stated size that is true is a blob like any other, and its memory is bounded too.
    honest_bomb = ZipEntry(f"blobs/{digest.replace(':', '-')}".encode(), zeros, deflated)
    done = arena.attack_apart(zip_of([config, honest_bomb, ZipEntry(MADE.manifest_name.encode(), huge)]))
    assert done.code in (0, 4)
    assert done.peak < MEMORY_LIMIT


def test_zip_whose_entries_overlap_does_not_multiply(arena: Arena) -> None:
    # One blob is listed again and again: each listing that is read costs the whole.
    base = zip_of(zip_entries(MADE))
    start = base[: base.find(b"PK\x01\x02")]
    entries = _directory_of(base)
    whole = b"".join(entries) + entries[1] * 20_000
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 20_003, 20_003, len(whole), len(start), 0)
    assert_refused(arena, arena.attack(start + whole + end))


def _directory_of(data: bytes) -> list[bytes]:
    at = data.find(b"PK\x01\x02")
    end = data.rfind(b"PK\x05\x06")
    found = []
    while at < end:
        name, extra, comment = struct.unpack_from("<HHH", data, at + 28)
        length = 46 + name + extra + comment
        found.append(data[at : at + length])
        at += length
    return found


@needs_proc
@pytest.mark.parametrize("names", ["x", "blob", "manifest"])
def test_huge_directory_of_a_zip_stays_within_the_memory(arena: Arena, names: str) -> None:
    total = 16 * MIB - 1000
    sample = {"x": b"%06x", "blob": b"blobs/sha256-%064x", "manifest": MADE.manifest_name.encode() + b"%06x"}[names]
    raw = b"{}"
    local = struct.pack("<IHHHHHIIIHH", 0x04034B50, 20, 0, 0, 0, 0x21, 0, 0, 0, 0, 0)
    parts = []
    for number in range(total // (46 + len(sample % 0))):
        name = sample % number
        parts.append(
            struct.pack(
                "<IHHHHHHIIIHHHHHII", 0x02014B50, 0x031E, 20, 0, 0, 0, 0x21, 0, 0, 0, len(name), 0, 0, 0, 0, 0, 0
            )
            + name
        )
    directory = b"".join(parts)
    count = min(len(parts), 0xFFFF)
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, count, count, len(directory), len(local) + len(raw), 0)
    done = arena.attack_apart(local + raw + directory + end)
    assert_refused(arena, done, 3, 4)
    assert done.peak < MEMORY_LIMIT


@needs_proc
@pytest.mark.parametrize("how", ["plain", "zip64", "zip64 behind a small size", "zip64 with a decoy"])
def test_zip_directory_that_is_a_hole_of_gigabytes_stays_within_the_memory(arena: Arena, how: str) -> None:
    size = 3 * 1024**3
    path = arena.root / "attack"
    with path.open("wb") as file:
        file.write(zip_of(zip_entries(MADE)))
        file.truncate(size + 100_000)
        file.seek(0, os.SEEK_END)
        at = file.tell()
        stated = size if how == "plain" else 0xFFFFFFFF if how != "zip64 behind a small size" else 100
        if how != "plain":
            file.write(struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, 1, 1, size, at - size))
            relative = 0x0000000006064B50 if how == "zip64 with a decoy" else at
            file.write(struct.pack("<IIQI", 0x07064B50, 0, relative, 1))
        comment = bytes(1000) if how == "zip64 with a decoy" else b""
        file.write(struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 1, 1, stated, 0, len(comment)) + comment)
    done = arena.attack_apart(path)
    path.unlink()
    assert_refused(arena, done)
    assert done.peak < MEMORY_LIMIT
