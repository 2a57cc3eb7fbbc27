"""A file that counts, while it is in work: written under a temporary name, and given its own when its bytes are safe.

Everything that must be whole or not there at all is written so: blobs and manifests of a store, archives, volumes and
their sums. One descriptor leads from the first byte to the name. Whatever somebody does to the paths meanwhile, what
gets the name is what was written, or read, here.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Sequence
from contextlib import suppress

from ollama_ferry.engine.events import Cancel
from ollama_ferry.engine.hashing import sha256_of
from ollama_ferry.errors import FerryError
from ollama_ferry.files.disk import NO_ROOM, NOT_OFFERED, Disk, start_writing_back
from ollama_ferry.files.folder import Folder
from ollama_ferry.files.lock import same_file

# How much is handed to the disk at a time while more is being written, so that the last sync is short.
_SYNC_EVERY = 32 * 1024 * 1024
# How many buffers one call takes (IOV_MAX of POSIX systems is 1,024).
_MOST_BUFFERS = 1000
_ATTEMPTS = 100
PROBE = ".new"
"""What the name of a file ends in that is made for a moment; a run that is killed may leave it."""


class Draft:
    """A file in work; made by :meth:`create` or :meth:`resume`, and held until :meth:`close`.

    Attributes:
        folder, name: where it is.
        size: how many bytes it has, as far as they were written or read here.
    """

    def __init__(self, disk: Disk, folder: Folder, name: str, fd: int) -> None:
        self.folder = folder
        self.name = name
        self.size = 0
        self._disk = disk
        self._fd: int | None = fd
        self._unsynced = 0
        try:
            self._mine = os.fstat(fd)
        except BaseException:
            self.close()
            raise

    @classmethod
    def create(cls, disk: Disk, folder: Folder, name: str, mode: int = 0o644) -> Draft:
        """Begin a fresh file; what has its name makes way, and is never written to.

        Raises:
            OSError: the folder can't be written, or a folder has the name.
        """
        for _ in range(_ATTEMPTS):
            try:
                return cls(disk, folder, name, disk.create(folder, name, mode))
            except FileExistsError:
                remove_if_there(disk, folder, name)
        raise FerryError(f"can't write {folder.named(name)}: somebody puts something in its place again and again")

    @classmethod
    def resume(cls, disk: Disk, folder: Folder, name: str) -> Draft | None:
        """Take up a file that an earlier run has left; None where there is none to be trusted.

        It has to be a regular file of ours with this one name: what has another one, as a snapshot made with hard
        links leaves it, is not to be written through, and what is another user's may change while it is used.
        """
        found = disk.status(folder, name)
        if found is None or not is_ours(disk, folder, name, found):
            return None
        try:
            fd = disk.open(folder, name)
        except OSError:
            return None
        draft = cls(disk, folder, name, fd)
        if not same_file(found, draft._mine) or draft._mine.st_nlink > 1:
            draft.close()
            return None
        return draft

    @property
    def fd(self) -> int:
        """Its descriptor."""
        if self._fd is None:
            raise ValueError("the file is closed")
        return self._fd

    @property
    def status(self) -> os.stat_result:
        """What the system knew of the file when it was opened, for :func:`same_file`."""
        return self._mine

    def now(self) -> os.stat_result:
        """Return what the system knows of the file just now."""
        return os.fstat(self.fd)

    @property
    def length(self) -> int:
        """How many bytes the file has just now."""
        return os.fstat(self.fd).st_size

    def read(self, size: int, /) -> bytes:
        """Give the next bytes of what an earlier run has left."""
        chunk = os.read(self.fd, size)
        self.size += len(chunk)
        return chunk

    def write(self, *data: bytes | memoryview) -> None:
        """Add bytes behind those that were written or read here.

        Raises:
            OSError: the disk did not take them.
        """
        views = [memoryview(part) for part in data]
        size = sum(map(len, views))
        while views:
            now = views[:_MOST_BUFFERS]
            written = self._disk.write_many(self.fd, now) if len(now) > 1 else self._disk.write(self.fd, now[0])
            while views and written >= len(views[0]):
                written -= len(views.pop(0))
            if written:
                views[0] = views[0][written:]
        self._grow(size)

    def copy_from(self, file: io.FileIO, offset: int, size: int) -> int:
        """Have the system add bytes of another file behind those that were written or read here.

        Returns:
            How many it has added; 0 where it can't, or where something is wrong: who reads and writes then finds out
            with which of the two files.

        Raises:
            OSError: the disk has no room for them.
        """
        try:
            copied = self._disk.copy(file.fileno(), offset, self.fd, size)
        except OSError as error:
            if error.errno in NO_ROOM:
                raise
            return 0
        self._grow(copied)
        return copied

    def read_back(self, buffer: memoryview, offset: int) -> None:
        """Fill a buffer with what was written.

        Raises:
            FerryError: somebody has cut the file meanwhile.
            OSError: it can't be read.
        """
        while buffer:
            count = os.preadv(self.fd, [buffer], offset)
            if not count:
                raise _replaced(self.folder.named(self.name))
            buffer, offset = buffer[count:], offset + count

    def _grow(self, count: int) -> None:
        self.size += count
        self._unsynced += count
        if self._unsynced >= _SYNC_EVERY:
            # What is handed over may leave the memory, and whoever reads it back is some steps behind.
            start_writing_back(self.fd, self.size - _SYNC_EVERY)
            self._unsynced = 0

    def cut(self, size: int) -> None:
        """Keep this many bytes, and go on behind them."""
        self._disk.truncate(self.fd, size)
        os.lseek(self.fd, size, os.SEEK_SET)
        self.size = size

    def rewind(self) -> None:
        """Go to the start: what is written next takes the place of what is there."""
        os.lseek(self.fd, 0, os.SEEK_SET)
        self.size = 0

    def set_mode(self, mode: int) -> bool:
        """Set who may do what to it; False where the file system has no modes."""
        return set_mode(self._disk, self.fd, mode)

    def sync(self) -> None:
        """Wait until its bytes are safe.

        Raises:
            OSError: they are not. What is left in memory looks whole and is not: the file is removed, so that no
                later run goes on from it.
        """
        sync_drafts(self._disk, [self])

    def sha256(self, cancel: Cancel) -> str:
        """Return the SHA-256 of the whole file, in hexadecimal, as it is read back through the same descriptor.

        Raises:
            Cancelled: the work was given up.
        """
        # Not out of memory, as far as the system lets go of it: what is on the disk counts.
        start_writing_back(self.fd, 0)
        self.rewind()
        return sha256_of(self, cancel)

    def publish(
        self, folder: Folder, name: str, *, replace: bool = True, sha256: str = "", safely: bool = True
    ) -> None:
        """Give the file its name, and make that safe; its bytes are to be safe already.

        Args:
            folder, name: the name; the folder is on the same file system.
            replace: whether a file of that name is replaced.
            sha256: of its bytes, where that is known; see :meth:`is_named`.
            safely: whether the name is made safe; else whoever calls does that, for many names at once.

        Raises:
            FileExistsError: the name is taken, and not to be replaced.
            FerryError: somebody has put another file in its place, or cut it, meanwhile; nothing is published.
            OSError: it could not be done.
        """
        self._require_mine()
        if replace:
            self._disk.replace(self.folder, self.name, folder, name)
        else:
            self._name_if_free(folder, name)
        if not self.is_named(folder, name, sha256):
            remove_if_there(self._disk, folder, name)
            raise _replaced(folder.named(name))
        self.folder, self.name = folder, name
        if safely:
            self._disk.sync_folder(folder)

    def is_named(self, folder: Folder, name: str, sha256: str = "") -> bool:
        """Return whether a name is that of this file.

        Some file systems, such as those that show an object store, make another file of one that is renamed: that has
        to have the same bytes.

        Args:
            folder, name: the name.
            sha256: of the file's bytes, in hexadecimal; an empty text has them read through its descriptor.
        """
        found = self._disk.status(folder, name)
        if same_file(found, self._mine):
            return True
        size = self.size if self._fd is None else self.length
        if found is None or not stat.S_ISREG(found.st_mode) or found.st_size != size:
            return False
        try:
            other = Draft(self._disk, folder, name, self._disk.open(folder, name, write=False))
        except OSError:
            return False
        try:
            if other.sha256(Cancel()) != (sha256 or self.sha256(Cancel())):
                return False
        except (OSError, ValueError):
            return False
        finally:
            other.close()
        self._mine = other.status
        return True

    def discard(self) -> None:
        """Remove the file, unless another one has taken its place, and let go of it.

        Raises:
            OSError: it could not be removed.
        """
        try:
            if same_file(self._disk.status(self.folder, self.name), self._mine):
                self._disk.remove(self.folder, self.name)
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the file, as it is; a second call does nothing."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _require_mine(self) -> None:
        if self._fd is not None and os.fstat(self._fd).st_size != self.size:
            raise _replaced(self.folder.named(self.name))
        if not same_file(self._disk.status(self.folder, self.name), self._mine):
            raise _replaced(self.folder.named(self.name))

    def _name_if_free(self, folder: Folder, name: str) -> None:
        try:
            self._disk.link(self.folder, self.name, folder, name)
        except FileExistsError:
            raise
        except OSError as error:
            if error.errno not in NOT_OFFERED:
                raise
            if self._disk.status(folder, name) is not None:
                raise FileExistsError(*error.args) from None
            self._disk.replace(self.folder, self.name, folder, name)
        else:
            remove_if_there(self._disk, self.folder, self.name)


def sync_drafts(disk: Disk, drafts: Sequence[Draft]) -> None:
    """Wait until the bytes of some files of one file system are safe.

    Raises:
        OSError: those of one are not, or that can't be told of any: all of them are removed, see :meth:`Draft.sync`.
    """
    try:
        if len(drafts) == 1:
            disk.sync(drafts[0].fd)
        else:
            disk.sync_many([draft.fd for draft in drafts])
    except OSError:
        for draft in drafts:
            with suppress(OSError):
                draft.discard()
        raise


def is_ours(disk: Disk, folder: Folder, name: str, found: os.stat_result, *, alone: bool = True) -> bool:
    """Return whether what was found under a name is a regular file of the user that this process works as.

    Args:
        disk: the calls to find out with.
        folder, name: where it is.
        found: what the system knows of it.
        alone: it must have no other name.
    """
    if not stat.S_ISREG(found.st_mode) or (alone and found.st_nlink > 1):
        return False
    if not hasattr(os, "geteuid") or found.st_uid == os.geteuid():
        return True
    return found.st_uid == _uid_of_new_files(disk, folder, name)


def _uid_of_new_files(disk: Disk, folder: Folder, name: str) -> int:
    """Tell whose new files are in a folder: on FAT and some network disks one user's, whoever writes them."""
    if folder.uid_of_new_files is None:
        probe = Draft.create(disk, folder, name + PROBE)
        try:
            folder.uid_of_new_files = os.fstat(probe.fd).st_uid
        finally:
            probe.discard()
    return folder.uid_of_new_files


def set_mode(disk: Disk, fd: int, mode: int) -> bool:
    """Set who may do what to a file or folder; False where the file system has no modes, or others."""
    if os.name == "nt" or stat.S_IMODE(os.fstat(fd).st_mode) == mode:
        return True
    try:
        disk.set_mode(fd, mode)
    except OSError as error:
        if error.errno not in NOT_OFFERED:
            raise
        return False
    return True


def remove_if_there(disk: Disk, folder: Folder, name: str) -> None:
    """Remove a file, which may have gone."""
    with suppress(FileNotFoundError):
        disk.remove(folder, name)


def remove_twin(disk: Disk, folder: Folder, draft: str, name: str) -> None:
    """Remove the draft's name of a file that has its own: who was killed between the two steps has left both."""
    found = disk.status(folder, draft)
    if found is not None and same_file(disk.status(folder, name), found):
        remove_if_there(disk, folder, draft)


def _replaced(path: str) -> FerryError:
    return FerryError(
        f"{path} was replaced or changed by somebody else while it was being written: it is not published",
        hint="Find out who writes there, then run the same command again.",
    )
