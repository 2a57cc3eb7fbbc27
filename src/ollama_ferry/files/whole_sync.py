"""One sync for many small files that were written just now: of the whole file system, where that tells of failures.

Each fsync has the journal written: for 10,000 files of 4 kB that is half of an import's time.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from functools import cache
from typing import Any

# Those whose syncfs waits for data, sizes and names, and empties the drive's cache, by their numbers in statfs(2). Of
# FUSE and network disks that is not known.
_EXT4, _XFS, _BTRFS, _TMPFS = 0xEF53, 0x58465342, 0x9123683E, 0x01021994
_KNOWN = frozenset({_EXT4, _XFS, _BTRFS, _TMPFS})
# Before it syncfs tells no failure: syncfs(2), "ERRORS", EIO.
_TELLS_FAILURES = (5, 8)
_STATFS_SIZE = 256


def sync_file_system(fd: int) -> bool:
    """Wait until all that was written to a file system is safe; False where it has to be done file by file.

    Args:
        fd: of a file on it, opened before what counts was written: failures since then are told.

    Raises:
        OSError: something could not be written.
    """
    libc = _library()
    if libc is None:
        return False
    import ctypes

    found = ctypes.create_string_buffer(_STATFS_SIZE)
    # The kind comes first in the structure, in a machine word.
    if libc.fstatfs(fd, found) or ctypes.c_ulong.from_buffer(found).value & 0xFFFFFFFF not in _KNOWN:
        return False
    if libc.syncfs(fd):
        number = ctypes.get_errno() or errno.EIO
        raise OSError(number, os.strerror(number))
    return True


def tells_failures(platform: str, release: str) -> bool:
    """Return whether the sync of a whole file system of this kernel tells of what could not be written.

    Args:
        platform: as in ``sys.platform``.
        release: as in ``os.uname().release``.
    """
    found = re.match(r"(\d+)\.(\d+)", release)
    return platform == "linux" and found is not None and (int(found[1]), int(found[2])) >= _TELLS_FAILURES


@cache
def _library() -> Any:
    """Return the C library, where it and the kernel have such a sync; else None."""
    if not hasattr(os, "uname") or not tells_failures(sys.platform, os.uname().release):
        return None
    try:
        # 5 ms, which only whoever writes many files pays.
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        return libc if libc.syncfs and libc.fstatfs else None
    except (ImportError, OSError, AttributeError):
        return None
