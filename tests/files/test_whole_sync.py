"""One sync of the whole file system in place of many: only where that waits for all of it, and tells of failures."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ollama_ferry.files import disk as disks
from ollama_ferry.files.disk import Disk
from ollama_ferry.files.whole_sync import sync_file_system, tells_failures
from support.power_cuts import FILE_SYSTEMS, LOG_IS_LOST, LoopDisk

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone has such a sync")


@pytest.mark.parametrize(
    ("platform", "release", "tells"),
    [
        ("linux", "6.1.0-18-amd64", True),
        ("linux", "5.8.0", True),
        ("linux", "5.7.19", False),
        ("linux", "4.18.0-553.el8_10.x86_64", False),
        ("linux", "10.0", True),
        ("linux", "unknown", False),
        ("darwin", "23.5.0", False),
    ],
)
def test_old_kernels_tell_of_no_failure(platform: str, release: str, tells: bool) -> None:
    assert tells_failures(platform, release) == tells


def test_a_file_system_that_is_not_known_is_synced_file_by_file() -> None:
    fd = os.open("/proc/self/status", os.O_RDONLY)
    try:
        assert not sync_file_system(fd)
    finally:
        os.close(fd)


@pytest.fixture(params=FILE_SYSTEMS)
def loop(request: pytest.FixtureRequest) -> Iterator[LoopDisk]:
    with LoopDisk(request.param) as made:
        yield made


def test_a_disk_that_fails_is_told(loop: LoopDisk) -> None:
    if not tells_failures("linux", os.uname().release):
        pytest.skip("this kernel is too old")
    with (loop.root / "x").open("wb") as file:
        file.write(b"some")
        file.flush()
        assert sync_file_system(file.fileno())
        file.write(b"more")
        file.flush()
        loop.cut(LOG_IS_LOST)
        with pytest.raises(OSError) as raised:
            sync_file_system(file.fileno())
        assert raised.value.errno in (errno.EIO, errno.EUCLEAN)


@pytest.mark.parametrize(("count", "known", "whole", "single"), [(3, True, 0, 3), (40, True, 1, 0), (40, False, 1, 40)])
def test_few_files_are_synced_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, known: bool, whole: int, single: int
) -> None:
    calls: list[int] = []

    def pretend(fd: int) -> bool:
        calls.append(fd)
        return known

    class Counting(Disk):
        synced = 0

        def sync(self, fd: int) -> None:
            self.synced += 1

    monkeypatch.setattr(disks, "sync_file_system", pretend)
    disk = Counting()
    fds = [os.open(tmp_path / str(number), os.O_RDWR | os.O_CREAT) for number in range(count)]
    try:
        disk.sync_many(fds)
    finally:
        for fd in fds:
            os.close(fd)
    assert (len(calls), disk.synced) == (whole, single)
