"""Look at every file of a store once, without reading a blob, and without counting on anything about it.

What a folder may hold is unbounded, and so is nothing that is kept of it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice

from ollama_ferry.doctor.findings import LISTED_AT_MOST
from ollama_ferry.files.folder import changed_at, entry_status, on_disk
from ollama_ferry.ollama.candidates import leads_nowhere

ENTRIES_AT_MOST = 500_000
"""How many entries of one folder are looked at."""

_BLOB = re.compile(r"sha256([-:])([0-9a-f]{64})")
# Newer servers download tensors into NAME.tmp, and resume.
_PARTIAL = re.compile(r"sha256-([0-9a-f]{64})(?:-partial(?:-[0-9]+)?|\.tmp)")

Visit = Callable[[str, os.stat_result], None]
"""Called with the path and the state of every file and folder; a link is told as such."""


@dataclass
class Some:
    """Some files of a kind: how many, their bytes, the newest one's time, and the largest few.

    Attributes:
        largest: sizes and paths, at most so many as a finding lists.
    """

    count: int = 0
    size: int = 0
    newest: float = 0.0
    largest: list[tuple[int, str]] = field(default_factory=list)

    def add(self, path: str, size: int, modified: float) -> None:
        """Take a file."""
        self.count += 1
        self.size += size
        self.newest = max(self.newest, modified)
        self.largest.append((size, path))
        if len(self.largest) > 4 * LISTED_AT_MOST:
            self._cut()

    def paths(self) -> list[str]:
        """Return the paths of the largest, the largest first."""
        self._cut()
        return [path for _, path in self.largest]

    def _cut(self) -> None:
        self.largest.sort(key=lambda entry: (-entry[0], entry[1]))
        del self.largest[LISTED_AT_MOST:]


@dataclass
class Blobs:
    """What lies in ``blobs/``.

    Attributes:
        sizes: the regular files whose name is a digest: hexadecimal digits to size and time of change, which for what a
            tar has restored is not the time that the tar gave it.
        old: those named ``sha256:<hex>``, as very old stores have them.
        partials: the unfinished downloads, by the digest that they are to have.
        parts: the paths of their files.
        strays: files whose name is no digest.
        links: those of ``sizes`` that are links.
        cut: whether there is more than was looked at.
    """

    sizes: dict[str, tuple[int, float]] = field(default_factory=dict)
    old: Some = field(default_factory=Some)
    partials: dict[str, Some] = field(default_factory=dict)
    parts: dict[str, list[str]] = field(default_factory=dict)
    strays: Some = field(default_factory=Some)
    links: Some = field(default_factory=Some)
    cut: bool = False


def visit_blobs(folder: str, visit: Visit) -> Blobs:
    """Look at a store's blobs.

    Raises:
        OSError: the folder can't be read.
    """
    found = Blobs()
    with os.scandir(folder) as entries:
        for number, entry in enumerate(entries):
            if number >= ENTRIES_AT_MOST:
                found.cut = True
                break
            try:
                own = entry_status(entry)
            except OSError:
                continue
            visit(entry.path, own)
            if stat.S_ISDIR(own.st_mode):
                continue
            name = entry.name
            if blob := _BLOB.fullmatch(name):
                with suppress(OSError):
                    status = entry.stat() if stat.S_ISLNK(own.st_mode) else own
                    if status is not own:
                        found.links.add(entry.path, 0, 0.0)
                    if stat.S_ISREG(status.st_mode):
                        if blob[1] == ":":
                            found.old.add(entry.path, status.st_size, status.st_mtime)
                            found.sizes.setdefault(blob[2], (status.st_size, changed_at(status)))
                        else:
                            found.sizes[blob[2]] = (status.st_size, changed_at(status))
            elif partial := _PARTIAL.fullmatch(name):
                found.partials.setdefault(partial[1], Some()).add(entry.path, on_disk(own), own.st_mtime)
                found.parts.setdefault(partial[1], []).append(entry.path)
            else:
                found.strays.add(entry.path, on_disk(own), own.st_mtime)
    return found


@dataclass(frozen=True)
class ManifestFile:
    """A file, or a link that leads nowhere, four levels below ``manifests/``.

    Attributes:
        parts: its path below that folder.
        path: its whole path.
        there: False for a link that leads nowhere.
        regular: False for a pipe, a device and the like.
    """

    parts: tuple[str, ...]
    path: str
    there: bool
    regular: bool


def visit_manifests(folder: str, visit: Visit, closed: Callable[[str], None]) -> Iterator[ManifestFile]:
    """Give the files that a server takes for manifests, sorted.

    Args:
        folder: the ``manifests`` folder.
        look: see :data:`Visit`.
        closed: called with each folder that this process may not read.
    """
    yield from islice(_below(folder, (), visit, closed), ENTRIES_AT_MOST)


def _below(folder: str, above: tuple[str, ...], visit: Visit, closed: Callable[[str], None]) -> Iterator[ManifestFile]:
    try:
        with os.scandir(folder) as found:
            entries = sorted(islice(found, ENTRIES_AT_MOST), key=lambda entry: entry.name)
    except PermissionError:
        closed(folder)
        return
    except OSError:
        return
    for entry in entries:
        parts = (*above, entry.name)
        with suppress(OSError):
            visit(entry.path, entry_status(entry))
        if len(parts) < 4:
            if _is_folder(entry):
                yield from _below(entry.path, parts, visit, closed)
        elif not _is_folder(entry):
            yield ManifestFile(parts, entry.path, not leads_nowhere(entry.path), not _is_special(entry.path))


def _is_special(path: str) -> bool:
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


@dataclass
class FolderSeen:
    """What lies in a folder and below it.

    Attributes:
        size: the bytes that its files take up.
        newest: the time of the newest change; 0 where there is no file.
        known: whether all of it was looked at, and it consists of files and folders.
        files: device and inode of each entry.
    """

    size: int = 0
    newest: float = 0.0
    known: bool = True
    files: set[tuple[int, int]] = field(default_factory=set)


def visit_folder(folder: str, seen: FolderSeen) -> None:
    """Look at everything below a folder, and add it to what was seen; no link is followed."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if len(seen.files) >= ENTRIES_AT_MOST:
                    seen.known = False
                    return
                status = entry_status(entry)
                seen.files.add((status.st_dev, status.st_ino))
                seen.newest = max(seen.newest, status.st_mtime)
                if stat.S_ISLNK(status.st_mode):
                    seen.known = False
                if stat.S_ISDIR(status.st_mode):
                    visit_folder(entry.path, seen)
                else:
                    seen.size += on_disk(status)
    except FileNotFoundError:
        pass
    except OSError:
        seen.known = False
