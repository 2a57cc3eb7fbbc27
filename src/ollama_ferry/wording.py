"""Numbers and paths as people read and write them."""

from __future__ import annotations

import os
import re
import time

_AMOUNT = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)\s*([KMGT]?)(?:I?B)?", re.IGNORECASE)


def human_size(size: float) -> str:
    """Write a number of bytes as Ollama does: decimal units, two to three digits."""
    if size < 1000:
        return f"{size:.0f} B"
    for unit in ("kB", "MB", "GB", "TB"):
        size /= 1000
        if size < 999.5 or unit == "TB":
            return f"{size:.1f} {unit}" if size < 99.95 else f"{size:.0f} {unit}"
    raise AssertionError("unreachable")


def exact_size(size: int) -> str:
    """Write a number of bytes to the last one, with separators of thousands: ``3,796,786 bytes``."""
    return f"{size:,} byte" if size == 1 else f"{size:,} bytes"


def counted(count: int, noun: str) -> str:
    """Write how many there are of something whose plural ends in s: ``1 blob``, ``12 blobs``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def reading_order(text: str) -> tuple[tuple[int, int, str], ...]:
    """Return a key that sorts as people read: letter case aside, and by what numbers count, ``8b`` before ``14b``."""
    return tuple(
        (0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d{1,18})", text.lower()) if part
    )


def shown(text: str | os.PathLike[str]) -> str:
    """Return a path or name as it may reach a terminal: escaped where it holds what does not print."""
    text = os.fspath(text)
    return text if text.isprintable() else repr(text)


def human_rate(size: float, seconds: float) -> str:
    """Write how fast so many bytes moved in so many seconds."""
    return f"{human_size(size / max(seconds, 0.001))}/s"


def human_age(moment: float | None) -> str:
    """Write how long ago something was, given in seconds since the epoch: ``3 days ago``; a dash where nobody knows."""
    if moment is None:
        return "-"
    seconds = max(0.0, time.time() - moment)
    for name, length in (("year", 31_557_600), ("month", 2_629_800), ("week", 604_800), ("day", 86_400),
                         ("hour", 3600), ("minute", 60)):  # fmt: skip
        if seconds >= length:
            return f"{counted(int(seconds // length), name)} ago"
    return "just now"


def human_time(seconds: float) -> str:
    """Write how long something takes: ``8 s``, ``3 min``, ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    minutes = round(whole / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def read_size(text: str, thousand: int) -> int | None:
    """Read a number of bytes as people write it: ``4G``, ``700M``, ``1.5T``, ``500k``, ``20 MB``.

    Args:
        text: what was written.
        thousand: what ``k`` stands for: 1024, as for files and disks, or 1000, as for lines.

    Returns:
        The bytes, or None where it is no such number.
    """
    found = _AMOUNT.fullmatch(text.strip())
    return int(float(found[1]) * thousand ** " KMGT".index(found[2].upper() or " ")) if found else None
