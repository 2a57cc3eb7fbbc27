"""A file that appears under its final name only when it is whole.

The bytes go to ``NAME.partial`` in the same folder. A lock on that file tells a running export from one that
was killed, so a leftover is taken over by the next run instead of staying for ever.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from types import TracebackType

from ollama_ferry.engine.hashing import BackgroundHash
from ollama_ferry.errors import AlreadyExists, UsageError
from ollama_ferry.files.disk import lock, start_writing_back, sync_folder, write_error

# How much is handed to the disk at a time while more is being written, so that the last sync is short.
_SYNC_EVERY = 32 * 1024 * 1024


class PendingFile:
    """A file being written; :meth:`publish` gives it its name, leaving the block without that removes it.

    Args:
        path: the final name.
        replace: whether a file of that name may be replaced.

    Raises:
        AlreadyExists: the file is there and ``replace`` is false, or another process is writing it.
        UsageError: the name is that of a folder, or its folder is not there.
        NotPermitted: the folder can't be written.
    """

    def __init__(self, path: Path, *, replace: bool = False) -> None:
        self.path = path
        self.partial = path.with_name(path.name + ".partial")
        self.size = 0
        self._replace = replace
        # Beside the thread that writes, which is the busiest one where little is packed.
        self._hash = BackgroundHash()
        self._unsynced = 0
        if path.is_dir():
            raise UsageError(f"can't write {path}: it is a folder", hint="Name a file, for example one in it.")
        self._refuse_existing()
        self._fd: int | None = self._open()

    def __enter__(self) -> PendingFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hash.close()
        if self._fd is not None:
            self._discard()

    @property
    def sha256(self) -> str:
        """The SHA-256 of what was written, in hexadecimal; nothing may be written afterwards."""
        return self._hash.hexdigest()

    def write(self, data: bytes | memoryview) -> None:
        """Add bytes, which must not change any more.

        Raises:
            NoSpace, FerryError: the disk did not take them.
        """
        if self._fd is None:
            raise ValueError("the file is closed")
        self._hash.update(data)
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
            self._unsynced += len(data)
            if self._unsynced >= _SYNC_EVERY:
                start_writing_back(self._fd, self.size + len(data))
                self._unsynced = 0
        except OSError as error:
            raise write_error(error, self.path) from error
        self.size += len(data)

    def publish(self) -> None:
        """Make the bytes safe on the disk, then give the file its name.

        Raises:
            NoSpace, AlreadyExists, FerryError: that failed, and nothing is left.
        """
        if self._fd is None:
            raise ValueError("the file is closed")
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise write_error(error, self.path) from error
        self._refuse_existing()
        if os.name == "nt":
            # Windows renames no open file.
            os.close(self._fd)
            self._fd = None
        try:
            os.replace(self.partial, self.path)
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None
            sync_folder(self.path.parent)
        except OSError as error:
            raise write_error(error, self.path) from error

    def _refuse_existing(self) -> None:
        if not self._replace and os.path.lexists(self.path):
            raise AlreadyExists(
                f"{self.path} is there already", hint="Name another file, or replace this one with --force."
            )

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        try:
            # A link planted under the name of the temporary file is not followed.
            fd = os.open(self.partial, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)
        except FileNotFoundError as error:
            raise UsageError(
                f"can't write {self.path}: its folder is not there", hint=f"mkdir -p {self.path.parent}"
            ) from error
        except OSError as error:
            raise write_error(error, self.path) from error
        if not lock(fd):
            os.close(fd)
            raise AlreadyExists(
                f"{self.path} is being written by another process", hint="Wait for it, or name another file."
            )
        os.ftruncate(fd, 0)
        return fd

    def _discard(self) -> None:
        assert self._fd is not None  # noqa: S101 -- the only caller has just asked
        with contextlib.suppress(OSError):
            if os.name != "nt":
                self.partial.unlink()
        os.close(self._fd)
        self._fd = None
        if os.name == "nt":
            with contextlib.suppress(OSError):
                self.partial.unlink()
