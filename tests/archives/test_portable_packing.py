"""Packed data that not every decoder takes is refused, and what the packers in use write is taken."""

from __future__ import annotations

import bz2
import io
import lzma
import subprocess
from pathlib import Path
from random import Random

import pytest

from ollama_ferry.archives.unpacking import unpacked
from ollama_ferry.errors import Damaged, ReadDifferently
from ollama_ferry.jobs.verify import verify_file
from support.five_tars import require_tools, restoring
from support.fuzz_readings import Found, difference, files_that_pass
from support.hostile import MADE, gzip_of, zstd_of
from support.packed_blocks import Bzip2Block, xz_of
from support.tools import require_tool

TAR = MADE.tar()
# One that the fuzzer found.
FOUND = Path(__file__).with_name("too-many-codes.tar.bz2")
SYMBOLS = len(Bzip2Block.of(TAR).tables[0])
PACKINGS = {".tar.gz": "gzip", ".tar.zst": "zstd", ".tar.xz": "xz", ".tar.bz2": "bzip2"}


def with_table(lengths: list[int]) -> bytes:
    """Return the tar packed by bzip2, with a table that nothing uses."""
    block = Bzip2Block.of(TAR)
    block.tables.append(lengths)
    return block.packed()


def with_longer_code() -> bytes:
    """Return the tar packed by bzip2, with a code of the last table longer than it needs to be."""
    block = Bzip2Block.of(TAR)
    block.tables[-1][-1] += 1
    return block.packed()


def bytes_of(packed: bytes, packing: str, step: int = 2**20) -> bytes:
    """Unpack strictly, out of a file that gives so many bytes at a time."""

    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(size or 0, step))

    reader = unpacked(Slow(packed), packing)
    return b"".join(iter(lambda: reader.read(65536), b""))


PACKED: dict[str, tuple[str, bytes, str]] = {
    "zeros between gzip members": (
        ".tar.gz",
        gzip_of(TAR[:1024]) + bytes(9) + gzip_of(TAR[1024:]),
        "zeros",
    ),
    "zeros behind zstd": (".tar.zst", zstd_of(TAR) + bytes(512), "zeros"),
    "zeros behind bzip2": (".tar.bz2", bz2.compress(TAR) + bytes(4), "zeros"),
    "gzip: a sum of the header": (
        ".tar.gz",
        b"\x1f\x8b\x08\2" + gzip_of(TAR)[4:10] + b"ab" + gzip_of(TAR)[10:],
        "flags",
    ),
    "gzip: a reserved flag": (".tar.gz", b"\x1f\x8b\x08\x40" + gzip_of(TAR)[4:], "flags"),
    "gzip: a large extra field": (
        ".tar.gz",
        b"\x1f\x8b\x08\4" + gzip_of(TAR)[4:10] + b"\x30\x75" + bytes(30_000) + gzip_of(TAR)[10:],
        "extra field of 30000 bytes",
    ),
    "xz: a filter": (
        ".tar.xz",
        lzma.compress(TAR, filters=[{"id": lzma.FILTER_X86}, {"id": lzma.FILTER_LZMA2}]),
        "through a filter",
    ),
    "xz: a filter in the second block": (
        ".tar.xz",
        xz_of([TAR[:1024], TAR[1024:]], filtered=1),
        "through a filter",
    ),
    "xz: a filter in the third block, with sizes": (
        ".tar.xz",
        xz_of([TAR[:1024], TAR[1024:2048], TAR[2048:]], filtered=2, sizes=True),
        "through a filter",
    ),
    "xz: a filter in the second stream": (
        ".tar.xz",
        xz_of([TAR[:1024]]) + xz_of([TAR[1024:]], filtered=0),
        "through a filter",
    ),
    "xz: a large dictionary": (".tar.xz", xz_of([TAR[:1024], TAR[1024:]], dictionary=29), "dictionary of over 64 MiB"),
    "bzip2: more codes than there are": (".tar.bz2", FOUND.read_bytes(), "more codes"),
    "bzip2: such a table, though nothing uses it": (".tar.bz2", with_table([1] * SYMBOLS), "more codes"),
    "bzip2: randomised": (
        ".tar.bz2",
        bz2.compress(TAR[:-500]) + Bzip2Block.of(TAR[-500:]).randomised().packed(),
        "randomised",
    ),
}


@pytest.mark.parametrize("what", PACKED)
def test_packing_that_readers_differ_in_is_refused(tmp_path: Path, what: str) -> None:
    extension, data, why = PACKED[what]
    archive = tmp_path / f"a{extension}"
    archive.write_bytes(data)
    with pytest.raises(ReadDifferently, match=why):
        verify_file(archive)
    require_tools()
    with restoring(extension, [data]) as (made,):
        assert difference(MADE.files, made), "all take it: so should we"


def test_bzip2_that_only_others_refuse_is_refused() -> None:
    # lbzip2, which GNU tar may be set up to call.
    with pytest.raises(ReadDifferently, match="fewer codes"):
        bytes_of(with_longer_code(), "bzip2")
    require_tool("lbzip2")
    assert subprocess.run(["lbzip2", "-dc"], input=with_longer_code(), capture_output=True).returncode


@pytest.mark.parametrize(
    ("block", "why"),
    [
        (Bzip2Block.of(TAR).with_magic_in_its_selectors(), "in the tables of another one"),
        (Bzip2Block(**{**vars(Bzip2Block.of(TAR)), "detour": 100_000}), "longer tables than any writer makes"),
    ],
    ids=["a block in a block", "lengths that go to and fro"],
)
@pytest.mark.parametrize("step", [1000, 2**20])
def test_bzip2_that_would_cost_much_to_look_at_is_refused(block: Bzip2Block, why: str, step: int) -> None:
    assert bz2.decompress(block.packed()) == TAR
    with pytest.raises(ReadDifferently, match=why):
        bytes_of(block.packed(), "bzip2", step)


RNG = Random(2)
CONTENTS = {"zeros": bytes(1_200_000), "random": RNG.randbytes(400_000), "tar": TAR * 50, "nothing": b""}
PACKERS = {
    **{f"{tool} {level}": (f"{tool} -{level}", "bzip2") for tool in ("bzip2", "lbzip2", "pbzip2") for level in (1, 9)},
    "7-Zip, bzip2": ("7z a -si -so -tbzip2 x", "bzip2"),
    "7-Zip, xz": ("7z a -si -so -txz x", "xz"),
    "xz 1": ("xz -1", "xz"),
    "xz 9": ("xz -9e", "xz"),
    "xz, many blocks": ("xz -1 -T2 --block-size=100000", "xz"),
    "xz, no checks": ("xz -1 --check=none", "xz"),
}


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("packer", PACKERS)
def test_what_packers_in_use_write_is_taken(packer: str, content: str) -> None:
    words, packing = PACKERS[packer]
    require_tool(words.split()[0], {"7z": "p7zip-full", "xz": "xz-utils"}.get(words.split()[0], ""))
    packed = subprocess.run(words.split(), input=CONTENTS[content], capture_output=True, check=True).stdout
    for step in (997, 2**20):
        assert bytes_of(packed, packing, step) == CONTENTS[content]


# -- one bit elsewhere

FLIPPED = {
    ".tar.gz": gzip_of(TAR),
    ".tar.zst": zstd_of(TAR),
    ".tar.xz": lzma.compress(TAR, check=lzma.CHECK_NONE),
    ".tar.bz2": bz2.compress(TAR),
}


@pytest.mark.parametrize("extension", FLIPPED)
def test_with_a_bit_changed_it_is_restored_or_refused(tmp_path: Path, extension: str, seed: int, long: bool) -> None:
    require_tools()
    whole = FLIPPED[extension]
    every = range(len(whole) * 8)
    kept, found = [], Found()
    for bit in every if long else Random(seed).sample(every, 300):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        try:
            reader = unpacked(io.BytesIO(bytes(data)), PACKINGS[extension], exact=True)
            while reader.read(65536):
                pass
        except Damaged:
            continue
        files = files_that_pass(extension, bytes(data), tmp_path, found)
        if files is not None:
            kept.append((bit, bytes(data), files))
    with restoring(extension, [data for _, data, _ in kept]) as outcomes:
        for (bit, _, files), outcome in zip(kept, outcomes, strict=True):
            assert not difference(files, outcome), bit
