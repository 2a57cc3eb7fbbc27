"""Indexes made to do harm: ignored, or refused with one clear error."""

from __future__ import annotations

import io
import os
import re
import struct
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from ollama_ferry.archives.index import FRAME_LIMIT, Frames, Index, index_bytes, read_index
from ollama_ferry.archives.kinds import Kind
from ollama_ferry.errors import Damaged
from support.arena import (
    CONTROL,
    MEMORY_LIMIT,
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
    Model,
    frame_of,
    index_head,
    index_of,
    index_text,
    tail_of,
)


def indexed(model: Model, *, change: Callable[[dict[str, Any]], object] | None = None, data: bytes = b"") -> bytes:
    """Return an indexed archive of a model in one frame, after a change of what its index says."""
    data = data or model.tar()
    head = index_head(model, data)
    if change is not None:
        change(head)
    frame = frame_of(data)
    return frame + index_of(index_text(head), [(len(frame), len(data), zlib.crc32(frame))])


def test_indexed_archive_is_read_by_its_index(arena: Arena) -> None:
    assert_imported(arena, arena.attack(indexed(MADE)), MADE)


INDEX_FILES: dict[str, list[object]] = {
    "behind the end": [SMALL_BLOB, 10**6, 0, A],
    "of a negative size": [SMALL_BLOB, -1, 0, A],
    "at a negative place": [SMALL_BLOB, 1, -1, A],
    "of a size of 10^400": [SMALL_BLOB, 10**400, 0, A],
    "of a size with a sign": [SMALL_BLOB, "+1", 0, A],
    "of a size in letters": [SMALL_BLOB, "one", 0, A],
    "of a fraction": [SMALL_BLOB, 1.5, 0, A],
    "without a digest": [SMALL_BLOB, 1, 0, ""],
    "of a digest in capitals": [SMALL_BLOB, 1, 0, A.upper()],
    "without a name": ["", 1, 0, A],
}


@pytest.mark.parametrize("what", INDEX_FILES)
def test_index_with_an_impossible_file_is_ignored(arena: Arena, what: str) -> None:
    done = arena.attack(indexed(MADE, change=lambda head: head["files"].append(INDEX_FILES[what])))
    assert_imported(arena, done, MADE)


@pytest.mark.parametrize("what", WRONG_NAMES)
def test_index_with_a_wrong_name_is_refused(arena: Arena, what: str) -> None:
    name = WRONG_NAMES[what].decode("utf-8", "surrogateescape")
    done = arena.attack(indexed(MADE, change=lambda head: head["files"].append([name, 1, 0, A])))
    if done.code == 0:
        # A name that no line of text can have makes the index none at all.
        assert "index is not of the form" in done.stderr
        assert_imported(arena, done, MADE)
    else:
        assert_refused(arena, done)


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("offset", [0, 1, 511, 513])
def test_index_that_points_elsewhere_publishes_nothing_wrong(arena: Arena, place: int, offset: int) -> None:
    def change(head: dict[str, Any]) -> None:
        head["files"][place][2] = offset

    assert_refused(arena, arena.attack(indexed(MADE, change=change)))


def test_index_that_names_another_manifest_is_refused(arena: Arena) -> None:
    def change(head: dict[str, Any]) -> None:
        head["files"][2][3] = A

    assert_refused(arena, arena.attack(indexed(MADE, change=change)))


@pytest.mark.parametrize("shown", ["\x1b[2J\x07", "\r\nerror: x", "\x9b2J", "\udc80", "x" * 10_000, ""])
def test_index_of_another_writer_shows_no_control_characters(arena: Arena, shown: str) -> None:
    done = arena.attack(indexed(MADE, change=lambda head: head.update(writer=shown)))
    assert len(re.findall("^error: ", done.stderr, re.MULTILINE)) <= 1
    assert not CONTROL.search(done.stderr)
    assert_imported(arena, done, MADE)


def test_tail_of_an_index_that_lies_is_ignored(arena: Arena) -> None:
    frame = frame_of(MADE.tar())
    for begin in (0, 1, len(frame) - 1, len(frame), len(frame) + 1, 10**6, 2**63, 2**64 - 1):
        for size in (0, 1, 47, 48, 2**32, 2**63, 2**64 - 1):
            done = arena.attack(frame + tail_of(begin, size))
            assert done.code == 0, done.stderr
            assert not CONTROL.search(done.stderr)


@needs_proc
@pytest.mark.parametrize("size", [15 * MIB, 60 * MIB])
@pytest.mark.parametrize("what", ["empty lines", "files", "one line"])
def test_index_that_explodes_stays_within_the_memory(arena: Arena, what: str, size: int) -> None:
    unit = {"empty lines": b"\n", "files": f"1 0 {A} {SMALL_BLOB}\n".encode(), "one line": b"x"}[what]
    head = b"x 1\n" + unit * (size // len(unit))
    frame = frame_of(MADE.tar())
    done = arena.attack_apart(frame + index_of(head, [(len(frame), len(MADE.tar()), zlib.crc32(frame))]))
    if done.code:
        assert_one_clear_error(done, 3, 4)
    assert arena.new_files() in ({}, MADE.files)
    assert done.peak < MEMORY_LIMIT


@needs_proc
def test_index_of_millions_of_frames_stays_within_the_memory(arena: Arena) -> None:
    count = 60 * MIB // 12
    table = struct.pack("<III", 20, 1, 0) * count
    path = arena.root / "attack"
    with path.open("wb") as file:
        file.write(frame_of(MADE.tar()))
        file.truncate(20 * count)
        file.seek(20 * count)
        file.write(index_of(b"x 1\n", table, begin=20 * count))
    done = arena.attack_apart(path)
    assert_one_clear_error(done, 3, 4)
    assert done.peak < MEMORY_LIMIT


@needs_proc
def test_index_that_begins_before_a_hole_of_gigabytes_stays_within_the_memory(arena: Arena) -> None:
    path = arena.root / "attack"
    with path.open("wb") as file:
        file.write(frame_of(MADE.tar()))
        file.truncate(3 * 1024**3)
        file.seek(0, os.SEEK_END)
        file.write(tail_of(0, 100))
    done = arena.attack_apart(path)
    path.unlink()
    assert_one_clear_error(done, 4)
    assert done.peak < MEMORY_LIMIT


@pytest.mark.parametrize(("packed", "refused"), [(50, True), (5000, True), (6000, False)])
def test_index_of_what_unpacks_to_a_multiple_of_models_is_refused(packed: int, refused: bool) -> None:
    frames = Frames()
    for _ in range(300):
        frames.add(packed, FRAME_LIMIT, 0)
    file = io.BytesIO(bytes(packed * 300) + index_bytes(Index((), frames), Kind.TAR_ZST, "x"))
    if refused:
        with pytest.raises(Damaged, match="200 times its packed size"):
            read_index(file, "zstd")
    else:
        assert read_index(file, "zstd") is not None
