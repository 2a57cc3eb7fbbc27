"""Paths that are in each other's way are refused, and so are more folders than an archive of models has."""

from __future__ import annotations

from pathlib import Path

import pytest

import ollama_ferry
from ollama_ferry.archives.paths import Paths
from ollama_ferry.errors import Damaged, ReadDifferently
from ollama_ferry.jobs.verify import verify_file
from support.arena import Arena, assert_imported, assert_refused
from support.hostile import END, MADE, ZipEntry, blob_name, gzip_of, long_name, member, zip_entries, zip_of
from support.stores import tree


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


@pytest.mark.parametrize("extension", [".tar", ".tar.gz"])
@pytest.mark.parametrize("weights", [f"other/{blob_name(MADE.weights)}", f"manifests/{blob_name(MADE.weights)}"])
def test_blobs_elsewhere_are_no_store_and_are_taken_by_import(tmp_path: Path, weights: str, extension: str) -> None:
    data = b"".join(
        member(weights if content == MADE.weights else path, content) for path, content in MADE.files.items()
    )
    archive = tmp_path / f"a{extension}"
    archive.write_bytes((gzip_of if extension == ".tar.gz" else bytes)(data + END))
    with pytest.raises(ReadDifferently, match="they are no one store"):
        verify_file(archive)
    ollama_ferry.import_archive(archive, store=tmp_path / "models")
    assert tree(tmp_path / "models") == MADE.files
