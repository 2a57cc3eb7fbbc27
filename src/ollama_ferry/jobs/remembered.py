"""Which blobs of a store were hashed, and found good, by an earlier run, as git's index remembers what it has seen.

What is remembered is what the system knew of a file when its bytes were hashed: device, inode, size, times of the last
write and of the last change. The last one is the system's own: nobody but root can set it. So a blob that was written
to, or replaced, since then shows; one that a disk has lost bits of does not.

It lies outside the store, in the user's own state folder, and is believed only where nobody else can have written it.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ollama_ferry.engine.ports import Readable
from ollama_ferry.errors import FerryError, UsageError
from ollama_ferry.files.folder import without_tilde
from ollama_ferry.files.pending import PendingFile
from ollama_ferry.jobs.hash_blobs import Hashable
from ollama_ferry.jobs.report import Problem
from ollama_ferry.model.manifests import Descriptor, Digest
from ollama_ferry.places.store.store import Store

_FORM = 1
# Windows has the time at which a file was made in its place.
_TELLS_CHANGES = os.name != "nt"
_LIMIT = 64 * 1024 * 1024
# A change so soon before the hashing may have the time of one after it: then nothing is remembered (git's "racily
# clean" entries, Documentation/technical/racy-git.txt). FAT counts in two seconds.
_RACY = 2_000_000_000

_Mark = tuple[int, int, int, int, int]


def state_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder for what is remembered (XDG Base Directory Specification, ``XDG_STATE_HOME``)."""
    named = environ.get("XDG_STATE_HOME", "")
    return (Path(named) if os.path.isabs(named) else without_tilde("~/.local/state")) / "ollama-ferry"


class Remembered:
    """What is remembered of one store.

    Args:
        store: the store.
        folder: where it lies.

    Attributes:
        note: why nothing is believed of what lies there; empty for nothing to say.

    Raises:
        UsageError: this system does not tell when a file was changed.
    """

    def __init__(self, store: Store, folder: Path | None = None) -> None:
        if not _TELLS_CHANGES:
            raise UsageError("this system does not tell when a file was last changed: every blob has to be hashed")
        self.note = ""
        self._store = store
        self._root = os.path.realpath(store.root)
        self._folder = folder or state_folder()
        name = hashlib.sha256(os.fsencode(self._root)).hexdigest()[:32]
        self._path = self._folder / f"verified-{name}.json"
        self._marks = self._read()

    def unchanged(self, blobs: Iterable[Descriptor]) -> list[Descriptor]:
        """Return the blobs that were good and have not been changed since."""
        found = []
        for blob in blobs:
            known = self._marks.get(str(blob.digest))
            if known is None or known[2] != blob.size:
                continue
            with suppress(OSError):
                if known == _mark(os.stat(self._store.blob_path(blob.digest))):
                    found.append(blob)
        return found

    def watching(self) -> Watched:
        """Return the store, watched while its blobs are hashed."""
        return Watched(self._store)

    def keep(self, watched: Watched, problems: Mapping[Digest, Problem]) -> None:
        """Remember the blobs that were hashed and are good; forget those that are not."""
        for digest in watched.opened:
            self._marks.pop(str(digest), None)
        self._marks |= {str(digest): mark for digest, mark in watched.marks.items() if digest not in problems}
        text = json.dumps({"form": _FORM, "store": self._root, "blobs": self._marks})
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._require_own(os.lstat(self._folder), stat.S_ISDIR)
            with PendingFile(self._path, replace=True) as file:
                file.write(text.encode())
                file.publish()
            os.chmod(self._path, 0o600)
        except (OSError, FerryError) as error:
            self.note = f"what was verified can't be remembered in {self._folder}: {error}"

    def _read(self) -> dict[str, _Mark]:
        try:
            self._require_own(os.lstat(self._folder), stat.S_ISDIR)
            fd = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return {}
        except (OSError, FerryError) as error:
            self.note = f"what was verified before is not believed: {error}"
            return {}
        with open(fd, "rb") as file:
            try:
                self._require_own(os.fstat(fd), stat.S_ISREG)
                raw = file.read(_LIMIT + 1)
                if len(raw) > _LIMIT:
                    raise ValueError("it is too large")
                return _parsed(json.loads(raw), self._root)
            except (OSError, FerryError, ValueError, RecursionError) as error:
                self.note = f"what was verified before is not believed: {self._path}: {error}"
                return {}

    def _require_own(self, found: os.stat_result, is_kind: Any) -> None:
        if not is_kind(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise FerryError("somebody else owns it, or may write it")


class Watched:
    """A store whose blobs are looked at before and after they are read.

    Attributes:
        marks: what the system knew of those that nobody changed meanwhile, nor just before.
        opened: the blobs that were read, or begun.
    """

    def __init__(self, place: Hashable) -> None:
        self.marks: dict[Digest, _Mark] = {}
        self.opened: set[Digest] = set()
        self._place = place

    @contextmanager
    def open(self, blob: Descriptor, offset: int = 0) -> Iterator[Readable]:
        """Open a blob; what is remembered is of the very file that is read."""
        self.opened.add(blob.digest)
        began = time.time_ns()
        with self._place.open(blob, offset) as data:
            fd = data.fileno()  # type: ignore[attr-defined]
            before = _mark(os.fstat(fd))
            yield data
            if before == _mark(os.fstat(fd)) and max(before[3:]) < began - _RACY:
                self.marks[blob.digest] = before


def _mark(found: os.stat_result) -> _Mark:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _parsed(document: Any, root: str) -> dict[str, _Mark]:
    if not isinstance(document, dict) or document.get("form") != _FORM or document.get("store") != root:
        raise ValueError("it is of another form, or of another store")
    blobs = document.get("blobs")
    if not isinstance(blobs, dict):
        raise ValueError("it is of another form")
    found: dict[str, _Mark] = {}
    for digest, mark in blobs.items():
        if not isinstance(mark, list) or len(mark) != 5 or not all(type(part) is int for part in mark):
            raise ValueError("it is of another form")
        device, inode, size, written, changed = mark
        found[digest] = (device, inode, size, written, changed)
    return found
