"""Is it whole? Every blob of a place is hashed, and each model is found whole or not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from ollama_ferry.engine.buffers import keep_freed_buffers
from ollama_ferry.engine.carried import Chosen
from ollama_ferry.engine.events import Started
from ollama_ferry.engine.inspect import manifests_of, runs_at
from ollama_ferry.engine.ports import BlobEntry, Inspectable, KeepsUnfinished
from ollama_ferry.engine.run import Run
from ollama_ferry.errors import Damaged, ReadDifferently
from ollama_ferry.jobs.hash_blobs import hash_all, hash_of
from ollama_ferry.jobs.remembered import Remembered
from ollama_ferry.jobs.report import Fault, Models, Problem, Report, content_problem
from ollama_ferry.jobs.sources import no_model_in
from ollama_ferry.jobs.trust import NO_TRUST, Trust
from ollama_ferry.model.manifests import Descriptor, Digest
from ollama_ferry.model.names import ModelName
from ollama_ferry.places.archive.contents import Contents
from ollama_ferry.places.archive.file import ArchiveFile
from ollama_ferry.places.archive.source import ArchiveSource
from ollama_ferry.places.archive.stream import ArchiveStream


@runtime_checkable
class HashesItself(Protocol):
    """A place that hashes its blobs where they are: another host."""

    def hashes(self, blobs: Iterable[Descriptor]) -> Iterator[tuple[Descriptor, str]]:
        """Give blobs with their SHA-256 in hexadecimal, or an empty text where one is missing."""
        ...


def verify_place(
    place: Inspectable,
    chosen: Chosen | Iterable[ModelName],
    *,
    trust: Trust = NO_TRUST,
    threads: int = 0,
    remembered: Remembered | None = None,
    run: Run | None = None,
) -> Report:
    """Hash every blob that some models of a place need: a store here, or one on a host, which hashes them there.

    Args:
        place: the place; nothing in it is changed.
        chosen: the models, spelt as they are there.
        trust: what the models have to be.
        threads: how many hash at once; 0 is one a core.
        remembered: which blobs of this store need not be hashed, for they were not changed since they were; None hashes
            all.
        run: notified of the bytes that were hashed; stops it at the next chunk.

    Raises:
        NotPermitted, Cancelled: it could not be done.
    """
    run = run or Run()
    chosen = Chosen.of(chosen)
    models = _models(place, chosen.names)
    signed_by = trust.check(models.manifests, models.manifests, place.label)
    unfinished = place.unfinished_downloads if isinstance(place, KeepsUnfinished) else lambda digest: False
    problems = models.absent(place.blob_size, unfinished)
    to_hash = [blob for digest, blob in models.needed().items() if digest not in problems]
    unchanged = remembered.unchanged(to_hash) if remembered is not None else []
    to_hash = sorted(set(to_hash) - set(unchanged), key=lambda blob: blob.digest) if unchanged else to_hash
    run.notify(Started(len(models.manifests), len(to_hash), sum(blob.size for blob in to_hash)))
    if isinstance(place, HashesItself):
        problems |= _hashed_at_host(place, to_hash, run)
    elif remembered is None:
        problems |= hash_all(place, to_hash, threads, run)
    else:
        problems |= _hashed_and_remembered(remembered, to_hash, threads, run)
    report = models.report(place.label, to_hash, problems, run.seconds, signed_by)
    return replace(report, unchanged=len(unchanged) if remembered is not None else None, not_carried=chosen.left_out)


def _hashed_and_remembered(
    remembered: Remembered, to_hash: list[Descriptor], threads: int, run: Run
) -> dict[Digest, Problem]:
    watched = remembered.watching()
    found: dict[Digest, Problem] = {}
    try:
        found = hash_all(watched, to_hash, threads, run)
    except BaseException:
        watched.marks.clear()
        raise
    finally:
        remembered.keep(watched, found)
        if remembered.note:
            run.note(remembered.note)
    return found


def verify_file(path: Path, *, trust: Trust = NO_TRUST, threads: int = 0, run: Run | None = None) -> Report:
    """Hash everything in an archive's file, in the way that it allows; see :func:`verify_place`.

    Raises:
        Damaged: the archive can't be read to its end, or its index is damaged.
        NotAsLocked: its models are not those that are trusted.
    """
    run = run or Run()
    with ArchiveFile(path, on_read=run.advanced, exact=True) as file:
        if file.note:
            raise Damaged(file.note, hint="What is in it may be whole; `ollama-ferry import` checks every byte.")
        source = file.source() if file.index is None else None
        if source is not None:
            return verify_source(source, trust=trust, threads=threads, run=run)
        return verify_stream(file.stream(), total=file.stream_size, trust=trust, run=run)


def verify_source(
    source: ArchiveSource, *, trust: Trust = NO_TRUST, threads: int = 0, run: Run | None = None
) -> Report:
    """Hash everything in an archive that can be searched; see :func:`verify_place`."""
    run = run or Run()
    models = _models_in(source.contents, source.label)
    signed_by = trust.signed(source.contents.signature).check(models.manifests, models.manifests, source.label)
    passed_over = source.contents.loosely_named.keys() - models.needed().keys()
    to_hash = [
        Descriptor(digest, size) for digest, (size, _) in source.contents.blobs.items() if digest not in passed_over
    ]
    run.notify(Started(len(models.manifests), len(to_hash), sum(blob.size for blob in to_hash)))
    found = hash_all(source, to_hash, threads, run)
    source.check_repeated(run.cancel)
    return models.report(source.label, to_hash, {**found, **models.absent(source.blob_size)}, run.seconds, signed_by)


def verify_stream(stream: ArchiveStream, *, total: int = 0, trust: Trust = NO_TRUST, run: Run | None = None) -> Report:
    """Hash everything in an archive that passes by once.

    Args:
        stream: the archive; its reads tell the observer of the amount.
        total: the bytes of its file, where it has one.
        trust: what its models have to be.
        run: notified that it begins; stops it at the next chunk.

    Raises:
        Damaged: the archive can't be read to its end.
    """
    run = run or Run()
    run.notify(Started(0, 0, total))
    keep_freed_buffers()
    found: dict[Digest, Problem] = {}
    # What is called otherwise than Ollama calls blobs counts where a model needs it, and no other place has it whole.
    likely: dict[Digest, Problem] = {}
    good: set[Digest] = set()
    hashed: list[Descriptor] = []
    for entry in stream.entries():
        run.check()
        if isinstance(entry, BlobEntry):
            actual = hash_of(entry.data, lambda amount: run.check())
            hashed.append(entry.blob)
            if actual == entry.blob.digest.hex:
                good.add(entry.blob.digest)
            else:
                (found if entry.certain else likely)[entry.blob.digest] = content_problem(entry.blob, actual)
    models = _models_in(stream.contents, stream.label)
    found |= {digest: likely[digest] for digest in likely.keys() & models.needed().keys() - good}
    signed_by = trust.signed(stream.contents.signature).check(models.manifests, models.manifests, stream.label)
    sizes = {digest: size for digest, (size, _) in stream.contents.blobs.items()}
    return models.report(stream.label, hashed, {**found, **models.absent(sizes.get)}, run.seconds, signed_by)


def _models(place: Inspectable, names: Iterable[ModelName]) -> Models:
    manifests, broken = manifests_of(place, names)
    damaged = {name: Problem(Fault.MANIFEST, str(error)) for name, error in broken.items()}
    return Models(manifests, damaged, runs_elsewhere=lambda manifest: runs_at(place, manifest))


def _models_in(contents: Contents, label: str) -> Models:
    """Return the models of an archive.

    Raises:
        ModelNotFound: there is none.
        ReadDifferently: what tars make of it is not one store.
    """
    if not contents.models and not contents.broken:
        raise no_model_in(label, contents)
    _require_one_store(contents, label)
    broken = {name: Problem(Fault.MANIFEST, str(error)) for name, error in contents.broken.items()}
    return Models(contents.models, broken, contents.left_out.keys() - contents.blobs.keys())


def _require_one_store(contents: Contents, label: str) -> None:
    """Refuse what import makes a store of, and a tar does not: a verdict is on what anybody restores.

    Raises:
        ReadDifferently: blobs or manifests are not called or placed as Ollama does it, or not below one folder.
    """
    needed = {blob.digest for manifest in contents.models.values() for blob in manifest.blobs}
    why = ""
    if contents.loosely_placed:
        why = f"the manifest of {min(contents.loosely_placed)} is not where Ollama has it"
    elif loose := contents.loosely_named.keys() & needed:
        why = f"the blob {min(loose)} is called {contents.loosely_named[min(loose)][:200]!r}"
    elif len(contents.roots) > 1:
        one, other = (repr(root or "./") for root in sorted(contents.roots)[:2])
        why = f"some of its blobs and manifests are below {one}, others below {other}"
    if why:
        raise ReadDifferently(
            f"{label}: {why}: as a tar restores it, it is no one store, and models may lack blobs",
            hint="`ollama-ferry import` makes one of it, and checks every byte.",
        )


def _hashed_at_host(place: HashesItself, blobs: list[Descriptor], run: Run) -> dict[Digest, Problem]:
    """Let a place hash its own blobs; return what is wrong."""
    found: dict[Digest, Problem] = {}
    for blob, actual in place.hashes(blobs) if blobs else ():
        run.advanced(blob.size)
        if not actual:
            found[blob.digest] = Problem(Fault.MISSING, "", blob)
        elif actual != blob.digest.hex:
            found[blob.digest] = content_problem(blob, actual)
    return found
