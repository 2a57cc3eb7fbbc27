"""Is it whole? Every blob of a place is hashed, on all cores, and each model is told whole or not."""

from __future__ import annotations

import hashlib
import os
import queue
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Protocol

from ollama_ferry.engine.buffers import keep_freed_buffers
from ollama_ferry.engine.events import Advanced, Cancel, Started
from ollama_ferry.engine.ports import BlobEntry, Inspectable, Readable
from ollama_ferry.engine.run import Run
from ollama_ferry.errors import Cancelled, Damaged, FerryError, ModelNotFound, NotPermitted
from ollama_ferry.model.manifests import Descriptor, Digest, Manifest
from ollama_ferry.model.names import ModelName
from ollama_ferry.places.archive.contents import Contents
from ollama_ferry.places.archive.file import ArchiveFile
from ollama_ferry.places.archive.source import ArchiveSource
from ollama_ferry.places.archive.stream import ArchiveStream
from ollama_ferry.places.store.store import Store

_CHUNK = 1024 * 1024


class Fault(Enum):
    """What is wrong with a blob or a manifest; the value says it in words."""

    MISSING = "missing"
    UNFINISHED = "an unfinished download"
    SIZE = "of the wrong size"
    CONTENT = "damaged"
    UNREADABLE = "not readable"
    MANIFEST = "no valid manifest"


@dataclass(frozen=True)
class Problem:
    """Something that is wrong.

    Attributes:
        fault: of which kind.
        text: what was found, in words.
        blob: the blob that it is about; None for a manifest.
    """

    fault: Fault
    text: str
    blob: Descriptor | None = None


@dataclass(frozen=True)
class Verdict:
    """What was found of one model.

    Attributes:
        name: the model.
        manifest: its manifest, or None where that is not readable as one.
        problems: what is wrong with it; empty for a whole model.
        left_out: how many of its blobs an archive leaves out on purpose; nothing is said of these.
    """

    name: ModelName
    manifest: Manifest | None
    problems: tuple[Problem, ...]
    left_out: int = 0

    @property
    def good(self) -> bool:
        return not self.problems


@dataclass(frozen=True)
class Report:
    """What a verification found.

    Attributes:
        place: what was verified.
        models: a verdict for each model, sorted by name.
        blobs: how many blobs were hashed.
        size: their bytes.
        unnamed: what is wrong with blobs that no model names; harmless, and worth knowing of an archive.
        seconds: how long it took.
    """

    place: str
    models: tuple[Verdict, ...]
    blobs: int
    size: int
    unnamed: tuple[Problem, ...]
    seconds: float

    @property
    def good(self) -> bool:
        """Whether every model is whole, and nothing in an archive is damaged."""
        return not self.unnamed and all(model.good for model in self.models)


class _Hashable(Protocol):
    """A place whose blobs can be opened from several threads."""

    def open(self, blob: Descriptor, offset: int = 0) -> AbstractContextManager[Readable]: ...


def verify_store(
    store: Store,
    names: Iterable[ModelName],
    *,
    threads: int = 0,
    run: Run | None = None,
) -> Report:
    """Hash every blob that some models of a store need.

    Args:
        store: the store; nothing in it is changed.
        names: the models, spelt as they are here.
        threads: how many hash at once; 0 is one a core.
        run: told of the bytes that were hashed; stops it at the next chunk.

    Raises:
        NotPermitted, Cancelled: it could not be done.
    """
    run = run or Run()
    manifests: dict[ModelName, Manifest] = {}
    broken: dict[ModelName, Problem] = {}
    for name in names:
        try:
            manifests[name] = store.manifest(name)
            _ = manifests[name].blobs
        except ModelNotFound:
            # Removed since it was listed.
            continue
        except Damaged as error:
            manifests.pop(name, None)
            broken[name] = Problem(Fault.MANIFEST, str(error))
    needed = _needed(manifests)
    problems: dict[Digest, Problem] = {}
    for digest, blob in needed.items():
        size = store.blob_size(digest)
        if size is None:
            unfinished = bool(store.unfinished_downloads(digest))
            problems[digest] = Problem(Fault.UNFINISHED if unfinished else Fault.MISSING, "", blob)
        elif size != blob.size:
            problems[digest] = Problem(Fault.SIZE, f"{size} bytes instead of {blob.size}", blob)
    to_hash = [blob for digest, blob in needed.items() if digest not in problems]
    run.tell(Started(len(manifests), len(to_hash), sum(blob.size for blob in to_hash)))
    problems |= _hash_all(store, to_hash, threads, run)
    return Report(
        place=str(store.root),
        models=_verdicts(manifests, problems, broken),
        blobs=len(to_hash),
        size=sum(blob.size for blob in to_hash),
        unnamed=(),
        seconds=run.seconds,
    )


def verify_source(
    source: ArchiveSource,
    *,
    threads: int = 0,
    run: Run | None = None,
) -> Report:
    """Hash everything in an archive that can be searched; see :func:`verify_store`."""
    run = run or Run()
    manifests = dict(source.contents.models)
    needed = _needed(manifests)
    problems: dict[Digest, Problem] = {}
    for digest, blob in needed.items():
        size = source.blob_size(digest)
        if source.leaves_out(digest):
            continue
        if size is None:
            problems[digest] = Problem(Fault.MISSING, "", blob)
        elif size != blob.size:
            problems[digest] = Problem(Fault.SIZE, f"{size} bytes instead of {blob.size}", blob)
    to_hash = [Descriptor(digest, size) for digest, (size, _) in source.contents.blobs.items()]
    total = sum(blob.size for blob in to_hash)
    run.tell(Started(len(manifests), len(to_hash), total))
    found = _hash_all(source, to_hash, threads, run)
    source.check_repeated(run.cancel)
    return Report(
        place=source.label,
        models=_verdicts(manifests, {**_about(found, needed), **problems}, {}, source.contents),
        blobs=len(to_hash),
        size=total,
        unnamed=tuple(problem for digest, problem in found.items() if digest not in needed),
        seconds=run.seconds,
    )


def verify_stream(stream: ArchiveStream, *, total: int = 0, run: Run | None = None) -> Report:
    """Hash everything in an archive that passes by once.

    Args:
        stream: the archive; its reads tell the observer of the amount.
        total: the bytes of its file, where it has one.
        run: told that it begins; stops it at the next chunk.

    Raises:
        Damaged: the archive can't be read to its end.
    """
    run = run or Run()
    run.tell(Started(0, 0, total))
    keep_freed_buffers()
    found: dict[Digest, Problem] = {}
    count = size = 0
    for entry in stream.entries():
        run.check()
        if isinstance(entry, BlobEntry):
            actual = _hash(entry.data, lambda amount: run.check())
            count += 1
            size += entry.blob.size
            if actual != entry.blob.digest.hex:
                found[entry.blob.digest] = _content_problem(entry.blob, actual)
    contents = stream.contents
    needed = _needed(contents.models)
    problems = _about(found, needed)
    for digest, blob in needed.items():
        here = contents.blobs.get(digest)
        if here is None and digest in contents.left_out:
            continue
        if here is None:
            problems[digest] = Problem(Fault.MISSING, "", blob)
        elif here[0] != blob.size:
            problems[digest] = Problem(Fault.SIZE, f"{here[0]} bytes instead of {blob.size}", blob)
    return Report(
        place=stream.label,
        models=_verdicts(contents.models, problems, {}, contents),
        blobs=count,
        size=size,
        unnamed=tuple(problem for digest, problem in found.items() if digest not in needed),
        seconds=run.seconds,
    )


class HashesItself(Inspectable, Protocol):
    """A place that hashes its blobs where they are: another host."""

    label: str

    def hashes(self, blobs: Iterable[Descriptor]) -> Iterator[tuple[Descriptor, str]]:
        """Give blobs with their SHA-256 in hexadecimal, or an empty text where one is missing."""
        ...


def verify_there(place: HashesItself, names: Iterable[ModelName], *, run: Run | None = None) -> Report:
    """Let a place hash its own blobs; see :func:`verify_store`."""
    run = run or Run()
    manifests: dict[ModelName, Manifest] = {}
    broken: dict[ModelName, Problem] = {}
    for name in names:
        try:
            manifests[name] = place.manifest(name)
        except Damaged as error:
            broken[name] = Problem(Fault.MANIFEST, str(error))
    needed = _needed(manifests)
    problems: dict[Digest, Problem] = {}
    for digest, blob in needed.items():
        size = place.blob_size(digest)
        if size is None:
            problems[digest] = Problem(Fault.MISSING, "", blob)
        elif size != blob.size:
            problems[digest] = Problem(Fault.SIZE, f"{size} bytes instead of {blob.size}", blob)
    to_hash = [blob for digest, blob in needed.items() if digest not in problems]
    total = sum(blob.size for blob in to_hash)
    run.tell(Started(len(manifests), len(to_hash), total))
    for blob, actual in place.hashes(to_hash) if to_hash else ():
        run.tell(Advanced(blob.size))
        if not actual:
            problems[blob.digest] = Problem(Fault.MISSING, "", blob)
        elif actual != blob.digest.hex:
            problems[blob.digest] = _content_problem(blob, actual)
    return Report(
        place=place.label,
        models=_verdicts(manifests, problems, broken),
        blobs=len(to_hash),
        size=total,
        unnamed=(),
        seconds=run.seconds,
    )


def verify_file(path: Path, *, threads: int = 0, run: Run | None = None) -> Report:
    """Hash everything in an archive's file, in the way that it allows; see :func:`verify_store`.

    Raises:
        Damaged: the archive can't be read to its end, or its index is damaged.
    """
    run = run or Run()

    with ArchiveFile(path, tick=run.advanced) as file:
        if file.note:
            raise Damaged(file.note, hint="What is in it may be whole; `ollama-ferry import` checks every byte.")
        source = file.source() if file.index is None else None
        if source is not None:
            return verify_source(source, threads=threads, run=run)
        return verify_stream(file.stream(), total=file.stream_size, run=run)


@dataclass
class _Work:
    """Blobs being hashed by threads that report through a queue."""

    place: _Hashable
    stop: Cancel
    reports: queue.SimpleQueue[int | tuple[Digest, Problem | None] | BaseException] = field(
        default_factory=queue.SimpleQueue
    )

    def hash(self, blob: Descriptor) -> None:
        try:
            problem = self._look(blob)
        except BaseException as error:  # noqa: BLE001 -- raised again in the caller's thread
            self.reports.put(error)
        else:
            self.reports.put((blob.digest, problem))

    def _look(self, blob: Descriptor) -> Problem | None:
        try:
            with self.place.open(blob) as data:
                actual = _hash(data, self._advanced)
        except (Cancelled, NotPermitted):
            raise
        except FerryError as error:
            return Problem(Fault.UNREADABLE, str(error), blob)
        except OSError as error:
            return Problem(Fault.UNREADABLE, str(error.strerror or error), blob)
        return None if actual == blob.digest.hex else _content_problem(blob, actual)

    def _advanced(self, amount: int) -> None:
        self.stop.check()
        self.reports.put(amount)


def _hash_all(place: _Hashable, blobs: Iterable[Descriptor], threads: int, run: Run) -> dict[Digest, Problem]:
    """Hash blobs on several threads; return what is wrong."""
    keep_freed_buffers()
    # The largest first, lest it be the last one and run alone.
    ordered = sorted(blobs, key=lambda blob: (-blob.size, blob.digest))
    work = _Work(place, Cancel())
    found: dict[Digest, Problem] = {}
    left = len(ordered)
    pool = ThreadPoolExecutor(threads or min(8, os.cpu_count() or 1), thread_name_prefix="verify")
    try:
        for blob in ordered:
            pool.submit(work.hash, blob)
        while left:
            run.check()
            try:
                report = work.reports.get(timeout=0.5)
            except queue.Empty:
                continue
            if isinstance(report, int):
                run.tell(Advanced(report))
            elif isinstance(report, BaseException):
                raise report
            else:
                left -= 1
                digest, problem = report
                if problem is not None:
                    found[digest] = problem
    finally:
        work.stop.set()
        pool.shutdown(cancel_futures=True)
    return found


def _hash(data: Readable, advanced: Callable[[int], None]) -> str:
    """Return the SHA-256 of a blob's bytes, which are read to their end."""
    hashed = hashlib.sha256()
    while chunk := data.read(_CHUNK):
        hashed.update(chunk)
        advanced(len(chunk))
    return hashed.hexdigest()


def _content_problem(blob: Descriptor, actual: str) -> Problem:
    return Problem(Fault.CONTENT, f"its bytes have the SHA-256 {actual[:12]}…", blob)


def _needed(manifests: Mapping[ModelName, Manifest]) -> dict[Digest, Descriptor]:
    return {blob.digest: blob for manifest in manifests.values() for blob in manifest.blobs}


def _about(found: Mapping[Digest, Problem], needed: Mapping[Digest, Descriptor]) -> dict[Digest, Problem]:
    """Let problems tell what a manifest calls the blob."""
    return {digest: replace(problem, blob=needed[digest]) for digest, problem in found.items() if digest in needed}


def _verdicts(
    manifests: Mapping[ModelName, Manifest],
    problems: Mapping[Digest, Problem],
    broken: Mapping[ModelName, Problem],
    archive: Contents | None = None,
) -> tuple[Verdict, ...]:
    def verdicts() -> Iterator[Verdict]:
        for name, manifest in manifests.items():
            # A blob may be a layer twice, or be named by several models as something else.
            own = [replace(problems[blob.digest], blob=blob) for blob in manifest.blobs if blob.digest in problems]
            left_out = 0
            if archive is not None:
                left_out = sum(b.digest in archive.left_out and b.digest not in archive.blobs for b in manifest.blobs)
            yield Verdict(name, manifest, tuple(own), left_out)
        for name, problem in broken.items():
            yield Verdict(name, None, (problem,))

    return tuple(sorted(verdicts(), key=lambda verdict: verdict.name))
