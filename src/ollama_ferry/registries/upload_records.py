"""Where uploads that are under way go on, kept for a run after one that was killed: the registry may still have them.

A file for each, in the cache folder of the user, who alone may read it: a registry's address of an upload stands for
the right to go on with it. Whoever is at work holds the file's lock.

Source: the XDG base directory specification ("user-specific non-essential data files").
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from ollama_ferry.errors import FerryError
from ollama_ferry.files.disk import Disk
from ollama_ferry.files.draft import remove_if_there
from ollama_ferry.files.folder import Folder
from ollama_ferry.files.lock import FileLock

_LIMIT = 16 * 1024


class UploadRecord:
    """What is known of one upload; use it in a ``with`` block. Where nothing can be kept, nothing is known.

    Args:
        environ: the environment's variables, which say where the cache is.
        registry, repository, digest: what is uploaded where.

    Attributes:
        location: where an earlier run would have gone on; empty for none.
    """

    def __init__(self, environ: Mapping[str, str], registry: str, repository: str, digest: str) -> None:
        self.location = ""
        self._name = hashlib.sha256("\n".join((registry, repository, digest)).encode()).hexdigest()
        self._disk = Disk()
        self._folder: Folder | None = None
        self._lock: FileLock | None = None
        with suppress(OSError, FerryError):
            self._open(environ)

    def __enter__(self) -> UploadRecord:
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            self._lock.close()
        if self._folder is not None:
            self._folder.close()

    def note(self, location: str) -> None:
        """Keep where the upload goes on."""
        if self._lock is not None and len(location) < _LIMIT:
            with suppress(OSError):
                os.ftruncate(self._lock.fd, 0)
                os.lseek(self._lock.fd, 0, os.SEEK_SET)
                os.write(self._lock.fd, f"{location}\n".encode())

    def forget(self) -> None:
        """Keep nothing of it any more."""
        if self._lock is not None and self._folder is not None:
            with suppress(OSError):
                remove_if_there(self._disk, self._folder, self._name)

    def _open(self, environ: Mapping[str, str]) -> None:
        folder = _folder(environ)
        if folder is None:
            return
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = self._disk.open_folder(str(folder))
        if not _is_own(self._folder.status()):
            return
        self._lock = FileLock.take(self._disk, self._folder, self._name, 0o600)
        if self._lock is None or not _is_own(os.fstat(self._lock.fd)):
            return
        text = os.read(self._lock.fd, _LIMIT).decode("ascii", "replace")
        # What was cut off in the middle of a write is none.
        self.location = text[:-1] if text.endswith("\n") and text.count("\n") == 1 else ""


def _folder(environ: Mapping[str, str]) -> Path | None:
    """Return the folder of all records; None where there is no place for one, or another user's."""
    home, cache = environ.get("HOME") or environ.get("LOCALAPPDATA"), environ.get("XDG_CACHE_HOME")
    above = Path(cache) if cache else Path(home) if home else None
    if above is None or not above.is_absolute() or not above.is_dir() or not _is_own(above.stat()):
        return None
    return (above if cache else above / ".cache") / "ollama-ferry" / "uploads"


def _is_own(found: os.stat_result) -> bool:
    return not hasattr(os, "geteuid") or found.st_uid == os.geteuid()
