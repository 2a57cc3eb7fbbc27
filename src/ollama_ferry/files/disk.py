"""The calls that look up and change files, in one place: what fails, and what a crash leaves, is decided here.

:class:`Disk` is what every file that counts is written through. Tests hand in one that fails, dies, or changes paths
behind our back, at a chosen call.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ollama_ferry.errors import FerryError, NoSpace, NotPermitted, Remedy
from ollama_ferry.files import windows
from ollama_ferry.files.folder import Folder, open_folder, open_there
from ollama_ferry.files.identity import turn
from ollama_ferry.files.whole_sync import sync_file_system
from ollama_ferry.wording import human_size

_ON_WINDOWS = os.name == "nt"
_WORTH_A_WHOLE_SYNC = 16
_OPEN = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_THE_LINK_ITSELF = {"follow_symlinks": False} if os.link in os.supports_follow_symlinks else {}
NOT_OFFERED = frozenset(
    {errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EXDEV, errno.EMLINK}
)
"""What file systems say that don't offer what was asked for, such as second names, modes or times."""

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What the system says where a file may not grow."""


_NO_SYNC = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOTTY})


def _full_sync() -> Callable[[int], object] | None:
    """Return macOS's call that empties the drive's cache, too; None on other systems."""
    if sys.platform != "darwin":
        return None
    import fcntl

    return lambda fd: fcntl.fcntl(fd, fcntl.F_FULLFSYNC)  # type: ignore[attr-defined,unused-ignore]


_FULL_SYNC = _full_sync()


def bring_to_drive(fd: int, full_sync: Callable[[int], object] | None = _FULL_SYNC) -> None:
    """Wait until a file or a folder is on its drive, and not in the drive's cache alone.

    Source: fsync(2) and fcntl(2) of macOS: F_FULLFSYNC "does the same thing as fsync(2) then asks the drive to flush
    all buffered data to the permanent storage device", and "is currently implemented on HFS, MS-DOS (FAT), Universal
    Disk Format (UDF) and APFS file systems". On Linux and Windows the one call does both.

    Args:
        fd: its descriptor.
        full_sync: the call of macOS, where there is one.

    Raises:
        OSError: it could not be written; or the file system knows neither.
    """
    if full_sync is not None:
        try:
            full_sync(fd)
        except OSError as error:
            # Another failure is one of the drive, which fsync may not report once more.
            if error.errno not in _NO_SYNC:
                raise
        else:
            return
    os.fsync(fd)


class Disk:
    """The file system, call by call: a name is looked up in a folder that is open, and no link is followed."""

    def open_folder(self, path: str, above: Folder | None = None, *, follow: bool | None = None) -> Folder:
        """Open a folder by its path (:func:`open_there`), or by its name in another one (:func:`open_folder`)."""
        return open_there(Path(path)) if above is None else open_folder(path, above, follow=follow)

    def status(self, folder: Folder, name: str) -> os.stat_result | None:
        """Return what the system knows of a file, or of a link as such; None where nothing has that name."""
        try:
            return os.stat(folder.spell(name), dir_fd=folder.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def names(self, folder: Folder) -> list[str]:
        """Return the names in a folder."""
        return os.listdir(folder.path if folder.fd is None else folder.fd)

    def open(self, folder: Folder, name: str, *, write: bool = True) -> int:
        """Open a file that is there, and return its descriptor; a FIFO is not waited for."""
        if _ON_WINDOWS:
            return windows.patiently(lambda: windows.open_shared(folder.spell(name), write=write))
        flags = (os.O_RDWR if write else os.O_RDONLY) | getattr(os, "O_NONBLOCK", 0)
        with turn:
            return os.open(folder.spell(name), flags | _OPEN, dir_fd=folder.fd)

    def create(self, folder: Folder, name: str, mode: int = 0o644) -> int:
        """Make a file whose name is free, to read and write; return its descriptor."""
        if _ON_WINDOWS:
            return windows.patiently(lambda: windows.open_shared(folder.spell(name), write=True, new=True))
        with turn:
            return os.open(folder.spell(name), os.O_RDWR | os.O_CREAT | os.O_EXCL | _OPEN, mode, dir_fd=folder.fd)

    def write(self, fd: int, data: bytes | memoryview) -> int:
        """Write some of the bytes; return how many."""
        return os.write(fd, data)

    def write_many(self, fd: int, data: Sequence[memoryview]) -> int:
        """Write some of the bytes of several buffers, at most 1,000 of them; return how many."""
        return os.writev(fd, data) if hasattr(os, "writev") else self.write(fd, data[0])

    def copy(self, source: int, offset: int, fd: int, count: int) -> int:
        """Have the system copy bytes of one file to the position of another one; return how many.

        Raises:
            OSError: it can't, among these two files, or at all.
        """
        if hasattr(os, "copy_file_range"):
            try:
                # It may share the blocks (Btrfs, XFS), or have a server copy (NFS).
                return os.copy_file_range(source, fd, count, offset)
            except OSError as error:
                if error.errno not in NOT_OFFERED:
                    raise
        if sys.platform == "linux":
            return os.sendfile(fd, source, offset, count)
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    def truncate(self, fd: int, size: int) -> None:
        """Cut a file to a size in bytes."""
        os.ftruncate(fd, size)

    def set_mode(self, fd: int, mode: int) -> None:
        """Set who may do what to a file or folder."""
        os.fchmod(fd, mode)

    def sync(self, fd: int) -> None:
        """Wait until a file's bytes are safe."""
        try:
            bring_to_drive(fd)
        except OSError as error:
            # Some file systems (FUSE, object stores) know no such call, and do it at the closing.
            if error.errno not in _NO_SYNC:
                raise

    def sync_many(self, fds: Sequence[int]) -> None:
        """Wait until the bytes of several files of one file system are safe.

        Args:
            fds: their descriptors; the first was opened before any of them was written.
        """
        # A few are quicker one by one: what else is being written to the disk is none of theirs.
        if len(fds) < _WORTH_A_WHOLE_SYNC or not sync_file_system(fds[0]):
            for fd in fds:
                self.sync(fd)

    def sync_folder(self, folder: Folder) -> None:
        """Wait until a folder's names are safe, where the system has a call for it."""
        if folder.fd is None:
            return
        try:
            bring_to_drive(folder.fd)
        except OSError as error:
            # Some file systems (FUSE, SMB) know no sync of a folder; the rename itself has been made.
            if error.errno in (errno.EIO, errno.ENOSPC, errno.EDQUOT):
                raise

    def make_folder(self, folder: Folder, name: str) -> None:
        """Make a folder."""
        with turn:
            os.mkdir(folder.spell(name), 0o755, dir_fd=folder.fd)

    def touch(self, folder: Folder, name: str) -> None:
        """Set a file's times to now."""
        with turn:
            if os.utime in os.supports_dir_fd:
                os.utime(folder.spell(name), dir_fd=folder.fd, follow_symlinks=False)
            else:
                os.utime(folder.named(name))

    def link(self, folder: Folder, name: str, to: Folder, new: str) -> None:
        """Give a file a second name, which must be free."""
        with turn:
            os.link(folder.spell(name), to.spell(new), src_dir_fd=folder.fd, dst_dir_fd=to.fd, **_THE_LINK_ITSELF)

    def replace(self, folder: Folder, name: str, to: Folder, new: str) -> None:
        """Rename a file over whatever file has that name."""
        if _ON_WINDOWS:
            windows.patiently(lambda: windows.replace(folder.spell(name), to.spell(new)))
            return
        with turn:
            os.replace(folder.spell(name), to.spell(new), src_dir_fd=folder.fd, dst_dir_fd=to.fd)

    def remove(self, folder: Folder, name: str) -> None:
        """Remove a file."""
        if _ON_WINDOWS:
            windows.patiently(lambda: os.unlink(folder.spell(name)))
            return
        with turn:
            os.unlink(folder.spell(name), dir_fd=folder.fd)

    def remove_folder(self, folder: Folder, name: str) -> None:
        """Remove an empty folder."""
        with turn:
            os.rmdir(folder.spell(name), dir_fd=folder.fd)


def start_writing_back(fd: int, length: int) -> None:
    """Let the disk work while more is coming; nothing waits, and nothing depends on it."""
    # On Linux this advice starts the write-back of dirty pages and lets go of those already written, so that a
    # large file does not push everything else out of the page cache; elsewhere it is free to do nothing.
    if hasattr(os, "posix_fadvise") and length >= 0:
        with contextlib.suppress(OSError):
            os.posix_fadvise(fd, 0, length, os.POSIX_FADV_DONTNEED)


def free_space(folder: Path | Folder) -> int | None:
    """Return the free bytes for this user on a folder's disk; None where the file system does not tell."""
    where = folder if isinstance(folder, Path) else folder.path if folder.fd is None else folder.fd
    try:
        return shutil.disk_usage(where).free
    except OSError:
        return None


def require_space(folder: Path, needed: int, what: str) -> None:
    """Check that a disk can take what is coming.

    Args:
        folder: a folder on that disk.
        needed: in bytes.
        what: what will be written, for the message.

    Raises:
        NoSpace: it can't.
    """
    free = free_space(folder)
    if free is not None and free < needed:
        raise NoSpace(
            f"{what} needs about {human_size(needed)} in {folder}, and {human_size(free)} are free",
            hint="Free some space there, or write to another disk.",
            remedies=[Remedy("several media")],
        )


def write_error(error: OSError, path: str | Path, *, left: str = "Nothing half-written was left.") -> FerryError:
    """Turn what the operating system said about a write into one of our errors.

    Args:
        error: what it said.
        path: what was being written.
        left: what became of the bytes that were written before, for the hint.
    """
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        why = "the disk is full" if error.errno == errno.ENOSPC else "the disk quota is used up"
        return NoSpace(
            f"can't write {path}: {why}",
            hint=f"{left} Free some space there, or write to another disk.",
            remedies=[Remedy("several media")],
        )
    if error.errno == errno.EFBIG:
        return NoSpace(
            f"can't write {path}: a file may not grow that large there",
            hint="FAT32 ends at 4 GiB. `ulimit -f` sets a limit of its own.",
            remedies=[Remedy("split", "fat32")],
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP):
        return NotPermitted(f"can't write {path}: {os.strerror(error.errno)}")
    return FerryError(f"can't write {path}: {error.strerror or error}", hint=left)


@contextlib.contextmanager
def writing(path: str | Path, *, left: str = "Nothing half-written was left.") -> Iterator[None]:
    """Turn what the operating system says in the block into one of our errors; see :func:`write_error`."""
    try:
        yield
    except OSError as error:
        raise write_error(error, path, left=left) from error
