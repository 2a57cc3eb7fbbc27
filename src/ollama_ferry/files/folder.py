"""A folder held open: names are looked up in this very folder, whatever becomes of its path meanwhile."""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from ollama_ferry.engine.ports import Readable
from ollama_ferry.errors import Damaged, FerryError, NotPermitted
from ollama_ferry.files import windows
from ollama_ferry.files.identity import is_root, may_read

HAS_DESCRIPTORS = {os.open, os.mkdir, os.unlink, os.rmdir, os.rename, os.link, os.stat} <= os.supports_dir_fd
"""Whether the system looks names up below a folder's descriptor: Linux, macOS and the BSDs do, Windows does not."""

_FOLDER = getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
_NO_LINKS = getattr(os, "O_NOFOLLOW", 0)
_NO_WAITING = getattr(os, "O_NONBLOCK", 0)
# Linux: looks names up in folders that can't be listed.
_ONLY_LOOK_UP = getattr(os, "O_PATH", 0)
# Of a file that is small, most likely.
_PIECE = 64 * 1024
# As many as Linux follows in one path: path_resolution(7).
_MOST_LINKS = 40


def system_path(path: str) -> str:
    """Return what the system's calls take for a path: on Windows a long one needs a beginning of its own."""
    return path if os.name != "nt" else windows.extended(path)


def without_tilde(path: str | os.PathLike[str]) -> Path:
    """Return a path with ``~`` or ``~user`` in front replaced; as it stands where there is no such home."""
    return Path(os.path.expanduser(path))


def entry_status(entry: os.DirEntry[str]) -> os.stat_result:
    """Return what the system knows of a folder's entry, or of a link as such.

    Raises:
        OSError: it has gone.
    """
    # A list of Windows tells no number of a file, by which it is known again, and no count of its names.
    return os.lstat(entry.path) if os.name == "nt" else entry.stat(follow_symlinks=False)


def on_disk(status: os.stat_result) -> int:
    """Return the bytes that a file takes up; an unfinished download is a sparse file of its full size."""
    blocks = getattr(status, "st_blocks", None)
    return status.st_size if blocks is None else min(status.st_size, blocks * 512)


def changed_at(status: os.stat_result) -> float:
    """Return when a file was last changed: its bytes, its names, or who may read it."""
    return max(status.st_mtime, status.st_ctime)


class Folder:
    """A folder that stays the same until it is closed.

    Args:
        path: its path, for messages, and for systems without descriptors of folders.
        fd: its descriptor, which is closed with it; None where the system has none.

    Attributes:
        uid_of_new_files: to whom the file system gives new files, once somebody has found that out.
    """

    def __init__(self, path: str, fd: int | None = None) -> None:
        self.path = path
        self.fd = fd
        self.uid_of_new_files: int | None = None
        self._closed = False

    def __enter__(self) -> Folder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def spell(self, name: str) -> str:
        """Return what a call takes for a name in this folder, beside its descriptor."""
        if self.fd is None and self._closed:
            raise ValueError(f"{self.path} is closed")
        return name if self.fd is not None else system_path(os.path.join(self.path, name))

    def named(self, name: str) -> str:
        """Return the path of a name in this folder, for people."""
        return os.path.join(self.path, name)

    def status(self) -> os.stat_result:
        """Return what the system knows of the folder itself."""
        return os.stat(self.path) if self.fd is None else os.fstat(self.fd)

    def close(self) -> None:
        """Let go of it; a second call does nothing."""
        self._closed = True
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None


def open_folder(path: str, above: Folder | None = None, *, follow: bool | None = None) -> Folder:
    """Open a folder, given by its path, or by its name in another one.

    Args:
        path: the path or name.
        above: the other folder.
        follow: whether a link is followed; if not given, in a path, but not below a folder.

    Raises:
        OSError: there is none.
    """
    whole = path if above is None else above.named(path)
    follow = above is None if follow is None else follow
    if not HAS_DESCRIPTORS:
        if not stat.S_ISDIR((os.stat if follow else os.lstat)(system_path(whole)).st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), whole)
        return Folder(whole)
    flags = _FOLDER | (0 if follow else _NO_LINKS)
    below = above.fd if above is not None else None
    try:
        fd = os.open(path, flags | os.O_RDONLY, dir_fd=below)
    except PermissionError:
        if not _ONLY_LOOK_UP:
            raise
        fd = os.open(path, flags | _ONLY_LOOK_UP, dir_fd=below)
    return Folder(whole, fd)


def open_nearest(path: Path) -> tuple[Folder, list[str]]:
    """Open a folder, or the nearest one above it that is there.

    Links on the way are followed, this once. For root, each of them has to be root's, or of the owner of the folder
    that it leads to: whoever may put a link there must not send root to what is not theirs.

    Returns:
        The folder, and the names below it that are not there yet.

    Raises:
        NotPermitted: root was led there by somebody else's link.
        FerryError: something on the way is no folder.
    """
    if not path.is_absolute():
        path = path.absolute()
    if not is_root() or not HAS_DESCRIPTORS:
        missing: list[str] = []
        while not os.path.lexists(path) and path.parent != path:
            missing.insert(0, path.name)
            path = path.parent
        if not path.is_dir():
            raise _no_folder(str(path))
        return open_folder(str(path)), missing
    return _Walk(str(path)).nearest()


def open_there(path: Path) -> Folder:
    """Open a folder that is there; links on the way are followed as by :func:`open_nearest`.

    Raises:
        FileNotFoundError: it is not there.
        NotPermitted, FerryError: as there.
    """
    folder, missing = open_nearest(path)
    if missing:
        folder.close()
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    return folder


def open_file(path: Path) -> BinaryIO:
    """Open a file to read, unbuffered.

    Links are followed. For root, each of them has to be root's, or of the owner of what it leads to: whoever may put a
    link into a store must not have root read to others what they may not read themselves. Nor must who may move a file
    into one: its folder's owner has to have the right to read it.

    Raises:
        NotPermitted: root was led there by somebody else's link, or the folder's owner may not read it.
        OSError: it can't be opened.
    """
    if not is_root() or not HAS_DESCRIPTORS:
        return open(path, "rb", buffering=0, opener=_open_without_waiting)
    links: list[tuple[Path, int]] = []
    while True:
        folder, missing = open_nearest(path.parent)
        with folder:
            if missing:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
            link = _read_link(path.name, folder)
            if link is None:
                _require_file(os.stat(path.name, dir_fd=folder.fd, follow_symlinks=False), path)
                fd = os.open(path.name, os.O_RDONLY | _NO_LINKS | _NO_WAITING, dir_fd=folder.fd)
                file = os.fdopen(fd, "rb", buffering=0)
                keeper = folder.status().st_uid
                break
            target, of = link
            links.append((path, of))
            if len(links) > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
            path = Path(folder.path, target)
    found = os.fstat(file.fileno())
    owner = found.st_uid
    if not may_read(keeper, found):
        file.close()
        raise NotPermitted(
            f"{path} is a file of user {owner} that user {keeper}, whose folder it is in, may not read: root does not "
            "read it for them",
            hint="Let the store's owner read it (chown, chmod), or move it away.",
        )
    for where, of in links:
        if of not in (0, owner):
            file.close()
            raise NotPermitted(
                f"{where} is a link of user {of} to a file of user {owner}, which root does not read for them",
                hint="Run it as the store's owner, or put the file itself there.",
            )
    return file


def read_at_most(file: Readable, limit: int) -> bytes:
    """Return a file, or its beginning where it is longer; a small one takes little memory, whatever the limit.

    Args:
        file: what is read; a call of it may give less than was asked for.
        limit: in bytes.
    """
    pieces, size = [], 0
    while size < limit and (piece := file.read(min(_PIECE, limit - size))):
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)


def _require_file(found: os.stat_result, path: Path) -> None:
    """Refuse what is no regular file before it is opened: for some devices that alone does something."""
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(found.st_mode):
        raise Damaged(f"{path} is not a regular file")


def _read_link(name: str, folder: Folder) -> tuple[str, int] | None:
    """Return where a link in a folder leads and whose it is, both of one and the same link; None for anything else.

    Raises:
        OSError: there is nothing of that name.
    """
    if _ONLY_LOOK_UP:
        # The descriptor is of the link itself, whatever gets its name meanwhile.
        fd = os.open(name, _ONLY_LOOK_UP | _NO_LINKS | getattr(os, "O_CLOEXEC", 0), dir_fd=folder.fd)
        try:
            found = os.fstat(fd)
            return (os.readlink("", dir_fd=fd), found.st_uid) if stat.S_ISLNK(found.st_mode) else None
        finally:
            os.close(fd)
    while True:
        found = os.stat(name, dir_fd=folder.fd, follow_symlinks=False)
        if not stat.S_ISLNK(found.st_mode):
            return None
        target = os.readlink(name, dir_fd=folder.fd)
        again = os.stat(name, dir_fd=folder.fd, follow_symlinks=False)
        if (found.st_dev, found.st_ino, found.st_ctime_ns) == (again.st_dev, again.st_ino, again.st_ctime_ns):
            return target, found.st_uid


def _open_without_waiting(path: str, flags: int) -> int:
    """Open a file, and refuse to wait for somebody who writes to a FIFO."""
    return os.open(system_path(path), flags | _NO_WAITING)


class _Walk:
    """The way from the root of the file system to a folder, component by component."""

    def __init__(self, path: str) -> None:
        self._asked = path
        self._links: list[tuple[str, int]] = []
        # With each name, whether a link has brought it: then it has to be there.
        self._ahead = deque((name, False) for name in path.split(os.sep) if name)
        self._folder = open_folder(os.sep)

    def nearest(self) -> tuple[Folder, list[str]]:
        try:
            while self._ahead:
                name, of_link = self._ahead[0]
                try:
                    # A link is no folder, and is not followed here: most of a way are folders.
                    below = open_folder(name, self._folder)
                except FileNotFoundError:
                    if of_link or any(name == os.pardir for name, _ in self._ahead):
                        raise FerryError(f"{self._asked} leads nowhere: a link on its way has no end") from None
                    break
                except OSError as error:
                    if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                        raise
                    link = _read_link(name, self._folder)
                    if link is None:
                        raise _no_folder(self._folder.named(name)) from None
                    self._ahead.popleft()
                    self._follow(name, *link)
                else:
                    self._ahead.popleft()
                    self._folder.close()
                    self._folder = below
            self._require_trusted_links()
        except BaseException:
            self._folder.close()
            raise
        return self._folder, [name for name, _ in self._ahead]

    def _follow(self, name: str, target: str, owner: int) -> None:
        self._links.append((self._folder.named(name), owner))
        if len(self._links) > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), self._asked)
        parts = Path(target).parts
        if os.path.isabs(target):
            self._folder.close()
            self._folder = open_folder(os.sep)
            parts = parts[1:]
        self._ahead.extendleft((part, True) for part in reversed(parts))

    def _require_trusted_links(self) -> None:
        owner = self._folder.status().st_uid
        for link, of in self._links:
            if of not in (0, owner):
                raise NotPermitted(
                    f"{self._asked} leads through {link}, a link of user {of}, to {self._folder.path}, not theirs",
                    hint=f"If that is where the models are to go, name it itself: {self._folder.path}",
                )


def _no_folder(path: str) -> FerryError:
    return FerryError(f"{path} should be a folder, and is none", hint="Move it away.")
