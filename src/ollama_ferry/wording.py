"""Numbers and paths as people read them."""

from __future__ import annotations

import os


def human_size(size: float) -> str:
    """Write a number of bytes as Ollama does: decimal units, two to three digits."""
    if size < 1000:
        return f"{size:.0f} B"
    for unit in ("kB", "MB", "GB", "TB"):
        size /= 1000
        if size < 999.5 or unit == "TB":
            return f"{size:.1f} {unit}" if size < 99.95 else f"{size:.0f} {unit}"
    raise AssertionError("unreachable")


def counted(count: int, noun: str) -> str:
    """Write how many there are of something whose plural ends in s: ``1 blob``, ``12 blobs``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def shown(text: str | os.PathLike[str]) -> str:
    """Return a path or name as it may reach a terminal: escaped where it holds what does not print."""
    text = os.fspath(text)
    return text if text.isprintable() else ascii(text)
