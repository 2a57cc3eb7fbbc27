"""The one engine: plan what to carry from a source to a sink, then carry it.

Blobs go first, each once, in the order of their digests; a manifest follows the last blob that it needs. Each
byte is hashed on the way, whatever the places do. What can only be read as a stream is copied as it passes by, by the
same rules (:func:`copy_stream`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

from ollama_ferry.engine.events import Advanced, BlobDone, BlobStarted, Cancel, ModelDone, Observer, Started, ignore
from ollama_ferry.engine.hashing import BackgroundHash
from ollama_ferry.engine.ports import (
    Expects,
    Holder,
    LeavesOut,
    ModelEntry,
    Prepares,
    Readable,
    Resumes,
    Sink,
    Source,
    StreamSource,
)
from ollama_ferry.errors import Damaged, FerryError, LeftOut, MissingBlob, UsageError
from ollama_ferry.model.manifests import Descriptor, Digest, Manifest
from ollama_ferry.model.names import ModelName
from ollama_ferry.wording import counted, human_size

_CHUNK = 1024 * 1024


@dataclass(frozen=True)
class PlannedModel:
    """A model to carry."""

    name: ModelName
    manifest: Manifest


@dataclass(frozen=True)
class Plan:
    """What a copy will do.

    Attributes:
        models: the models, sorted by name.
        blobs: the blobs that move, each once, sorted by digest.
        present: the blobs that the sink has already.
    """

    models: tuple[PlannedModel, ...]
    blobs: tuple[Descriptor, ...]
    present: tuple[Descriptor, ...] = ()

    @property
    def size(self) -> int:
        """The bytes of the blobs that move."""
        return sum(blob.size for blob in self.blobs)

    @property
    def needed_by(self) -> dict[Digest, list[PlannedModel]]:
        """Which models of the plan name a blob, for every blob."""
        needed: dict[Digest, list[PlannedModel]] = {}
        for model in self.models:
            for blob in model.manifest.blobs:
                needed.setdefault(blob.digest, []).append(model)
        return needed


@dataclass(frozen=True)
class Copied:
    """What a copy did.

    Attributes:
        models: the models that are now in the sink.
        blobs: the blobs that moved.
        present: the blobs that were there already.
    """

    models: tuple[ModelName, ...]
    blobs: tuple[Descriptor, ...]
    present: tuple[Descriptor, ...] = field(default=())

    @property
    def size(self) -> int:
        """The bytes that moved, before any compression."""
        return sum(blob.size for blob in self.blobs)


def plan(source: Source, target: Holder | None, names: Iterable[ModelName]) -> Plan:
    """Find out what carrying some models means.

    Args:
        source: where they are.
        target: where they go; None plans as for an empty place.
        names: the models; one named twice is carried once.

    Raises:
        ModelNotFound, Damaged: a model is not there, or its manifest is not readable.
    """
    models: list[PlannedModel] = []
    blobs: dict[Digest, Descriptor] = {}
    for name in sorted(set(names)):
        manifest = source.manifest(name)
        for blob in blobs_of(name, manifest):
            known = blobs.setdefault(blob.digest, blob)
            if known.size != blob.size:
                raise Damaged(
                    f"two manifests give {blob.digest} different sizes: {known.size} and {blob.size} bytes; "
                    f"one of them is that of {name}"
                )
        models.append(PlannedModel(name, manifest))
    ordered = sorted(blobs.values(), key=lambda blob: blob.digest)
    present = tuple(blob for blob in ordered if target is not None and target.has(blob))
    there = {blob.digest for blob in present}
    moving = tuple(blob for blob in ordered if blob.digest not in there)
    return Plan(tuple(models), moving, present)


def blobs_of(name: ModelName, manifest: Manifest) -> tuple[Descriptor, ...]:
    """Return a manifest's blobs; an error names the model."""
    try:
        return manifest.blobs
    except Damaged as error:
        raise Damaged(f"{name}: {error}", hint=error.hint) from error


def copy(
    planned: Plan, source: Source, sink: Sink, *, observer: Observer = ignore, cancel: Cancel | None = None
) -> Copied:
    """Carry out a plan.

    Args:
        planned: what :func:`plan` returned for the same source and sink.
        observer: told of every step, on this thread.
        cancel: stops the copy at the next chunk.

    Raises:
        FerryError: what the source, the sink or the check of a blob raised; what was committed before stays
            and is whole.
    """
    cancel = cancel or Cancel()
    observer(Started(len(planned.models), len(planned.blobs), planned.size))
    if isinstance(sink, Prepares):
        sink.prepare(planned)
    if isinstance(source, Expects):
        source.expect(planned.blobs)
    pending = _Pending(sink, observer)
    there = {blob.digest for blob in planned.present}
    for model in planned.models:
        pending.expect(model.name, model.manifest, lambda blob: blob.digest in there)
    needed_by = planned.needed_by
    for blob in planned.blobs:
        cancel.check()
        observer(BlobStarted(blob))
        owners = ", ".join(str(model.name) for model in needed_by[blob.digest])
        carry(blob, owners, source, sink, observer, cancel)
        observer(BlobDone(blob))
        pending.arrived(blob.digest)
    return Copied(tuple(model.name for model in planned.models), planned.blobs, planned.present)


Choose = Callable[[ModelName, Manifest], ModelName | None]
"""Given a model that passes by, tells the name that it gets in the sink, or None where it is not wanted."""


def copy_stream(
    stream: StreamSource,
    sink: Sink,
    choose: Choose,
    *,
    wanted: Collection[Digest] | None = None,
    everything: bool = False,
    observer: Observer = ignore,
    cancel: Cancel | None = None,
) -> Copied:
    """Copy models out of a stream, whose blobs may pass by before anybody knows who needs them.

    Args:
        stream: where they pass by.
        sink: where they go.
        choose: called once for each model; may raise.
        wanted: the blobs to take, where that is known; None takes all that the sink lacks.
        everything: every model will be chosen, so that what the stream leaves out has to be there from the start.
        observer: told of every step but the amount, which the stream's own reads tell.
        cancel: stops the copy at the next chunk.

    Raises:
        MissingBlob: a model's blob is neither in the stream nor in the sink.
        LeftOut: so it is, and the stream had said that it counts on the sink to have it.
        FerryError: what the stream, the sink or the check of a blob raised: nothing is committed then, for a manifest
            is sure when the stream has come to its end. What has arrived stays with a sink that resumes.
    """
    cancel = cancel or Cancel()
    pending = _Pending(sink, observer, at_end=True)
    moved: dict[Digest, Descriptor] = {}
    present: dict[Digest, Descriptor] = {}
    targets: set[ModelName] = set()

    def is_here(blob: Descriptor) -> bool:
        known = moved.get(blob.digest) or present.get(blob.digest)
        return known is not None and known.size == blob.size

    for entry in stream.entries():
        cancel.check()
        if isinstance(entry, LeavesOut):
            pending.left_out.update((blob.digest, blob) for blob in entry.blobs)
            if everything and (lacking := [blob for blob in entry.blobs if not sink.has(blob)]):
                raise left_out_error("the archive", lacking)
            continue
        if isinstance(entry, ModelEntry):
            target = choose(entry.name, entry.manifest)
            if target in targets:
                raise UsageError(f"two models of the stream would both become {target}")
            if target is not None:
                targets.add(target)
                pending.expect(target, entry.manifest, is_here)
            continue
        blob = entry.blob
        if wanted is not None and blob.digest not in wanted:
            continue
        again = blob.digest in moved
        if not again and sink.has(blob):
            present[blob.digest] = blob
        else:
            # One that comes again is of no use, and still has to be what it says.
            with Verified(blob, "the stream", _nobody, cancel) as verified:
                verified.follow(entry.data)
                if again:
                    while verified.read(_CHUNK):
                        pass
                else:
                    observer(BlobStarted(blob))
                    sink.put(blob, verified)
                verified.confirm_end()
            if not again:
                moved[blob.digest] = blob
                observer(BlobDone(blob))
        pending.arrived(blob.digest, blob.size)
    pending.settle()
    if isinstance(sink, Resumes):
        for digest in moved.keys() - pending.committed_blobs:
            sink.discard(moved.pop(digest))
    return Copied(tuple(sorted(pending.committed)), tuple(moved.values()), tuple(present.values()))


def left_out_error(label: str, lacking: Sequence[Descriptor]) -> LeftOut:
    """Return the error for blobs that an archive leaves out and that its target does not have."""
    what = f"{counted(len(lacking), 'blob')} ({human_size(sum(blob.size for blob in lacking))})"
    return LeftOut(
        f"{label} was made for a target that has more: it leaves out {what} that this one lacks, or has damaged; "
        f"the first is {lacking[0].digest}",
        hint="Import what it was made with --have of first, or make it anew: `ollama-ferry inventory > have.txt` here, "
        "then `ollama-ferry export ... --have have.txt` there, or without --have.",
        digest=str(lacking[0].digest),
    )


class _Pending:
    """Manifests that wait for their blobs; each is committed when it has the last one.

    Args:
        sink: where they go.
        observer: told of each.
        at_end: commit nothing before :meth:`settle`: the sum over what passes by may come behind it.
    """

    def __init__(self, sink: Sink, observer: Observer, *, at_end: bool = False) -> None:
        self._at_end = at_end
        self.left_out: dict[Digest, Descriptor] = {}
        self.committed: list[ModelName] = []
        self.committed_blobs: set[Digest] = set()
        self._sink = sink
        self._observer = observer
        self._manifests: dict[ModelName, Manifest] = {}
        self._missing: dict[ModelName, dict[Digest, Descriptor]] = {}
        self._needed_by: dict[Digest, list[ModelName]] = {}

    def expect(self, name: ModelName, manifest: Manifest, is_here: Callable[[Descriptor], bool]) -> None:
        """Wait for those of a model's blobs that are not here."""
        missing = {blob.digest: blob for blob in blobs_of(name, manifest) if not is_here(blob)}
        self._manifests[name] = manifest
        self._missing[name] = missing
        for digest in missing:
            self._needed_by.setdefault(digest, []).append(name)
        if not missing and not self._at_end:
            self._commit(name)

    def arrived(self, digest: Digest, size: int | None = None) -> None:
        """Note that a blob is here; one of another size than the manifest says does not count."""
        for name in self._needed_by.get(digest, ()):
            missing = self._missing.get(name, {})
            if digest in missing and size in (None, missing[digest].size):
                del missing[digest]
                if not missing and not self._at_end:
                    self._commit(name)

    def settle(self) -> None:
        """Commit all that waits, where the sink has had all along what did not arrive.

        Raises:
            MissingBlob: a blob is nowhere.
        """
        for name, missing in list(self._missing.items()):
            for blob in missing.values():
                if not self._sink.has(blob):
                    if blob.digest in self.left_out:
                        raise left_out_error(f"{name}: the archive", [blob])
                    raise MissingBlob(
                        f"{name}: its {blob.kind} blob {blob.digest} of {blob.size} bytes is not in the archive, nor "
                        "was it here before",
                        hint="The archive is not whole: make it anew.",
                        digest=str(blob.digest),
                    )
            self._commit(name)

    def _commit(self, name: ModelName) -> None:
        manifest = self._manifests.pop(name)
        del self._missing[name]
        self._sink.commit(name, manifest)
        self.committed.append(name)
        self.committed_blobs.update(blob.digest for blob in manifest.blobs)
        self._observer(ModelDone(name))


def carry(blob: Descriptor, owners: str, source: Source, sink: Sink, observer: Observer, cancel: Cancel) -> None:
    """Copy one blob, going on from what an earlier copy left where the sink keeps that."""

    def advance(amount: int) -> None:
        observer(Advanced(amount))

    begun = sink.unfinished(blob) if isinstance(sink, Resumes) else None
    if begun is not None and isinstance(sink, Resumes):
        try:
            with Verified(blob, owners, advance, cancel) as verified:
                with begun as prefix:
                    offset = verified.prime(prefix)
                with source.open(blob, offset) as data:
                    verified.follow(data)
                    sink.append(blob, verified, offset)
                verified.confirm_end()
            return
        except Damaged:
            # Either what was there is wrong, as after a power cut, or what comes is: the whole will tell.
            sink.discard(blob)
    with source.open(blob) as data, Verified(blob, owners, advance, cancel) as verified:
        verified.follow(data)
        sink.put(blob, verified)
        verified.confirm_end()


def _nobody(amount: int) -> None:
    """Tell nobody: the reads of a stream are told by the stream."""


class Verified:
    """A blob's bytes on their way, counted and hashed; the end is given only when they are right."""

    def __init__(self, blob: Descriptor, owners: str, advance: Callable[[int], None], cancel: Cancel) -> None:
        self._data: Readable | None = None
        self._blob = blob
        self._owners = owners
        self._advance = advance
        self._cancel = cancel
        self._hash = BackgroundHash(expected=blob.size)
        self._count = 0
        self._confirmed = False

    def prime(self, data: Readable) -> int:
        """Take bytes that are at the target already; return how many.

        Raises:
            Damaged: they are more than the blob has.
        """
        self._data = data
        while self._count < self._blob.size and self._take(_CHUNK):
            pass
        if data.read(1):
            self._refuse(f"is there with more than its {self._blob.size} bytes")
        return self._count

    def follow(self, data: Readable) -> None:
        """Give these bytes from now on."""
        self._data = data

    def __enter__(self) -> Verified:
        return self

    def __exit__(self, *_: object) -> None:
        self._hash.close()

    def read(self, size: int, /) -> bytes:
        """Give the next bytes.

        Raises:
            Damaged: at the end, where the bytes are not those of the digest, or are too many or too few.
            Cancelled: the copy was given up.
        """
        chunk = self._take(size)
        if chunk:
            return chunk
        if not self._confirmed:
            if self._count < self._blob.size:
                self._refuse(f"ends after {self._count} of {self._blob.size} bytes")
            found = self._hash.hexdigest()
            if found != self._blob.digest.hex:
                self._refuse(f"has the SHA-256 {found}")
            self._confirmed = True
        return b""

    def _take(self, size: int) -> bytes:
        self._cancel.check()
        assert self._data is not None  # noqa: S101 -- prime() or follow() comes first
        try:
            chunk = self._data.read(size)
        except OSError as error:
            raise FerryError(
                f"reading the blob {self._blob.digest} of {self._owners} failed after {self._count} bytes: "
                f"{error.strerror or error}",
                hint="The disk may be failing: look at the system's log before you try again.",
            ) from error
        if chunk:
            self._count += len(chunk)
            if self._count > self._blob.size:
                self._refuse(f"holds more than the {self._blob.size} bytes that the manifest states")
            self._hash.update(chunk)
            self._advance(len(chunk))
        return chunk

    def confirm_end(self) -> None:
        """Make sure that the sink read to the end, where the check is.

        Raises:
            FerryError: it did not: the sink is at fault.
        """
        if not self._confirmed:
            raise FerryError(f"{self._blob.digest} was taken without reading it to its end")

    def _refuse(self, what: str) -> None:
        raise Damaged(f"the blob {self._blob.digest} of {self._owners} {what}", digest=str(self._blob.digest))
