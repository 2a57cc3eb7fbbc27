"""A store's trash: what no model names is put there by renaming, and can be put back until it is emptied.

The folder is on the blobs' own file system, as the staging folder is. What is in it is called by where it was
(``blobs/``, ``staging/``, ``root/``), so nothing has to be written down, and a run that is killed at any call leaves
each file in one of the two places.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress

from ollama_ferry.errors import AlreadyExists, FerryError
from ollama_ferry.files.disk import Disk, writing
from ollama_ferry.files.draft import remove_if_there
from ollama_ferry.files.folder import Folder
from ollama_ferry.files.lock import FileLock
from ollama_ferry.places.store.folders import StoreFolders
from ollama_ferry.places.store.staging import STAGING, TRASH
from ollama_ferry.places.store.store import Store
from ollama_ferry.places.store.unnamed import UnnamedFile

PARTS = ("blobs", "staging", "root")
_LOCK = "lock"
_AT_WORK = "another ollama-ferry writes into {}, or prunes it"


class Trash:
    """The trash of a store, held and locked; nobody else imports, sends to a folder or prunes meanwhile.

    Use :func:`open_trash`.
    """

    def __init__(self, disk: Disk, folders: StoreFolders, staging: Folder, folder: Folder) -> None:
        self.folder = folder
        self._disk = disk
        self._folders = folders
        self._at = {"blobs": folders.blobs, "staging": staging, "root": folders.root}

    def put(self, files: Iterable[UnnamedFile]) -> list[UnnamedFile]:
        """Put files into the trash.

        Returns:
            Those that are there now; what has changed since it was looked at stays where it is.
        """
        moved: list[UnnamedFile] = []
        for file in files:
            source = self._at[file.part]
            found = self._disk.status(source, file.name)
            if found is None or (found.st_dev, found.st_ino) != file.identity or stat.S_ISLNK(found.st_mode):
                continue
            with writing(file.path, left="What was moved before is in the trash."), self._part(file.part) as into:
                if self._disk.status(into, file.name) is not None:
                    # The same of an earlier time, which nobody wanted back.
                    self._remove(into, file.name)
                self._disk.replace(source, file.name, into, file.name)
            moved.append(file)
        self._sync()
        return moved

    def take_back(self, wanted: Callable[[str, str], bool] = lambda part, name: True) -> tuple[list[str], list[str]]:
        """Put files back to where they were.

        Args:
            wanted: told the part and the name; says which.

        Returns:
            The paths of what is back, and of what stays in the trash because its name is taken.
        """
        back: list[str] = []
        stay: list[str] = []
        for part in PARTS:
            with suppress(FileNotFoundError), self._disk.open_folder(part, self.folder) as source:
                for name in sorted(self._disk.names(source)):
                    if not wanted(part, name):
                        continue
                    target = self._at[part]
                    if self._disk.status(target, name) is not None:
                        stay.append(source.named(name))
                        continue
                    with writing(target.named(name), left="The others are back, or still in the trash."):
                        self._disk.replace(source, name, target, name)
                    back.append(target.named(name))
        self._sync()
        return back, stay

    def names(self) -> dict[str, list[str]]:
        """Return what is in the trash, by where it was."""
        found: dict[str, list[str]] = {}
        for part in PARTS:
            with suppress(FileNotFoundError), self._disk.open_folder(part, self.folder) as source:
                found[part] = sorted(self._disk.names(source))
        return found

    def empty(self) -> None:
        """Remove what is in the trash, for good."""
        for part in PARTS:
            with suppress(FileNotFoundError), self._disk.open_folder(part, self.folder) as source:
                for name in self._disk.names(source):
                    with writing(source.named(name), left="What is left is still in the trash."):
                        self._remove(source, name)

    @contextmanager
    def _part(self, name: str) -> Iterator[Folder]:
        self._folders.make(self.folder, name, shared=False)
        with self._folders.below(self.folder, name) as folder:
            yield folder

    def _remove(self, folder: Folder, name: str) -> None:
        """Remove a file, or a folder and what is in it; no link is followed."""
        found = self._disk.status(folder, name)
        if found is None:
            return
        if not stat.S_ISDIR(found.st_mode):
            self._disk.remove(folder, name)
            return
        with self._disk.open_folder(name, folder) as inner:
            for other in self._disk.names(inner):
                self._remove(inner, other)
        self._disk.remove_folder(folder, name)

    def _sync(self) -> None:
        with writing(self.folder.path, left="What was moved before stays so."):
            for folder in (self.folder, *self._at.values()):
                self._disk.sync_folder(folder)
            for part in PARTS:
                with suppress(FileNotFoundError), self._disk.open_folder(part, self.folder) as folder:
                    self._disk.sync_folder(folder)


@contextmanager
def open_trash(store: Store, disk: Disk, note: Callable[[str], None]) -> Iterator[Trash]:
    """Open the trash of a store, made if need be, as the user to whom the store belongs.

    Raises:
        AlreadyExists: another process writes into the store, or prunes it.
        NotPermitted: the store can't be written.
    """
    folders = StoreFolders(store, disk, note)
    with ExitStack() as stack:
        stack.callback(lambda: folders.close(keep=False))
        with writing(store.root):
            folders.open()
            staging, own = _locked(disk, folders, folders.open_staging, STAGING, stack)
            trash, _ = _locked(disk, folders, lambda: _made(folders, TRASH), TRASH, stack)
        # Last, when both are let go of.
        yield Trash(disk, folders, staging, trash)
        del own


def _made(folders: StoreFolders, name: str) -> Folder:
    folders.make(folders.staging_parent, name, shared=False)
    return folders.below(folders.staging_parent, name)


def _locked(
    disk: Disk, folders: StoreFolders, make: Callable[[], Folder], name: str, stack: ExitStack
) -> tuple[Folder, FileLock]:
    """Hold a folder and the lock in it; both go when the stack does, the folder if nothing is left in it."""
    folder = make()
    try:
        lock = FileLock.take(disk, folder, _LOCK)
    except BaseException:
        folder.close()
        raise
    if lock is None:
        folder.close()
        raise AlreadyExists(_AT_WORK.format(folders.root.path), hint="Wait for it, then run this again.")

    def let_go() -> None:
        with suppress(OSError, FerryError):
            _tidy(disk, folders, folder, lock, name)
        lock.close()
        folder.close()

    stack.callback(let_go)
    return folder, lock


def _tidy(disk: Disk, folders: StoreFolders, folder: Folder, lock: FileLock, name: str) -> None:
    """Remove a folder that has nothing but empty parts in it."""
    for part in PARTS:
        with suppress(OSError):
            disk.remove_folder(folder, part)
    if not set(disk.names(folder)) - {_LOCK}:
        remove_if_there(disk, folder, _LOCK)
        # Some file systems (FUSE, old Windows) keep the folder full as long as the removed file is open.
        lock.close()
        disk.remove_folder(folders.staging_parent, name)


def trash_path(store: Store) -> str:
    """Return the path of a store's trash, which need not be there."""
    from ollama_ferry.places.store.staging import staging_folder

    return os.path.join(staging_folder(store).parent, TRASH)
