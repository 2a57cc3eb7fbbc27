"""A file system of its own, in a file, whose power is cut at a chosen moment of a run.

The cut is the ioctl by which ext4 and XFS stop at once: what has not reached the disk is lost, and every later call
fails. Whoever mounts it again finds what a machine finds after its power came back.
"""

from __future__ import annotations

import contextlib
import gc
import os
import struct
import subprocess
import tempfile
import time
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from ollama_ferry.engine.events import Event
from support import needs
from support.faulty_disk import CALLS, WatchedDisk
from support.tools import require_tool

FILE_SYSTEMS = {"ext4": "e2fsprogs", "xfs": "xfsprogs"}
"""Those that know the ioctl, with Debian's package that makes them."""

LOG_IS_WRITTEN, LOG_IS_LOST = 1, 2
"""What becomes of names and sizes that wait in the journal: include/uapi/linux/ext4.h, fs/xfs/libxfs/xfs_fs.h."""

# EXT4_IOC_SHUTDOWN and XFS_IOC_GOINGDOWN: _IOR('X', 125, __u32)
_SHUTDOWN = 0x8004587D
_SIZE = 400 * 1024 * 1024
_ATTEMPTS = 50


class LoopDisk:
    """A mounted file system in a file; use it in a ``with`` block.

    It is in a folder of its own: those of pytest are moved and removed by other runs.

    Args:
        kind: one of ``FILE_SYSTEMS``.

    Attributes:
        root: where it is mounted.
    """

    def __init__(self, kind: str) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix=f"ferry-{kind}-"))
        self.root = self._folder / "mounted"
        self._image = self._folder / "image"
        self._kind = kind
        self._device = ""

    def __enter__(self) -> LoopDisk:
        try:
            self._attach()
            self._mount()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._device:
            if not self._unmounted():
                # What is open keeps it; it goes with that.
                subprocess.run(["umount", "--lazy", self._device], check=False)
            subprocess.run(["losetup", "--detach", self._device], check=False)
        self._image.unlink(missing_ok=True)
        self.root.rmdir()
        self._folder.rmdir()

    def cut(self, flag: int) -> None:
        """Cut the power."""
        import fcntl

        fd = os.open(self.root, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, _SHUTDOWN, struct.pack("I", flag))
        finally:
            os.close(fd)

    def restart(self) -> None:
        """Mount it as it is found after a cut; nothing on it may be open any more."""
        assert self._unmounted(), f"something on it is still open: {_open_below(self.root)}"
        self._mount()

    def sync(self) -> None:
        """Bring all of it to the disk: for what a test prepares."""
        subprocess.run(["sync", "--file-system", self.root], check=True)

    def _attach(self) -> None:
        self.root.mkdir()
        if not needs.IS_ROOT:
            pytest.skip("needs root, to mount a loop device")
        make = require_tool(f"mkfs.{self._kind}", FILE_SYSTEMS[self._kind])
        with self._image.open("wb") as image:
            image.truncate(_SIZE)
        subprocess.run([make, "-q", self._image], check=True)
        losetup = ["losetup", "--find", "--show", str(self._image)]
        found = subprocess.run(losetup, capture_output=True, text=True, check=False)
        if found.returncode:
            pytest.skip(f"needs loop devices: {found.stderr.strip()}")
        self._device = found.stdout.strip()

    def _mount(self) -> None:
        subprocess.run(["mount", "-t", self._kind, self._device, self.root], check=True)

    def _unmounted(self) -> bool:
        # A process of the far side may need a moment to end.
        for _ in range(_ATTEMPTS):
            gc.collect()
            done = subprocess.run(["umount", self.root], capture_output=True, text=True, check=False)
            if not done.returncode or "not mounted" in done.stderr:
                return True
            time.sleep(0.1)
        return False


class Moment:
    """The n-th step of a run, before which the power is cut.

    Args:
        loop: the disk.
        number: which step, from 0; -1 counts only.
        flag: what becomes of the journal.
    """

    def __init__(self, loop: LoopDisk, number: int = -1, flag: int = LOG_IS_LOST) -> None:
        self.steps = 0
        self.has_come = False
        self._loop = loop
        self._number = number
        self._flag = flag
        # Syncs are made on threads of their own.
        self._numbers = count()

    def step(self) -> None:
        """Count a step; cut the power where it is the one."""
        number = next(self._numbers)
        self.steps = number + 1
        if number == self._number:
            self.cut()

    def cut(self) -> None:
        """Cut the power, if that has not been done."""
        if not self.has_come:
            self.has_come = True
            self._loop.cut(self._flag)

    def observe(self, event: Event) -> None:
        """Take an event of a run for a step."""
        self.step()


class CutDisk(WatchedDisk):
    """Makes every call that changes something a step; all of them reach the real disk, syncs too."""

    def __init__(self, moment: Moment) -> None:
        self._moment = moment

    def before(self, call: str, arguments: tuple[Any, ...]) -> None:
        if call in CALLS:
            self._moment.step()


class Killed(BaseException):
    """The process is gone."""


class KilledDisk(WatchedDisk):
    """As a kill at the n-th call that changes something leaves it: none is made from there on, nor by what tidies up.

    Args:
        number: which call, from 0.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._numbers = count()

    def before(self, call: str, arguments: tuple[Any, ...]) -> None:
        if call in CALLS and next(self._numbers) >= self._number:
            raise Killed


def close_files_below(folder: Path) -> None:
    """Let go of all that this process has open below a folder, as the end of a process does."""
    for number in _open_below(folder):
        os.close(number)


def _open_below(folder: Path) -> dict[int, str]:
    found: dict[int, str] = {}
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            path = os.readlink(f"/proc/self/fd/{number}")
            if Path(path).is_relative_to(folder):
                found[int(number)] = path
    return found
