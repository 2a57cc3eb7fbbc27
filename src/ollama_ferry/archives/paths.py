"""Paths that an archive may hold together, so that each file is restored as itself on any file system."""

from __future__ import annotations

import unicodedata
from hashlib import blake2b

from ollama_ferry.archives.members import MEMBER_LIMIT
from ollama_ferry.archives.portable_tar import odd
from ollama_ferry.errors import Damaged

# Of parts of a path; a model's has 5 or 6. What packs well would have thousands of folders in every path.
_DEPTH_LIMIT = 100
_FOLDERS_LIMIT = MEMBER_LIMIT


class Paths:
    """The paths of the members that were met so far.

    Two members of one path are one file, the later one, for every reader. What is refused is a file in the place of a
    folder (some readers replace it, some end there), and a path beside one that counts which a file system that folds
    case or Unicode takes for the same. Some 300 bytes of memory a path, however long it is; the time is in
    proportion to the paths' bytes, where their parts are of a length that file systems take
    (:func:`~ollama_ferry.archives.portable_tar.check_lengths`).
    """

    def __init__(self) -> None:
        self._files: set[int] = set()
        self._folders: set[int] = set()
        # Folded: what the names are to disks that take several spellings for one.
        self._counted: set[int] = set()
        self._others: set[int] = set()

    def add(self, path: str, *, is_folder: bool, counts: bool) -> None:
        """Take in a member.

        Args:
            path: its path, in any spelling (``./a//b``).
            is_folder: it is a folder.
            counts: its content matters, and nothing else may come in its place.

        Raises:
            ReadDifferently: it is in the way of another one, or deeper than any model's.
            Damaged: there are more folders than any archive of models has.
        """
        parts = [part for part in path.split("/") if part not in ("", ".")]
        shown = repr(path[:200])
        if len(parts) > _DEPTH_LIMIT:
            raise odd(f"{shown} is {len(parts)} folders deep, and nobody needs more than {_DEPTH_LIMIT}")
        folded = [_folded(part) for part in parts]
        if is_folder:
            self._add_folder(parts, folded, shown)
            return
        key, folded_key = _keys(parts, folded)
        if key in self._folders:
            raise odd(f"{shown} is a file, and is a folder as well: some readers replace one, others end there")
        if folded_key in (self._others if counts else self._counted):
            raise odd(f"{shown} and another member have names that are one on disks which fold case or Unicode")
        (self._counted if counts else self._others).add(folded_key)
        self._files.add(key)
        self._add_folder(parts[:-1], folded[:-1], shown)

    def _add_folder(self, parts: list[str], folded: list[str], shown: str) -> None:
        # From below: above a folder that is known, all are.
        while parts:
            key, folded_key = _keys(parts, folded)
            if key in self._files:
                raise odd(f"{shown} needs a folder where a file is: some readers replace it, others end there")
            if folded_key in self._counted:
                raise odd(f"{shown} needs a folder where disks that fold case or Unicode have a file")
            if key in self._folders:
                break
            if len(self._folders) >= _FOLDERS_LIMIT:
                raise Damaged(f"it has more than {_FOLDERS_LIMIT} folders")
            self._folders.add(key)
            self._others.add(folded_key)
            parts, folded = parts[:-1], folded[:-1]


def _keys(parts: list[str], folded: list[str]) -> tuple[int, int]:
    """Return what stands for a path, and for what file systems that fold make of it; mostly that is the same."""
    key = _key(parts)
    return key, key if folded == parts else _key(folded)


def _key(parts: list[str]) -> int:
    raw = "/".join(parts).encode("utf-8", "surrogateescape")
    return int.from_bytes(blake2b(raw, digest_size=8).digest(), "big")


def _folded(part: str) -> str:
    """Return what case-folding and normalising file systems may make of a part, Windows' trailing dots included.

    It may be several parts: some characters stand for others with a slash between them.
    """
    if part.isascii():
        return part.lower().rstrip(" .")
    # HFS+ passes over characters of format, such as the zero-width joiner. No other character decomposes into one.
    seen = "".join(c for c in part if unicodedata.category(c) != "Cf")
    plain = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", seen).casefold())
    return "/".join(part.rstrip(" .") for part in plain.split("/"))
