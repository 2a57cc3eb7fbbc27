"""Take good blobs from an archive for a store that has damaged ones."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ollama_ferry.engine.copy import Verified, carry
from ollama_ferry.engine.events import Advanced, BlobDone, Cancel, Noted, Observer, Started, ignore
from ollama_ferry.engine.ports import BlobEntry
from ollama_ferry.errors import Damaged
from ollama_ferry.files.disk import Disk
from ollama_ferry.jobs.import_ import import_file
from ollama_ferry.jobs.import_choices import ImportOptions
from ollama_ferry.jobs.verify import Report
from ollama_ferry.model.manifests import Descriptor
from ollama_ferry.model.names import ModelName
from ollama_ferry.places.archive.file import ArchiveFile
from ollama_ferry.places.store.sink import StoreSink
from ollama_ferry.places.store.store import Store


def repair(
    store: Store,
    report: Report,
    archive: Path,
    *,
    disk: Disk | None = None,
    observer: Observer = ignore,
    cancel: Cancel | None = None,
) -> int:
    """Replace what a report found damaged by what an archive has.

    Args:
        store: the store that the report is about.
        report: what is wrong.
        archive: where good blobs may be; it need not have all of them.
        disk: the calls to write with.
        observer: told of every step.
        cancel: stops it at the next chunk.

    Returns:
        How many blobs and manifests were replaced.

    Raises:
        FerryError: the archive can't be read, or the store not written.
    """
    cancel = cancel or Cancel()
    wanted: dict[str, Descriptor] = {}
    manifests: list[ModelName] = []
    for verdict in report.models:
        for problem in verdict.problems:
            if problem.blob is None:
                manifests.append(verdict.name)
            else:
                wanted[problem.blob.digest.hex] = problem.blob
    count = 0

    def tick(amount: int) -> None:
        cancel.check()

    with (
        ArchiveFile(archive, tick=tick) as file,
        StoreSink(store, disk=disk, observer=observer, cancel=cancel) as sink,
    ):
        if file.note:
            observer(Noted(file.note))
        source = file.source()
        taken: list[Descriptor] = []
        observer(Started(0, len(wanted), sum(blob.size for blob in wanted.values())))
        if source is not None:
            for blob in wanted.values():
                if source.blob_size(blob.digest) == blob.size:
                    try:
                        carry(blob, str(archive), source, sink, observer, cancel)
                    except Damaged as error:
                        # The archive is no better than the store here; another one may be.
                        observer(Noted(str(error)))
                        continue
                    taken.append(blob)
                    observer(BlobDone(blob))
            names = list(source.names())
        else:
            stream = file.stream()
            for entry in stream.entries():
                if not isinstance(entry, BlobEntry) or wanted.get(entry.blob.digest.hex) != entry.blob:
                    continue
                with Verified(entry.blob, str(archive), lambda amount: observer(Advanced(amount)), cancel) as verified:
                    verified.follow(entry.data)
                    sink.put(entry.blob, verified)
                    verified.confirm_end()
                taken.append(entry.blob)
                observer(BlobDone(entry.blob))
            names = list(stream.contents.models)
        count += sink.publish(tuple(taken))
    for name in _in_both(manifests, names):
        options = ImportOptions(only=(str(name),), replace=True)
        import_file(archive, store, options, disk=disk, observer=observer, cancel=cancel)
        count += 1
    return count


def _in_both(wanted: Iterable[ModelName], there: Iterable[ModelName]) -> list[ModelName]:
    keys = {name.key for name in there}
    return [name for name in wanted if name.key in keys]
