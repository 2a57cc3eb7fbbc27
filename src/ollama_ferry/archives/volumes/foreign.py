"""Volumes that another program made: ``x.tar.gz.part_aa`` of ``split``, ``x.tar.001`` and ``backup.001`` of 7-Zip.

They are joined in the order of their endings, from the first on, where all that the order asks for are there. Every
part but the last has the same size: what has not, was not split.

Source: POSIX.1-2017 ``split`` (letters ``aa`` to ``zz``); the GNU manual of ``split`` (``-d`` for digits, ``-a``).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from ollama_ferry.files.identity import as_started

_MOST_PARTS = 10_000
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def foreign_volumes(path: Path) -> list[Path]:
    """Return all parts of a file that was split, in order; none where the path is no part of one.

    Args:
        path: any of the parts.
    """
    # The longest ending first: of x.001 it is 001, and not the 01 behind x.0.
    for length in (4, 3, 2, 1):
        found = re.fullmatch(rf"(.+?)([a-z]{{{length}}}|[0-9]{{{length}}})", path.name, re.DOTALL)
        if found and (length > 1 or found[2].isdigit()) and (parts := _parts(path.parent, found[1], found[2])):
            return parts
    return []


def is_first_part(path: Path) -> bool:
    """Return whether a file is by its name the first part of something that was split."""
    return bool(re.search(r"[._-](?:part|vol)?[._-]?(?:a{2,4}|0{1,3}[01]?)\Z", path.name))


def _parts(folder: Path, stem: str, ending: str) -> list[Path]:
    """Return the parts whose endings are as long as this one, where they are those of a split file."""
    digits = ending.isdigit()
    form = re.compile(rf"[0-9]{{{len(ending)}}}" if digits else rf"[a-z]{{{len(ending)}}}")
    try:
        with as_started():
            names = os.listdir(folder)
    except OSError:
        return []
    endings = {name[len(stem) :] for name in names if name.startswith(stem) and form.fullmatch(name[len(stem) :])}
    if ending not in endings or len(endings) < 2:
        return []
    for first in (0, 1) if digits else (0,):
        expected = [text for _, text in zip(endings, _endings(len(ending), first, digits=digits), strict=False)]
        paths = [folder / f"{stem}{text}" for text in expected]
        if set(expected) == endings and _are_split(paths):
            return paths
    return []


def _endings(length: int, first: int, *, digits: bool) -> Iterator[str]:
    for number in range(first, _MOST_PARTS):
        if digits:
            yield f"{number:0{length}d}"
        else:
            text = ""
            for _ in range(length):
                number, letter = divmod(number, len(_LETTERS))
                text = _LETTERS[letter] + text
            yield text


def _are_split(paths: list[Path]) -> bool:
    """Return whether files have the sizes of parts: all that of the first, and the last one no more."""
    try:
        with as_started():
            sizes = [path.stat().st_size if path.is_file() else 0 for path in paths]
    except OSError:
        return False
    return all(size == sizes[0] for size in sizes[:-1]) and 0 < sizes[-1] <= sizes[0]
