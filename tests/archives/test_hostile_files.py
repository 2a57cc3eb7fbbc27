"""Files that are no whole archive, and targets in which a trap was laid."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import random
import struct

import pytest

from ollama_ferry.places.store.staging import staging_folder
from ollama_ferry.places.store.store import Store
from support.arena import OF_CONFIG, A, Arena, assert_imported, assert_one_clear_error, assert_refused, deliver
from support.hostile import (
    BLOCK,
    EMPTY_GZIP,
    END,
    MADE,
    MIB,
    base256,
    blob_name,
    entry,
    gzip_of,
    header,
    manifest,
    member,
    sha256,
    xz_with_dictionary,
    zstd_of,
    zstd_zeros,
)
from support.stores import faults_of


def whole_files() -> dict[str, bytes]:
    good = MADE.tar()
    rng = random.Random(7)
    return {
        "empty": b"",
        "one byte": b"x",
        "random": rng.randbytes(100_000),
        "text": b"This is no archive.\n" * 100,
        "short text": b"This is no archive.\n",
        "half a block of zeros": bytes(100),
        "one block of zeros": bytes(BLOCK),
        "no end": MADE.tar(end=b""),
        "half an end": MADE.tar(end=bytes(BLOCK)),
        "an end that is cut": MADE.tar(end=bytes(BLOCK + 100)),
        "text behind the end": good + b"and this is not tar",
        "a block behind the end": good + b"x" * BLOCK,
        "random behind the end": good + rng.randbytes(10_240),
        "half a block of zeros behind the end": good + bytes(100),
        "a gzip in a gzip in a gzip and so on": gzip_of(gzip_of(gzip_of(gzip_of(gzip_of(good))))),
        "gzip: nothing": EMPTY_GZIP,
        "gzip: start": gzip_of(good)[:10],
        "gzip: magic": b"\x1f\x8b",
        "gzip: unknown method": b"\x1f\x8b\x07" + gzip_of(good)[3:],
        "gzip: rubbish behind": gzip_of(good) + b"rubbish!",
        "gzip: a magic behind": gzip_of(good) + b"\x1f\x8b",
        "gzip: zstd behind": gzip_of(good[:-BLOCK]) + zstd_of(good[-BLOCK:]),
        "gzip: wrong sum": gzip_of(good)[:-8] + bytes(4) + gzip_of(good)[-4:],
        "gzip: wrong length": gzip_of(good)[:-4] + bytes(4),
        "gzip: a long name without end": b"\x1f\x8b\x08\x08\0\0\0\0\0\xff" + b"x" * (3 * MIB),
        "gzip: a long extra field": b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\xff\xff" + b"x" * 1000,
        "gzip: random behind its header": gzip_of(b"")[:10] + rng.randbytes(100_000),
        "zstd: magic": b"\x28\xb5\x2f\xfd",
        "zstd: cut": zstd_of(good)[:-100],
        "zstd: rubbish behind": zstd_of(good) + b"rubbish!",
        "zstd: window of 2 GiB": zstd_zeros(1, 31),
        "zstd: window of 2^41": zstd_zeros(1, 41),
        "zstd: a dictionary": struct.pack("<IBBB", 0xFD2FB528, 1, 0x38, 77) + zstd_of(good)[9:],
        "zstd: skips more than there is": struct.pack("<II", 0x184D2A50, 0xFFFFFFFF) + b"x" * 1000,
        "zstd: states a huge content": struct.pack("<IBQ", 0xFD2FB528, 0xE0, 2**62) + zstd_of(good)[9:],
        "zstd: random": b"\x28\xb5\x2f\xfd" + rng.randbytes(100_000),
        "xz: magic": b"\xfd7zXZ\x00",
        "xz: random": b"\xfd7zXZ\x00" + rng.randbytes(100_000),
        "xz: dictionary of 4 GiB": xz_with_dictionary(good, 40),
        "xz: dictionary of 1 GiB": xz_with_dictionary(good, 36),
        "xz: rubbish behind": lzma.compress(good) + b"rubbish!",
        "bzip2: magic": b"BZh9",
        "bzip2: random": b"BZh91AY&SY" + rng.randbytes(100_000),
        "bzip2: cut": bz2.compress(good)[:-10],
        "bzip2: rubbish behind": bz2.compress(good) + b"rubbish!",
    }


WHOLE_FILES = whole_files()


@pytest.mark.parametrize("stdin", [False, True], ids=["file", "stdin"])
@pytest.mark.parametrize("what", WHOLE_FILES)
def test_file_that_is_no_whole_archive_is_refused(arena: Arena, what: str, stdin: bool) -> None:
    done = arena.attack(WHOLE_FILES[what], stdin=stdin)
    assert_one_clear_error(done, 4)
    # What ends well and then goes on has been imported from a stream.
    assert arena.new_files() in ({}, MADE.files)
    if not any(word in what for word in ("behind", "end", "wrong", "zstd", "cut")):
        assert arena.new_files() == {}


@pytest.mark.parametrize("stdin", [False, True], ids=["file", "stdin"])
@pytest.mark.parametrize("packing", ["gzip", "xz"])
def test_manifest_is_published_only_after_the_sum_over_it_was_checked(arena: Arena, packing: str, stdin: bool) -> None:
    # No digest covers a manifest in an archive: the packing's own sum is all there is, and comes at the end.
    right, wrong = MADE.tar(), MADE.tar().replace(b'"schemaVersion": 2', b'"schemaVersion": 3')
    assert right != wrong
    if packing == "gzip":
        data = gzip_of(wrong)[:-8] + gzip_of(right)[-8:]
    else:
        # Stored in one chunk, so that the bytes stand there as they are.
        rng = random.Random(1).randbytes(40_000)
        packed = lzma.compress(MADE.tar(before=member(b"x", rng), end=b"") + END, preset=0)
        data = packed[:-40] + bytes([packed[-40] ^ 1]) + packed[-39:]
    assert_refused(arena, arena.attack(data, stdin=stdin))


def test_terabyte_that_is_not_there_is_refused(arena: Arena) -> None:
    size = 2**40
    path = arena.root / "attack"
    head = header(blob_name(MADE.weights).encode(), base256(size))
    with path.open("wb") as file:
        file.write(head)
        file.truncate(1000)
    assert_refused(arena, arena.attack_with(path))
    assert_refused(arena, arena.attack_with(path, stdin=True), 4, 6)
    with path.open("wb") as file:
        # All there, as a hole; no manifest names it.
        file.write(head)
        file.truncate(BLOCK + size + 2 * BLOCK)
    assert_refused(arena, arena.attack_with(path), 3)
    liar = member(MADE.manifest_name, manifest(OF_CONFIG, [entry(b"", "model", digest=f"sha256:{A}", size=size)]))
    with path.open("wb") as file:
        file.write(
            liar + member(blob_name(MADE.config), MADE.config) + header(f"blobs/sha256-{A}".encode(), base256(size))
        )
        file.truncate(file.tell() + size + 2 * BLOCK)
    done = arena.attack_with(path)
    assert_refused(arena, done, 4, 6)


@pytest.mark.parametrize("delivery", ["tar", "tar.gz"])
@pytest.mark.parametrize("what", ["staging folder", "staging file", "lock", "manifest in work"])
def test_link_in_the_target_is_not_written_through(arena: Arena, what: str, delivery: str) -> None:
    staging = staging_folder(Store(arena.models))
    victim = arena.outside / "secret"
    if what == "staging folder":
        staging.symlink_to(arena.outside)
    elif what == "staging file":
        staging.mkdir()
        for ending in ("", ".partial", ".new"):
            for content in (MADE.weights, MADE.config):
                (staging / f"sha256-{sha256(content)}{ending}").symlink_to(victim)
    elif what == "lock":
        staging.mkdir()
        (staging / "lock").symlink_to(victim)
    else:
        (arena.models / "manifests/.ollama-ferry-manifest").symlink_to(victim)
    done = deliver(arena, MADE.tar(), delivery)
    assert victim.read_bytes() == b"must stay"
    assert sorted(path.name for path in arena.outside.rglob("*")) == ["empty", "secret"]
    assert not faults_of(arena.models)
    if done.code:
        assert_one_clear_error(done, 1, 5)


@pytest.mark.parametrize("delivery", ["tar", "tar.gz"])
def test_hard_link_in_the_target_is_not_written_through(arena: Arena, delivery: str) -> None:
    staging = staging_folder(Store(arena.models))
    staging.mkdir()
    victim = arena.outside / "secret"
    for content in (MADE.weights, MADE.config):
        os.link(victim, staging / f"sha256-{sha256(content)}.partial")
    os.link(victim, arena.models / "manifests/.ollama-ferry-manifest")
    deliver(arena, MADE.tar(), delivery)
    assert victim.read_bytes() == b"must stay"
    assert not faults_of(arena.models)


@pytest.mark.parametrize("delivery", ["tar", "tar.gz"])
@pytest.mark.parametrize("what", ["folder", "fifo"])
def test_something_else_in_the_place_of_a_staged_file_is_a_clear_error(arena: Arena, what: str, delivery: str) -> None:
    staging = staging_folder(Store(arena.models))
    staging.mkdir()
    for ending in (".partial", ""):
        path = staging / f"sha256-{sha256(MADE.weights)}{ending}"
        if what == "folder":
            path.mkdir()
        else:
            os.mkfifo(path)
    done = deliver(arena, MADE.tar(), delivery)
    if done.code:
        assert_one_clear_error(done, 1, 5)
        assert {path for path in arena.new_files() if path.startswith("manifests")} == set()
    assert not faults_of(arena.models)


@pytest.mark.parametrize("delivery", ["tar", "tar.gz"])
def test_blob_in_the_target_that_links_outside_is_left_alone(arena: Arena, delivery: str) -> None:
    # A right size is taken as good, as Ollama does; --verify-existing replaces the link, and never its target.
    name = blob_name(MADE.weights)
    victim = arena.outside / "secret"
    victim.write_bytes(b"x" * len(MADE.weights))
    (arena.models / name).symlink_to(victim)
    done = deliver(arena, MADE.tar(), delivery, "--verify-existing")
    assert done.code == 0, done.stderr
    assert victim.read_bytes() == b"x" * len(MADE.weights)
    assert (arena.models / name).read_bytes() == MADE.weights
    assert not (arena.models / name).is_symlink()


@pytest.mark.parametrize("delivery", ["tar", "tar.gz"])
def test_staged_blob_with_wrong_bytes_is_not_published(arena: Arena, delivery: str) -> None:
    staging = staging_folder(Store(arena.models))
    staging.mkdir()
    (staging / f"sha256-{sha256(MADE.weights)}").write_bytes(b"x" * len(MADE.weights))
    done = deliver(arena, MADE.tar(), delivery, "--verify-existing")
    assert done.code == 0, done.stderr
    assert not faults_of(arena.models)
    assert hashlib.sha256((arena.models / blob_name(MADE.weights)).read_bytes()).hexdigest() == sha256(MADE.weights)


def test_gzip_of_the_library_is_read_like_ours(arena: Arena) -> None:
    # The builders are not wrong all together: what another library packs is imported too.
    assert_imported(arena, arena.attack(gzip.compress(MADE.tar())), MADE)
