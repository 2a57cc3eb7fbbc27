"""A disk that fails, or takes the process with it, at a chosen call."""

from __future__ import annotations

import errno
import os
from typing import NoReturn

from ollama_ferry.files.disk import Disk

_TAKEN_WHOLE = 4096

CALLS = (
    "create", "write", "truncate", "sync", "sync_folder", "make_folder", "touch", "link", "replace", "remove",
    "remove_folder",
)  # fmt: skip


class FaultyDisk(Disk):
    """Carries out every call but the chosen one.

    Args:
        fail_at: the number of the call that fails, from 0; -1 lets all pass and only counts.
        only: count calls of this name only; empty counts all.
        how: what the failing call does.
    """

    def __init__(self, fail_at: int = -1, only: str = "", *, how: int = errno.EIO) -> None:
        self.count = 0
        self.failed = ""
        self._fail_at = fail_at
        self._only = only
        self._how = how

    def _step(self, call: str) -> None:
        if self._only in ("", call):
            number, self.count = self.count, self.count + 1
            if number == self._fail_at:
                self.failed = call
                self._fail(call)

    def _fail(self, call: str) -> None:
        raise OSError(self._how, os.strerror(self._how))

    def create(self, path: str) -> int:
        self._step("create")
        return super().create(path)

    def write(self, fd: int, data: bytes | memoryview) -> int:
        self._step("write")
        # Half of what is large: whoever writes has to look at what was taken.
        return super().write(fd, data if len(data) <= _TAKEN_WHOLE else data[: len(data) // 2])

    def truncate(self, fd: int, size: int) -> None:
        self._step("truncate")
        super().truncate(fd, size)

    def sync(self, fd: int) -> None:
        # The call can fail; bytes that no power cut will take need not reach a real disk.
        self._step("sync")

    def sync_folder(self, path: str) -> None:
        self._step("sync_folder")

    def make_folder(self, path: str) -> None:
        self._step("make_folder")
        super().make_folder(path)

    def touch(self, path: str) -> None:
        self._step("touch")
        super().touch(path)

    def link(self, source: str, target: str) -> None:
        self._step("link")
        super().link(source, target)

    def replace(self, source: str, target: str) -> None:
        self._step("replace")
        super().replace(source, target)

    def remove(self, path: str) -> None:
        self._step("remove")
        super().remove(path)

    def remove_folder(self, path: str) -> None:
        self._step("remove_folder")
        super().remove_folder(path)


class DeadlyDisk(FaultyDisk):
    """Ends the process at the chosen call, as a power cut would as far as a process can tell."""

    def _fail(self, call: str) -> NoReturn:
        os._exit(9)


class LinklessDisk(Disk):
    """A file system without second names, such as exFAT."""

    def link(self, source: str, target: str) -> None:
        # Linux looks at the name before it asks the file system.
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))
