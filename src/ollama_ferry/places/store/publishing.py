"""How what has arrived in a store gets its names: a model's blobs first, then its manifest.

A blob waits under its staged name and gets a second one in ``blobs/``. The staged name stays until all is done: should
a server that starts meanwhile delete the other, because it did not know the manifest yet, it is given again.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from pathlib import Path

from ollama_ferry.engine.run import Run
from ollama_ferry.errors import FerryError, Vanished
from ollama_ferry.files.disk import NOT_OFFERED, Disk, writing
from ollama_ferry.files.draft import PROBE, Draft, remove_if_there
from ollama_ferry.files.folder import Folder
from ollama_ferry.files.lock import same_file
from ollama_ferry.model.layout import older_parts, path_parts
from ollama_ferry.model.manifests import Descriptor, Digest, Manifest
from ollama_ferry.model.names import ModelName
from ollama_ferry.ollama.server import server_just_started
from ollama_ferry.places.store.folders import NO_MODES, StoreFolders
from ollama_ferry.places.store.staged import KEPT, StagedBlobs
from ollama_ferry.places.store.staging import MANIFEST_IN_WORK
from ollama_ferry.places.store.store import not_readable

_NO_TIMES = "the file system of the store does not take times: a server that starts just now may delete new blobs"
_ATTEMPTS = 5
# Seconds from a server's start to the end of its pruning, which reads every manifest before it deletes.
_PRUNING_TIME = 2.0


class Publisher:
    """Gives models their names in a store.

    Args:
        folders: the store's.
        waiting: where their blobs wait.
        disk: the calls to write with.
        run: stops what is repeated.
        note: notified of what the file system can't do.

    Attributes:
        published: the blobs that got their names, with their sizes.
    """

    def __init__(
        self, folders: StoreFolders, waiting: StagedBlobs, disk: Disk, run: Run, note: Callable[[str], None]
    ) -> None:
        self.published: dict[Digest, int] = {}
        self._folders = folders
        self._waiting = waiting
        self._disk = disk
        self._run = run
        self._note = note
        self._committed: list[Manifest] = []

    @property
    def has_committed(self) -> bool:
        """Whether a model has been published."""
        return bool(self._committed)

    def publish_model(self, name: ModelName, manifest: Manifest) -> None:
        """Publish a model.

        Raises:
            Vanished: a blob that was here has been deleted by somebody meanwhile.
        """
        self._waiting.finish()
        with writing(f"the manifest of {name} into {self._folders.root.path}", left=KEPT):
            self.publish_blobs(manifest.blobs)
            self._republish(manifest.blobs)
            self._require_all(name, manifest)
            self._write_manifest_blob(manifest)
            self._write_manifest(name, manifest.raw)
            self._remove_older_manifests(name)
            self._committed.append(manifest)
            self._republish(manifest.blobs)
            self._require_all(name, manifest)

    def publish_blobs(self, blobs: Iterable[Descriptor], *, again: bool = False) -> int:
        """Give blobs that wait their names, and make these safe on the disk.

        Args:
            blobs: those that do not wait are passed over.
            again: only those that have lost their name since.

        Returns:
            How many got their name.

        Raises:
            Vanished: one that had arrived has gone; the others got theirs.
        """
        self._waiting.finish()
        count = 0
        gone: Vanished | None = None
        for blob in blobs:
            if (again or blob.digest in self.published) and self.has(blob):
                continue
            try:
                with self._waiting.writing(blob):
                    count += self._publish_blob(blob)
            except Vanished as error:
                gone = gone or error
        if count:
            with writing(f"the blobs' folder {self._folders.blobs.path}", left=KEPT):
                self._disk.sync_folder(self._folders.blobs)
        if gone is not None:
            raise gone
        return count

    def outlast_pruning(self) -> None:
        """Wait for a server that has just been started to delete what it did not know, and give it back.

        Servers up to 0.12 at least delete blobs of any age; they look for manifests first and delete a moment later.
        """
        if not self._committed or not server_just_started(_PRUNING_TIME):
            return
        deadline = time.monotonic() + _PRUNING_TIME
        while time.monotonic() < deadline:
            for manifest in self._committed:
                self.publish_blobs(manifest.blobs, again=True)
            time.sleep(0.1)

    def has(self, blob: Descriptor) -> bool:
        """Return whether a blob has its name in the store, and its size."""
        return self.size(blob.digest) == blob.size

    def size(self, digest: Digest) -> int | None:
        """Return the size of what has a blob's name in the store; None where that is no file.

        Raises:
            NotPermitted: the folder can't be read.
        """
        # Very old stores have the second name, which a server changes at its start.
        names = (digest.file_name,) if os.name == "nt" else (digest.file_name, str(digest))
        folder = self._folders.blobs
        try:
            found = next(filter(None, (self._disk.status(folder, name) for name in names)), None)
            if found is not None and stat.S_ISLNK(found.st_mode):
                # Somebody keeps blobs elsewhere, and links to them.
                found = os.stat(folder.spell(digest.file_name), dir_fd=folder.fd)
        except PermissionError as error:
            raise not_readable(Path(folder.named(digest.file_name)), error) from error
        except OSError:
            return None
        return found.st_size if found is not None and stat.S_ISREG(found.st_mode) else None

    # -- inside

    def _republish(self, blobs: Iterable[Descriptor]) -> None:
        """Give blobs their names again that a server has deleted, which started before it knew the manifest."""
        while self.publish_blobs(blobs, again=True):
            self._run.check()

    def _require_all(self, name: ModelName, manifest: Manifest) -> None:
        self._folders.require_in_place()
        for blob in manifest.blobs:
            if not self.has(blob):
                raise Vanished(
                    f"{name}: its {blob.kind} blob {blob.digest} was here when this began and has gone",
                    hint="Somebody deleted it, or a server pruned it at its start. Run the same command again.",
                    digest=str(blob.digest),
                )

    def _publish_blob(self, blob: Descriptor) -> bool:
        """Give a blob its name; False where it does not wait."""
        name, staging, blobs = blob.digest.file_name, self._waiting.folder, self._folders.blobs
        with self._waiting.hold(blob) as held:
            if held is None:
                return False
            self._touch(staging, name)
            for _ in range(_ATTEMPTS):
                self._name(blob, held)
                if held.is_named(blobs, name, blob.digest.hex):
                    break
                # Somebody was between the two: what has the name now is not what was hashed.
                remove_if_there(self._disk, blobs, name)
                if not held.is_named(staging, name, blob.digest.hex):
                    raise _replaced(blob)
            else:
                raise _replaced(blob)
        self.published[blob.digest] = blob.size
        return True

    def _name(self, blob: Descriptor, held: Draft) -> None:
        name = blob.digest.file_name
        try:
            self._disk.link(self._waiting.folder, name, self._folders.blobs, name)
        except FileExistsError:
            # A run that was killed right after this step has left the file with both names: there is nothing to do.
            if not same_file(self._disk.status(self._folders.blobs, name), held.status):
                self._replace(blob)
        except OSError as error:
            self._rename(blob, error)

    def _touch(self, staging: Folder, name: str) -> None:
        # Recent servers spare what is young; it may have waited here for days.
        try:
            self._disk.touch(staging, name)
        except OSError as error:
            if error.errno not in NOT_OFFERED:
                raise
            self._note(_NO_TIMES)

    def _replace(self, blob: Descriptor) -> None:
        """Put a blob in place of wrong content under its name, in one step."""
        name, staging = blob.digest.file_name, self._waiting.folder
        remove_if_there(self._disk, staging, name + PROBE)
        try:
            self._disk.link(staging, name, staging, name + PROBE)
        except OSError as error:
            self._rename(blob, error)
        else:
            self._disk.replace(staging, name + PROBE, self._folders.blobs, name)

    def _rename(self, blob: Descriptor, error: OSError) -> None:
        """Publish where the file system knows no second name, as exFAT and some network disks."""
        if error.errno not in NOT_OFFERED:
            raise error
        name = blob.digest.file_name
        self._disk.replace(self._waiting.folder, name, self._folders.blobs, name)
        self._waiting.has_moved(blob)

    def _write_manifest(self, name: ModelName, raw: bytes) -> None:
        for attempt in range(1, _ATTEMPTS + 1):
            made: list[tuple[Folder, str]] = []
            held: list[Folder] = []
            try:
                draft = self._drafted(raw, self._manifest_folder)
                try:
                    # A server that starts removes empty folders, and gives up its start when one that it saw empty
                    # is not: so they are made at the last moment, and made safe afterwards.
                    folder = self._folders.manifests
                    *above_it, last = path_parts(name, newer=self._folders.older_manifests is not None)
                    for part in above_it:
                        if self._folders.make(folder, part):
                            made.append((folder, part))
                        folder = self._folders.below(folder, part)
                        held.append(folder)
                    draft.publish(folder, last, sha256=Digest.of(raw).hex)
                finally:
                    draft.close()
                for above, _ in made:
                    self._disk.sync_folder(above)
                return
            except BaseException as error:
                for above, part in reversed(made):
                    with suppress(OSError):
                        self._disk.remove_folder(above, part)
                if not isinstance(error, FileNotFoundError) or attempt == _ATTEMPTS:
                    raise
                self._folders.reopen_manifests()
            finally:
                for folder in held:
                    folder.close()

    def _write_manifest_blob(self, manifest: Manifest) -> None:
        """In the newer layout, write the manifest as a blob as well.

        What has the model's name is a copy of it, which a server takes like a link, and every tool carries.
        """
        if self._folders.older_manifests is None or self.size(manifest.digest) == len(manifest.raw):
            return
        draft = self._drafted(manifest.raw, self._waiting.folder)
        try:
            draft.publish(self._folders.blobs, manifest.digest.file_name, sha256=manifest.digest.hex)
        finally:
            draft.close()

    def _remove_older_manifests(self, name: ModelName) -> None:
        """In the newer layout, remove what has the model's name in ``manifests/``, as a server does."""
        if self._folders.older_manifests is None:
            return
        for *above, last in older_parts(name):
            with ExitStack() as stack, suppress(FileNotFoundError, NotADirectoryError):
                folder = self._folders.older_manifests
                for part in above:
                    folder = stack.enter_context(self._disk.open_folder(part, folder))
                self._disk.remove(folder, last)
                self._disk.sync_folder(folder)

    def _drafted(self, raw: bytes, folder: Folder) -> Draft:
        draft = Draft.create(self._disk, folder, MANIFEST_IN_WORK)
        try:
            if not draft.set_mode(0o644):
                self._note(NO_MODES)
            draft.write(raw)
            draft.sync()
        except BaseException:
            draft.close()
            raise
        return draft

    @property
    def _manifest_folder(self) -> Folder:
        return self._folders.manifests if self._folders.manifests_apart else self._waiting.folder

    def tidy(self) -> None:
        """Remove what a broken-off manifest has left."""
        remove_if_there(self._disk, self._manifest_folder, MANIFEST_IN_WORK)


def _replaced(blob: Descriptor) -> FerryError:
    return FerryError(
        f"the blob {blob.digest} was replaced by somebody else while it got its name: it is not published",
        hint="Find out who writes to the store, then run the same command again.",
    )
