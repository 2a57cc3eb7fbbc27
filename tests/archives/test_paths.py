"""Paths that are in each other's way are refused, and so are more folders than an archive of models has."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest

import ollama_ferry
from ollama_ferry.archives.index import Frames, Index, IndexedFile, index_bytes
from ollama_ferry.archives.kinds import Kind
from ollama_ferry.archives.paths import Paths
from ollama_ferry.errors import Damaged, ReadDifferently
from ollama_ferry.jobs.verify import verify_file
from support.arena import Arena, assert_imported, assert_refused
from support.hostile import (
    BLOCK,
    END,
    MADE,
    ZipEntry,
    blob_name,
    frame_of,
    gzip_of,
    long_name,
    member,
    sha256,
    zip_entries,
    zip_of,
)


@pytest.mark.parametrize("delivery", ["tar.gz", "zip"])
def test_members_below_thousands_of_folders_are_refused(arena: Arena, delivery: str) -> None:
    # Each takes some twenty bytes when packed, and would take a tenth of a second.
    names = [b"%06d/" % number + b"a/" * 2035 + b"f" for number in range(20)]
    if delivery == "zip":
        data = zip_of([*(ZipEntry(name) for name in names), *zip_entries(MADE)])
    else:
        data = gzip_of(b"".join(long_name(name) + member(name[:100]) for name in names) + MADE.tar())
    done = arena.attack(data)
    assert_refused(arena, done)
    assert "folders deep" in done.stderr


def test_as_many_folders_as_people_have_are_taken(arena: Arena) -> None:
    name = b"a/" * 99 + b"f"
    done = arena.attack(long_name(name) + member(name[:100]) + MADE.tar())
    assert_imported(arena, done, MADE)


def test_more_folders_than_members_are_refused() -> None:
    paths = Paths()
    with pytest.raises(Damaged, match="more than 200000 folders"):
        for number in range(2100):
            paths.add(f"{number}/" * 99 + "f", is_folder=False, counts=False)


def test_name_that_takes_long_to_normalise_is_refused_before(arena: Arena) -> None:
    # Marks in the wrong order are sorted one by one: a square of their number.
    name = "a" + "\u0301" * 15_000 + "\u0316" * 15_000
    done = arena.attack(zip_of([ZipEntry(name.encode(), flags=0x800), *zip_entries(MADE)]))
    assert_refused(arena, done)
    assert "longer than file systems take" in done.stderr


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a/b", "A/B"),
        ("a/b", "a/b. "),
        ("a/b", "a./b"),
        ("a/b", "a\uff0fb"),
        ("a/b", "a\u200d/b"),
        ("stra\u00dfe/b", "STRASSE/b"),
        ("\u00e9/b", "e\u0301/b"),
    ],
)
def test_paths_that_are_one_for_some_disks_are_refused(first: str, second: str) -> None:
    for counts in (True, False):
        paths = Paths()
        paths.add(first, is_folder=False, counts=counts)
        with pytest.raises(ReadDifferently, match="fold case or Unicode"):
            paths.add(second, is_folder=False, counts=not counts)


def test_folder_in_the_place_of_what_counts_is_refused_in_any_spelling() -> None:
    for first, second in (("a/b", "A/B/c"), ("a/b/c", "A/B")):
        paths = Paths()
        paths.add(first, is_folder=False, counts=first == "a/b")
        with pytest.raises(ReadDifferently, match="fold case or Unicode"):
            paths.add(second, is_folder=False, counts=first != "a/b")


def test_same_path_again_and_neighbours_are_taken() -> None:
    paths = Paths()
    for path in ("a/b", "./a//b", "a/c", "A/d", "a"):
        if path == "a":
            with pytest.raises(ReadDifferently, match="is a folder as well"):
                paths.add(path, is_folder=False, counts=True)
        else:
            paths.add(path, is_folder=False, counts=True)
    paths.add("a", is_folder=True, counts=False)
    with pytest.raises(ReadDifferently, match="where a file is"):
        paths.add("a/b/c", is_folder=False, counts=False)


WEIGHTS = blob_name(MADE.weights)


@pytest.mark.parametrize("extension", [".tar", ".tar.gz", ".zip"])
@pytest.mark.parametrize(
    ("path", "other"),
    [
        (WEIGHTS, f"other/{WEIGHTS}"),
        (WEIGHTS, f"manifests/{WEIGHTS}"),
        (WEIGHTS, WEIGHTS.replace("sha256-", "sha256_")),
        (WEIGHTS, f"{WEIGHTS} (1)"),
        (WEIGHTS, f"x/{WEIGHTS[13:]}.bin"),
        (MADE.manifest_name, "manifest.json"),
    ],
)
def test_what_tars_make_no_store_of_is_taken_by_import_alone(
    tmp_path: Path, path: str, other: str, extension: str
) -> None:
    files = {other if name == path else name: content for name, content in MADE.files.items()}
    archive = tmp_path / f"a{extension}"
    if extension == ".zip":
        archive.write_bytes(zip_of(ZipEntry(name.encode(), content) for name, content in files.items()))
    else:
        data = b"".join(member(name, content) for name, content in files.items()) + END
        archive.write_bytes(gzip_of(data) if extension == ".tar.gz" else data)
    with pytest.raises(ReadDifferently, match="it is no one store"):
        verify_file(archive)
    taken = ollama_ferry.import_archive(archive, store=tmp_path / "models", rename="x" if "json" in other else None)
    assert len(taken.models) == 1


def test_layer_of_an_image_is_no_store_behind_an_index_either(tmp_path: Path) -> None:
    data = member("x/layer.tar", MADE.tar()) + END
    frames = Frames()
    frames.add(len(frame_of(data)), len(data), zlib.crc32(frame_of(data)))
    file = IndexedFile("x/layer.tar", len(MADE.tar()), BLOCK, sha256(MADE.tar()))
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(frame_of(data) + index_bytes(Index((file,), frames), Kind.TAR_GZ, "x"))
    with pytest.raises(ReadDifferently, match="is a layer of an image"):
        verify_file(archive)
