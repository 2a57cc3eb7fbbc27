"""Blobs whose blocks an archive shares with the store, where the file system can."""

from __future__ import annotations

import re
import subprocess
import tarfile
from pathlib import Path

import pytest

from ollama_ferry import api
from ollama_ferry.places.archive import sink
from support.power_cuts import LoopDisk
from support.stores import StoreBuilder, tree, weights
from support.tools import require_tool

MIB = 1024 * 1024


def shared_bytes(file: Path) -> int:
    """Return how many of a file's bytes lie in blocks that another file has, too (e2fsprogs, ``filefrag``)."""
    command = [require_tool("filefrag", "e2fsprogs"), "-v", "-b4096", str(file)]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return 4096 * sum(int(count) for count in re.findall(r"^ *\d+:[^:]+:[^:]+: +(\d+):.*\bshared\b", listed, re.M))


def test_a_plain_tar_and_a_store_share_their_blocks() -> None:
    with LoopDisk("xfs") as disk:
        store = StoreBuilder(disk.root / "store")
        sizes = [3 * MIB, 2 * MIB + 513, 700]
        store.model("big:1", [("tensor", weights(size, size)) for size in sizes])
        archive, target = disk.root / "big.tar", disk.root / "target"
        api.export("big:1", archive, store=store.root)
        # The last block of each is its own.
        at_least = sum(size - 4096 for size in sizes if size >= MIB)
        assert shared_bytes(archive) >= at_least
        api.import_archive(archive, store=target)
        assert tree(target) == tree(store.root)
        big = [path for path in (target / "blobs").iterdir() if path.stat().st_size >= MIB]
        assert sum(map(shared_bytes, big)) >= at_least
        # They are copies all the same: what happens to one does not reach the others.
        big[0].write_bytes(b"")
        assert api.verify(archive=archive).good and api.verify(store=store.root).good


def test_behind_so_many_big_blobs_the_next_begin_anywhere(
    source: StoreBuilder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sink, "_SHARED_AT_MOST", 3)
    source.model("big:1", [("tensor", weights(MIB, seed)) for seed in range(5)])
    planned = api.plan_export("big:1", tmp_path / "big.tar", store=source.root)
    api.export("big:1", tmp_path / "big.tar", store=source.root)
    with tarfile.open(tmp_path / "big.tar") as opened:
        offsets = [member.offset_data % 4096 for member in opened if member.size >= MIB]
    assert offsets[:3] == [0, 0, 0] and any(offsets[3:])
    assert (tmp_path / "big.tar").stat().st_size <= (planned.expected_size or 0)
