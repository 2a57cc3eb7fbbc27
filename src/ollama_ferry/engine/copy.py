"""The one engine: plan what to copy from a source to a sink, then copy it.

Blobs go first, each once, in the order of their digests; a manifest follows the last blob that it needs. Each
byte is hashed on the way, whatever the places do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ollama_ferry.engine.events import BlobDone, BlobStarted, Started
from ollama_ferry.engine.pending_models import PendingModels
from ollama_ferry.engine.plan import Plan, PlannedModel, blobs_of
from ollama_ferry.engine.ports import Expects, Holder, Prepares, Resumes, Sink, Source, offers
from ollama_ferry.engine.run import Run
from ollama_ferry.engine.verified import Verified
from ollama_ferry.errors import Damaged, FerryError, Vanished
from ollama_ferry.model.manifests import Descriptor, Digest
from ollama_ferry.model.names import ModelName
from ollama_ferry.wording import exact_size

# How often a plan is made anew when a blob that was counted on has gone: each time a server was started meanwhile.
_ATTEMPTS = 3


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
    """Find out what copying some models means.

    Args:
        source: where they are.
        target: where they go; None plans as for an empty place.
        names: the models; one named twice is copied once.

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
                    f"two manifests give {blob.digest} different sizes: {known.size:,} and {exact_size(blob.size)}; "
                    f"one of them is that of {name}"
                )
        models.append(PlannedModel(name, manifest))
    ordered = sorted(blobs.values(), key=lambda blob: blob.digest)
    present = tuple(blob for blob in ordered if target is not None and target.has(blob))
    digests = {blob.digest for blob in present}
    moving = tuple(blob for blob in ordered if blob.digest not in digests)
    return Plan(tuple(models), moving, present)


def copy(
    planned: Plan,
    source: Source,
    sink: Sink,
    run: Run | None = None,
    *,
    pass_over: Callable[[Damaged], None] | None = None,
) -> Copied:
    """Do what a plan says.

    Args:
        planned: what :func:`plan` returned for the same source and sink.
        run: notified of every step, on this thread; stops the copy at the next chunk.
        pass_over: notified of a blob that is damaged in the source, and of the models that are not copied for it; None
            ends the copy there.

    Raises:
        FerryError: what the source, the sink or the check of a blob raised; what was published before stays
            and is whole.
    """
    run = run or Run()
    run.notify(Started(len(planned.models), len(planned.blobs), planned.size))
    if isinstance(sink, Prepares):
        sink.prepare(planned)
    if isinstance(source, Expects):
        source.expect(planned.blobs)
    pending = PendingModels(sink, run)
    present = {blob.digest for blob in planned.present}
    for model in planned.models:
        pending.expect(model.name, model.manifest, lambda blob: blob.digest in present)
    needed_by = planned.needed_by
    moved: list[Descriptor] = []
    for blob in planned.blobs:
        run.check()
        models = tuple(model.name for model in needed_by.get(blob.digest, ()))
        run.notify(BlobStarted(blob, models))
        owners = ", ".join(map(str, models)) or "the source"
        try:
            _copy_blob(blob, owners, source, sink, run)
        except Damaged as error:
            if pass_over is None:
                raise
            pass_over(error)
            continue
        run.notify(BlobDone(blob))
        moved.append(blob)
        pending.arrived(blob.digest)
    return Copied(tuple(sorted(pending.published)), tuple(moved), planned.present)


def copy_whole(make_plan: Callable[[], Plan], source: Source, sink: Sink, run: Run, *, leave_out: bool = False) -> Plan:
    """Plan and copy; anew where a blob that was counted on has gone meanwhile, as when a server starts and prunes.

    Args:
        make_plan: plans what the sink lacks just now.
        source: where it comes from.
        sink: where it goes.
        run: notified of every step; stops the copy at the next chunk.
        leave_out: leave out the models whose blobs turn out damaged, but for those that the plan requires.

    Returns:
        The plan that was followed.

    Raises:
        Vanished: blobs have gone each time.
        FerryError: as for :func:`copy`.
    """
    damaged: dict[Digest, FerryError] = {}

    def pass_over(error: Damaged) -> None:
        if not error.digest:
            raise error
        damaged[Digest.parse(error.digest)] = error

    for attempts_left in reversed(range(_ATTEMPTS)):
        planned = make_plan()
        damaged.clear()
        try:
            copy(planned, source, sink, run, pass_over=pass_over if leave_out else None)
            break
        except Vanished as error:
            if not attempts_left:
                raise
            run.note(f"{error}; copying it again")
    return planned.without(damaged) if damaged else planned


def _copy_blob(blob: Descriptor, owners: str, source: Source, sink: Sink, run: Run) -> None:
    """Copy one blob, resuming what an earlier copy left where the sink keeps that."""
    begun = sink.unfinished(blob) if offers(sink, Resumes) else None
    if begun is not None and offers(sink, Resumes):
        resumed = run.resumed
        try:
            with begun as arriving, Verified(blob, owners, run) as verified:
                offset = verified.hash_existing(arriving)
                with source.open(blob, offset) as data:
                    verified.read_from(data)
                    arriving.append(verified)
                verified.confirm_end()
            return
        except Damaged:
            # Either what was there is wrong, as after a power cut, or what comes is: the whole will tell.
            sink.discard(blob)
            run.resumed = resumed
    with source.open(blob) as data, Verified(blob, owners, run) as verified:
        verified.read_from(data)
        sink.put(blob, verified)
        verified.confirm_end()
