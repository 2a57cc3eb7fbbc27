"""What a test needs of the system that it runs on: where that is missing it is skipped, and the reason names it."""

from __future__ import annotations

import os
import re
import sys

import pytest

ON_WINDOWS = os.name == "nt"
IS_ROOT = not ON_WINDOWS and os.geteuid() == 0
# Microsoft, "Naming Files, Paths, and Namespaces".
_RESERVED = r"(?!(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|$))"
_NAME = re.compile(_RESERVED + r"[^\x00-\x1f\ud800-\udfff<>:\"|?*\\]+(?<![ .])", re.IGNORECASE)
UNDER_WINE = ON_WINDOWS and "WINEPREFIX" in os.environ


def root(reason: str = "acts as several users") -> pytest.MarkDecorator:
    """Leave a test to root."""
    return pytest.mark.skipif(not IS_ROOT, reason=_or_windows(reason))


def root_on_linux(reason: str) -> pytest.MarkDecorator:
    """Leave a test to root on Linux."""
    return pytest.mark.skipif(sys.platform != "linux" or not IS_ROOT, reason=_or_windows(reason))


def not_windows(lacks: str) -> pytest.MarkDecorator:
    """Leave a test out on Windows, which has not what is named."""
    return pytest.mark.skipif(ON_WINDOWS, reason=f"Windows has no {lacks}")


LACKING_ON_WINDOWS = {
    "symlink": "links that everybody may make",
    "mkfifo": "FIFOs in folders",
    "mknod": "devices in folders",
    "fork": "fork()",
    "chown": "POSIX owners",
    "lchown": "POSIX owners",
    "fchown": "POSIX owners",
    "setxattr": "extended attributes",
    "killpg": "groups of processes",
    "umask": "POSIX modes",
    "openpty": "pseudo-terminals that Python can open",
}
"""Calls of :mod:`os`: a test that makes one on Windows is skipped there, and why."""

POSIX_PROGRAMS = frozenset(
    ("sh", "bash", "busybox", "cat", "cp", "gzip", "mount", "sha256sum", "split", "strace", "tar", "umount", "zstd")
)
"""A test that starts one of them on Windows is skipped there."""

links = not_windows(LACKING_ON_WINDOWS["symlink"])
owners = not_windows("POSIX owners and modes")
change_times = not_windows("time of a file's last change that Python tells")
signals = not_windows("POSIX signals")
shell = not_windows("POSIX shell")
terminals = not_windows("pseudo-terminals that Python can open")
case = not_windows("files whose names differ in letter case only")
systemd = not_windows("systemd")
open_files_go = pytest.mark.skipif(UNDER_WINE, reason="Windows as Wine 8 plays it keeps the name of an open file")
shutting_wakes = pytest.mark.skipif(UNDER_WINE, reason="Windows as Wine 8 plays it wakes no read of a shut socket")
any_names = not_windows("file names with such characters")
descriptors = not_windows("descriptors of folders")


def require(marker: pytest.MarkDecorator) -> None:
    """Skip from inside a test or a helper where a marker of this module would."""
    if marker.args and marker.args[0]:
        pytest.skip(marker.kwargs["reason"])


def require_name(name: str) -> None:
    """Skip where a file can't have this name."""
    if ON_WINDOWS and not _NAME.fullmatch(name):
        pytest.skip(f"Windows has no files named {name!a}")


def _or_windows(reason: str) -> str:
    return "Windows has no root" if ON_WINDOWS else reason
