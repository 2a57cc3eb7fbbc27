"""The folder that volumes are written to, on one medium: what is there, and the sums of what was written.

The sums so far are kept in ``x.sha256.partial``, which is locked as long as somebody writes.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ollama_ferry.archives.volumes.reading import Volumes, parse_sums
from ollama_ferry.archives.volumes.targets import LEFT
from ollama_ferry.errors import AlreadyExists, Damaged, FerryError, Remedy
from ollama_ferry.files.disk import Disk, writing
from ollama_ferry.files.draft import Draft, is_ours, remove_if_there, remove_twin
from ollama_ferry.files.lock import FileLock
from ollama_ferry.files.pending import PARTIAL

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


class Medium:
    """The medium that is in, held and locked until :meth:`close`.

    Args:
        volumes: the names of the volumes.
        disk: the calls to write with.
        replace: whether an archive of that name may be replaced; nothing of an earlier run is kept then.
        written: how many volumes this run has written: they are not looked at again.

    Attributes:
        folder: the folder of the volumes.
        known: the sums that an earlier run wrote: SHA-256 by file name.

    Raises:
        AlreadyExists: it has what may not be replaced, or another process writes there.
    """

    def __init__(self, volumes: Volumes, disk: Disk, *, replace: bool, written: int) -> None:
        self._volumes = volumes
        self._disk = disk
        self._require_files_only()
        self.known: dict[str, str] = {}
        with writing(volumes.whole.parent, left=LEFT):
            self.folder = disk.open_folder(str(volumes.whole.parent))
        try:
            self._require_no_other(replace)
            self._sums = self._locked_sums()
            if replace:
                self._remove_earlier(written)
        except BaseException:
            self.folder.close()
            raise

    def numbers(self) -> list[int]:
        """Return which volumes are here, whole or begun."""
        return self._volumes.numbers(also_ending=PARTIAL)

    def has(self, name: str) -> bool:
        """Return whether something has a name here."""
        return self._disk.status(self.folder, name) is not None

    def remove(self, name: str) -> None:
        """Remove a file, which may have gone."""
        with writing(self._volumes.whole.with_name(name), left=""):
            remove_if_there(self._disk, self.folder, name)

    def write_sums(self, done: list[Volume]) -> None:
        """Write the sums of the volumes so far."""
        text = "".join(f"{volume.sha256}  {volume.path.name}\n" for volume in done).encode()
        with writing(self._volumes.sums_path, left=LEFT):
            # Written over, and cut afterwards: what is known already is there at any moment.
            self._sums.rewind()
            self._sums.write(text)
            self._sums.cut(len(text))
            self._sums.sync()

    def publish_sums(self) -> None:
        """Give the sums their final name: the archive is whole.

        Raises:
            AlreadyExists: there are others by now.
        """
        path = self._volumes.sums_path
        with writing(path, left=LEFT):
            try:
                self._sums.publish(self.folder, path.name, replace=False)
            except FileExistsError:
                raise AlreadyExists(f"{path} is there already", hint="Remove it, then run this again.") from None

    def close(self, *, keep: bool) -> None:
        """Let go of the medium, and of the sums where they are of no use."""
        if not keep:
            with suppress(OSError):
                self._sums.discard()
        self._sums.close()
        self.folder.close()

    def _require_files_only(self) -> None:
        paths = [self._volumes.path(number) for number in self.numbers()]
        for path in (*paths, *(path.with_name(path.name + PARTIAL) for path in paths), self._volumes.sums_path):
            require_regular(path)

    def _require_no_other(self, replace: bool) -> None:
        whole = self._volumes.sums_path
        if not os.path.lexists(whole):
            return
        if not self._volumes.expected():
            raise AlreadyExists(
                f"{whole} is there already, and is that of another archive",
                hint="Name another file, or write to another folder.",
            )
        if not replace:
            with suppress(OSError):
                remove_twin(self._disk, self.folder, whole.name + PARTIAL, whole.name)
            raise AlreadyExists(
                f"{whole} is there already: an archive of that name is whole",
                hint="Name another file.",
                remedies=[Remedy("replace")],
            )

    def _locked_sums(self) -> Draft:
        name = self._volumes.sums_path.name + PARTIAL
        while True:
            with writing(self._volumes.sums_path, left=LEFT):
                lock = FileLock.take(self._disk, self.folder, name, 0o666)
            if lock is None:
                raise AlreadyExists(
                    f"{self._volumes.whole.name} is being written to {self.folder.path} by another process",
                    hint="Wait for it, or name another file.",
                )
            try:
                if not lock.made:
                    self._read_sums(lock.fd)
                with writing(self._volumes.sums_path, left=LEFT):
                    if lock.made or is_ours(self._disk, self.folder, name, os.fstat(lock.fd)):
                        return Draft(self._disk, self.folder, name, lock.fd)
                    # Somebody else's, or one with another name: what it says was read, and it is not written to.
                    remove_if_there(self._disk, self.folder, name)
            except BaseException:
                lock.close()
                raise
            lock.close()

    def _read_sums(self, fd: int) -> None:
        path = self._volumes.sums_path
        try:
            raw = os.read(fd, _SUMS_LIMIT)
        except OSError as error:
            raise FerryError(f"can't read {path}{PARTIAL}: {error.strerror or error}") from error
        with suppress(Damaged):
            # One that was cut in a crash tells nothing; then the volumes do.
            self.known = parse_sums(raw, str(path))

    def _remove_earlier(self, written: int) -> None:
        for number in self.numbers():
            if number > written:
                self.remove(self._volumes.name(number))
                self.remove(self._volumes.name(number) + PARTIAL)
        self.remove(self._volumes.sums_path.name)
        self.known.clear()


def require_regular(path: Path) -> None:
    """Refuse to write over, or read, what is no file.

    Raises:
        AlreadyExists: something else has that name.
    """
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(path.lstat().st_mode):
            raise AlreadyExists(
                f"{path} is there already, and is no regular file", hint="Name another file, or remove it."
            )
