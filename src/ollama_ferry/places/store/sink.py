"""A folder in Ollama's layout as a place to write models to.

What arrives waits in a folder ``.ollama-ferry`` on the blobs' own file system until the model is complete. Then its
blobs get their names, and the manifest follows last; each step is safe on the disk before the next. Whatever is killed
whenever, no listed model lacks a blob, and the next import resumes what has arrived.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress

from ollama_ferry.engine.buffers import keep_freed_buffers
from ollama_ferry.engine.hashing import sha256_of
from ollama_ferry.engine.plan import Plan
from ollama_ferry.engine.ports import Readable
from ollama_ferry.engine.run import Run
from ollama_ferry.errors import FerryError, NoSpace, Remedy
from ollama_ferry.files.disk import Disk, free_space, write_error
from ollama_ferry.files.pending import PARTIAL
from ollama_ferry.model.manifests import Descriptor, Digest, Manifest
from ollama_ferry.model.names import ModelName
from ollama_ferry.places.store.folders import StoreFolders
from ollama_ferry.places.store.publishing import Publisher
from ollama_ferry.places.store.pulled import note_pull
from ollama_ferry.places.store.sharing import share
from ollama_ferry.places.store.staged import ArrivingBlob, StagedBlobs
from ollama_ferry.places.store.staging import staging_folder
from ollama_ferry.places.store.store import Store
from ollama_ferry.wording import human_size

# Room for manifests, folders and the file system's own records.
_SPARE = 4 * 1024 * 1024
# Hashing takes long enough to be mentioned from here on.
_TOLD_FROM = 500 * 1000 * 1000


class StoreSink:
    """Writes models into a store, one process at a time; use it in a ``with`` block.

    As root it works as the user to whom the store belongs, from the beginning of the block to its end: what only root
    may read has to be opened before, or with :func:`ollama_ferry.files.identity.as_started`.

    Args:
        store: the store; its folder is made if it is not there.
        disk: the calls to write with.
        verify_existing: hash what is here already before it counts as here.
        pulling: write down what gets a name, so that a later pull may replace it.
        link_from: the store that blobs come from, if they are to share their blocks with it where they can.
        wait: wait for another process that writes into the store.
        run: notified when another process has to be waited for; ends that wait.

    Raises:
        NotPermitted: the store can't be written.
        AlreadyExists: another process writes into it, and is not to be waited for.
    """

    def __init__(
        self,
        store: Store,
        *,
        disk: Disk | None = None,
        verify_existing: bool = False,
        pulling: bool = False,
        link_from: Store | None = None,
        wait: bool = True,
        run: Run | None = None,
    ) -> None:
        self.store = store
        self._pulling = pulling
        self._verify_existing = verify_existing
        self._link_from = link_from
        self._wait = wait
        self._found_good: dict[Digest, bool] = {}
        self._run = run or Run()
        # Each is passed on once, on the thread of the job.
        self._notes: dict[str, bool] = {}
        self._disk = disk = disk or Disk()
        self._folders = StoreFolders(store, disk, self._note)
        self._waiting = StagedBlobs(self._folders, disk, self._run, self._note)
        self._publisher = Publisher(self._folders, self._waiting, disk, self._run, self._note)

    @classmethod
    def tidy_up(cls, store: Store, *, disk: Disk | None = None, run: Run | None = None) -> None:
        """Put away what a run that was broken off at its very end has left in a store, if nobody is at work there."""
        if os.path.lexists(staging_folder(store)):
            with suppress(FerryError), cls(store, disk=disk, wait=False, run=run):
                pass

    def __enter__(self) -> StoreSink:
        keep_freed_buffers()
        try:
            self._folders.open()
            self._waiting.open(wait=self._wait)
            if self._waiting.broken_off is not None:
                # What it has named counts as here from now on, and a power cut might take it yet.
                self._folders.sync_names(self._waiting.broken_off)
        except OSError as error:
            self.__exit__()
            raise write_error(error, self.store.root) from error
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            if self._waiting.is_open:
                with suppress(OSError, FerryError):
                    self._publisher.outlast_pruning()
                with suppress(OSError):
                    self._publisher.tidy()
            self._waiting.close(self._is_of_no_more_use)
        finally:
            self._folders.close(keep=self._publisher.has_committed)
        self._pass_notes_on()

    # -- Sink

    def has(self, blob: Descriptor) -> bool:
        """Return whether a blob is here with its size, published or waiting."""
        if self._waiting.has(blob):
            return True
        if not self._publisher.has(blob):
            return False
        return not self._verify_existing or blob.digest in self._publisher.published or self._is_good(blob)

    def put(self, blob: Descriptor, data: Readable) -> None:
        """Take a blob into the staging folder."""
        if self._link_from is not None and self._share(blob, data, self._link_from):
            return
        self._require_room_for(blob, 0)
        with self._waiting.begin(blob) as arriving:
            arriving.append(data)

    def publish_model(self, name: ModelName, manifest: Manifest) -> None:
        """Publish a model: its blobs, then its manifest.

        Raises:
            Vanished: a blob that was here has been deleted by somebody meanwhile.
        """
        if self._pulling:
            try:
                note_pull(self.store, self._folders.root, self._disk, name, manifest.digest)
            except (OSError, FerryError) as error:
                why = error.strerror if isinstance(error, OSError) else error
                self._run.note(f"{name}: can't write down that it was pulled, for later pulls to replace it: {why}")
        self._publisher.publish_model(name, manifest)
        self._pass_notes_on()

    # -- Prepares

    def prepare(self, plan: Plan) -> None:
        """Check that the disk takes what the plan moves."""
        begun = sum(self._waiting.begun_size(blob.digest) for blob in plan.blobs)
        needed = {blob.digest for blob in (*plan.blobs, *plan.present)}
        self._require_space(plan.size - begun + _SPARE, keep=lambda digest: digest in needed)

    # -- Resumes

    def unfinished(self, blob: Descriptor) -> ArrivingBlob | None:
        """Open what has arrived of a blob."""
        arriving = self._waiting.resume(blob)
        if arriving is not None:
            self._require_room_for(blob, self._waiting.begun_size(blob.digest))
        return arriving

    def discard(self, blob: Descriptor) -> None:
        """Forget what has arrived of a blob and is not published."""
        self._waiting.discard(blob)

    # -- what commands need beside

    def publish_blobs(self, blobs: Iterable[Descriptor]) -> int:
        """Give blobs that have arrived their names, those that wait alone; return how many got theirs."""
        return self._publisher.publish_blobs(blobs)

    # -- inside

    def _share(self, blob: Descriptor, data: Readable, source: Store) -> bool:
        """Take a blob of another store without copying it; False where that can't be, and nothing is read then."""
        waiting = self._waiting
        with waiting.writing(blob):
            draft = share(self._disk, source, blob, data, waiting.folder, blob.digest.file_name + PARTIAL)
        if draft is not None:
            # Hashed once more: somebody may have written to the other store's file meanwhile.
            waiting.stage(blob, draft, resumed=True)
        return draft is not None

    def _require_room_for(self, blob: Descriptor, begun: int) -> None:
        self._require_space(blob.size - begun, keep=lambda digest: digest == blob.digest or self._waiting.waits(digest))

    def _require_space(self, needed: int, *, keep: Callable[[Digest], bool]) -> None:
        """Check that the disk has room; what earlier imports left and this one does not need makes way.

        Args:
            needed: in bytes.
            keep: tells whether the leftovers of a blob stay.

        Raises:
            NoSpace: it has not.
        """
        folder = self._folders.blobs
        for attempt in ("as it is", "without leftovers"):
            free = free_space(folder)
            if free is None or free >= needed:
                return
            if attempt == "as it is":
                self._waiting.make_way(keep)
        raise NoSpace(
            f"importing needs {human_size(needed)} more in {folder.path}, and {human_size(free or 0)} are free",
            hint="Free some space there (`ollama rm MODEL`), or take a part. What has arrived is kept.",
            remedies=[Remedy("models")],
        )

    def _is_good(self, blob: Descriptor) -> bool:
        """Hash a blob that the store has, once."""
        if blob.digest not in self._found_good:
            if blob.size >= _TOLD_FROM:
                self._run.note(f"hashing {human_size(blob.size)} that is here already: {blob.digest.short}")
            with self.store.open(blob) as file:
                self._found_good[blob.digest] = sha256_of(file, self._run.cancel) == blob.digest.hex
        return self._found_good[blob.digest]

    def _is_of_no_more_use(self, digest: Digest, whole: bool, size: int) -> bool:
        # What has begun to arrive in place of a damaged blob is resumed, though the damaged one is there.
        return digest in self._publisher.published or (whole and self._publisher.size(digest) == size)

    def _note(self, text: str) -> None:
        self._notes.setdefault(text, False)

    def _pass_notes_on(self) -> None:
        for text, passed_on in list(self._notes.items()):
            if not passed_on:
                self._notes[text] = True
                self._run.explain(text)
