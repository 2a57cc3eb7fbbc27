"""The one engine: plan what to carry from a source to a sink, then carry it.

Blobs go first, each once, in the order of their digests; a manifest follows the last blob that it needs. Each
byte is hashed on the way, whatever the places do.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ollama_ferry.errors import Damaged, FerryError
from ollama_ferry.events import Advanced, BlobDone, BlobStarted, Cancel, ModelDone, Observer, Started, ignore
from ollama_ferry.hashing import BackgroundHash
from ollama_ferry.manifests import Descriptor, Digest, Manifest
from ollama_ferry.names import ModelName
from ollama_ferry.places.base import Prepares, Readable, Sink, Source


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


def plan(source: Source, sink: Sink | None, names: Iterable[ModelName]) -> Plan:
    """Find out what carrying some models means.

    Args:
        source: where they are.
        sink: where they go; None plans as for an empty one.
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
    present = tuple(blob for blob in ordered if sink is not None and sink.has(blob))
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

    waiting = {model.name: {blob.digest for blob in model.manifest.blobs} for model in planned.models}
    needed_by = planned.needed_by
    there = {blob.digest for blob in planned.present}

    def commit_complete(models: Iterable[PlannedModel]) -> None:
        for model in models:
            if model.name in waiting and not waiting[model.name]:
                del waiting[model.name]
                sink.commit(model.name, model.manifest)
                observer(ModelDone(model.name))

    for model in planned.models:
        waiting[model.name] -= there
    commit_complete(planned.models)
    for blob in planned.blobs:
        cancel.check()
        observer(BlobStarted(blob))
        owners = ", ".join(str(model.name) for model in needed_by[blob.digest])
        with source.open(blob) as data, Verified(data, blob, owners, observer, cancel) as verified:
            sink.put(blob, verified)
            verified.confirm_end()
        observer(BlobDone(blob))
        for model in needed_by[blob.digest]:
            waiting[model.name].discard(blob.digest)
        commit_complete(needed_by[blob.digest])
    return Copied(tuple(model.name for model in planned.models), planned.blobs, planned.present)


class Verified:
    """A blob's bytes on their way, counted and hashed; the end is given only when they are right."""

    def __init__(self, data: Readable, blob: Descriptor, owners: str, observer: Observer, cancel: Cancel) -> None:
        self._data = data
        self._blob = blob
        self._owners = owners
        self._observer = observer
        self._cancel = cancel
        self._hash = BackgroundHash(expected=blob.size)
        self._count = 0
        self._confirmed = False

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
        self._cancel.check()
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
            self._observer(Advanced(len(chunk)))
            return chunk
        if not self._confirmed:
            if self._count < self._blob.size:
                self._refuse(f"ends after {self._count} of {self._blob.size} bytes")
            found = self._hash.hexdigest()
            if found != self._blob.digest.hex:
                self._refuse(f"has the SHA-256 {found}")
            self._confirmed = True
        return b""

    def confirm_end(self) -> None:
        """Make sure that the sink read to the end, where the check is.

        Raises:
            FerryError: it did not: the sink is at fault.
        """
        if not self._confirmed:
            raise FerryError(f"{self._blob.digest} was taken without reading it to its end")

    def _refuse(self, what: str) -> None:
        raise Damaged(f"the blob {self._blob.digest} of {self._owners} {what}", digest=str(self._blob.digest))
