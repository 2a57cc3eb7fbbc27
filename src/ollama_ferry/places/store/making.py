"""New files and folders in a store: of the store's owner, and as open to the group as what is around them."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from ollama_ferry.errors import FerryError
from ollama_ferry.files.disk import Disk


class Maker:
    """Makes files and folders for whoever owns the store, which root may fill for a service.

    Args:
        disk: the calls to write with.
        root: the store's folder.

    Attributes:
        made: the folders that were made so far, an outer one before those in it.
    """

    def __init__(self, disk: Disk, root: Path) -> None:
        self.made: list[str] = []
        self._disk = disk
        self._root = root
        self._owner: tuple[int, int] | None = None

    def follow(self, path: Path) -> None:
        """Give what is made from now on to the owner of a folder, or of the first one above it that is there."""
        self._owner = self._owner_of_nearest(path)

    def ensure_folder(self, path: str) -> None:
        """Make a folder if it is not there, safe on the disk."""
        if self.make_folder(path):
            self._disk.sync_folder(os.path.dirname(path) or os.curdir)

    def make_folder(self, path: str) -> bool:
        """Make a folder: of the store's owner, and as open to the group as the one above; False where it is there."""
        try:
            self._disk.make_folder(path)
        except FileExistsError:
            if not os.path.isdir(path):
                raise FerryError(f"{path} should be a folder, and is none", hint="Move it away.") from None
            return False
        self.made.append(path)
        if os.name != "nt":
            inside = path.startswith(str(self._root) + os.sep)
            shared = os.stat(os.path.dirname(path)).st_mode & 0o2020 if inside else 0
            # By descriptor: whoever owns the folder above may have put a link in its place meanwhile.
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                self.make_ours(fd, 0o755 | shared)
            finally:
                os.close(fd)
        return True

    def create(self, path: str) -> int:
        """Open a file of the store's owner to write, taking over what has its name; return its descriptor."""
        try:
            fd = self._disk.create(path)
        except PermissionError:
            # Left by an import of another user, who may write into the same folders.
            self._disk.remove(path)
            fd = self._disk.create(path)
        try:
            if os.fstat(fd).st_nlink > 1:
                # Somebody gave it a second name, which is not to be written through.
                os.close(fd)
                self._disk.remove(path)
                fd = self._disk.create(path)
            self.make_ours(fd, 0o644)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def make_ours(self, fd: int, mode: int) -> None:
        """Give a file or folder to the store's owner; whoever else owns it already is let be."""
        if os.name == "nt":
            return
        if self._owner is not None:
            # Network disks that map all users to one refuse; the file is then theirs anyway.
            with suppress(PermissionError):
                os.fchown(fd, *self._owner)
        if os.fstat(fd).st_uid in (os.geteuid(), *(self._owner or ())[:1]):
            os.fchmod(fd, mode)

    def _owner_of_nearest(self, path: Path) -> tuple[int, int] | None:
        """Return who owns a folder, or the first one above it that is there; None where ownership can't be given."""
        if not hasattr(os, "geteuid") or os.geteuid() != 0:
            return None
        while not path.exists():
            path = path.parent
        found = path.stat()
        return found.st_uid, found.st_gid
