"""Export: models of a store into one archive that any tar restores."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from ollama_ferry.archives.frames import FRAME_SIZE
from ollama_ferry.archives.kinds import Compression, Kind, kind_of
from ollama_ferry.archives.packing import packer
from ollama_ferry.archives.volumes.medium import Volume
from ollama_ferry.archives.volumes.reading import (
    MOST_VOLUMES,
    Ask,
    Volumes,
    require_plain_name,
    volume_size,
)
from ollama_ferry.archives.volumes.writing import PendingVolumes
from ollama_ferry.engine.carried import Chosen, carried
from ollama_ferry.engine.copy import copy, plan
from ollama_ferry.engine.cores import threads_at_once
from ollama_ferry.engine.pinned import Pinned
from ollama_ferry.engine.plan import NotCarried, Plan
from ollama_ferry.engine.ports import Holder, Inspectable, Source
from ollama_ferry.engine.run import Run
from ollama_ferry.errors import AlreadyExists, BrokenStream, Damaged, Remedy, UsageError
from ollama_ferry.files.disk import Disk, require_space
from ollama_ferry.files.pending import PendingFile
from ollama_ferry.jobs.claims import require_distinct, require_one
from ollama_ferry.jobs.damaged import how_to_mend, without_damaged
from ollama_ferry.jobs.export_outputs import ByteStream, StreamOutput, publish_sum, sum_beside
from ollama_ferry.jobs.signing import sign
from ollama_ferry.jobs.trust import publish_signature
from ollama_ferry.model.lock import Lock
from ollama_ferry.model.manifests import Descriptor
from ollama_ferry.model.names import ModelName
from ollama_ferry.model.renames import Renames
from ollama_ferry.places.archive.sink import ArchiveOutput, ArchiveSink
from ollama_ferry.places.store.store import Store
from ollama_ferry.wording import human_size

# How many frames are packed to foretell an archive's size. Weights are even, so few are enough.
_SAMPLES = 32


@dataclass(frozen=True)
class ExportOptions:
    """How an archive is written.

    Attributes:
        compression: how hard to pack.
        threads: how many threads pack; the archive's bytes do not depend on it.
        replace: whether a file of the archive's name may be replaced.
        split: the size of volumes in bytes; None writes the archive in one piece.
        fixed_time: the time of every entry, in seconds since the epoch; None takes the manifests'.
        sign_with: the key that signs the models, beside the archive and in its index; None signs nothing.
        summed: find out the SHA-256 of the archive while it is written, and put it beside it, as ``sha256sum`` would.
        hash_first: hash all blobs before the first byte of a stream or a volume is written, which can't be taken back,
            so that models with damaged ones are left out.
    """

    compression: Compression = Compression.AUTO
    threads: int = 0
    replace: bool = False
    split: int | None = None
    fixed_time: int | None = None
    sign_with: Path | None = None
    summed: bool = False
    hash_first: bool = False

    @property
    def pack_threads(self) -> int:
        """The number of threads to use: what was asked for, else one a core, up to eight."""
        return self.threads or threads_at_once()


@dataclass(frozen=True)
class Exported:
    """What an export wrote.

    Attributes:
        path: the archive, or None where it went to a stream; of volumes, what they are called without their numbers.
        kind: its format.
        size: its size in bytes.
        sha256: its SHA-256 in hexadecimal; empty where nobody asked for it. Volumes always have it.
        models: the models in it.
        blobs: the blobs in it.
        left_out: the blobs that it leaves out, for its target has them.
        seconds: how long it took.
        volumes: the volumes, where it was split.
        stored: how many bytes were stored as they are, because packing them would not pay.
        foregone: how many bytes packing these would have saved, about.
        automatic: whether it was left to the program what to pack.
        not_carried: what was asked for by a pattern, or as all, and can't be carried.
    """

    path: Path | None
    kind: Kind
    size: int
    sha256: str
    models: tuple[ModelName, ...]
    blobs: tuple[Descriptor, ...]
    left_out: tuple[Descriptor, ...]
    seconds: float
    volumes: tuple[Volume, ...] = ()
    stored: int = 0
    foregone: int = 0
    automatic: bool = False
    not_carried: tuple[NotCarried, ...] = ()

    @property
    def sums_path(self) -> Path | None:
        """The file with the sum of the archive, or of its volumes; None where there is none."""
        if self.path is None:
            return None
        if self.volumes:
            return Volumes(self.path).sums_path
        return sum_beside(self.path) if self.sha256 else None

    @property
    def blob_size(self) -> int:
        """The bytes of the blobs before packing."""
        return sum(blob.size for blob in self.blobs)


def plan_export(
    store: Inspectable,
    chosen: Chosen | Iterable[ModelName],
    have: Holder | None = None,
    *,
    keep_going: bool | None = None,
    rename: Renames | None = None,
) -> Plan:
    """Find out what goes into an archive, and check that all of it is there.

    Args:
        store: where the models are.
        chosen: the models; of names alone, each has to go into it.
        have: tells what the target has already, which is left out; None for nothing.
        keep_going: whether damaged models are left out; None leaves out those that were not named in full.
        rename: the names that models get in the archive.

    Raises:
        ModelNotFound, CloudStub, Damaged: a model can't be copied that was named, or none can.
        UsageError: two models would get one name, or several the one.
    """
    chosen, rename = Chosen.of(chosen), rename or Renames()
    if rename.only is not None:
        require_one(chosen.names, store.label)
    found = carried(store, chosen, keep_going=keep_going)
    targets = {name: rename.of(name) or name for name in found.manifests}
    require_distinct(targets.items())
    manifests = {targets[name]: manifest for name, manifest in found.manifests.items()}
    planned = plan(Pinned(store, manifests), have, manifests)
    required = () if keep_going else chosen.in_full if keep_going is None else chosen.names
    return replace(
        planned,
        not_carried=found.left_out,
        required=frozenset(target for name, target in targets.items() if name in required),
    )


def expected_size(store: Source, planned: Plan, kind: Kind, compression: Compression) -> int:
    """Foretell an archive's size in bytes by packing samples spread evenly over the blobs."""
    entries = [blob.size for blob in planned.blobs] + [len(m.manifest.raw) for m in planned.models]
    framing = ArchiveSink.framing(entries)
    content = sum(entries)
    if kind is Kind.TAR:
        return content + framing
    pack = packer(kind, compression)
    raw = packed = 0
    for blob, offset in _sample_points(planned):
        with store.open(blob, offset) as file:
            data = file.read(FRAME_SIZE)
        raw += len(data)
        packed += sum(map(len, pack(data)))
    # Headers are mostly zeros: about a tenth is left of them.
    return round(content * packed / raw if raw else content) + framing // 8


def kind_named(path: Path) -> Kind:
    """Return the format that a path's extension asks for.

    Raises:
        UsageError: it is none that is written.
    """
    kind = kind_of(path.name)
    if kind is None:
        raise UsageError(f"{path} does not end in .tar, .tar.gz, .tgz or .tar.zst")
    return kind


def check_output(path: Path, store: Store) -> None:
    """Refuse to write an archive into the store that it is made from.

    Raises:
        UsageError: the path lies in the store, or in a folder that the store links to.
    """
    folder = path.parent.resolve()
    for part in (store.root, store.blobs_folder, store.manifests_folder):
        if folder.is_relative_to(part.resolve()):
            raise UsageError(
                f"{path} is inside the store {store.root}: a server would delete it there",
                hint="Write the archive to another folder.",
            )


def export_to_file(
    store: Inspectable,
    planned: Plan,
    path: Path,
    options: ExportOptions,
    *,
    ask: Ask | None = None,
    disk: Disk | None = None,
    run: Run | None = None,
) -> Exported:
    """Write a plan's models to a file, which appears under its name only when it is whole; or to volumes.

    Args:
        store: where the models are.
        planned: what :func:`plan_export` returned.
        path: the file; its extension tells the format.
        options: how it is written.
        ask: asks for the next medium where one has no room for a volume; may be called from another thread.
        disk: the calls to write with.
        run: notified of every step; stops it at the next chunk.

    Raises:
        FerryError: it could not be done; no file is left, but volumes are, for the next run to resume from.
    """
    run = run or Run()
    kind = kind_named(path)
    if isinstance(store, Store):
        check_output(path, store)
    if options.split is not None:
        planned = without_damaged(store, planned, run, threads=options.threads) if options.hash_first else planned
        return _export_to_volumes(store, planned, path, kind, options, ask, disk, run)
    if options.summed:
        require_plain_name(path.name)
    try:
        return _export_to_file(store, planned, path, kind, options, disk, run)
    except Damaged as error:
        # All that is damaged is found at once, so that there is no third time.
        planned = without_damaged(store, planned, run, threads=options.threads, error=error)
        run.note(f"{error}; writing the archive anew, without the models that need damaged blobs")
    return _export_to_file(store, planned, path, kind, options, disk, run)


def _export_to_file(
    store: Inspectable, planned: Plan, path: Path, kind: Kind, options: ExportOptions, disk: Disk | None, run: Run
) -> Exported:
    signature = _signature(planned, options)
    with PendingFile(path, replace=options.replace, disk=disk, summed=options.summed) as file:
        _, least = _foretold(store, planned, kind, options)
        require_space(path.parent, least, f"the archive {path.name}")
        sink = _write(store, planned, file, kind, options, signature, run)
        run.phase("waiting for the disk")
        file.publish()
        run.phase()
        publish_signature(signature, path)
        publish_sum(path, file.sha256, disk)
        return _exported(planned, sink, path, kind, options, file, run)


def _signature(planned: Plan, options: ExportOptions) -> str:
    """Sign the models before the first byte is written: whoever is asked for a passphrase is still there."""
    if options.sign_with is None:
        return ""
    return sign(Lock.of({model.name: model.manifest for model in planned.models}).text, options.sign_with)


def _foretold(store: Source, planned: Plan, kind: Kind, options: ExportOptions) -> tuple[int, int]:
    """Return what an archive will take, and what it takes at least, in bytes: doubts are left to the disk to decide."""
    if kind is not Kind.TAR and not isinstance(store, Store):
        # Samples would have to be fetched from far away; weights hardly shrink by a third.
        return planned.size, planned.size * 2 // 3
    expected = expected_size(store, planned, kind, options.compression)
    # Samples are off by a percent at most.
    return expected, expected if kind is Kind.TAR else expected * 49 // 50


def _export_to_volumes(
    store: Inspectable,
    planned: Plan,
    path: Path,
    kind: Kind,
    options: ExportOptions,
    ask: Ask | None,
    disk: Disk | None,
    run: Run,
) -> Exported:
    assert options.split is not None  # noqa: S101 -- whoever calls has looked
    signature = _signature(planned, options)
    if os.path.lexists(path) and not options.replace:
        raise AlreadyExists(f"{path} is there already, in one piece", hint="Name another file, or remove that one.")
    names = Volumes(path)
    size = volume_size(options.split)
    expected, least = _foretold(store, planned, kind, options)
    if least > MOST_VOLUMES * size:
        raise UsageError(
            f"{path.name} takes more than {MOST_VOLUMES} volumes of {human_size(size)}", remedies=[Remedy("split")]
        )
    with PendingVolumes(
        names, size, expected=expected, replace=options.replace, ask=ask, disk=disk, summed=options.summed
    ) as volumes:
        if ask is None:
            here = sum(names.path(number).stat().st_size for number in names.numbers())
            require_space(path.parent, least - here - size, f"the archive {path.name}")
        # The thread that writes may be waiting for a medium.
        sink = _write(store, planned, volumes, kind, options, signature, run, give_up=run.cancel.set)
        run.phase("waiting for the disk")
        volumes.publish()
        run.phase()
    publish_signature(signature, path)
    return replace(_exported(planned, sink, path, kind, options, volumes, run), volumes=tuple(volumes.done))


def export_to_stream(
    store: Inspectable,
    planned: Plan,
    stream: ByteStream,
    kind: Kind,
    options: ExportOptions,
    *,
    run: Run | None = None,
) -> Exported:
    """Write a plan's models to a stream, which is flushed and not closed.

    Raises:
        FerryError: it could not be done; what was written is of no use.
    """
    run = run or Run()
    planned = without_damaged(store, planned, run, threads=options.threads) if options.hash_first else planned
    output = StreamOutput(stream, summed=options.summed)
    sink = _write(store, planned, output, kind, options, _signature(planned, options), run)
    try:
        stream.flush()
    except OSError as error:
        raise BrokenStream(f"the reader of the archive went away before its end: {error.strerror}") from error
    return _exported(planned, sink, None, kind, options, output, run)


def _write(
    store: Inspectable,
    planned: Plan,
    output: ArchiveOutput,
    kind: Kind,
    options: ExportOptions,
    signature: str,
    run: Run,
    *,
    give_up: Callable[[], None] | None = None,
) -> ArchiveSink:
    sink = ArchiveSink(
        output,
        kind,
        compression=options.compression,
        threads=options.pack_threads,
        fixed_time=options.fixed_time,
        signature=signature,
    )
    try:
        copy(planned, store, sink, run)
        sink.close()
    except BaseException as error:
        if give_up is not None:
            give_up()
        sink.abandon()
        if isinstance(error, Damaged) and not error.hint:
            error.hint = _how_to_mend(store, planned, error)
        raise
    return sink


def _how_to_mend(store: Inspectable, planned: Plan, error: Damaged) -> str:
    """Say how the blob that an error is about is got rid of."""
    for digest, models in planned.needed_by.items():
        if str(digest) == error.digest:
            return how_to_mend(store, models[0].name, digest)
    return ""


class _Measured(ArchiveOutput, Protocol):
    @property
    def size(self) -> int: ...

    @property
    def sha256(self) -> str: ...


def _exported(
    planned: Plan,
    sink: ArchiveSink,
    path: Path | None,
    kind: Kind,
    options: ExportOptions,
    output: _Measured,
    run: Run,
) -> Exported:
    return Exported(
        path,
        kind,
        output.size,
        output.sha256,
        tuple(model.name for model in planned.models),
        planned.blobs,
        planned.present,
        run.seconds,
        stored=sink.stored,
        foregone=sink.foregone,
        automatic=options.compression is Compression.AUTO and kind is not Kind.TAR,
        not_carried=planned.not_carried,
    )


def _sample_points(planned: Plan) -> Iterator[tuple[Descriptor, int]]:
    """Spread the samples evenly over all blobs' bytes laid end to end, at whole frames of each blob."""
    step = max(FRAME_SIZE, planned.size // _SAMPLES)
    position, wanted = 0, 0
    for blob in planned.blobs:
        while wanted < position + blob.size:
            yield blob, max(0, wanted - position) // FRAME_SIZE * FRAME_SIZE
            wanted += step
        position += blob.size


def source_date_epoch(text: str | None) -> int | None:
    """Read ``SOURCE_DATE_EPOCH`` (reproducible-builds.org): whole seconds since the epoch.

    Raises:
        UsageError: it is set to something else.
    """
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 11:
        raise UsageError(f"SOURCE_DATE_EPOCH is {text!r}, and must be whole seconds since 1970")
    return int(text)
