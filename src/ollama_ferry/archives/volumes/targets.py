"""Where the bytes of one volume go: into a file that grows, along one that is whole, or nowhere."""

from __future__ import annotations

import os
from pathlib import Path

from ollama_ferry.engine.hashing import BackgroundHash
from ollama_ferry.errors import AlreadyExists, FerryError
from ollama_ferry.files.disk import Disk, start_writing_back, sync_folder, write_all, write_error

LEFT = "What is whole stays: run the same command again, and it goes on from there."
"""What becomes of volumes when something fails."""

_SYNC_EVERY = 32 * 1024 * 1024
_CHANGED = "Or the models, or the options, are not those of the run that wrote it. "


class Target:
    """Where the bytes of one volume go."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._hash = BackgroundHash()

    @property
    def sha256(self) -> str:
        """The SHA-256 of the whole volume."""
        return self._hash.hexdigest()

    def write(self, data: memoryview) -> None:
        self._hash.update(data)
        self._take(data)
        self.size += len(data)

    def _take(self, data: memoryview) -> None:
        raise NotImplementedError

    def end(self) -> None:
        """Make the volume whole, under its name."""

    def close(self) -> None:
        """Let go of it, as it is."""
        self._hash.close()
        self.leave()

    def leave(self) -> None:
        """Close its file."""


class Elsewhere(Target):
    """A volume that is on another medium, of which the sum is known."""

    def __init__(self, path: Path, sha256: str) -> None:
        super().__init__(path)
        self._known = sha256

    def _take(self, data: memoryview) -> None:
        pass

    def end(self) -> None:
        if self.sha256 != self._known:
            raise of_another(self.path)


class Whole(Target):
    """A volume that an earlier run has made whole; its bytes are compared."""

    def __init__(self, path: Path, size: int) -> None:
        super().__init__(path)
        try:
            self._file = path.open("rb", buffering=0)
        except OSError as error:
            self._hash.close()
            raise FerryError(f"can't read {path}: {error.strerror or error}") from error
        self._length = os.fstat(self._file.fileno()).st_size
        if self._length > size:
            self.close()
            raise of_another(path)

    def _take(self, data: memoryview) -> None:
        if not _same(self._file.fileno(), data, self.path):
            raise of_another(self.path)

    def end(self) -> None:
        self._file.close()
        if self._length != self.size:
            raise of_another(self.path)

    def leave(self) -> None:
        self._file.close()


class Growing(Target):
    """A volume that is being written under a temporary name; what is there already is compared first."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._partial = partial(path)
        self._unsynced = 0
        try:
            self._fd = create(self._partial)
        except OSError as error:
            self._hash.close()
            raise write_error(error, path, left=LEFT) from error
        self._comparing = os.fstat(self._fd).st_size > 0

    def _take(self, data: memoryview) -> None:
        try:
            if self._comparing and not _same(self._fd, data, self._partial):
                self._comparing = False
                os.ftruncate(self._fd, self.size)
                os.lseek(self._fd, self.size, os.SEEK_SET)
            if self._comparing:
                return
            write_all(Disk(), self._fd, data)
            self._unsynced += len(data)
            if self._unsynced >= _SYNC_EVERY:
                start_writing_back(self._fd, self.size)
                self._unsynced = 0
        except OSError as error:
            raise write_error(error, self.path, left=LEFT) from error

    def end(self) -> None:
        try:
            os.ftruncate(self._fd, self.size)
            os.fsync(self._fd)
            if os.name == "nt":
                os.close(self._fd)
            os.replace(self._partial, self.path)
            if os.name != "nt":
                os.close(self._fd)
            sync_folder(self.path.parent)
        except OSError as error:
            raise write_error(error, self.path, left=LEFT) from error

    def leave(self) -> None:
        os.close(self._fd)


def create(path: Path) -> int:
    # A link planted under the name of the temporary file is not followed.
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def of_another(path: Path) -> AlreadyExists:
    return AlreadyExists(
        f"{path} is there already, and is a volume of another archive",
        hint=f"{_CHANGED}Name another file, or replace all of its volumes with --force.",
    )


def _same(fd: int, data: memoryview, path: Path) -> bool:
    """Tell whether a file goes on with these bytes; it is read so far."""
    view = data
    while view:
        try:
            there = os.read(fd, len(view))
        except OSError as error:
            raise FerryError(f"can't read {path}: {error.strerror or error}") from error
        if not there or view[: len(there)] != there:
            return False
        view = view[len(there) :]
    return True
