"""Write an archive in volumes, straight to the medium that carries them; go on where an earlier run was broken off.

An archive's bytes are the same in every run, so what an earlier run has left is compared with what would be written:
whole volumes stay, and in an unfinished one writing begins where they first differ. Nothing is kept in any other file.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ollama_ferry.archives.volumes import MOST_VOLUMES, Ask, Volumes
from ollama_ferry.disk import free_space, human_size, lock, start_writing_back, sync_folder, write_error
from ollama_ferry.errors import AlreadyExists, FerryError, UsageError
from ollama_ferry.hashing import BackgroundHash

_SYNC_EVERY = 32 * 1024 * 1024
_LEFT = "What is whole stays: run the same command again, and it goes on from there."


@dataclass(frozen=True)
class Volume:
    """A volume that is whole.

    Attributes:
        path: its file; where media were changed, it is on one of them.
        size: in bytes.
        sha256: in hexadecimal.
    """

    path: Path
    size: int
    sha256: str


class PendingVolumes:
    """Volumes being written; :meth:`publish` ends the last one and writes their sums.

    Args:
        volumes: their names.
        size: of each but the last, in bytes.
        replace: whether an archive of that name may be replaced; nothing of an earlier run is kept then.
        ask: asks for the next medium where the one that is there has no room; None where it stays.
        room: tells the free bytes of a folder.

    Attributes:
        size: the bytes of all volumes so far.
        done: the volumes that are whole.

    Raises:
        AlreadyExists: an archive of that name is there, in one piece or in volumes.
        UsageError: the folder is not there.
    """

    def __init__(
        self,
        volumes: Volumes,
        size: int,
        *,
        replace: bool = False,
        ask: Ask | None = None,
        room: Callable[[Path], int | None] = free_space,
    ) -> None:
        self.size = 0
        self.done: list[Volume] = []
        self.path = volumes.whole
        self._volumes = volumes
        self._volume_size = size
        self._ask = ask
        self._room = room
        self._hash = BackgroundHash()
        self._medium = _medium_of(volumes.whole.parent)
        folder = volumes.whole.parent
        if not folder.is_dir():
            raise UsageError(f"can't write {volumes.path(1)}: its folder is not there", hint=f"mkdir -p {folder}")
        if replace:
            self._remove_all()
        elif os.path.lexists(volumes.sums_path):
            raise AlreadyExists(
                f"{volumes.sums_path} is there already: an archive of that name is whole",
                hint="Name another file, or replace this one with --force.",
            )
        here = volumes.numbers()
        partial = [number for number in range(1, MOST_VOLUMES) if _partial(volumes.path(number)).exists()]
        # Where media are changed, volumes before those that are here are on others.
        self._elsewhere = min([*here, *partial], default=1) - 1 if ask is not None else 0
        self._current: _Target | None = None

    def __enter__(self) -> PendingVolumes:
        return self

    def __exit__(self, *_: object) -> None:
        if self._current is not None:
            self._current.close()
            self._current = None
        self._hash.close()

    @property
    def sha256(self) -> str:
        """The SHA-256 of all that was written, in hexadecimal; nothing may be written afterwards."""
        return self._hash.hexdigest()

    def write(self, data: bytes | memoryview) -> None:
        """Add bytes, which must not change any more.

        Raises:
            AlreadyExists: a volume is there that has other bytes.
            NoSpace, FerryError: the medium did not take them.
        """
        self._hash.update(data)
        view = memoryview(data)
        while view:
            if self._current is None:
                self._current = self._begin()
            part = view[: self._volume_size - self._current.size]
            self._current.write(part)
            self.size += len(part)
            view = view[len(part) :]
            if self._current.size == self._volume_size:
                self._end()

    def publish(self) -> None:
        """End the last volume, and write the sums of all of them.

        Raises:
            AlreadyExists, NoSpace, FerryError: that failed; volumes that are whole stay.
        """
        if self._current is not None:
            self._end()
        beyond = self._volumes.path(len(self.done) + 1)
        if os.path.lexists(beyond):
            raise _of_another(beyond)
        path = self._volumes.sums_path
        partial = _partial(path)
        text = "".join(f"{volume.sha256}  {volume.path.name}\n" for volume in self.done)
        try:
            fd = _create(partial)
            try:
                os.ftruncate(fd, 0)
                os.write(fd, text.encode())
                os.fsync(fd)
            finally:
                os.close(fd)
            os.replace(partial, path)
            sync_folder(path.parent)
        except OSError as error:
            raise write_error(error, path, left=_LEFT) from error

    def _begin(self) -> _Target:
        number = len(self.done) + 1
        if number > MOST_VOLUMES:
            raise UsageError(
                f"the archive takes more than {MOST_VOLUMES} volumes of {human_size(self._volume_size)}",
                hint="Choose a larger --split.",
            )
        path = self._volumes.path(number)
        if number <= self._elsewhere:
            return _Elsewhere(path)
        if path.is_file():
            return _Whole(path, self._volume_size)
        if self._ask is not None and not _partial(path).exists():
            self._find_room(path, self._ask)
        return _Growing(path)

    def _find_room(self, path: Path, ask: Ask) -> None:
        """Have media changed until there is one with room for a volume."""
        while True:
            if _medium_of(path.parent) != self._medium:
                ask(f"nothing is mounted at {self._medium}, where {path.name} is to go")
                continue
            free = self._room(path.parent) if path.parent.is_dir() else 0
            if free is None or free >= self._volume_size:
                return
            ask(f"{path.parent} has {human_size(free)} free, and {path.name} takes {human_size(self._volume_size)}")

    def _end(self) -> None:
        assert self._current is not None  # noqa: S101 -- whoever calls has begun one
        current, self._current = self._current, None
        current.end()
        self.done.append(Volume(current.path, current.size, current.sha256))

    def _remove_all(self) -> None:
        volumes = [self._volumes.path(number) for number in range(1, MOST_VOLUMES + 1)]
        for path in (self._volumes.sums_path, *volumes):
            for each in (path, _partial(path)):
                try:
                    with contextlib.suppress(FileNotFoundError):
                        each.unlink()
                except OSError as error:
                    raise write_error(error, each) from error


class _Target:
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


class _Elsewhere(_Target):
    """A volume that is on another medium; its bytes are only counted and hashed."""

    def _take(self, data: memoryview) -> None:
        pass


class _Whole(_Target):
    """A volume that an earlier run has made whole; its bytes are compared."""

    def __init__(self, path: Path, size: int) -> None:
        super().__init__(path)
        try:
            self._file = path.open("rb", buffering=0)
        except OSError as error:
            raise FerryError(f"can't read {path}: {error.strerror or error}") from error
        self._length = os.fstat(self._file.fileno()).st_size
        if self._length > size:
            self._file.close()
            raise _of_another(path)

    def _take(self, data: memoryview) -> None:
        if not _same(self._file.fileno(), data, self.path):
            raise _of_another(self.path)

    def end(self) -> None:
        self._file.close()
        if self._length != self.size:
            raise _of_another(self.path)

    def leave(self) -> None:
        self._file.close()


class _Growing(_Target):
    """A volume that is being written under a temporary name; what is there already is compared first."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._partial = _partial(path)
        self._unsynced = 0
        try:
            self._fd = _create(self._partial)
        except OSError as error:
            raise write_error(error, path, left=_LEFT) from error
        if not lock(self._fd):
            os.close(self._fd)
            raise AlreadyExists(
                f"{path} is being written by another process", hint="Wait for it, or name another file."
            )
        self._comparing = os.fstat(self._fd).st_size > 0

    def _take(self, data: memoryview) -> None:
        try:
            if self._comparing and not _same(self._fd, data, self._partial):
                self._comparing = False
                os.ftruncate(self._fd, self.size)
                os.lseek(self._fd, self.size, os.SEEK_SET)
            if self._comparing:
                return
            while data:
                written = os.write(self._fd, data)
                data = data[written:]
                self._unsynced += written
            if self._unsynced >= _SYNC_EVERY:
                start_writing_back(self._fd, self.size)
                self._unsynced = 0
        except OSError as error:
            raise write_error(error, self.path, left=_LEFT) from error

    def end(self) -> None:
        try:
            os.ftruncate(self._fd, self.size)
            os.fsync(self._fd)
            if os.name == "nt":
                # Windows renames no open file.
                os.close(self._fd)
            os.replace(self._partial, self.path)
            if os.name != "nt":
                os.close(self._fd)
            sync_folder(self.path.parent)
        except OSError as error:
            raise write_error(error, self.path, left=_LEFT) from error

    def leave(self) -> None:
        os.close(self._fd)


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


def _create(path: Path) -> int:
    # A link planted under the name of the temporary file is not followed.
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _partial(path: Path) -> Path:
    return path.with_name(path.name + ".partial")


def _of_another(path: Path) -> AlreadyExists:
    return AlreadyExists(
        f"{path} is there already, and is a volume of another archive",
        hint="Name another file, or replace all of its volumes with --force.",
    )


def _medium_of(folder: Path) -> Path | None:
    """Return where the medium of a folder is mounted; None where it is on the system's own."""
    folder = Path(os.path.abspath(folder))
    for above in (folder, *folder.parents):
        if os.path.ismount(above):
            return above if above.parent != above else None
    return None
