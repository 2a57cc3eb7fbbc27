"""A store's folders, opened once and held: whatever becomes of their paths, what is written goes into these.

As root, whoever owns the store makes and fills them: see :mod:`ollama_ferry.files.identity`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from ollama_ferry.errors import FerryError, NotPermitted
from ollama_ferry.files.disk import Disk
from ollama_ferry.files.draft import set_mode
from ollama_ferry.files.folder import Folder, open_nearest
from ollama_ferry.files.identity import acting_as, is_root
from ollama_ferry.files.lock import same_file
from ollama_ferry.files.mounts import is_mount_point
from ollama_ferry.model.layout import MANIFESTS
from ollama_ferry.places.store.staging import STAGING, staging_folder
from ollama_ferry.places.store.store import Store

NO_MODES = "the file system of the store does not take the modes of files: they are as it makes them"
# Folders between ``manifests`` and a manifest: host, namespace and model.
_DEPTH = 3
_ATTEMPTS = 100
# FAT keeps times in steps of two seconds.
_CLOCK_STEP = 2.0


class StoreFolders:
    """The folders of a store that is written to; made where they are not there.

    Args:
        store: the store.
        disk: the calls to write with.
        note: notified once of what the file system can't do.

    Attributes:
        root, blobs, manifests: the folders; to be used between :meth:`open` and :meth:`close` only. ``manifests`` is
            that of the layout that the store has.
        older_manifests: ``manifests/`` of a store that has the newer layout; None for other stores.

    Raises:
        NotPermitted: they can't be made, or a link leads to what is somebody else's.
        FerryError: something in their place is no folder.
        OSError: anything else.
    """

    root: Folder
    blobs: Folder
    manifests: Folder
    older_manifests: Folder | None = None

    def __init__(self, store: Store, disk: Disk, note: Callable[[str], None]) -> None:
        self._store = store
        self._disk = disk
        self._note = note
        self._held = ExitStack()
        self._made: list[tuple[Folder, str]] = []

    def open(self) -> None:
        """Open them all, as the user to whom the store belongs."""
        self._in_blobs = staging_folder(self._store).parent == self._store.blobs_folder
        newer = self._store.has_newer_layout
        manifests = self._store.newer_manifests_folder if newer else self._store.manifests_folder
        self._layout = manifests.name
        self.manifests_apart = self._in_blobs or manifests.is_symlink() or is_mount_point(manifests)
        folder, missing = open_nearest(self._store.root)
        self._held.callback(folder.close)
        found = folder.status()
        self._held.enter_context(acting_as(found.st_uid, found.st_gid))
        for name in missing:
            self._make_safely(folder, name, shared=False)
            folder = self._hold(self.below(folder, name))
        self.root = folder
        self.manifests = self._part(self._layout)
        if newer:
            self.older_manifests = self._part(MANIFESTS)
        self.blobs = self._part("blobs")

    def close(self, *, keep: bool) -> None:
        """Let go of them.

        Args:
            keep: whether those stay that were made here and are empty: a store that got no model is none.
        """
        # Whatever interrupts this: the process must not go on as another user.
        with self._held:
            for folder, name in reversed(self._made) if not keep else ():
                with suppress(OSError):
                    self._disk.remove_folder(folder, name)

    @property
    def staging_parent(self) -> Folder:
        """The folder that the staging folder is in."""
        return self.blobs if self._in_blobs else self.root

    def open_staging(self) -> Folder:
        """Open the folder where blobs wait, made if need be; whoever calls closes it."""
        attempts_left = _ATTEMPTS
        while True:
            try:
                self._make_safely(self.staging_parent, STAGING)
                return self.below(self.staging_parent, STAGING)
            except FileNotFoundError:
                # Whoever had it has removed it just now; or the store itself has gone.
                attempts_left -= 1
                if not attempts_left:
                    raise

    def reopen_manifests(self) -> None:
        """Open ``manifests/`` anew, which a server removes at its start when it is empty."""
        self.manifests = self._part(self._layout)

    def sync_names(self, since: float) -> None:
        """Make names safe on the disk that a run has given and, as it was broken off, perhaps not synced.

        Args:
            since: when it began: in folders that have not changed since then it has named nothing.

        Raises:
            OSError: they are not safe.
        """
        for folder, depth in ((self.root, 0), (self.blobs, 0), (self.manifests, _DEPTH)):
            self._sync_names(folder, since - _CLOCK_STEP, depth)

    def _sync_names(self, folder: Folder, since: float, depth: int) -> None:
        if folder.status().st_mtime >= since:
            self._disk.sync_folder(folder)
        names: list[str] = []
        with suppress(PermissionError):
            names = self._disk.names(folder) if depth else []
        for name in names:
            found = self._disk.status(folder, name)
            if found is None or not stat.S_ISDIR(found.st_mode):
                continue
            # A server may remove what is empty; and where we may not pass, nothing of ours is.
            with suppress(FileNotFoundError, PermissionError), self.below(folder, name) as inner:
                self._sync_names(inner, since, depth - 1)

    def make(self, folder: Folder, name: str, *, shared: bool = True) -> bool:
        """Make a folder, where nothing has its name.

        Args:
            folder, name: where.
            shared: as open to the group as the folder that it is in.

        Returns:
            Whether it was made; its name is not safe on the disk yet.
        """
        try:
            self._disk.make_folder(folder, name)
        except FileExistsError:
            return False
        with self.below(folder, name) as made:
            mode = 0o755 | (shared_mode(folder, made.status().st_gid) if shared else 0)
            if made.fd is not None and not set_mode(self._disk, made.fd, mode):
                self._note(NO_MODES)
        return True

    def _make_safely(self, folder: Folder, name: str, *, shared: bool = True) -> None:
        if self.make(folder, name, shared=shared):
            self._made.append((folder, name))
            self._disk.sync_folder(folder)

    def below(self, folder: Folder, name: str) -> Folder:
        """Open a folder in another one; a link is not followed.

        Raises:
            FerryError: what has the name is no folder.
        """
        try:
            return self._disk.open_folder(name, folder)
        except OSError as error:
            found = self._disk.status(folder, name)
            if found is None or stat.S_ISDIR(found.st_mode):
                raise
            link = stat.S_ISLNK(found.st_mode)
            raise FerryError(
                f"{folder.named(name)} should be a folder of its own, and is {'a link' if link else 'none'}",
                hint="Put the folder itself there." if link else "Move it away.",
            ) from error

    def require_in_place(self) -> None:
        """Check that the store's path still leads to these folders.

        Raises:
            FerryError: somebody has put others in their place; a model published now would lack its blobs.
        """
        for folder, path in ((self.root, self._store.root), (self.blobs, self._store.blobs_folder)):
            try:
                found = os.stat(path)
            except PermissionError:
                # Where its owner may not pass, as in another user's home, nobody can tell.
                continue
            except OSError:
                found = None
            if not same_file(found, folder.status()):
                raise FerryError(
                    f"{path} was replaced by somebody else while it was being written to",
                    hint="Find out who does that, then run the same command again.",
                )

    def _part(self, name: str) -> Folder:
        """Open ``blobs`` or ``manifests``; a link, as to another disk, is followed here, and never again."""
        self._make_safely(self.root, name)
        found = self._disk.status(self.root, name)
        if found is None or not stat.S_ISLNK(found.st_mode):
            return self._hold(self.below(self.root, name))
        owner = self.root.status().st_uid
        try:
            folder = self._hold(self._follow(name))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise FerryError(
                f"{self.root.named(name)} should be a folder, and is a link to none", hint="Move it away."
            ) from error
        trusted = {0, owner, os.geteuid()} if hasattr(os, "geteuid") else {owner}
        for what, uid in (("is a link", found.st_uid), (f"is a link to {folder.path}", folder.status().st_uid)):
            if uid not in trusted:
                raise NotPermitted(
                    f"{self.root.named(name)} {what} of user {uid}, who is neither root nor the store's owner",
                    hint="Let it lead to a folder of the store's owner.",
                )
        return folder

    def _follow(self, name: str) -> Folder:
        if is_root():
            folder, missing = open_nearest(Path(self.root.named(name)))
            if missing:
                folder.close()
                raise FileNotFoundError
            return folder
        return self._disk.open_folder(name, self.root, follow=True)

    def _hold(self, folder: Folder) -> Folder:
        self._held.callback(folder.close)
        return folder


def shared_mode(folder: Folder, gid: int) -> int:
    """Return the mode bits by which what is made in a folder is as open to the group as that, if it has its group."""
    found = folder.status()
    return found.st_mode & 0o2020 if found.st_gid == gid else 0
