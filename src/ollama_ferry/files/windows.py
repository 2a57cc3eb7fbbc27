"""What Windows does in another way: files that are open elsewhere, long paths, renames that reach the disk, locks.

Python's own calls open files so that nobody may rename or remove them meanwhile, end at 260 characters where the
machine's owner has not allowed more, and give up at once when a virus scanner has the file.
"""

from __future__ import annotations

import ntpath
import os
import struct
import time
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

_Result = TypeVar("_Result")

# https://learn.microsoft.com/windows/win32/debug/system-error-codes--0-499-
_ACCESS_DENIED = 5
_SHARING_VIOLATION = 32
_LOCK_VIOLATION = 33
_IO_PENDING = 997
_LOCKED = frozenset({_ACCESS_DENIED, _SHARING_VIOLATION, _LOCK_VIOLATION})
# Scanners and indexers let go of a new file within that; in seconds.
_PATIENCE = 2.0
_FIRST_PAUSE = 0.002
# MAX_PATH is 260 with the zero at its end; folders need room for a name of 8.3 below them.
_LONGEST = 247

# CreateFileW
_GENERIC_READ, _GENERIC_WRITE = 0x80000000, 0x40000000
_SHARE_ALL = 0x1 | 0x2 | 0x4
_CREATE_NEW, _OPEN_EXISTING = 1, 3
_NORMAL = 0x80
# MoveFileExW
_REPLACE_EXISTING, _WRITE_THROUGH = 0x1, 0x8
# LockFileEx
_FAIL_IMMEDIATELY, _EXCLUSIVE = 0x1, 0x2
# Locks keep others from reading and writing on Windows. So the byte that is locked is one that no file has.
_LOCKED_BYTE = 1 << 62


def extended(path: str, *, current: Callable[[], str] = os.getcwd) -> str:
    r"""Return what a call takes for a path of any length: long ones need ``\\?\`` in front, and must be absolute.

    Source: https://learn.microsoft.com/windows/win32/fileio/maximum-file-path-limitation

    Args:
        path: as people write it.
        current: tells the current folder, for a relative path.
    """
    if path.startswith(("\\\\?\\", "\\\\.\\")):
        return path
    absolute = path if ntpath.isabs(path) and ntpath.splitdrive(path)[0] else ntpath.join(current(), path)
    if len(absolute) <= _LONGEST:
        return path
    absolute = ntpath.normpath(absolute)
    return "\\\\?\\UNC" + absolute[1:] if absolute.startswith("\\\\") else "\\\\?\\" + absolute


def patiently(call: Callable[[], _Result], *, pause: Callable[[float], None] = time.sleep) -> _Result:
    """Make a call, again and again while another program has the file, but not for long.

    Args:
        call: the call.
        pause: waits for so many seconds.

    Raises:
        OSError: what the last call raised.
    """
    waited, wait = 0.0, _FIRST_PAUSE
    while True:
        try:
            return call()
        except OSError as error:
            if getattr(error, "winerror", None) not in _LOCKED or waited >= _PATIENCE:
                raise
        pause(wait)
        waited += wait
        wait = min(2 * wait, _PATIENCE / 4)


def open_shared(path: str, *, write: bool, new: bool = False) -> int:
    """Open a file so that others, and this process, may rename and remove it meanwhile; return its descriptor.

    Args:
        path: the file, :func:`extended` where it has to be, as in the other calls here.
        write: whether it is written, too.
        new: make it; the name has to be free.
    """
    import ctypes
    import msvcrt

    access = _GENERIC_READ | (_GENERIC_WRITE if write else 0)
    found = _CREATE_NEW if new else _OPEN_EXISTING
    handle = _kernel().CreateFileW(path, access, _SHARE_ALL, None, found, _NORMAL, None)
    if handle == ctypes.c_void_p(-1).value:
        raise _last_error(path)
    return int(_of(msvcrt).open_osfhandle(handle, getattr(os, "O_BINARY", 0)))


def replace(source: str, target: str) -> None:
    """Rename a file over whatever file has that name; it is on the disk when the call returns."""
    if not _kernel().MoveFileExW(source, target, _REPLACE_EXISTING | _WRITE_THROUGH):
        raise _last_error(target)


def lock_file(fd: int) -> bool:
    """Lock a file for this process; False where another has it. The lock ends with the process."""
    import ctypes
    import msvcrt

    # OVERLAPPED: two words of the system's, the place in two halves, and an event that nobody waits for.
    place = struct.pack("@PPIIP", 0, 0, _LOCKED_BYTE & 0xFFFFFFFF, _LOCKED_BYTE >> 32, 0)
    overlapped = ctypes.create_string_buffer(place, len(place))
    handle = ctypes.c_void_p(_of(msvcrt).get_osfhandle(fd))
    if _kernel().LockFileEx(handle, _FAIL_IMMEDIATELY | _EXCLUSIVE, 0, 1, 0, overlapped):
        return True
    # No locks on this file system: better to go on without one than not at all.
    return _of(ctypes).get_last_error() not in (_LOCK_VIOLATION, _IO_PENDING)


@cache
def _kernel() -> Any:
    import ctypes

    kernel = _of(ctypes).WinDLL("kernel32", use_last_error=True)
    number, pointer, text = ctypes.c_uint32, ctypes.c_void_p, ctypes.c_wchar_p
    kernel.CreateFileW.argtypes = [text, number, number, pointer, number, number, pointer]
    kernel.CreateFileW.restype = pointer
    kernel.MoveFileExW.argtypes = [text, text, number]
    kernel.LockFileEx.argtypes = [pointer, number, number, number, number, pointer]
    return kernel


def _last_error(path: str) -> OSError:
    import ctypes

    number = _of(ctypes).get_last_error()
    # Python chooses the kind and the POSIX number of it by that of Windows.
    return OSError(0, _of(ctypes).FormatError(number), path, number)


def _of(module: Any) -> Any:
    """Return a module whose parts for Windows a checker on another system does not know."""
    return module
