"""Paths that an archive may hold together, so that each file is restored as itself on any file system."""

from __future__ import annotations

import unicodedata
from hashlib import blake2b

from ollama_ferry.archives.one_reading import odd


class Paths:
    """The paths of the members that were met so far.

    Two members of one path are one file, the later one, for every reader. What is refused is a file in the place of a
    folder (some readers replace it, some end there), and a path beside one that counts which a file system that folds
    case or Unicode takes for the same. Some 300 bytes of memory a path, however long it is.
    """

    def __init__(self) -> None:
        self._files: set[int] = set()
        self._folders: set[int] = set()
        # Folded: what the names are to disks that take several spellings for one.
        self._counted: set[int] = set()
        self._others: set[int] = set()
        self._last_folder = ""

    def add(self, path: str, *, is_folder: bool, counts: bool) -> None:
        """Take in a member.

        Args:
            path: its path, in any spelling (``./a//b``).
            is_folder: it is a folder.
            counts: its content matters, and nothing else may come in its place.

        Raises:
            ReadDifferently: it is in the way of another one.
        """
        parts = [part for part in path.split("/") if part not in ("", ".")]
        shown = ascii(path[:200])
        if is_folder:
            self._add_folder(parts, shown)
            return
        key, folded = _keys("/".join(parts))
        if key in self._folders:
            raise odd(f"{shown} is a file, and is a folder as well: some readers replace one, others end there")
        if folded in (self._others if counts else self._counted):
            raise odd(f"{shown} and another member have names that are one on disks which fold case or Unicode")
        (self._counted if counts else self._others).add(folded)
        self._files.add(key)
        self._add_folder(parts[:-1], shown)

    def _add_folder(self, parts: list[str], shown: str) -> None:
        path = "/".join(parts)
        if path == self._last_folder:
            return
        self._last_folder = path
        while parts:
            key, folded = _keys("/".join(parts))
            if key in self._files:
                raise odd(f"{shown} needs a folder where a file is: some readers replace it, others end there")
            if folded in self._counted:
                raise odd(f"{shown} needs a folder where disks that fold case or Unicode have a file")
            if key in self._folders:
                break
            self._folders.add(key)
            self._others.add(folded)
            parts = parts[:-1]


def _keys(path: str) -> tuple[int, int]:
    """Return what stands for a path, and for what file systems that fold make of it; mostly that is the same."""
    folded = _folded(path)
    key = _key(path)
    return key, key if folded == path else _key(folded)


def _key(path: str) -> int:
    return int.from_bytes(blake2b(path.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "big")


def _folded(path: str) -> str:
    """Return what case-folding and normalising file systems may make of a path, Windows' trailing dots included."""
    if path.isascii():
        return "/".join(part.rstrip(" .") for part in path.lower().split("/"))
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", path).casefold())
    # HFS+ passes over characters of format, such as the zero-width joiner.
    seen = "".join(c for c in plain if unicodedata.category(c) != "Cf")
    return "/".join(part.rstrip(" .") for part in seen.split("/"))
