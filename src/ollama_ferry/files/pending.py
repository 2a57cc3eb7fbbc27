"""A file that appears under its final name only when it is whole, by its path: an archive.

The bytes go to ``NAME.partial`` in the same folder. A lock on that file tells a running export from one that was
killed, whose leftover makes way for a fresh file: who left it, or planted it, does not get to see what comes.
"""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from types import TracebackType

from ollama_ferry.engine.hashing import BackgroundHash
from ollama_ferry.errors import AlreadyExists, Remedy, UsageError
from ollama_ferry.files.disk import Disk, write_error, writing
from ollama_ferry.files.draft import Draft, remove_if_there, remove_twin
from ollama_ferry.files.folder import Folder
from ollama_ferry.files.lock import FileLock
from ollama_ferry.shell_lines import folder_making

PARTIAL = ".partial"
"""What the name of a file ends in that is not whole yet."""


class PendingFile:
    """A file being written; :meth:`publish` gives it its name, leaving the block without that removes it.

    Args:
        path: the final name.
        replace: whether a file of that name may be replaced.
        executable: whether it is a program.
        disk: the calls to write with.
        summed: find out its SHA-256 while it is written.

    Attributes:
        size: the bytes so far.

    Raises:
        AlreadyExists: the file is there and ``replace`` is false, or another process is writing it.
        UsageError: the name is that of a folder, or its folder is not there.
        NotPermitted: the folder can't be written.
    """

    def __init__(
        self,
        path: Path,
        *,
        replace: bool = False,
        executable: bool = False,
        disk: Disk | None = None,
        summed: bool = False,
    ) -> None:
        self.path = path
        self._replace = replace
        self._mode = 0o777 if executable else 0o666
        self._disk = disk or Disk()
        if os.path.isdir(path):
            raise UsageError(f"can't write {path}: it is a folder", hint="Name a file, for example one in it.")
        try:
            self._folder = self._disk.open_folder(str(path.parent))
        except FileNotFoundError as error:
            raise folder_missing(path) from error
        except OSError as error:
            raise write_error(error, path) from error
        try:
            self._refuse_existing()
            self._draft = self._begin(self._folder)
        except BaseException:
            self._folder.close()
            raise
        # Beside the thread that writes, which is the busiest one where little is packed.
        self._hash = BackgroundHash() if summed else None

    def __enter__(self) -> PendingFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._hash is not None:
            self._hash.close()
        if self._draft.name != self.path.name:
            with contextlib.suppress(OSError):
                self._draft.discard()
        self._draft.close()
        self._folder.close()

    @property
    def size(self) -> int:
        return self._draft.size

    @property
    def sha256(self) -> str:
        """The SHA-256 of what was written, in hexadecimal; empty where nobody wants it. Nothing may be written then."""
        return self._hash.hexdigest() if self._hash is not None else ""

    def write(self, *data: bytes | memoryview) -> None:
        """Add bytes, which must not change any more.

        Raises:
            NoSpace, FerryError: the disk did not take them.
        """
        if self._hash is not None:
            for part in data:
                self._hash.update(part)
        with writing(self.path):
            self._draft.write(*data)

    def copy_from(self, file: io.FileIO, offset: int, size: int) -> int:
        """Have the system add bytes of another file; see :class:`Draft`. What is summed has to be read."""
        with writing(self.path):
            return self._draft.copy_from(file, offset, size) if self._hash is None else 0

    def read_back(self, buffer: memoryview, offset: int) -> None:
        """Fill a buffer with what was written."""
        with writing(self.path):
            self._draft.read_back(buffer, offset)

    def publish(self) -> None:
        """Make the bytes safe on the disk, then give the file its name.

        Raises:
            NoSpace, AlreadyExists, FerryError: that failed, and nothing is left.
        """
        try:
            self._draft.sync()
            self._draft.publish(self._folder, self.path.name, replace=self._replace, sha256=self.sha256)
        except FileExistsError:
            raise self._exists() from None
        except OSError as error:
            raise write_error(error, self.path) from error

    def _refuse_existing(self) -> None:
        if not self._replace and self._disk.status(self._folder, self.path.name) is not None:
            with contextlib.suppress(OSError):
                remove_twin(self._disk, self._folder, self.path.name + PARTIAL, self.path.name)
            raise self._exists()

    def _exists(self) -> AlreadyExists:
        return AlreadyExists(f"{self.path} is there already", hint="Name another file.", remedies=[Remedy("replace")])

    def _begin(self, folder: Folder) -> Draft:
        name = self.path.name + PARTIAL
        try:
            while True:
                lock = FileLock.take(self._disk, folder, name, self._mode)
                if lock is None:
                    raise AlreadyExists(
                        f"{self.path} is being written by another process", hint="Wait for it, or name another file."
                    )
                if lock.made:
                    return Draft(self._disk, folder, name, lock.fd)
                try:
                    remove_if_there(self._disk, folder, name)
                finally:
                    lock.close()
        except OSError as error:
            raise write_error(error, self.path) from error


def folder_missing(path: Path) -> UsageError:
    """Return the error for a file whose folder is not there."""
    return UsageError(f"can't write {path}: its folder is not there", hint=folder_making(path.parent))
