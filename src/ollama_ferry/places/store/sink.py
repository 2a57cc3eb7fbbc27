"""A folder in Ollama's layout as a place to write models to.

What arrives waits in a folder ``.ollama-ferry`` on the blobs' own file system until the model is complete. Then its
blobs get their names, and the manifest follows last; each step is safe on the disk before the next. Whatever is killed
whenever, no listed model lacks a blob, and the next import goes on from what has arrived.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ollama_ferry.engine.buffers import keep_freed_buffers
from ollama_ferry.engine.hashing import sha256_of
from ollama_ferry.engine.plan import Plan
from ollama_ferry.engine.ports import Readable
from ollama_ferry.engine.run import Run
from ollama_ferry.errors import AlreadyExists, Damaged, FerryError, NoSpace, Remedy, Vanished
from ollama_ferry.files.disk import Disk, free_space, lock, start_writing_back, write_all, write_error
from ollama_ferry.files.mounts import is_mount_point
from ollama_ferry.model.manifests import Descriptor, Digest, Manifest
from ollama_ferry.model.names import ModelName
from ollama_ferry.ollama.server import server_just_started
from ollama_ferry.places.store.making import Maker
from ollama_ferry.places.store.staging import MANIFEST_IN_WORK, staging_folder
from ollama_ferry.places.store.store import Store
from ollama_ferry.wording import human_size

_LOCK = "lock"
_PARTIAL = ".partial"
# A second name on its way to replace a wrong file.
_SPARE_NAME = ".new"
_CHUNK = 1024 * 1024
_SYNC_EVERY = 32 * 1024 * 1024
# Syncs that wait at once: the journal takes many in one go, which makes thousands of small blobs fast.
_SYNC_THREADS = 8
_SYNCS_WAITING = 64
# Room for manifests, folders and the file system's own records.
_SPARE = 4 * 1024 * 1024
# Hashing takes long enough to be mentioned from here on.
_TOLD_FROM = 500 * 1000 * 1000
_ATTEMPTS = 5
# Seconds from a server's start to the end of its pruning, which reads every manifest before it deletes.
_PRUNING_TIME = 2.0
_LEFTOVER_AGE = 7 * 24 * 3600.0
_KEPT = "What has arrived is kept, and the same command goes on from there."


class StoreSink:
    """Writes models into a store, one process at a time; use it in a ``with`` block.

    Args:
        store: the store; its folder is made if it is not there.
        disk: the calls to write with.
        doubting: hash what is here already before it counts as here.
        wait: wait for another process that writes into the store.
        run: told when another process has to be waited for; ends that wait.

    Raises:
        NotPermitted: the store can't be written.
        AlreadyExists: another process writes into it, and is not to be waited for.
    """

    def __init__(
        self,
        store: Store,
        *,
        disk: Disk | None = None,
        doubting: bool = False,
        wait: bool = True,
        run: Run | None = None,
    ) -> None:
        self.store = store
        self._doubting = doubting
        self._wait = wait
        self._found_good: dict[Digest, bool] = {}
        self._disk = disk or Disk()
        self._run = run or Run()
        self._blobs = str(store.blobs_folder)
        self._staging = str(staging_folder(store))
        manifests = store.manifests_folder
        apart = self._staging.startswith(self._blobs) or manifests.is_symlink() or is_mount_point(manifests)
        self._manifest_in_work = os.path.join(manifests if apart else self._staging, MANIFEST_IN_WORK)
        self._maker = Maker(self._disk, store.root)
        self._lock_fd: int | None = None
        self._syncs = ThreadPoolExecutor(_SYNC_THREADS, thread_name_prefix="sync")
        self._syncing: deque[Future[None]] = deque()
        # Digests whose blob waits whole in the staging folder, with its size.
        self._staged: dict[Digest, int] = {}
        self._published: dict[Digest, int] = {}
        self._committed: list[tuple[ModelName, Manifest]] = []

    @staticmethod
    def has_leftovers(store: Store) -> bool:
        """Tell whether an earlier import into a store was broken off, or is at work."""
        return os.path.lexists(staging_folder(store))

    def __enter__(self) -> StoreSink:
        keep_freed_buffers()
        try:
            self._prepare_folders()
            self._take_lock()
            self._staged = self._find_staged()
        except OSError as error:
            self.__exit__()
            raise write_error(error, self.store.root) from error
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(FerryError, OSError):
            self._finish_syncs()
        self._syncs.shutdown()
        if self._lock_fd is not None:
            with suppress(OSError, FerryError):
                self._outlast_pruning()
            with suppress(OSError, FerryError):
                self._tidy()
            if self._lock_fd is not None:
                os.close(self._lock_fd)
                self._lock_fd = None
        if not self._committed:
            # A store that was to be made, and got no model, is none.
            for folder in reversed(self._maker.made):
                with suppress(OSError):
                    self._disk.remove_folder(folder)

    # -- Sink

    def has(self, blob: Descriptor) -> bool:
        """Tell whether a blob is here with its size, published or waiting."""
        if self._staged.get(blob.digest) == blob.size:
            return not self._doubting or self._is_good(blob, Path(self._path(blob.digest, "")))
        return self.store.has(blob) and (not self._doubting or self._is_good(blob, self.store.blob_path(blob.digest)))

    def put(self, blob: Descriptor, data: Readable) -> None:
        """Take a blob into the staging folder."""
        self.append(blob, data, 0)

    def commit(self, name: ModelName, manifest: Manifest) -> None:
        """Publish a model: its blobs, then its manifest.

        Raises:
            Vanished: a blob that was here has been deleted by somebody meanwhile.
        """
        self._finish_syncs()
        with self._writing(f"the manifest of {name}"):
            self.publish(manifest.blobs)
            self._republish(manifest.blobs)
            self._require_all(name, manifest)
            self._write_manifest(name, manifest.raw)
            self._republish(manifest.blobs)
            self._require_all(name, manifest)
        self._committed.append((name, manifest))

    # -- Prepares

    def prepare(self, plan: Plan) -> None:
        """Check that the disk takes what the plan moves."""
        begun = sum(self._partial_size(blob.digest) for blob in plan.blobs)
        self.require_space(plan.size - begun, keep={blob.digest for blob in (*plan.blobs, *plan.present)})

    def require_space(self, needed: int, *, keep: set[Digest], spare: int = _SPARE) -> None:
        """Check that the disk has room; what earlier imports left and this one does not need makes way.

        Args:
            needed: in bytes.
            keep: the blobs whose leftovers stay.
            spare: what has to be free beside, in bytes.

        Raises:
            NoSpace: it has not.
        """
        folder = self.store.blobs_folder
        for attempt in ("as it is", "without leftovers"):
            free = free_space(folder)
            if free is None or free >= needed + spare:
                return
            if attempt == "as it is":
                with suppress(OSError):
                    self._remove_leftovers(lambda digest, path: digest not in keep)
        raise NoSpace(
            f"importing needs {human_size(needed + spare)} more in {folder}, and {human_size(free or 0)} are free",
            hint="Free some space there (`ollama rm MODEL`), or take a part. What has arrived is kept.",
            remedies=[Remedy("models")],
        )

    # -- Resumes

    def unfinished(self, blob: Descriptor) -> AbstractContextManager[BinaryIO] | None:
        """Open what has arrived of a blob."""
        if not self._partial_size(blob.digest):
            return None
        return self._open_partial(blob.digest)

    def append(self, blob: Descriptor, data: Readable, offset: int) -> None:
        """Take a blob's bytes from ``offset`` on."""
        partial = self._path(blob.digest, _PARTIAL)
        self.require_space(blob.size - self._partial_size(blob.digest), keep={*self._staged, blob.digest}, spare=0)
        with self._writing(f"the blob {blob.digest}"):
            fd = self._maker.create(partial)
        try:
            with self._writing(f"the blob {blob.digest}"):
                self._disk.truncate(fd, offset)
                os.lseek(fd, offset, os.SEEK_SET)
            unsynced = 0
            position = offset
            while chunk := data.read(_CHUNK):
                with self._writing(f"the blob {blob.digest}"):
                    write_all(self._disk, fd, chunk)
                position += len(chunk)
                unsynced += len(chunk)
                if unsynced >= _SYNC_EVERY:
                    start_writing_back(fd, position)
                    unsynced = 0
        except BaseException as error:
            os.close(fd)
            if isinstance(error, Damaged):
                # Other bytes than these are wanted: there is nothing to go on from.
                self.discard(blob)
            raise
        while len(self._syncing) >= _SYNCS_WAITING:
            self._await_sync()
        self._syncing.append(self._syncs.submit(self._settle, fd, blob.digest))
        self._staged[blob.digest] = blob.size

    def discard(self, blob: Descriptor) -> None:
        """Forget what has arrived of a blob and is not published."""
        self._finish_syncs()
        self._staged.pop(blob.digest, None)
        for ending in ("", _PARTIAL):
            with self._writing(f"the blob {blob.digest}"), suppress(FileNotFoundError):
                self._disk.remove(self._path(blob.digest, ending))

    # -- what commands need beside

    def publish(self, blobs: tuple[Descriptor, ...], *, again: bool = False) -> int:
        """Give staged blobs their names, and make these safe on the disk.

        Args:
            blobs: those that are not staged are passed over.
            again: only those that have lost their name since.

        Returns:
            How many got their name.
        """
        self._finish_syncs()
        count = 0
        for blob in blobs:
            if self._staged.get(blob.digest) != blob.size or (again and self.store.has(blob)):
                continue
            if not again and blob.digest in self._published and self.store.has(blob):
                continue
            with self._writing(f"the blob {blob.digest}"):
                self._publish(blob)
            count += 1
        if count:
            with self._writing("the blobs' folder"):
                self._disk.sync_folder(self._blobs)
        return count

    # -- inside

    def _is_good(self, blob: Descriptor, path: Path) -> bool:
        """Hash a blob that is here, once."""
        if blob.digest not in self._found_good:
            if blob.size >= _TOLD_FROM:
                self._run.note(f"hashing {human_size(blob.size)} that is here already: {blob.digest.short}")
            with path.open("rb", buffering=0) as file:
                self._found_good[blob.digest] = sha256_of(file, self._run.cancel) == blob.digest.hex
        return self._found_good[blob.digest]

    def _republish(self, blobs: tuple[Descriptor, ...]) -> None:
        """Give staged blobs their names again that a server has deleted, which started before it knew the manifest."""
        while self.publish(blobs, again=True):
            self._run.check()

    def _outlast_pruning(self) -> None:
        """Wait for a server that has just been started to delete what it did not know, and give it back.

        Servers up to 0.12 at least delete blobs of any age; they look for manifests first and delete a moment later.
        """
        if not self._committed or not server_just_started(_PRUNING_TIME):
            return
        deadline = time.monotonic() + _PRUNING_TIME
        while time.monotonic() < deadline:
            for _, manifest in self._committed:
                self.publish(manifest.blobs, again=True)
            time.sleep(0.1)

    def _publish(self, blob: Descriptor) -> None:
        staged, target = self._path(blob.digest, ""), os.path.join(self._blobs, blob.digest.file_name)
        # The staged name stays until all is done: should a server that starts now prune the other, it is given again.
        # Recent servers spare what is young; it may have waited here for days.
        self._disk.touch(staged)
        try:
            self._disk.link(staged, target)
        except FileExistsError:
            # Wrong content under the right name: replaced in one step.
            spare = self._path(blob.digest, _SPARE_NAME)
            with suppress(FileNotFoundError):
                self._disk.remove(spare)
            try:
                self._disk.link(staged, spare)
            except OSError as error:
                self._rename_staged(blob, target, error)
            else:
                self._disk.replace(spare, target)
        except OSError as error:
            self._rename_staged(blob, target, error)
        self._published[blob.digest] = blob.size

    def _rename_staged(self, blob: Descriptor, target: str, error: OSError) -> None:
        """Publish where the file system knows no second name, as exFAT and some network disks."""
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise error
        self._disk.replace(self._path(blob.digest, ""), target)
        del self._staged[blob.digest]

    def _require_all(self, name: ModelName, manifest: Manifest) -> None:
        for blob in manifest.blobs:
            if not self.store.has(blob):
                raise Vanished(
                    f"{name}: its {blob.kind} blob {blob.digest} was here when this began and has gone",
                    hint="Somebody deleted it, or a server pruned it at its start. Run the same command again.",
                    digest=str(blob.digest),
                )

    def _write_manifest(self, name: ModelName, raw: bytes) -> None:
        root = str(self.store.manifests_folder)
        folders = [os.path.join(root, *name.parts[:depth]) for depth in range(len(name.parts))]
        made: list[str] = []
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._maker.ensure_folder(root)
                fd = self._maker.create(self._manifest_in_work)
                try:
                    self._disk.truncate(fd, 0)
                    write_all(self._disk, fd, raw)
                    self._disk.sync(fd)
                finally:
                    os.close(fd)
                # A server that starts removes empty folders, and gives up its start when one that it saw empty is
                # not: so they are made at the last moment, and made safe afterwards.
                made += [folder for folder in folders if self._maker.make_folder(folder)]
                self._disk.replace(self._manifest_in_work, os.path.join(folders[-1], name.tag))
                break
            except FileNotFoundError:
                if attempt == _ATTEMPTS:
                    raise
        for folder in dict.fromkeys([*map(os.path.dirname, made), folders[-1]]):
            self._disk.sync_folder(folder)

    def _settle(self, fd: int, digest: Digest) -> None:
        """Make a whole blob safe, and mark it as whole."""
        partial = self._path(digest, _PARTIAL)
        try:
            self._disk.sync(fd)
        except OSError:
            # What a failed sync leaves in memory looks whole and is not on the disk: nothing to go on from.
            self._staged.pop(digest, None)
            with suppress(OSError):
                self._disk.remove(partial)
            raise
        finally:
            os.close(fd)
        try:
            self._disk.replace(partial, self._path(digest, ""))
        except OSError:
            self._staged.pop(digest, None)
            raise

    def _await_sync(self) -> None:
        with self._writing("a blob"):
            self._syncing.popleft().result()

    def _finish_syncs(self) -> None:
        failure: FerryError | None = None
        while self._syncing:
            try:
                self._await_sync()
            except FerryError as error:
                failure = failure or error
        if failure is not None:
            raise failure

    def _prepare_folders(self) -> None:
        root = self.store.root
        self._maker.follow(root)
        missing = []
        folder = root
        while not os.path.lexists(folder):
            missing.append(folder)
            folder = folder.parent
        for path in reversed(missing):
            self._maker.ensure_folder(str(path))
        for folder in (self.store.manifests_folder, self.store.blobs_folder):
            self._maker.ensure_folder(str(folder))
        self._maker.follow(self.store.blobs_folder)
        self._maker.ensure_folder(self._staging)
        if not stat.S_ISDIR(os.lstat(self._staging).st_mode):
            raise FerryError(f"{self._staging} is no folder of its own", hint="Move it away.")

    def _take_lock(self) -> None:
        path = os.path.join(self._staging, _LOCK)
        told = False
        while True:
            self._maker.ensure_folder(self._staging)
            try:
                fd = self._disk.create(path)
            except FileNotFoundError:
                # Whoever had it before has just tidied up.
                continue
            self._maker.make_ours(fd, 0o644 | os.stat(self._staging).st_mode & 0o020)
            if lock(fd):
                # Whoever had it before may have removed it: then it locks nobody else out.
                try:
                    found = os.stat(path)
                except FileNotFoundError:
                    os.close(fd)
                    continue
                mine = os.fstat(fd)
                if (found.st_dev, found.st_ino) == (mine.st_dev, mine.st_ino):
                    self._lock_fd = fd
                    return
                os.close(fd)
                continue
            os.close(fd)
            if not self._wait:
                raise AlreadyExists(f"another ollama-ferry writes into {self.store.root}")
            if not told:
                told = True
                self._run.note(f"another ollama-ferry writes into {self.store.root}; waiting for it to finish")
            self._run.check()
            time.sleep(0.1)

    def _find_staged(self) -> dict[Digest, int]:
        found: dict[Digest, int] = {}
        for entry in os.scandir(self._staging):
            with suppress(Damaged):
                digest = Digest.parse(entry.name)
                if entry.is_file(follow_symlinks=False):
                    found[digest] = entry.stat(follow_symlinks=False).st_size
        return found

    def _tidy(self) -> None:
        """Remove what is of no more use, and the staging folder if nothing is left in it."""
        limit = time.time() - _LEFTOVER_AGE

        def unwanted(digest: Digest, path: str) -> bool:
            found = os.lstat(path)
            # What has begun to arrive in place of a damaged blob is gone on from, though the damaged one is there.
            whole = not path.endswith(_PARTIAL) and self.store.blob_size(digest) == found.st_size
            return whole or digest in self._published or found.st_mtime < limit

        self._remove_leftovers(unwanted)
        with suppress(FileNotFoundError):
            self._disk.remove(self._manifest_in_work)
        if set(os.listdir(self._staging)) <= {_LOCK}:
            if os.name == "nt" and self._lock_fd is not None:
                # Windows removes no open file.
                os.close(self._lock_fd)
                self._lock_fd = None
            self._disk.remove(os.path.join(self._staging, _LOCK))
            self._disk.remove_folder(self._staging)

    def _remove_leftovers(self, unwanted: Callable[[Digest, str], bool]) -> None:
        for name in os.listdir(self._staging):
            path = os.path.join(self._staging, name)
            try:
                digest = Digest.parse(name.partition(".")[0])
            except Damaged:
                continue
            if name.endswith(_SPARE_NAME) or unwanted(digest, path):
                with suppress(FileNotFoundError):
                    self._disk.remove(path)
                self._staged.pop(digest, None)

    def _partial_size(self, digest: Digest) -> int:
        try:
            found = os.lstat(self._path(digest, _PARTIAL))
        except OSError:
            return 0
        return found.st_size if stat.S_ISREG(found.st_mode) else 0

    @contextmanager
    def _open_partial(self, digest: Digest) -> Iterator[BinaryIO]:
        with open(self._path(digest, _PARTIAL), "rb", buffering=0) as file:
            yield file

    def _path(self, digest: Digest, ending: str) -> str:
        return os.path.join(self._staging, digest.file_name + ending)

    @contextmanager
    def _writing(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise write_error(error, f"{what} into {self.store.root}", left=_KEPT) from error
