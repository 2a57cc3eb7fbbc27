"""A file that appears under its final name only when it is whole, by its path: an archive.

The bytes go to ``NAME.partial`` in the same folder. A lock on that file tells a running export from one that was
killed, whose leftover makes way for a fresh file: who left it, or planted it, does not get to see what comes.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from types import TracebackType

from ollama_ferry.engine.hashing import BackgroundHash
from ollama_ferry.errors import AlreadyExists, Remedy, UsageError
from ollama_ferry.files.disk import Disk, write_error
from ollama_ferry.files.draft import Draft, remove_if_there, remove_twin
from ollama_ferry.files.folder import Folder
from ollama_ferry.files.lock import FileLock
from ollama_ferry.wording import quoted

PARTIAL = ".partial"
"""What the name of a file ends in that is not whole yet."""


class PendingFile:
    """A file being written; :meth:`publish` gives it its name, leaving the block without that removes it.

    Args:
        path: the final name.
        replace: whether a file of that name may be replaced.
        executable: whether it is a program.
        disk: the calls to write with.

    Attributes:
        size: the bytes so far.

    Raises:
        AlreadyExists: the file is there and ``replace`` is false, or another process is writing it.
        UsageError: the name is that of a folder, or its folder is not there.
        NotPermitted: the folder can't be written.
    """

    def __init__(
        self, path: Path, *, replace: bool = False, executable: bool = False, disk: Disk | None = None
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
        self._hash = BackgroundHash()

    def __enter__(self) -> PendingFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
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
        """The SHA-256 of what was written, in hexadecimal; nothing may be written afterwards."""
        return self._hash.hexdigest()

    def write(self, data: bytes | memoryview) -> None:
        """Add bytes, which must not change any more.

        Raises:
            NoSpace, FerryError: the disk did not take them.
        """
        self._hash.update(data)
        try:
            self._draft.write(data)
        except OSError as error:
            raise write_error(error, self.path) from error

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
    return UsageError(f"can't write {path}: its folder is not there", hint=f"mkdir -p {quoted(path.parent)}")
