"""A disk that fails, or takes the process with it, at a chosen call; and others with faults of their own."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Sequence
from typing import Any, NoReturn

from ollama_ferry.files.disk import Disk
from ollama_ferry.files.folder import Folder

_TAKEN_WHOLE = 4096

CALLS = (
    "create", "write", "write_many", "copy", "truncate", "set_mode", "sync", "sync_many", "sync_folder", "make_folder",
    "touch", "link", "replace", "remove", "remove_folder",
)  # fmt: skip
"""The calls that change something."""

WRITES = ("write", "write_many", "copy")
"""Those that add bytes to a file."""

KINDS = {"write": WRITES, "sync": ("sync", "sync_many")}
"""Calls that do the same to one file or to many."""

LOOKS = ("open_folder", "status", "names", "open")
"""The calls that only look."""


class WatchedDisk(Disk):
    """Tells of every call before it is made."""

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in CALLS and name not in LOOKS:
            return found

        def call(*arguments: Any, **more: Any) -> Any:
            self.before(name, arguments)
            return found(*arguments, **more)

        return call

    def before(self, call: str, arguments: tuple[Any, ...]) -> None:
        """Do something before a call is made; what it raises, the call raises."""
        raise NotImplementedError


class FaultyDisk(WatchedDisk):
    """Carries out every call but the chosen one; looking is no call.

    Args:
        fail_at: the number of the call that fails, from 0; -1 lets all pass and only counts.
        only: count calls of this name only, or of a kind of ``KINDS``; empty counts all.
        how: what the failing call does.
    """

    def __init__(self, fail_at: int = -1, only: str = "", *, how: int = errno.EIO) -> None:
        self.count = 0
        self.failed = ""
        self._fail_at = fail_at
        self._only = only
        self._how = how

    def before(self, call: str, arguments: tuple[Any, ...]) -> None:
        kind = next((kind for kind, calls in KINDS.items() if call in calls and self._only == kind), call)
        if call in CALLS and self._only in ("", kind):
            number, self.count = self.count, self.count + 1
            if number == self._fail_at:
                self.failed = call
                self._fail(call)

    def _fail(self, call: str) -> None:
        raise OSError(self._how, os.strerror(self._how))

    def write(self, fd: int, data: bytes | memoryview) -> int:
        # Half of what is large: whoever writes has to look at what was taken.
        return super().write(fd, data if len(data) <= _TAKEN_WHOLE else data[: len(data) // 2])

    def write_many(self, fd: int, data: Sequence[memoryview]) -> int:
        return super().write_many(fd, data if sum(map(len, data)) <= _TAKEN_WHOLE else data[: (len(data) + 1) // 2])

    def copy(self, source: int, offset: int, fd: int, count: int) -> int:
        return super().copy(source, offset, fd, count if count <= _TAKEN_WHOLE else count // 2)

    def sync(self, fd: int) -> None:
        pass  # The call can fail; bytes that no power cut will take need not reach a real disk.

    def sync_many(self, fds: Sequence[int]) -> None:
        pass

    def sync_folder(self, folder: Folder) -> None:
        pass


class DeadlyDisk(FaultyDisk):
    """Ends the process at the chosen call, as a power cut would as far as a process can tell."""

    def _fail(self, call: str) -> NoReturn:
        os._exit(9)


class HastyDisk(Disk):
    """A disk that promises all at once: what is tested is not what a power cut leaves."""

    def sync(self, fd: int) -> None:
        pass

    def sync_many(self, fds: Sequence[int]) -> None:
        pass

    def sync_folder(self, folder: Folder) -> None:
        pass


class RenumberingDisk(HastyDisk):
    """A file system that shows an object store: no second names, and what is renamed is another file."""

    def link(self, folder: Folder, name: str, to: Folder, new: str) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    def replace(self, folder: Folder, name: str, to: Folder, new: str) -> None:
        source, target = os.path.join(folder.path, name), os.path.join(to.path, new)
        shutil.copyfile(source, target + ".copy")
        os.unlink(source)
        os.replace(target + ".copy", target)


class LinklessDisk(Disk):
    """A file system without second names, such as exFAT."""

    def __init__(self, refusal: int = errno.EPERM) -> None:
        self._refusal = refusal

    def link(self, folder: Folder, name: str, to: Folder, new: str) -> None:
        # Linux looks at the name before it asks the file system.
        if self.status(to, new) is not None:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        raise OSError(self._refusal, os.strerror(self._refusal))
