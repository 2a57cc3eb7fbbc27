"""What is mounted on this machine."""

from __future__ import annotations

import os
import re
from pathlib import Path


def mount_points() -> frozenset[str]:
    """Return the folders where something is mounted, as proc(5) tells them; none where this system does not tell."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
            return frozenset(_unescaped(line.split(" ", 5)[4]) for line in table)
    except (OSError, IndexError):
        return frozenset()


def is_mount_point(path: Path) -> bool:
    """Return whether a folder is mounted, also where it is a part of the same file system that is mounted again."""
    return os.path.ismount(path) or str(path.resolve()) in mount_points()


def _unescaped(text: str) -> str:
    """Undo what proc(5) does to blanks and backslashes in a path."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
