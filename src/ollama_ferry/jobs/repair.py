"""Take good blobs and manifests from an archive for a store that has damaged ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path

from ollama_ferry.engine.carried import Chosen
from ollama_ferry.engine.copy import copy
from ollama_ferry.engine.events import Started
from ollama_ferry.engine.plan import Plan
from ollama_ferry.engine.ports import Arriving, Inspectable, Readable
from ollama_ferry.engine.run import Run
from ollama_ferry.engine.stream import copy_stream
from ollama_ferry.errors import FATAL_FOR_ALL, FerryError
from ollama_ferry.files.disk import Disk
from ollama_ferry.jobs.import_ import import_file
from ollama_ferry.jobs.import_choices import ImportOptions
from ollama_ferry.jobs.report import Report
from ollama_ferry.jobs.sources import whole_folder
from ollama_ferry.jobs.trust import NO_TRUST, Trust
from ollama_ferry.jobs.verify import verify_place
from ollama_ferry.model.manifests import Descriptor, Digest, Manifest
from ollama_ferry.model.names import ModelName
from ollama_ferry.places.archive.file import ArchiveFile
from ollama_ferry.places.store.sink import StoreSink
from ollama_ferry.places.store.store import Store


def verify_and_repair(
    store: Store,
    chosen: Chosen | Iterable[ModelName],
    archives: Iterable[Path],
    *,
    trust_in: Callable[[Path], Trust] = lambda archive: NO_TRUST,
    threads: int = 0,
    run: Run | None = None,
) -> Report:
    """Hash models of a store, and take good copies of what is damaged from archives, one after the other.

    Args:
        store: the store.
        chosen: the models, spelt as there.
        archives: where good blobs may be; one that can't be read is noted, and the next one is tried.
        trust_in: tells what the models of an archive have to be where a manifest is taken from it.
        threads: how many hash at once; 0 is one a core, up to 8.
        run: notified of every step; stops it at the next chunk.

    Returns:
        What is damaged in the end, and how many blobs and manifests were replaced. What an archive has mended is hashed
        anew: a repair is believed when it is seen.

    Raises:
        FerryError: the store can't be read, or not be written.
    """
    run = run or Run()
    report = first = verify_place(store, chosen, threads=threads, run=run)
    for archive in archives:
        if report.good:
            break
        run.explain(f"repairing from {archive}")
        try:
            repair(store, report, archive, trust=trust_in(archive), run=run)
        except FATAL_FOR_ALL:
            raise
        except FerryError as error:
            # The next archive may have what this one has not; what it had is in the report.
            run.note(f"not repaired from {archive}: {error.message}")
        bad = sorted(model.name for model in report.models if not model.good)
        again = {model.name: model for model in verify_place(store, bad, threads=threads, run=run).models}
        report = replace(report, models=tuple(again.get(model.name, model) for model in report.models))
    return replace(report, repaired=len(_damaged(first) - _damaged(report)), seconds=run.seconds)


def _damaged(report: Report) -> set[Digest | ModelName]:
    """Return the damaged blobs by digest, and the damaged manifests by name."""
    return {
        problem.blob.digest if problem.blob is not None else verdict.name
        for verdict in report.models
        for problem in verdict.problems
    }


def repair(
    store: Store,
    report: Report,
    archive: Path,
    *,
    trust: Trust = NO_TRUST,
    disk: Disk | None = None,
    run: Run | None = None,
) -> int:
    """Replace what a report found damaged by what an archive has.

    What arrived whole is put in place, whatever becomes of the rest of the archive.

    Args:
        store: the store that the report is about.
        report: what is wrong.
        archive: an archive or a folder where good blobs may be; it need not have all of them.
        trust: what its models have to be where a manifest is taken from it; a blob is what its digest says.
        disk: the calls to write with.
        run: notified of every step; stops it at the next chunk.

    Returns:
        How many blobs and manifests were replaced.

    Raises:
        FerryError: the archive can't be read to its end, or the store not written.
    """
    run = run or Run()
    problems = [(verdict.name, problem) for verdict in report.models for problem in verdict.problems]
    wanted = {problem.blob.digest: problem.blob for _, problem in problems if problem.blob is not None}
    manifests = {name.key: name for name, problem in problems if problem.blob is None}
    with ExitStack() as stack:
        file = None if archive.is_dir() else stack.enter_context(ArchiveFile(archive, on_read=run.advanced))
        source = whole_folder(archive) if file is None else file.source()
        sink = stack.enter_context(StoreSink(store, disk=disk, run=run))
        if file is not None and file.note:
            run.note(file.note)
        replaced = _Replacing(sink, wanted)
        try:
            if source is not None:
                names = list(source.names())
                copy(_plan(source, wanted), source, replaced, run, pass_over=lambda error: run.note(str(error)))
            else:
                assert file is not None  # noqa: S101 -- a folder is a source
                run.notify(Started(0, 0, file.size, f"taking good copies out of {file.label}"))
                stream = file.stream()
                copy_stream(
                    stream, replaced, _no_model, run, wanted=wanted, pass_over=lambda error: run.note(str(error))
                )
                names = list(stream.contents.models)
        finally:
            count = sink.publish_blobs(wanted.values())
    for name in names:
        if name.key in manifests:
            options = ImportOptions(only=(str(name),), replace=True, trust=trust)
            import_file(archive, store, options, disk=disk, run=run)
            count += 1
    return count


def _no_model(name: ModelName, manifest: Manifest) -> ModelName | None:
    """Take blobs alone."""
    return None


def _plan(source: Inspectable, wanted: dict[Digest, Descriptor]) -> Plan:
    present = (blob for blob in wanted.values() if source.blob_size(blob.digest) == blob.size)
    return Plan((), tuple(sorted(present, key=lambda blob: blob.digest)))


class _Replacing:
    """A store's sink that takes blobs which are there already, because they are damaged.

    Args:
        sink: of the store.
        wanted: the damaged blobs.
    """

    def __init__(self, sink: StoreSink, wanted: dict[Digest, Descriptor]) -> None:
        self._sink = sink
        self._wanted = wanted

    def has(self, blob: Descriptor) -> bool:
        return self._wanted.get(blob.digest) != blob

    def put(self, blob: Descriptor, data: Readable) -> None:
        self._sink.put(blob, data)

    def publish_model(self, name: ModelName, manifest: Manifest) -> None:
        self._sink.publish_model(name, manifest)

    def prepare(self, plan: Plan) -> None:
        self._sink.prepare(plan)

    def unfinished(self, blob: Descriptor) -> AbstractContextManager[Arriving] | None:
        return self._sink.unfinished(blob)

    def discard(self, blob: Descriptor) -> None:
        self._sink.discard(blob)
