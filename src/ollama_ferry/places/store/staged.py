"""Blobs that wait for their manifest in a store's staging folder: begun ones, whole ones, and what earlier runs left.

One process at a time holds the folder. A begun blob is ``sha256-<hex>.partial``; one that is whole, and safe on the
disk, loses that ending.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType

from ollama_ferry.engine.ports import CopiesItself, Readable, offers
from ollama_ferry.engine.run import Run
from ollama_ferry.errors import AlreadyExists, Damaged, FerryError, Vanished
from ollama_ferry.files.disk import Disk, writing
from ollama_ferry.files.draft import PROBE, Draft, is_ours, remove_if_there, set_mode, sync_drafts
from ollama_ferry.files.folder import Folder
from ollama_ferry.files.lock import FileLock, same_file
from ollama_ferry.files.pending import PARTIAL
from ollama_ferry.model.manifests import Descriptor, Digest
from ollama_ferry.places.store.folders import NO_MODES, StoreFolders, shared_mode
from ollama_ferry.places.store.staging import STAGING
from ollama_ferry.places.store.sync_queue import Arrived, SyncQueue
from ollama_ferry.wording import human_size

KEPT = "What has arrived is kept, and the same command resumes."
"""What becomes of what has arrived when something fails."""

_LOCK = "lock"
_CHUNK = 1024 * 1024
# Hashing takes long enough to be mentioned from here on.
_TOLD_FROM = 500 * 1000 * 1000
_LEFTOVER_AGE = 7 * 24 * 3600.0
_LOOK_AGAIN_AFTER = 0.1
# How many files that wait are held open; of more, the times tell whether they are still the same.
_HELD_OPEN = 100


# Device, inode and time of the last change: an inode's number may be given to another file, but that has another time.
_Mark = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class _Whole:
    """A whole blob that waits.

    Attributes:
        size: in bytes.
        mark: of the file that was hashed; None where an earlier run left it, and nobody has hashed it yet.
        draft: the file itself, held open so that no other one can be taken for it; None where too many wait.
    """

    size: int
    mark: _Mark | None
    draft: Draft | None = None


class StagedBlobs:
    """The staging folder of a store, held and locked between :meth:`open` and :meth:`close`.

    Args:
        folders: the store's.
        disk: the calls to write with.
        run: notified when another process has to be waited for, and of long hashing; ends both.
        note: notified of what the file system can't do.

    Attributes:
        folder: the folder.
        broken_off: when the earlier run began that has left the folder, by the file system's clock; None for none.
    """

    folder: Folder
    broken_off: float | None = None

    def __init__(self, folders: StoreFolders, disk: Disk, run: Run, note: Callable[[str], None]) -> None:
        self._folders = folders
        self._disk = disk
        self._run = run
        self._note = note
        self._lock: FileLock | None = None
        self._whole: dict[Digest, _Whole] = {}
        self._held_open: list[Draft] = []
        self._queue = SyncQueue(self._bring)

    # -- the folder

    @property
    def is_open(self) -> bool:
        """Whether the folder is held."""
        return self._lock is not None

    def open(self, *, wait: bool) -> None:
        """Hold the folder, and look at what is there.

        Raises:
            AlreadyExists: another process has it, and is not to be waited for.
            OSError, FerryError: it can't be had.
        """
        notified = False
        while not self._take():
            root = self._folders.root.path
            if not wait:
                raise AlreadyExists(f"another ollama-ferry writes into {root}")
            if not notified:
                notified = True
                self._run.note(f"another ollama-ferry writes into {root}; waiting for it to finish")
            self._run.check()
            time.sleep(_LOOK_AGAIN_AFTER)
        for name in self._disk.names(self.folder):
            with suppress(Damaged):
                digest = Digest.parse(name)
                found = self._disk.status(self.folder, name)
                # Another user's can't be vouched for, nor given a name in the store.
                if found is not None and is_ours(self._disk, self.folder, name, found, alone=False):
                    self._whole[digest] = _Whole(found.st_size, None)

    def _take(self) -> bool:
        while True:
            folder = self._folders.open_staging()
            try:
                lock = FileLock.take(self._disk, folder, _LOCK)
            except FileNotFoundError:
                # Whoever had it before has just tidied up.
                folder.close()
                continue
            except BaseException:
                folder.close()
                raise
            if lock is None:
                folder.close()
                return False
            self.folder, self._lock = folder, lock
            found = os.fstat(lock.fd)
            if not lock.made:
                self.broken_off = found.st_mtime
            elif not set_mode(self._disk, lock.fd, 0o644 | shared_mode(folder, found.st_gid) & 0o020):
                self._note(NO_MODES)
            return True

    def close(self, unwanted: Callable[[Digest, bool, int], bool]) -> None:
        """Remove what is of no more use, and the folder if nothing is left in it; let go of it.

        Args:
            unwanted: told a digest, whether the file is whole, and its size; tells whether it is of no more use.
        """
        if self._lock is not None:
            with suppress(FerryError, OSError):
                self.finish()
        self._queue.close()
        if self._lock is None:
            return
        for draft in self._held_open:
            draft.close()
        with suppress(OSError):
            oldest = time.time() - _LEFTOVER_AGE
            self._remove_files(
                lambda digest, whole, found: unwanted(digest, whole, found.st_size) or found.st_mtime < oldest
            )
            self._remove_folder()
        self._lock.close()
        self.folder.close()

    def _remove_folder(self) -> None:
        assert self._lock is not None  # noqa: S101 -- close() has looked
        if set(self._disk.names(self.folder)) - {_LOCK}:
            return
        remove_if_there(self._disk, self.folder, _LOCK)
        # Some file systems (FUSE, old Windows) keep the folder full as long as the removed file is open.
        self._lock.close()
        self._disk.remove_folder(self._folders.staging_parent, STAGING)

    def make_way(self, keep: Callable[[Digest], bool]) -> None:
        """Remove what earlier runs left, but for some blobs."""
        with suppress(OSError):
            self._remove_files(lambda digest, whole, found: not keep(digest))

    def _remove_files(self, unwanted: Callable[[Digest, bool, os.stat_result], bool]) -> None:
        for name in self._disk.names(self.folder):
            try:
                digest = Digest.parse(name.partition(".")[0])
            except Damaged:
                continue
            found = self._disk.status(self.folder, name)
            if found is None or not (name.endswith(PROBE) or unwanted(digest, not name.endswith(PARTIAL), found)):
                continue
            # What can't be removed, such as another user's, must not keep the rest from it.
            with suppress(OSError):
                remove_if_there(self._disk, self.folder, name)
                if not name.endswith((PARTIAL, PROBE)):
                    self._whole.pop(digest, None)

    # -- blobs that arrive

    def begin(self, blob: Descriptor) -> ArrivingBlob:
        """Begin a blob anew."""
        with self.writing(blob):
            draft = Draft.create(self._disk, self.folder, blob.digest.file_name + PARTIAL)
        return ArrivingBlob(self, blob, draft, resumed=False)

    def resume(self, blob: Descriptor) -> ArrivingBlob | None:
        """Open what has arrived of a blob; None where nothing has, or nothing that can be trusted."""
        with self.writing(blob):
            draft = Draft.resume(self._disk, self.folder, blob.digest.file_name + PARTIAL)
        if draft is None:
            return None
        if not draft.length:
            draft.close()
            return None
        return ArrivingBlob(self, blob, draft, resumed=True)

    def begun_size(self, digest: Digest) -> int:
        """Return how many bytes of a blob have arrived."""
        return _size(self._disk, self.folder, digest.file_name + PARTIAL)

    def stage(self, blob: Descriptor, draft: Draft, *, resumed: bool) -> None:
        """Take a blob whose bytes are all there: it becomes whole when it is safe, on another thread."""
        self._whole[blob.digest] = _Whole(blob.size, _mark(draft.status))
        with self._bringing():
            self._queue.add(Arrived(blob, draft, resumed))

    def finish(self) -> None:
        """Wait until all that has arrived is safe.

        Raises:
            FerryError: something is not.
        """
        with self._bringing():
            self._queue.finish()

    def _bring(self, arrived: Sequence[Arrived]) -> None:
        try:
            for one in arrived:
                if not one.draft.set_mode(0o644):
                    self._note(NO_MODES)
            sync_drafts(self._disk, [one.draft for one in arrived])
            for blob, draft, resumed in arrived:
                if resumed and draft.sha256(self._run.cancel) != blob.digest.hex:
                    # Somebody has written to it beside us, on a file system without locks.
                    draft.discard()
                    raise FerryError(
                        f"the blob {blob.digest} was changed while it arrived: it is not published",
                        hint="Run the same command again.",
                    )
                draft.publish(self.folder, blob.digest.file_name, sha256=blob.digest.hex, safely=False)
            self._disk.sync_folder(self.folder)
            for one in arrived:
                self._keep(one.blob, one.draft)
        except BaseException:
            for one in arrived:
                self._whole.pop(one.blob.digest, None)
                one.draft.close()
            raise

    def _keep(self, blob: Descriptor, draft: Draft) -> None:
        hold = len(self._held_open) < _HELD_OPEN
        self._whole[blob.digest] = _Whole(blob.size, _mark(draft.now()), draft if hold else None)
        if hold:
            self._held_open.append(draft)
        else:
            draft.close()

    def _bringing(self) -> AbstractContextManager[None]:
        return writing(f"a blob into {self._folders.root.path}", left=KEPT)

    def writing(self, blob: Descriptor) -> AbstractContextManager[None]:
        """Say which blob it is about when the disk fails."""
        return writing(f"the blob {blob.digest} into {self._folders.root.path}", left=KEPT)

    # -- blobs that wait

    def waits(self, digest: Digest) -> bool:
        """Return whether a whole blob of this digest seems to wait; nothing is looked at."""
        return digest in self._whole

    def has(self, blob: Descriptor) -> bool:
        """Return whether a blob waits, whole; what an earlier run left is hashed first, and removed if it is wrong."""
        waits = self._whole.get(blob.digest)
        if waits is None or waits.size != blob.size:
            return False
        if waits.mark is not None:
            return True
        with self.hold(blob) as held:
            return held is not None

    @contextmanager
    def hold(self, blob: Descriptor) -> Iterator[Draft | None]:
        """Hold the file of a blob that waits, whose bytes are right; None where none does.

        It is the one that was hashed when it arrived. Where that can't be decided, it is hashed now.

        Raises:
            Vanished: it arrived in this run, and somebody has removed or replaced it.
        """
        name = blob.digest.file_name
        waits = self._whole.get(blob.digest)
        if waits is None or waits.size != blob.size:
            yield None
            return
        found = self._disk.status(self.folder, name)
        if waits.draft is not None:
            right = same_file(found, waits.draft.status)
            if not right:
                self._drop(blob)
            yield waits.draft if right else None
            return
        file = _opened(self._disk, self.folder, name, found)
        if file is None:
            self._drop(blob)
            yield None
            return
        try:
            right = self._is_right(blob, file, waits.mark)
            if not right:
                file.close()
                self._drop(blob)
            yield file if right else None
            if right and blob.digest in self._whole:
                # A name more or another time, given meanwhile, are no change.
                self._whole[blob.digest] = _Whole(blob.size, _mark(file.now()))
        finally:
            file.close()

    def _is_right(self, blob: Descriptor, file: Draft, known: _Mark | None) -> bool:
        if (found := file.now()).st_size != blob.size or known == _mark(found):
            return found.st_size == blob.size
        if blob.size >= _TOLD_FROM:
            self._run.note(f"hashing {human_size(blob.size)} that has arrived already: {blob.digest.short}")
        return file.sha256(self._run.cancel) == blob.digest.hex

    def _drop(self, blob: Descriptor) -> None:
        with self.writing(blob):
            waited = self._whole.pop(blob.digest, None)
            remove_if_there(self._disk, self.folder, blob.digest.file_name)
        if waited is not None and waited.mark is not None:
            raise _gone(blob)

    def has_moved(self, blob: Descriptor) -> None:
        """Note that a blob that waited has got its name, and waits no more."""
        self._whole.pop(blob.digest, None)

    def discard(self, blob: Descriptor) -> None:
        """Forget what has arrived of a blob."""
        self.finish()
        self._whole.pop(blob.digest, None)
        for ending in ("", PARTIAL):
            with self.writing(blob):
                remove_if_there(self._disk, self.folder, blob.digest.file_name + ending)


def _opened(disk: Disk, folder: Folder, name: str, found: os.stat_result | None) -> Draft | None:
    if found is None or not is_ours(disk, folder, name, found, alone=False):
        return None
    try:
        return Draft(disk, folder, name, disk.open(folder, name, write=False))
    except OSError:
        return None


def _size(disk: Disk, folder: Folder, name: str) -> int:
    try:
        found = disk.status(folder, name)
    except OSError:
        return 0
    return found.st_size if found is not None and stat.S_ISREG(found.st_mode) else 0


def _gone(blob: Descriptor) -> Vanished:
    return Vanished(
        f"the blob {blob.digest} had arrived, and was removed or replaced by somebody else",
        hint="Find out who writes to the store, then run the same command again.",
        digest=str(blob.digest),
    )


def _mark(found: os.stat_result) -> _Mark:
    return found.st_dev, found.st_ino, found.st_ctime_ns


class ArrivingBlob:
    """A blob of which nothing or a part has arrived; what is not taken whole stays for the next run."""

    def __init__(self, waiting: StagedBlobs, blob: Descriptor, draft: Draft, *, resumed: bool) -> None:
        self._waiting = waiting
        self._blob = blob
        self._draft = draft
        self._resumed = resumed
        self._taken = False

    def __enter__(self) -> ArrivingBlob:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._taken:
            self._draft.close()

    def read(self, size: int, /) -> bytes:
        """Give the next bytes that are there."""
        return self._draft.read(size)

    def append(self, data: Readable) -> None:
        """Take the rest.

        Raises:
            Damaged: the bytes are not those of the digest: there is nothing to resume.
            FerryError: reading or writing failed.
        """
        try:
            if offers(data, CopiesItself):
                with self._waiting.writing(self._blob):
                    data.copy_into(self._draft)
            else:
                while chunk := data.read(_CHUNK):
                    with self._waiting.writing(self._blob):
                        self._draft.write(chunk)
        except Damaged:
            with self._waiting.writing(self._blob):
                self._draft.discard()
            raise
        self._waiting.stage(self._blob, self._draft, resumed=self._resumed)
        self._taken = True
