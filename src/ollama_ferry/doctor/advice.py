"""The lines that change a store, and which paths they may name.

Somebody copies them into a shell of root's, and the store may belong to an enemy or be a patchwork of links. So a line
names nothing but files that are the store's own, by a path that leads into the store itself, and nothing that a link of
the store leads to, whose model would be lost with it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ollama_ferry.doctor.contents import ENTRIES_AT_MOST
from ollama_ferry.files.mounts import mount_points
from ollama_ferry.ollama.candidates import leads_nowhere
from ollama_ferry.places.ssh.scripts import STAGING as SSH_STAGING
from ollama_ferry.places.store.staging import STAGING
from ollama_ferry.places.store.store import Store
from ollama_ferry.shell_lines import quoted, removal, renaming

# Of a user to whom the one that is there does not belong, with the number behind it.
_STAGING = re.compile(rf"({re.escape(STAGING)}|{re.escape(SSH_STAGING)})(-[0-9]+)?")
_IN_BLOBS = re.compile(
    r"sha256[-:][0-9a-f]{64}(-partial(-[0-9]+)?|\.tmp)?|\.ollama-ferry(-ssh|-trash)?(-[0-9]+)?|lost\+found"
)
_IN_MANIFESTS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*|\.ollama-ferry-manifest|lost\+found")


class Advice:
    """What may be changed in one store.

    Args:
        store: the store.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._root = os.path.realpath(store.root)
        self._kept: set[tuple[int, int]] = set()
        self._mounts = mount_points()
        folders = ((store.manifests_folder, _IN_MANIFESTS), (store.blobs_folder, _IN_BLOBS))
        trusted = leads_honestly(store.root)
        self._own = {str(folder): trusted and self._is_own(folder, names) for folder, names in folders}

    def keep(self, path: str, status: os.stat_result) -> None:
        """Remember what a link of the store leads to; call it with every file of the store."""
        if stat.S_ISLNK(status.st_mode):
            try:
                target = os.stat(path)
            except OSError:
                return
            self._kept.add((target.st_dev, target.st_ino))

    def keeps(self, files: Iterable[tuple[int, int]]) -> bool:
        """Return whether a link of the store leads to one of some files, given by device and inode."""
        return not self._kept.isdisjoint(files)

    @property
    def has_links(self) -> bool:
        """Whether a link of the store leads to a file."""
        return bool(self._kept)

    @property
    def owns_blobs(self) -> bool:
        """Whether ``blobs/`` is the store's, or there is none."""
        folder = self._store.blobs_folder
        return self._own[str(folder)] or not os.path.lexists(folder)

    def is_inside(self, path: Path | str) -> bool:
        """Return whether a file is, or would be, in the store's own folders, whatever links are on the way."""
        above = os.path.realpath(os.path.dirname(path))
        owns = [os.path.realpath(folder) for folder, own in self._own.items() if own]
        return any(above == folder or above.startswith(folder + os.sep) for folder in owns)

    def has_all(self, folder: Path) -> bool:
        """Return whether ``manifests/`` or ``blobs/`` is the store's alone: no other store can have files there."""
        return os.path.realpath(folder) == os.path.join(self._root, folder.name)

    def removable(self, paths: Iterable[str]) -> list[str]:
        """Return those of some paths that may be removed or moved as far as the store is concerned."""
        return [path for path in paths if self._may_go(path)]

    def remove(self, paths: Iterable[str], folder: Path | str) -> list[str]:
        """Return the line that removes files of a folder, or none where nothing of it may go."""
        some = self.removable(paths)
        return [with_sudo(removal(some), folder)] if some else []

    def set_aside(self, paths: Iterable[str]) -> list[str]:
        """Return the lines that move files to the store's root, each under a name that is free there."""
        lines: list[str] = []
        taken: set[str] = set()
        for path in self.removable(paths):
            name = os.path.relpath(path, self._store.root)
            target = aside = os.path.join(self._store.root, re.sub(r"^(blobs|manifests)/", "", name).replace("/", "_"))
            number = 1
            while target in taken or os.path.lexists(target):
                number += 1
                target = f"{aside}.{number}"
            taken.add(target)
            lines.append(with_sudo(renaming(path, target), os.path.dirname(path)))
        return lines

    def own_folders(self) -> list[str]:
        """Return the real ``manifests/`` and ``blobs/`` that may be given to another owner as a whole.

        None, where one of them is not the store's own or something is mounted below it.
        """
        found: list[str] = []
        for folder, own in self._own.items():
            if not os.path.lexists(folder):
                continue
            real = os.path.realpath(folder)
            if not own or any(point.startswith(real + os.sep) for point in self._mounts):
                return []
            found.append(real)
        return found

    def _may_go(self, path: str) -> bool:
        try:
            status = os.lstat(path)
        except OSError:
            return False
        # Another link's way may lead over this one.
        if stat.S_ISLNK(status.st_mode) and not leads_nowhere(path):
            return False
        if (status.st_dev, status.st_ino) in self._kept:
            return False
        above = os.path.realpath(os.path.dirname(path))
        if above == self._root and _STAGING.fullmatch(os.path.basename(path)):
            return leads_honestly(self._store.root)
        return self.is_inside(path)

    def _is_own(self, folder: Path, names: re.Pattern[str]) -> bool:
        """Return whether a folder is of the store and nothing else, also where a link or a mount leads to it.

        Behind a link may be anything: another store's blobs, a home, the root of the system.
        """
        real = os.path.realpath(folder)
        try:
            link, status = os.lstat(folder), os.stat(real)
            if not stat.S_ISDIR(status.st_mode):
                return False
            if stat.S_ISDIR(link.st_mode) and real not in self._mounts and not os.path.ismount(real):
                return True
            with os.scandir(real) as entries:
                for number, entry in enumerate(entries):
                    if number >= ENTRIES_AT_MOST or not names.fullmatch(entry.name):
                        return False
        except OSError:
            return False
        if stat.S_ISDIR(link.st_mode):
            return True
        # An enemy's link leads to what is not his. And beside another store's blobs are its manifests.
        other = {"blobs": "manifests", "manifests": "blobs"}[folder.name]
        beside = os.path.join(os.path.dirname(real), other)
        shared = os.path.isdir(beside) and os.path.realpath(beside) != os.path.realpath(folder.with_name(other))
        return link.st_uid in (0, status.st_uid) and len(Path(real).parts) > 2 and not shared and not is_home(real)


def with_sudo(line: str, folder: Path | str) -> str:
    """Put sudo before a line that changes a folder, where this user can't do that, or is root and should not.

    Whoever owns a folder on the way can turn it elsewhere before the line is run. As that user it hurts nobody else.
    """
    if os.name == "nt":
        return line
    owner = next((uid for uid in _owners_above(folder) if uid), 0)
    if os.access(folder, os.W_OK) and (os.geteuid() or not owner):
        return line
    if owner in (0, os.geteuid()):
        return f"sudo {line}"
    return f"sudo -u {quoted(login_name(owner))} {line}"


def login_name(uid: int) -> str:
    """Return what sudo calls a user."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"


def _owners_above(folder: Path | str) -> Iterable[int]:
    """Give the owners of a folder and of those that it is in, from the deepest one that is there."""
    real = Path(os.path.realpath(folder))
    for part in (real, *real.parents):
        with suppress(OSError):
            yield os.stat(part).st_uid


def is_home(folder: str) -> bool:
    """Return whether a folder is somebody's home."""
    try:
        import pwd
    except ImportError:
        return False
    return any(os.path.realpath(user.pw_dir) == folder for user in pwd.getpwall() if user.pw_dir not in ("", "/"))


def is_systems(folder: str) -> bool:
    """Return whether a folder is one at the top of the system or somebody's home, which no line of ours touches."""
    real = os.path.realpath(folder)
    return len(Path(real).parts) <= 2 or is_home(real)


def leads_honestly(path: str | os.PathLike[str]) -> bool:
    """Return whether the links on the way to a path were made by root, by this user or by the owner of what is there.

    Another one's link may lead to what he has no right to, and a line for root would do there what it should do here.
    """
    makers = {0, os.geteuid()} if hasattr(os, "geteuid") else set()
    try:
        owner = os.stat(path).st_uid
    except OSError:
        return False
    absolute = Path(os.path.abspath(path))
    return all(
        not part.is_symlink() or os.lstat(part).st_uid in {*makers, owner} for part in (absolute, *absolute.parents)
    )
