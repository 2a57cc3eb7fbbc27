"""A lock file: who holds it is the only one that writes what it stands for."""

from __future__ import annotations

import errno
import os
import stat

from ollama_ferry.files import windows
from ollama_ferry.files.disk import Disk
from ollama_ferry.files.folder import Folder


class FileLock:
    """A file that is open and locked, until it is closed or the process ends.

    Attributes:
        fd: its descriptor, to read and write where the file was made here or may be written.
        made: whether it was made here; what was there before may be anybody's.
    """

    def __init__(self, fd: int, *, made: bool) -> None:
        self.fd = fd
        self.made = made

    @classmethod
    def take(cls, disk: Disk, folder: Folder, name: str, mode: int = 0o644) -> FileLock | None:
        """Lock a file, made if need be; None where another process has it.

        A link or anything else that is no file makes way. What comes back is the file that has the name: who had the
        lock before may have removed it, and then the lock would keep nobody out.

        Raises:
            OSError: the folder can't be written, or a folder has the name.
        """
        while True:
            found = disk.status(folder, name)
            if found is not None and not stat.S_ISREG(found.st_mode):
                disk.remove(folder, name)
                continue
            try:
                fd = _open(disk, folder, name) if found is not None else disk.create(folder, name, mode)
            except FileExistsError:
                # Somebody was faster.
                continue
            except FileNotFoundError:
                if found is None:
                    # The folder itself has gone.
                    raise
                continue
            held = cls(fd, made=found is None)
            try:
                if not lock_file(fd):
                    held.close()
                    return None
                if same_file(disk.status(folder, name), os.fstat(fd)):
                    return held
            except BaseException:
                held.close()
                raise
            held.close()

    def close(self) -> None:
        """Let go of it; a second call does nothing."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def same_file(one: os.stat_result | None, other: os.stat_result) -> bool:
    """Return whether two looks found one file."""
    if one is None or one.st_ino != other.st_ino:
        return False
    # On Windows a look by name and one by descriptor need not number the volume alike.
    return os.name == "nt" or one.st_dev == other.st_dev


def _open(disk: Disk, folder: Folder, name: str) -> int:
    try:
        return disk.open(folder, name)
    except PermissionError:
        # Another user's, who may write into the same folder: it is held like one's own.
        return disk.open(folder, name, write=False)


def lock_file(fd: int) -> bool:
    """Lock a file for this process; False where another has it. The lock ends with the process."""
    try:
        import fcntl
    except ImportError:
        return windows.lock_file(fd)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # No locks on this file system: better to go on without one than not at all.
        return error.errno not in (errno.EWOULDBLOCK, errno.EACCES)
    return True
