"""The calls that change files, in one place: what fails, and what a crash leaves, is decided here.

:class:`Disk` is what a store is written through. Tests hand in one that fails, or dies, at a chosen call.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from pathlib import Path

from ollama_ferry.errors import FerryError, NoSpace, NotPermitted
from ollama_ferry.wording import human_size


class Disk:
    """The file system, call by call; paths are text, for there may be thousands of them."""

    def create(self, path: str) -> int:
        """Open a file to read and write, made if need be; a link of that name is not followed.

        Returns:
            The file descriptor.
        """
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o644)

    def write(self, fd: int, data: bytes | memoryview) -> int:
        """Write some of the bytes; return how many."""
        return os.write(fd, data)

    def truncate(self, fd: int, size: int) -> None:
        """Cut a file to a size in bytes."""
        os.ftruncate(fd, size)

    def sync(self, fd: int) -> None:
        """Wait until a file's bytes are safe."""
        try:
            import fcntl

            # On macOS fsync() leaves them in the drive's cache.
            fcntl.fcntl(fd, fcntl.F_FULLFSYNC)  # type: ignore[attr-defined,unused-ignore]
        except (ImportError, AttributeError, OSError):
            os.fsync(fd)

    def sync_folder(self, path: str) -> None:
        """Wait until a folder's names are safe, where the system has a call for it."""
        sync_folder(path)

    def make_folder(self, path: str) -> None:
        """Make one folder, whose parent is there."""
        os.mkdir(path, 0o755)

    def touch(self, path: str) -> None:
        """Set a file's times to now."""
        os.utime(path)

    def link(self, source: str, target: str) -> None:
        """Give a file a second name, which must be free."""
        os.link(source, target)

    def replace(self, source: str, target: str) -> None:
        """Rename a file over whatever file has that name."""
        os.replace(source, target)

    def remove(self, path: str) -> None:
        """Remove a file."""
        os.unlink(path)

    def remove_folder(self, path: str) -> None:
        """Remove an empty folder."""
        os.rmdir(path)


def write_all(disk: Disk, fd: int, data: bytes | memoryview) -> None:
    """Write bytes, all of them."""
    view = memoryview(data)
    while view:
        view = view[disk.write(fd, view) :]


def lock(fd: int) -> bool:
    """Lock a file for this process; False where another has it. The lock ends with the process."""
    try:
        import fcntl
    except ImportError:
        return _lock_on_windows(fd)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # No locks on this file system: better to go on without one than not at all.
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    return True


def start_writing_back(fd: int, length: int) -> None:
    """Let the disk work while more is coming; nothing waits, and nothing depends on it."""
    # On Linux this advice starts the write-back of dirty pages and lets go of those already written, so that a
    # large file does not push everything else out of the page cache; elsewhere it is free to do nothing.
    if hasattr(os, "posix_fadvise"):
        with contextlib.suppress(OSError):
            os.posix_fadvise(fd, 0, length, os.POSIX_FADV_DONTNEED)


def sync_folder(folder: str | Path) -> None:
    """Make a rename in a folder last through a power cut, where the system has a call for it."""
    if os.name == "nt":
        return
    try:
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        # Some file systems (FUSE, SMB) know no sync of a folder; the rename itself has been made.
        if error.errno in (errno.EIO, errno.ENOSPC, errno.EDQUOT):
            raise


def free_space(folder: Path) -> int | None:
    """Return the free bytes for this user on a folder's disk; None where the file system does not tell."""
    try:
        return shutil.disk_usage(folder).free
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
        return NoSpace(f"can't write {path}: {why}", hint=f"{left} Free some space there, or write to another disk.")
    if error.errno == errno.EFBIG:
        return NoSpace(
            f"can't write {path}: a file may not grow that large there",
            hint="FAT32 ends at 4 GiB: `--split fat32` writes volumes that fit. `ulimit -f` sets a limit of its own.",
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP):
        return NotPermitted(f"can't write {path}: {os.strerror(error.errno)}")
    return FerryError(f"can't write {path}: {error.strerror or error}", hint=left)


def _lock_on_windows(fd: int) -> bool:
    import msvcrt

    try:
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    except OSError:
        return False
    return True
