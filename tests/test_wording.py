"""Sizes, rates and paths: how they are read, and how they are written."""

from __future__ import annotations

import pytest

from ollama_ferry.api import rate_of
from ollama_ferry.archives.volumes.reading import volume_size
from ollama_ferry.errors import UsageError
from ollama_ferry.wording import (
    counted,
    exact_size,
    human_rate,
    human_size,
    human_time,
    read_size,
    reading_order,
    shown,
)


@pytest.mark.parametrize(
    ("text", "files", "lines"),
    [
        ("0", 0, 0),
        ("700", 700, 700),
        ("4G", 4 * 1024**3, 4_000_000_000),
        ("700m", 700 * 1024**2, 700_000_000),
        ("1.5T", 3 * 1024**4 // 2, 1_500_000_000_000),
        ("20 MB", 20 * 1024**2, 20_000_000),
        ("500KiB", 500 * 1024, 500_000),
    ],
)
def test_sizes_are_powers_of_1024_for_files_and_of_1000_for_lines(text: str, files: int, lines: int) -> None:
    assert read_size(text, 1024) == files and read_size(text, 1000) == lines


@pytest.mark.parametrize("text", ["", "G", "-1", "1e3", "1.2.3", "4X", "4 G B", "\u0664G", "1" * 13, "0x10", "inf"])
def test_what_is_no_size(text: str) -> None:
    assert read_size(text, 1024) is None
    for read in (volume_size, rate_of):
        with pytest.raises(UsageError):
            read(text)


def test_sizes_that_would_mean_nothing() -> None:
    with pytest.raises(UsageError, match="too small"):
        volume_size("1K")
    with pytest.raises(UsageError, match="less than a byte"):
        rate_of("0.1")
    assert rate_of("0") == 0 and rate_of(1000) == 1000 and volume_size("FAT32") < 4 * 1024**3


def test_numbers_as_people_read_them() -> None:
    assert [human_size(size) for size in (0, 999, 1000, 99_949, 99_951, 999_499_999, 5.2e9, 2e15)] == [
        "0 B", "999 B", "1.0 kB", "99.9 kB", "100 kB", "999 MB", "5.2 GB", "2000 TB",
    ]  # fmt: skip
    assert human_rate(3_000_000, 2.0) == "1.5 MB/s" and human_rate(5, 0.0) == "5.0 kB/s"
    assert counted(1, "blob") == "1 blob" and counted(0, "blob") == "0 blobs"


def test_nothing_in_a_path_steers_a_terminal() -> None:
    assert shown("/a b") == "/a b" and "\x1b" not in shown("/a\x1b[2J")


def test_numbers_sort_by_what_they_count() -> None:
    names = ["qwen3:14b", "Qwen3:8b", "qwen3:1.7b", "a/b:1", "qwen3:8b-q4", "10", "9"]
    assert sorted(names, key=reading_order) == [
        "9",
        "10",
        "a/b:1",
        "qwen3:1.7b",
        "Qwen3:8b",
        "qwen3:8b-q4",
        "qwen3:14b",
    ]


def test_times_and_exact_sizes() -> None:
    assert [human_time(seconds) for seconds in (0.4, 99, 100, 3570, 3600, 7500)] == [
        "0 s", "99 s", "2 min", "1 h 0 min", "1 h 0 min", "2 h 5 min",
    ]  # fmt: skip
    assert [exact_size(size) for size in (0, 1, 3_796_786)] == ["0 bytes", "1 byte", "3,796,786 bytes"]
