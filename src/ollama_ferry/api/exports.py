"""Exports: models of a store into one archive."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ollama_ferry.api.arguments import (
    Names,
    PathLike,
    Renaming,
    StoreLike,
    located_store,
    path_of,
    paths_of,
    renames_of,
    wanted_of,
)
from ollama_ferry.engine.events import Cancel, Observer, ignore
from ollama_ferry.engine.run import Run
from ollama_ferry.errors import Remedy, UsageError

if TYPE_CHECKING:
    from ollama_ferry.archives.kinds import Kind
    from ollama_ferry.engine.plan import Plan
    from ollama_ferry.jobs.export import Exported, ExportOptions
    from ollama_ferry.jobs.export_outputs import ByteStream
    from ollama_ferry.jobs.export_plan import PlannedExport
    from ollama_ferry.model.names import ModelName
    from ollama_ferry.places.store.store import Store


def export(
    models: Names = (),
    archive: PathLike | ByteStream | None = None,
    *,
    store: StoreLike = None,
    everything: bool = False,
    exclude: Names = (),
    keep_going: bool | None = None,
    rename: Renaming = None,
    compress: str = "auto",
    threads: int = 0,
    have: PathLike | Iterable[PathLike] = (),
    split: int | str | None = None,
    ask: Callable[[str], None] | None = None,
    stream_format: str = "tar.gz",
    replace: bool = False,
    sign_with: PathLike | None = None,
    sha256: bool = False,
    observer: Observer = ignore,
    cancel: Cancel | None = None,
) -> Exported:
    """Export models into an archive that any tar restores into a store.

    Args:
        models: one name or several; patterns such as ``gemma3:*`` are taken too.
        archive: a path that ends in ``.tar``, ``.tar.gz``, ``.tgz`` or ``.tar.zst``, or a binary stream; None is
            ``NAME-TAG.tar.gz`` of the one model, in the current folder.
        store: the models folder; None finds it as the command does.
        everything: export every model of the store; ``models`` stays empty.
        exclude: names and patterns of models that are not meant, whatever ``models`` or ``everything`` say.
        keep_going: leave out damaged models (of a stream or volumes, all is hashed first); None: but for named ones.
        rename: the name that the one model gets in the archive, or ``OLD=NEW`` as for :func:`import_archive`.
        compress: ``auto``, ``none``, ``fast`` or ``best``.
        threads: how many threads pack; 0 is one a core, up to 8.
        have: files that tell what the target has, which is left out: of :func:`inventory`, or archives imported there.
        split: write volumes ``ARCHIVE.001`` and so on of at most this size: bytes, or a text such as ``4G``, ``fat32``.
        ask: with ``split``, called where a medium is full, on any thread; returns when the next one is in.
        stream_format: of a stream: ``tar``, ``tar.gz`` or ``tar.zst``.
        replace: whether a file that is there may be replaced.
        sign_with: a key of OpenSSH that signs the models: beside the archive in ``ARCHIVE.sig``, and in its index.
        sha256: find out the archive's SHA-256 while it is written, and put it beside it, in ``ARCHIVE.sha256``.
        observer: called with the events of :mod:`ollama_ferry.engine.events`.
        cancel: stops the export from another thread.

    Returns:
        What was written: path, size in bytes, models, blobs, seconds; the SHA-256 where it was asked for.

    Raises:
        FerryError: one of the tree in :mod:`ollama_ferry.errors`; no file is left, but whole volumes are.
    """
    from ollama_ferry.jobs.export import export_to_file, export_to_stream

    run = Run(observer, cancel)
    _check_volumes(archive, split, ask)
    options = export_options(compress, threads, replace, split, sign_with, sha256, hash_first=bool(keep_going))
    asked = _Asked(models, everything, exclude, keep_going, rename)
    job = _prepared(asked, archive, store, options, have, stream_format, run)
    if job.path is not None:
        return export_to_file(job.store, job.planned, job.path, options, ask=ask, run=run)
    return export_to_stream(job.store, job.planned, cast("ByteStream", archive), job.kind, options, run=run)


def plan_export(
    models: Names = (),
    archive: PathLike | None = None,
    *,
    store: StoreLike = None,
    everything: bool = False,
    exclude: Names = (),
    keep_going: bool | None = None,
    rename: Renaming = None,
    compress: str = "auto",
    have: PathLike | Iterable[PathLike] = (),
    split: int | str | None = None,
    stream: bool = False,
    stream_format: str = "tar.gz",
    observer: Observer = ignore,
) -> PlannedExport:
    """Find out what :func:`export` would write, and check that all of it is there; nothing is written.

    Args:
        stream: foretell an archive that goes to a stream; ``archive`` stays None.

    The others are those of :func:`export`.

    Returns:
        The archive's path and format, every file that goes into it, and about how many bytes it would take.

    Raises:
        FerryError: it could not be exported as asked.
    """
    from ollama_ferry.jobs.export import check_output
    from ollama_ferry.jobs.export_plan import foresee_export

    options = export_options(compress, split=split)
    target = _STREAM if stream else archive
    asked = _Asked(models, everything, exclude, keep_going, rename)
    job = _prepared(asked, target, store, options, have, stream_format, Run(observer), needs_name=False)
    if job.path is not None:
        check_output(job.path, job.store)
    return foresee_export(job.planned, job.path, job.kind, options, place=job.store.label, store=job.store)


@dataclass(frozen=True)
class _Asked:
    models: Names
    everything: bool
    exclude: Names
    keep_going: bool | None
    rename: Renaming


@dataclass(frozen=True)
class _Prepared:
    store: Store
    planned: Plan
    path: Path | None
    kind: Kind


_STREAM = object()
# What an archive of several models may be called.
_SEVERAL = "models.tar.gz"


def export_options(
    compress: str = "auto",
    threads: int = 0,
    replace: bool = False,
    split: int | str | None = None,
    sign_with: PathLike | None = None,
    sha256: bool = False,
    *,
    hash_first: bool = False,
) -> ExportOptions:
    """Read how an archive is written.

    Raises:
        UsageError: a text means nothing.
    """
    from ollama_ferry.archives.kinds import Compression
    from ollama_ferry.archives.volumes.reading import volume_size
    from ollama_ferry.jobs.export import ExportOptions, source_date_epoch

    return ExportOptions(
        compression=Compression.parse(compress),
        threads=threads,
        replace=replace,
        split=volume_size(split) if split is not None else None,
        fixed_time=source_date_epoch(os.environ.get("SOURCE_DATE_EPOCH")),
        sign_with=path_of(sign_with),
        summed=sha256,
        hash_first=hash_first,
    )


def _check_volumes(archive: object, split: object, ask: object) -> None:
    if split is not None and archive is not None and not isinstance(archive, str | os.PathLike):
        raise UsageError("a stream has no volumes: split needs a path")
    if ask is not None and split is None:
        raise UsageError("only volumes go on several media: ask needs split")


def _prepared(
    asked: _Asked,
    archive: object,
    store: StoreLike,
    options: ExportOptions,
    have: PathLike | Iterable[PathLike],
    stream_format: str,
    run: Run,
    *,
    needs_name: bool = True,
) -> _Prepared:
    """Find the models, and decide where they go; where nothing is written, several models need no archive's name."""
    from ollama_ferry.jobs.export import plan_export
    from ollama_ferry.jobs.export_plan import plan_of_refused
    from ollama_ferry.jobs.inventory import read_inventories
    from ollama_ferry.jobs.select import select
    from ollama_ferry.places.store.store import Store

    wanted = wanted_of(asked.models, everything=asked.everything, exclude=asked.exclude)
    rename = renames_of(asked.rename)
    files = paths_of(have)
    inventory = read_inventories(files) if files else None
    located = located_store(store, run)
    place = Store(located.root)
    refused = place.refused_manifest(wanted.texts[0]) if rename.only and len(wanted.texts) == 1 else None
    if refused is not None and rename.only is not None:
        planned = plan_of_refused(place, refused, rename.only, inventory)
    else:
        planned = plan_export(place, select(located, wanted), inventory, keep_going=asked.keep_going, rename=rename)
    names = [model.name for model in planned.models]
    if not needs_name and archive is None and len(names) != 1:
        archive = _SEVERAL
    path, kind = _target(archive, stream_format, names)
    return _Prepared(place, planned, path, kind)


def _target(archive: object, stream_format: str, names: list[ModelName]) -> tuple[Path | None, Kind]:
    from ollama_ferry.archives.kinds import Kind
    from ollama_ferry.jobs.export import kind_named

    if archive is not None and not isinstance(archive, str | os.PathLike):
        return None, Kind.parse(stream_format)
    if len(names) != 1 and (archive is None or os.path.isdir(archive)):
        file = os.path.join(archive or ".", _SEVERAL)
        raise UsageError(f"{len(names)} models need the archive's name", remedies=[Remedy("archive", file)])
    own_name = f"{names[0].file_stem}.tar.gz"
    path = Path(archive if archive is not None else own_name)
    if os.path.isdir(path):
        # As cp does it.
        path = path / own_name
    return path, kind_named(path)
