"""What is small and becomes large: given up, within the memory that any import may have."""

from __future__ import annotations

import bz2
import lzma
import random
import struct
from pathlib import Path

import pytest

from support.arena import (
    BIG,
    DELIVERIES,
    LYING,
    MEMORY_LIMIT,
    SMALL_BLOB,
    A,
    Arena,
    assert_imported,
    assert_one_clear_error,
    assert_refused,
    needs_proc,
)
from support.hostile import (
    BLOCK,
    EMPTY_GZIP,
    END,
    MADE,
    MIB,
    ZipEntry,
    base256,
    bzip2_zeros,
    gzip_bomb,
    gzip_of,
    header,
    made_model,
    member,
    zip_entries,
    zip_of,
    zstd_of,
    zstd_zeros,
)


@needs_proc
@pytest.mark.parametrize(
    "what", ["lists", "empty lists", "deep lists", "objects", "empty objects", "texts", "wide texts"]
)
@pytest.mark.parametrize("delivery", ["tar", "tar.gz", "zip"])
def test_json_that_explodes_stays_within_the_memory(arena: Arena, what: str, delivery: str) -> None:
    limit = 4 * MIB - 1000
    unit = {
        "lists": b"[[]],",
        "empty lists": b"[],",
        "deep lists": b"[" * 900 + b"]" * 900 + b",",
        "objects": b'{"":' * 900 + b"0" + b"}" * 900 + b",",
        "empty objects": b"{},",
        "texts": b'"a\xc3\xbf",',
        "wide texts": b'"\xf0\x9f\x98\x80",' + b"[" * 800 + b"]" * 800 + b",",
    }[what]
    text = unit * (limit // len(unit) - 1)
    model = MADE.with_manifest(b'{"schemaVersion":2,"x":[' + text + b'0],"layers":[17]}')
    if delivery == "zip":
        done = arena.attack_apart(zip_of(zip_entries(model)))
    else:
        done = arena.attack_apart(DELIVERIES[delivery](model.tar()))
    assert_refused(arena, done)
    assert done.peak < MEMORY_LIMIT


@needs_proc
def test_manifest_of_a_gigabyte_stays_within_the_memory(arena: Arena) -> None:
    head = header(MADE.manifest_name.encode(), 2**30)
    path = arena.root / "attack"
    with path.open("wb") as file:
        file.write(head)
        file.truncate(BLOCK + 2**30 + 2 * BLOCK)
    for stdin in (False, True):
        done = arena.attack_apart(path, stdin=stdin)
        assert_refused(arena, done)
        assert done.peak < MEMORY_LIMIT
    done = arena.attack_apart(gzip_bomb(head, 1024, END))
    assert_refused(arena, done)
    assert done.peak < MEMORY_LIMIT
    done = arena.attack_apart(zip_of([ZipEntry(MADE.manifest_name.encode(), bytes(2**28), deflated=True)]))
    assert_refused(arena, done)
    assert done.peak < MEMORY_LIMIT


@needs_proc
def test_many_large_manifests_stay_within_the_memory(arena: Arena) -> None:
    # Each is just small enough to be read, and together they are just few enough.
    layer = '{"digest":"sha256:%064x","size":1}'
    count = (4 * MIB - 1000) // (len(layer % 0) + 1)
    parts = []
    for number in range(7):
        layers = ",".join(layer % (number * count + i) for i in range(count))
        parts.append(member(f"{MADE.manifest_name}-{number}", b'{"layers":[%s]}' % layers.encode()))
    done = arena.attack_apart(gzip_of(b"".join(parts) + END))
    assert_refused(arena, done)
    assert done.peak < MEMORY_LIMIT


@needs_proc
@pytest.mark.parametrize("words", [(), pytest.param(("--dry-run",), marks=pytest.mark.long)], ids=["import", "dry run"])
def test_hundreds_of_thousands_of_manifests_stay_within_the_memory(arena: Arena, words: tuple[str, ...]) -> None:
    raw = b'{"layers":[{"digest":"sha256:%s","size":1}]}' % A.encode()
    block = member(f"{MADE.manifest_name}-0000000", raw)
    parts = (_renamed(block, len(MADE.manifest_name), b"-%07d" % number) for number in range(250_000))
    done = arena.attack_apart(gzip_of(b"".join(parts) + END), *words)
    assert_refused(arena, done)
    assert done.peak < MEMORY_LIMIT


@needs_proc
@pytest.mark.parametrize("delivery", [pytest.param("tar", marks=pytest.mark.long), "tar.gz"])
def test_hundreds_of_thousands_of_blobs_stay_within_the_memory(arena: Arena, delivery: str, long: bool) -> None:
    block = member(SMALL_BLOB)
    parts = [_renamed(block, len("blobs/sha256-"), b"%08x" % number) for number in range(500_000 if long else 150_000)]
    done = arena.attack_apart(DELIVERIES[delivery](b"".join(parts) + MADE.tar()), "--dry-run")
    # None of them is of any model: a dry run may as well pass them over.
    if done.code:
        assert_one_clear_error(done, 4)
    assert arena.new_files() == {}
    assert done.peak < MEMORY_LIMIT


def _renamed(block: bytes, at: int, text: bytes) -> bytes:
    """Write something into the name of a member, and mend its sum."""
    made = bytearray(block)
    made[at : at + len(text)] = text
    made[148:156] = b" " * 8
    made[148:156] = b"%06o\0 " % sum(made[:BLOCK])
    return bytes(made)


@needs_proc
@pytest.mark.parametrize("stdin", [pytest.param(False, marks=pytest.mark.long), True], ids=["file", "stdin"])
def test_millions_of_members_are_given_up(arena: Arena, stdin: bool) -> None:
    thousand = gzip_of(member(b"x") * 1000, 9)
    done = arena.attack_apart(thousand * 1001 + gzip_of(MADE.tar()), stdin=stdin)
    assert_refused(arena, done)
    assert done.peak < MEMORY_LIMIT


@needs_proc
@pytest.mark.parametrize("packing", ["gzip", pytest.param("zstd", marks=pytest.mark.long), "skipped zstd"])
def test_hundreds_of_thousands_of_empty_members_are_passed_over_or_refused(arena: Arena, packing: str) -> None:
    empty = {"gzip": EMPTY_GZIP, "zstd": zstd_of(b""), "skipped zstd": struct.pack("<II", 0x184D2A50, 0)}[packing]
    packed = gzip_of(MADE.tar()) if packing == "gzip" else zstd_of(MADE.tar())
    done = arena.attack_apart(empty * 300_000 + packed)
    if done.code == 0:
        assert_imported(arena, done, MADE)
    else:
        assert_refused(arena, done)
    assert done.peak < MEMORY_LIMIT


@needs_proc
@pytest.mark.parametrize("stdin", [False, True], ids=["file", "stdin"])
@pytest.mark.parametrize("tar_says", [1000, BIG])
@pytest.mark.parametrize("first", ["manifest", "blob"])
def test_gzip_bomb_is_given_up(arena: Arena, tar_says: int, first: str, stdin: bool) -> None:
    start = (LYING if first == "manifest" else b"") + header(SMALL_BLOB.encode(), base256(tar_says))
    done = arena.attack_apart(gzip_bomb(start, BIG // MIB, LYING + END), stdin=stdin)
    assert_refused(arena, done)
    assert done.peak < MEMORY_LIMIT


@needs_proc
@pytest.mark.parametrize("packing", ["zstd", "zstd, window of 128 MiB", "bzip2", "xz"])
@pytest.mark.parametrize("tar_says", [1000, BIG])
def test_other_bombs_are_given_up(arena: Arena, packing: str, tar_says: int) -> None:
    start = LYING + header(SMALL_BLOB.encode(), base256(tar_says))
    if packing.startswith("zstd"):
        bomb = zstd_of(start) + zstd_zeros(BIG // MIB, 27 if "128" in packing else 17)
    elif packing == "bzip2":
        bomb = bz2.compress(start) + bzip2_zeros(BIG // MIB)
    else:
        bomb = lzma.compress(start, preset=0) + lzma.compress(bytes(64 * MIB), preset=0) * 160
    done = arena.attack_apart(bomb)
    assert_refused(arena, done)
    assert done.peak < MEMORY_LIMIT


@needs_proc
@pytest.mark.parametrize("words", [(), ("--model", "made:hostile"), ("--dry-run",)], ids=["all", "one", "dry run"])
@pytest.mark.parametrize("name", ["notes.txt", SMALL_BLOB])
def test_bomb_that_is_passed_over_is_given_up(arena: Arena, words: tuple[str, ...], name: str) -> None:
    # Small enough to be got over with: who reads it all, and imports the model behind it, is found out.
    size = 3 * 1024**3
    start = header(name.encode(), base256(size))
    bomb = zstd_of(start) + zstd_zeros(size // MIB)
    done = arena.attack_apart(bomb + zstd_of(MADE.tar()), *words)
    assert_refused(arena, done)
    done = arena.attack_apart(zstd_of(MADE.tar(end=b"")) + bomb + zstd_of(END), *words)
    assert_one_clear_error(done, 4)
    assert arena.new_files() in ({}, MADE.files)
    assert done.peak < MEMORY_LIMIT


@needs_proc
def test_bomb_of_ends_is_given_up(arena: Arena) -> None:
    # Each end of an archive is within what padding may be, and there are many archives.
    once = zstd_zeros(60) + zstd_of(member(b"x"))
    done = arena.attack_apart(zstd_of(MADE.tar()) + once * 10 + zstd_of(END))
    assert_one_clear_error(done, 4)
    assert arena.new_files() in ({}, MADE.files)


def test_zeros_without_end_are_given_up(arena: Arena) -> None:
    for bomb in (gzip_bomb(MADE.tar(), 100), zstd_of(MADE.tar()) + zstd_zeros(100), MADE.tar() + bytes(100 * MIB)):
        done = arena.attack(bomb)
        assert_one_clear_error(done, 4)
        assert arena.new_files() in ({}, MADE.files)
    done = arena.attack(gzip_of(MADE.tar()) + bytes(100 * MIB))
    assert_one_clear_error(done, 4)


@needs_proc
def test_device_without_end_is_given_up(arena: Arena) -> None:
    done = arena.attack_apart(Path("/dev/zero"), stdin=True)
    assert_refused(arena, done)
    done = arena.attack_apart(Path("/dev/zero"))
    assert_refused(arena, done, 3)
    done = arena.attack_apart(Path("/dev/urandom"), stdin=True)
    assert_refused(arena, done)


@needs_proc
@pytest.mark.long
def test_largest_windows_that_are_allowed_stay_within_the_memory(arena: Arena) -> None:
    rng = random.Random(3)
    weights = rng.randbytes(MIB) * 300
    model = made_model(weights)
    blocks = []
    data = model.tar()
    for at in range(0, len(data), 128 * 1024):
        part = data[at : at + 128 * 1024]
        blocks.append((len(part) << 3 | (at + len(part) >= len(data))).to_bytes(3, "little") + part)
    done = arena.attack_apart(struct.pack("<IBB", 0xFD2FB528, 0, 17 << 3) + b"".join(blocks))
    assert_imported(arena, done, model)
    assert done.peak < MEMORY_LIMIT
