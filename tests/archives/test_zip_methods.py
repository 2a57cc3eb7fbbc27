"""Zips packed by other methods than Deflate: what Explorer, 7-Zip and WinZip make of a store."""

from __future__ import annotations

import io
import lzma
import random
import shutil
import struct
import subprocess
import sys
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

import ollama_ferry
from ollama_ferry.archives.zip_methods import member_decoder
from ollama_ferry.archives.zip_reading import ZipReader
from ollama_ferry.archives.zstd_library import load_zstd
from ollama_ferry.errors import Damaged, FerryError, UsageError
from ollama_ferry.jobs.verify import verify_file
from support.hostile import MADE, ZipEntry, zip_entries, zip_of
from support.stores import StoreBuilder, faults_of, tree, weights
from support.tools import require_tool

DEFLATE64, BZIP2, LZMA, ZSTD, XZ, PPMD = 9, 12, 14, 93, 95, 98
READ_BY_US = {"Deflate64": DEFLATE64, "BZip2": BZIP2, "LZMA": LZMA}
CONTENT = weights(300_000) + bytes(200_000) + weights(300_000, 2)
FLIPS = 40


def lzma_member(content: bytes, *, window: int = 1 << 16) -> bytes:
    """Pack a content as APPNOTE 5.8 has it, with a mark at its end."""
    filters = [{"id": lzma.FILTER_LZMA1, "dict_size": 1 << 16, "lc": 3, "lp": 0, "pb": 2}]
    packer = lzma.LZMACompressor(lzma.FORMAT_RAW, filters=filters)
    packed = packer.compress(content) + packer.flush()
    return struct.pack("<BBHBI", 9, 20, 5, 3 + 9 * 5 * 2, window) + packed


def xz_member(content: bytes) -> bytes:
    return lzma.compress(content)


def zstd_member(content: bytes) -> bytes:
    packed: bytes = load_zstd("a test").compress(content)
    return packed


def bzip2_member(content: bytes) -> bytes:
    import bz2

    return bz2.compress(content)


def deflate64_member(content: bytes) -> bytes:
    inflate64 = pytest.importorskip("inflate64")
    packer = inflate64.Deflater()
    return bytes(packer.deflate(content) + packer.flush())


PACKS: dict[int, Callable[[bytes], bytes]] = {
    DEFLATE64: deflate64_member,
    BZIP2: bzip2_member,
    LZMA: lzma_member,
    ZSTD: zstd_member,
    XZ: xz_member,
}


def entry(method: int, name: bytes, content: bytes, packed: bytes | None = None) -> ZipEntry:
    """Return an entry whose content stands in the zip as one method packs it."""
    raw = PACKS[method](content) if packed is None else packed
    flags = 2 if method == LZMA else 0
    return ZipEntry(name, raw, method=method, size=len(content), crc=zlib.crc32(content), flags=flags, needs=45)


def read(zipped: bytes, step: int = 65536) -> bytes:
    with ZipReader(io.BytesIO(zipped)).open(0) as data:
        pieces = []
        while piece := data.read(step):
            assert len(piece) <= step
            pieces.append(piece)
    return b"".join(pieces)


@pytest.mark.parametrize("method", PACKS)
@pytest.mark.parametrize("step", [1_000_000, 4096])
def test_each_method_gives_its_content(method: int, step: int) -> None:
    assert read(zip_of([entry(method, b"x", CONTENT)]), step) == CONTENT


@pytest.mark.parametrize("method", PACKS)
def test_an_empty_member(method: int) -> None:
    assert read(zip_of([entry(method, b"x", b"")])) == b""


@pytest.mark.parametrize("method", PACKS)
def test_a_store_comes_out_of_each_method(method: int, tmp_path: Path) -> None:
    path = tmp_path / "models.zip"
    path.write_bytes(zip_of([entry(method, one.name, one.content) for one in zip_entries(MADE)]))
    verify_file(path)
    ollama_ferry.import_archive(path, store=tmp_path / "target")
    assert faults_of(tmp_path / "target") == []
    assert len(tree(tmp_path / "target/manifests")) > 0


@pytest.mark.parametrize("method", PACKS)
def test_a_flipped_bit_gives_no_other_content(method: int) -> None:
    whole = zip_of([entry(method, b"x", CONTENT)])
    chance = random.Random(method)
    for _ in range(FLIPS):
        at = chance.randrange(len(whole))
        flipped = bytearray(whole)
        flipped[at] ^= 1 << chance.randrange(8)
        try:
            content = read(bytes(flipped))
        except FerryError:
            continue
        assert content == CONTENT


@pytest.mark.parametrize("method", PACKS)
@pytest.mark.parametrize("lost", [1, 9, 5000])
def test_a_member_cut_short_is_damaged(method: int, lost: int) -> None:
    packed = PACKS[method](CONTENT)[:-lost]
    with pytest.raises(Damaged):
        read(zip_of([entry(method, b"x", CONTENT, packed)]))


@pytest.mark.parametrize("method", PACKS)
def test_more_than_its_size_says_is_damaged(method: int) -> None:
    longer = entry(method, b"x", CONTENT, PACKS[method](CONTENT + b"more"))
    with pytest.raises(Damaged, match="does not end where its size says"):
        read(zip_of([longer]))


@pytest.mark.parametrize("method", [BZIP2, LZMA, ZSTD, XZ])
def test_something_behind_the_end_is_damaged(method: int) -> None:
    longer = entry(method, b"x", CONTENT, PACKS[method](CONTENT) + b"more")
    with pytest.raises(Damaged, match="does not end where its size says"):
        read(zip_of([longer]))


@pytest.mark.parametrize("method", PACKS)
def test_a_bomb_gives_no_more_than_is_asked_for(method: int) -> None:
    bomb = entry(method, b"x", bytes(64 * 1024 * 1024))
    zipped = zip_of([bomb])
    tracemalloc.start()
    try:
        with ZipReader(io.BytesIO(zipped)).open(0) as data:
            assert 0 < len(data.read(65536)) <= 65536
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20 * 1024 * 1024


def test_lzma_with_a_window_of_gigabytes_takes_no_memory() -> None:
    greedy = entry(LZMA, b"x", CONTENT, lzma_member(CONTENT, window=0xFFFFFFFF))
    with pytest.raises(Damaged, match="a dictionary of 4294967295 bytes"):
        read(zip_of([greedy]))


@pytest.mark.parametrize("header", [b"", b"\x09\x14", struct.pack("<BBHBI", 9, 20, 5, 225, 65536), bytes(20)])
def test_damaged_lzma_properties_are_an_error(header: bytes) -> None:
    with pytest.raises(Damaged):
        read(zip_of([entry(LZMA, b"x", CONTENT, header)]))


def test_lzma_without_a_mark_ends_at_its_size() -> None:
    decoder = member_decoder(LZMA, 0, 1000)
    assert decoder is not None
    packed = lzma_member(CONTENT)
    assert decoder.decompress(packed, 600) == CONTENT[:600]
    assert decoder.decompress(b"", 600) == CONTENT[600:1000]
    assert decoder.eof


@pytest.mark.parametrize("how", READ_BY_US)
def test_what_7zip_makes_of_a_store_is_imported(how: str, source: StoreBuilder, tmp_path: Path) -> None:
    require_tool("7z", "p7zip-full")
    source.model("qwen3:8b", [("model", weights(3_000_000)), ("template", b"{{ .Prompt }}" * 100)])
    path = tmp_path / "models.zip"
    made = ["7z", "a", "-tzip", f"-mm={how}", str(path), "blobs", "manifests"]
    subprocess.run(made, cwd=source.root, check=True, stdout=subprocess.DEVNULL)
    with zipfile.ZipFile(path) as zipped:
        assert READ_BY_US[how] in {one.compress_type for one in zipped.infolist()}
    verify_file(path)
    ollama_ferry.import_archive(path, store=tmp_path / "target")
    assert tree(tmp_path / "target/blobs") == tree(source.root / "blobs")


def test_a_method_that_is_not_read_is_named_with_the_tool(source: StoreBuilder, tmp_path: Path) -> None:
    require_tool("7z", "p7zip-full")
    source.model("qwen3:8b", [("model", weights(30_000))])
    path = tmp_path / "models.zip"
    made = ["7z", "a", "-tzip", "-mm=PPMd", str(path), "blobs", "manifests"]
    subprocess.run(made, cwd=source.root, check=True, stdout=subprocess.DEVNULL)
    for lenient in (False, True):
        with pytest.raises(Damaged, match="packed by PPMd") as raised:
            ollama_ferry.import_archive(path, store=tmp_path / "target", lenient=lenient)
        assert "7z x" in str(raised.value.hint)
    shutil.rmtree(tmp_path / "target", ignore_errors=True)
    # And the way that it names leads there.
    subprocess.run(["7z", "x", str(path), f"-o{tmp_path / 'FOLDER'}"], check=True, stdout=subprocess.DEVNULL)
    ollama_ferry.import_archive(tmp_path / "FOLDER", store=tmp_path / "target")
    assert len(tree(tmp_path / "target/manifests")) > 0


def test_deflate64_without_its_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    zipped = zip_of([entry(DEFLATE64, b"x", CONTENT)])
    monkeypatch.setitem(sys.modules, "inflate64", None)
    with pytest.raises(UsageError, match="needs inflate64") as raised:
        read(zipped)
    assert "pip install inflate64" in str(raised.value.hint)
