"""Write an archive in volumes, straight to the medium that carries them; go on where an earlier run was broken off.

An archive's bytes are the same in every run, so what an earlier run has left is compared with what would be written:
whole volumes stay, and in an unfinished one writing begins where they first differ. Where media are changed, those
that are not in can't be compared: their sums are kept beside the volumes, in ``x.sha256.partial``, and compared
instead. That file is locked as long as somebody writes.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ollama_ferry.archives.volumes.reading import MOST_VOLUMES, Ask, Volumes, parse_sums
from ollama_ferry.archives.volumes.targets import LEFT, Elsewhere, Growing, Target, Whole, create, of_another, partial
from ollama_ferry.engine.hashing import BackgroundHash
from ollama_ferry.errors import AlreadyExists, Damaged, FerryError, UsageError
from ollama_ferry.files.disk import (
    Disk,
    free_space,
    lock,
    sync_folder,
    write_all,
    write_error,
)
from ollama_ferry.wording import human_size

_SUMS_LIMIT = 1024 * 1024


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
        expected: of all together in bytes, as far as that is known; the last one needs less room.
        replace: whether an archive of that name may be replaced; nothing of an earlier run is kept then.
        ask: asks for the next medium where the one that is there has no room; None where it stays.
        room: tells the free bytes of a folder.

    Attributes:
        size: the bytes of all volumes so far.
        done: the volumes that are whole.

    Raises:
        AlreadyExists: an archive of that name is there, or is being written by another process.
        UsageError: the folder is not there, or the name is one that no file of sums can hold.
    """

    def __init__(
        self,
        volumes: Volumes,
        size: int,
        *,
        expected: int | None = None,
        replace: bool = False,
        ask: Ask | None = None,
        room: Callable[[Path], int | None] = free_space,
    ) -> None:
        self.size = 0
        self.done: list[Volume] = []
        self._volumes = volumes
        self._volume_size = size
        self._expected = expected
        self._replace = replace
        self._ask = ask
        self._room = room
        self._current: Target | None = None
        volumes.require_plain_name()
        folder = volumes.whole.parent
        if not folder.is_dir():
            raise UsageError(f"can't write {volumes.path(1)}: its folder is not there", hint=f"mkdir -p {folder}")
        self._medium = _medium_of(folder)
        self._sums = self._enter_medium()
        # Where media are changed, volumes before those that are here are on others.
        self._elsewhere = min(self._numbers_here(), default=1) - 1 if ask is not None else 0
        # Beside the thread that writes, which is the busiest one where little is packed.
        self._hash = BackgroundHash()

    def __enter__(self) -> PendingVolumes:
        return self

    def __exit__(self, *_: object) -> None:
        if self._current is not None:
            self._current.close()
            self._current = None
        self._sums.close(keep=bool(self.done or self._numbers_here()))
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
        for number in self._numbers_here():
            path = self._volumes.path(number)
            if number > len(self.done):
                if os.path.lexists(path):
                    raise of_another(path)
                _remove(partial(path))
        if self._replace:
            # What it was in one piece would be taken for it.
            _remove(self._volumes.whole)
        self._sums.publish(self._volumes.sums_path)

    def _begin(self) -> Target:
        number = len(self.done) + 1
        if number > MOST_VOLUMES:
            raise UsageError(
                f"the archive takes more than {MOST_VOLUMES} volumes of {human_size(self._volume_size)}",
                hint="Choose a larger --split.",
            )
        path = self._volumes.path(number)
        if number <= self._elsewhere:
            known = self._sums.known.get(path.name)
            if known is None:
                raise AlreadyExists(
                    f"{path} is not here, volumes behind it are, and nothing here tells of which archive they are",
                    hint=f"Begin with the medium that {path.name} is on, or replace all of it with --force.",
                )
            return Elsewhere(path, known)
        if self._ask is not None:
            self._find_room(path, self._ask)
        self._sums.write(self.done)
        if os.path.lexists(path):
            _require_regular(path)
            return Whole(path, self._volume_size)
        return Growing(path)

    def _find_room(self, path: Path, ask: Ask) -> None:
        """Have media changed until there is one with room for a volume, or that has the beginning of it."""
        needed = self._volume_size
        if self._expected is not None:
            # A little more than is left of what was foretold.
            needed = min(needed, max(self._expected - self.size, 0) + self._expected // 50 + 64 * 1024)
        while True:
            wanted = self._why_not(path, needed)
            if not wanted:
                return
            self._sums.close(keep=True)
            ask(wanted)
            while wanted := self._change_medium(path):
                ask(wanted)

    def _why_not(self, path: Path, needed: int) -> str:
        """Say why the medium that is in can't take a volume; an empty text where it can."""
        if os.path.lexists(path) or os.path.lexists(partial(path)):
            return ""
        free = self._room(path.parent)
        if free is None or free >= needed:
            return ""
        return f"{path.parent} has {human_size(free)} free, and {path.name} takes {human_size(needed)}"

    def _change_medium(self, path: Path) -> str:
        """Take what is in now as the medium; say why not where that can't be."""
        if not path.parent.is_dir():
            return f"there is no folder {path.parent}, where {path.name} is to go"
        if self._medium is not None and _medium_of(path.parent) != self._medium:
            return f"nothing is mounted at {self._medium}, where {path.name} is to go"
        try:
            self._sums = self._enter_medium()
        except AlreadyExists as error:
            return error.message
        self._sums.write(self.done)
        return ""

    def _enter_medium(self) -> _Sums:
        """Look at what the medium has, and lock it.

        Raises:
            AlreadyExists: it has what may not be replaced, or another process writes there.
        """
        for number in self._numbers_here():
            for path in (self._volumes.path(number), partial(self._volumes.path(number))):
                if os.path.lexists(path):
                    _require_regular(path)
        whole = self._volumes.sums_path
        if os.path.lexists(whole):
            _require_regular(whole)
            if not self._volumes.expected():
                raise AlreadyExists(
                    f"{whole} is there already, and is that of another archive",
                    hint="Name another file, or write to another folder.",
                )
            if not self._replace:
                raise AlreadyExists(
                    f"{whole} is there already: an archive of that name is whole",
                    hint="Name another file, or replace this one with --force.",
                )
        sums = _Sums(partial(whole))
        if self._replace:
            try:
                # Those that this run has written are not looked at again.
                for number in self._numbers_here():
                    if number > len(self.done):
                        _remove(self._volumes.path(number))
                        _remove(partial(self._volumes.path(number)))
                _remove(whole)
                sums.known.clear()
            except BaseException:
                sums.close(keep=True)
                raise
        return sums

    def _numbers_here(self) -> list[int]:
        """Return which volumes are on this medium, whole or begun."""
        return self._volumes.numbers(also_ending=".partial")

    def _end(self) -> None:
        assert self._current is not None  # noqa: S101 -- whoever calls has begun one
        current, self._current = self._current, None
        current.end()
        self.done.append(Volume(current.path, current.size, current.sha256))
        if not isinstance(current, Elsewhere):
            self._sums.write(self.done)


class _Sums:
    """The sums of the volumes so far, in a file that is locked while it is open.

    Attributes:
        known: what an earlier run wrote: SHA-256 by file name.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None
        try:
            fd = create(path)
        except OSError as error:
            raise write_error(error, path, left=LEFT) from error
        if not lock(fd):
            os.close(fd)
            raise AlreadyExists(
                f"{path.name.removesuffix('.sha256.partial')} is being written to {path.parent} by another process",
                hint="Wait for it, or name another file.",
            )
        self._fd = fd
        try:
            raw = os.read(fd, _SUMS_LIMIT)
        except OSError as error:
            raise FerryError(f"can't read {path}: {error.strerror or error}") from error
        self.known: dict[str, str] = {}
        with suppress(Damaged):
            # One that was cut in a crash tells nothing; then the volumes do.
            self.known = parse_sums(raw, str(path))

    def write(self, done: list[Volume]) -> None:
        """Write the sums of the volumes so far."""
        if self._fd is None:
            return
        text = "".join(f"{volume.sha256}  {volume.path.name}\n" for volume in done).encode()
        try:
            os.lseek(self._fd, 0, os.SEEK_SET)
            write_all(Disk(), self._fd, text)
            os.ftruncate(self._fd, len(text))
            os.fsync(self._fd)
        except OSError as error:
            raise write_error(error, self._path, left=LEFT) from error

    def publish(self, path: Path) -> None:
        """Give the file its final name: the archive is whole."""
        try:
            if os.name == "nt" and self._fd is not None:
                # Windows renames no open file.
                os.close(self._fd)
                self._fd = None
            os.replace(self._path, path)
            sync_folder(path.parent)
        except OSError as error:
            raise write_error(error, path, left=LEFT) from error
        self.close(keep=True)

    def close(self, *, keep: bool) -> None:
        """Let go of the medium, and of the file where it is of no use."""
        if self._fd is not None:
            if not keep:
                with suppress(OSError):
                    self._path.unlink()
            os.close(self._fd)
            self._fd = None


def _remove(path: Path) -> None:
    try:
        with suppress(FileNotFoundError):
            path.unlink()
    except OSError as error:
        raise write_error(error, path, left="") from error


def _require_regular(path: Path) -> None:
    """Refuse to write over, or read, what is no file."""
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(path.lstat().st_mode):
            raise AlreadyExists(
                f"{path} is there already, and is no regular file", hint="Name another file, or remove it."
            )


def _medium_of(folder: Path) -> Path | None:
    """Return where the medium of a folder is mounted; None where it is on the system's own."""
    folder = Path(os.path.abspath(folder))
    for above in (folder, *folder.parents):
        if os.path.ismount(above):
            return above if above.parent != above else None
    return None
