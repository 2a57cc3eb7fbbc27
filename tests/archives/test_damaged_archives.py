"""Archives that lost their end, or a bit: the damage is found, or was to nothing that counts.

What counts is what ends up in the store. A packed archive has bytes that are nobody's content (the time in a gzip
header, a zip's second copy of its headers), so a flip there may pass; then the store must be the same to the last byte.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import ollama_ferry
from ollama_ferry.errors import FerryError
from ollama_ferry.jobs.import_ import import_file, import_stream
from ollama_ferry.jobs.import_choices import ImportOptions
from ollama_ferry.jobs.verify import verify_file
from ollama_ferry.places.store.store import Store
from support.faulty_disk import HastyDisk
from support.stores import StoreBuilder, faults_of, tree, weights
from support.tools import require_tool

KINDS = [
    "ours.tar",
    "ours.tar.gz",
    "ours-stored.tar.gz",
    "ours.tar.zst",
    "ours-stored.tar.zst",
    "tar-czf.tar.gz",
    "tar-cJf.tar.xz",
    "zip.zip",
    "zip-stored.zip",
]
# Kinds of which no bit is free for an import, which reads all of them.
EVERY_FLIP_IS_FOUND = {"ours.tar"}
CUTS, MANY_CUTS = 40, 200
FLIPS, MANY_FLIPS = 60, 500


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> StoreBuilder:
    builder = StoreBuilder(tmp_path_factory.mktemp("damaged") / "source")
    builder.model("qwen3:8b", [("model", weights(30_000)), ("template", b"{{ .Prompt }}"), ("license", b"free " * 500)])
    builder.model("hf.co/org/repo:Q4_K_M", [("model", weights(7_000, 2)), ("template", b"{{ .Prompt }}")])
    return builder


@pytest.fixture(scope="module", params=KINDS)
def archive(request: pytest.FixtureRequest, models: StoreBuilder) -> Path:
    """An archive of each kind."""
    kind: str = request.param
    path = models.root.parent / kind
    if kind.startswith("ours"):
        compress = "none" if "stored" in kind else "auto"
        ollama_ferry.export("*/*/*:*", path, store=models.root, compress=compress, replace=True)
    elif kind.startswith("tar"):
        flag = "-" + kind.partition(".")[0].removeprefix("tar-")
        line = [require_tool("tar"), flag, str(path), "-C", str(models.root), "blobs", "manifests"]
        subprocess.run(line, check=True)
    else:
        method = zipfile.ZIP_STORED if "stored" in kind else zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(path, "w", method) as made:
            for name, content in sorted(tree(models.root).items()):
                made.writestr(zipfile.ZipInfo(name, (2026, 1, 2, 3, 4, 6)), content, method)
    return path


def cut_places(size: int, count: int, rng: random.Random) -> Iterator[int]:
    """Give lengths to cut to: spread evenly, then by chance."""
    for number in range(count // 2):
        yield size * number // (count // 2)
    for _ in range(count - count // 2):
        yield rng.randrange(size)


class Trial:
    """Imports damaged copies of one archive, each into a store of its own."""

    def __init__(self, archive: Path, models: StoreBuilder, folder: Path) -> None:
        self.original = archive.read_bytes()
        self.source = tree(models.root)
        self._path = folder / f"damaged{archive.suffix}"
        self._root = folder / "target"

    def found(self, damaged: bytes, what: str) -> bool:
        """Import a damaged archive; tell whether the damage was found. The store must be right in any case."""
        self._path.write_bytes(damaged)
        try:
            done = import_file(self._path, Store(self._root), ImportOptions(), disk=HastyDisk())
            # What can't be taken is named, and the rest is.
            found = bool(done.left_out)
        except FerryError:
            found = True
        if self._root.exists():
            assert not faults_of(self._root), what
            here = {path: content for path, content in tree(self._root).items() if not path.startswith(".")}
            here = {path: content for path, content in here.items() if not path.startswith("blobs/.")}
            wrong = [path for path, content in here.items() if self.source.get(path) != content]
            assert not wrong, f"{what}: {wrong} is not what the archive was made of"
            if not found:
                assert here == self.source, what
            shutil.rmtree(self._root)
        else:
            assert found, what
        return found

    def found_by_verify(self) -> bool:
        """Verify the latest damaged archive; tell whether the damage was found."""
        try:
            return not verify_file(self._path).good
        except FerryError:
            return True


@pytest.fixture
def trial(archive: Path, models: StoreBuilder, tmp_path: Path) -> Trial:
    return Trial(archive, models, tmp_path)


def test_whole_archive_is_imported(trial: Trial) -> None:
    assert not trial.found(trial.original, "whole")


def test_cut_archive_is_found(trial: Trial, seed: int, long: bool) -> None:
    cuts = MANY_CUTS if long else CUTS
    lost = 0
    for size in cut_places(len(trial.original), cuts, random.Random(seed)):
        lost += trial.found(trial.original[:size], f"cut to {size} bytes")
    # What is left of the padding behind the mark of a plain tar's end is of no use, and so is our index.
    assert lost >= cuts * 3 // 4


def test_flipped_bit_is_found_or_was_nobodys(trial: Trial, archive: Path, seed: int, long: bool) -> None:
    rng = random.Random(seed)
    flips = MANY_FLIPS if long else FLIPS
    missed = []
    for _ in range(flips):
        place, bit = rng.randrange(len(trial.original)), rng.randrange(8)
        damaged = bytearray(trial.original)
        damaged[place] ^= 1 << bit
        if not trial.found(bytes(damaged), f"bit {bit} of byte {place} flipped"):
            missed.append((place, bit))
            if archive.name.startswith("ours"):
                # An import reads no more than it needs; what it has passed over is found by a verification.
                assert trial.found_by_verify(), f"bit {bit} of byte {place} flipped"
    if archive.name in EVERY_FLIP_IS_FOUND:
        assert not missed
    # In a small archive headers are many; what passes is little all the same.
    assert len(missed) < flips // 5


@pytest.mark.parametrize("what", ["manifest", "media type"])
def test_flip_in_a_manifest_of_our_tar_is_found(models: StoreBuilder, tmp_path: Path, what: str) -> None:
    # No digest in a plain tar covers a manifest, and a flip there may leave it a manifest.
    for ending in (".tar", ".tar.gz", ".tar.zst"):
        archive = tmp_path / f"m{ending}"
        ollama_ferry.export("qwen3:8b", archive, store=models.root, compress="none")
        trial = Trial(archive, models, tmp_path)
        trial.source = {path: content for path, content in trial.source.items() if "hf.co" not in path}
        manifest = models.manifest_path("qwen3:8b").read_bytes()
        at = trial.original.find(manifest)
        assert at > 0
        place = (
            at + manifest.find(b'"schemaVersion": 2') + 17 if what == "manifest" else at + manifest.find(b"vnd.ollama")
        )
        damaged = bytearray(trial.original)
        damaged[place] ^= 1
        assert trial.found(bytes(damaged), f"{what} in {ending}")


def test_the_same_damage_is_found_in_a_stream(
    archive: Path, models: StoreBuilder, tmp_path: Path, seed: int, long: bool
) -> None:
    original = archive.read_bytes()
    if archive.suffix == ".zip":
        with archive.open("rb", buffering=0) as file, pytest.raises(FerryError, match="can't be read as a stream"):
            import_stream(file, "the stream", Store(tmp_path / "target"), ImportOptions())
        assert not (tmp_path / "target").exists()
        return
    rng = random.Random(seed)
    source = tree(models.root)
    for number in range(200 if long else 20):
        damaged = bytearray(original)
        place = rng.randrange(len(original))
        if number % 2:
            damaged[place] ^= 1 << rng.randrange(8)
        else:
            del damaged[place:]
        root = tmp_path / f"target-{number}"
        path = tmp_path / "damaged"
        path.write_bytes(damaged)
        try:
            with path.open("rb", buffering=0) as file:
                done = import_stream(file, "the stream", Store(root), ImportOptions(), disk=HastyDisk())
            whole = not done.left_out
        except FerryError:
            whole = False
        assert not faults_of(root)
        here = {
            name: data
            for name, data in tree(root).items()
            if not os.path.basename(os.path.dirname(name)).startswith(".")
        }
        assert all(source.get(name) == content for name, content in here.items()), (number, place)
        assert not whole or here == source
