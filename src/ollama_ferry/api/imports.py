"""Imports: models of an archive into a store, or into a running server."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from ollama_ferry.api.arguments import (
    Names,
    PathLike,
    Renaming,
    StoreLike,
    dry_run_of,
    located_target,
    paths_of,
    renames_of,
    texts_of,
    trust_of,
)
from ollama_ferry.engine.events import Cancel, Observer, ignore
from ollama_ferry.engine.run import Run
from ollama_ferry.errors import UsageError

if TYPE_CHECKING:
    from ollama_ferry.archives.unpacking import Input
    from ollama_ferry.jobs.import_ import Imported
    from ollama_ferry.jobs.import_choices import ImportOptions
    from ollama_ferry.jobs.judge import JudgedArchive
    from ollama_ferry.jobs.trust import Trust
    from ollama_ferry.jobs.via_server import Given
    from ollama_ferry.places.store.store import Store


def import_archive(
    archive: PathLike | Input,
    *,
    others: Iterable[PathLike] = (),
    store: StoreLike = None,
    models: Names = (),
    rename: Renaming = None,
    replace: bool = False,
    verify_existing: bool = False,
    lenient: bool = False,
    lock: PathLike | None = None,
    signers: PathLike | None = None,
    ask: Callable[[str], None] | None = None,
    dry_run: bool = False,
    observer: Observer = ignore,
    cancel: Cancel | None = None,
) -> Imported:
    """Import models of an archive into a store: hashed on the way, listed only when whole.

    Args:
        archive: the path of any tar or zip with a store in it, of a folder with models, or a binary stream of a tar.
        others: archives and folders that blobs are taken from which this one lacks.
        store: the models folder, which need not exist; None finds it as the command does.
        models: names and patterns of the models to take; none takes all.
        rename: the name that the one model gets in the store; or texts ``OLD=NEW``, where each ``*`` of NEW is what
            that of OLD stood for: ``library/*=mine/*``.
        replace: whether a model of the same name and another content may be replaced.
        verify_existing: hash blobs that are there already before they count as there.
        lenient: take an archive that not every tar reads in the same way; every byte is hashed all the same.
        lock: a file that :func:`lock` wrote: exactly these models are taken, or none.
        signers: a file of allowed signers (ssh-keygen(1)), one of whom must have signed the models, or the lock; None
            takes that of ``OLLAMA_FERRY_SIGNERS`` in the environment, if any.
        ask: for an archive in volumes, called with what is wanted where a volume is not there; returns when its medium
            is in.
        dry_run: find out what would be done with a file, and whether it can; nothing is written.
        observer: called with the events of :mod:`ollama_ferry.engine.events`.
        cancel: stops the import from another thread; what has arrived is kept for the next one.

    Returns:
        What is in the store now: models, blobs that moved, blobs that were there, seconds; and what could not be taken
        of an archive, which does not spoil the rest.

    Raises:
        FerryError: one of the tree in :mod:`ollama_ferry.errors`; nothing wrong is published.
    """
    from ollama_ferry.jobs.import_ import import_file, import_stream, plan_import

    run = Run(observer, cancel)
    path = Path(archive) if isinstance(archive, str | os.PathLike) else None
    trust = trust_of(lock, signers, archive=path, part=bool(texts_of(models)))
    options = import_options(models, rename, replace, verify_existing, lenient=lenient, trust=trust)
    if dry_run and (path is None or ask is not None):
        raise UsageError("a stream is read once, and so are volumes on several media: neither has a dry run")
    if ask is not None:
        return _import_from_media(archive, _target(store, run), options, ask, run)
    target = _target(store, run)
    if path is not None:
        return (plan_import if dry_run else import_file)(path, target, options, others=paths_of(others), run=run)
    assert not isinstance(archive, str | os.PathLike)  # noqa: S101 -- path says so
    return import_stream(archive, "the stream", target, options, run=run)


plan_import = dry_run_of(import_archive, "plan_import")


def judge_archives(
    archives: Iterable[PathLike],
    models: Names = (),
    *,
    one_name: bool = False,
    observer: Observer = ignore,
    cancel: Cancel | None = None,
) -> list[JudgedArchive]:
    """Look into several archives and folders before any of them is imported.

    Args:
        archives: their paths.
        models: names and patterns of the models that are asked for; none asks for all.
        one_name: one model is to get a new name.
        observer: called with the events of :mod:`ollama_ferry.engine.events`.
        cancel: stops it from another thread.

    Returns:
        Of each, once, which of the models it has, and whether it has any; the others may complete it.

    Raises:
        ModelNotFound, NotFound: a model is in none of them, or one of them is not there.
        UsageError: a new name was given, and several models were asked for.
    """
    from ollama_ferry.jobs.judge import judge_archives as judge

    return judge(paths_of(archives), texts_of(models), one_name=one_name, run=Run(observer, cancel))


def import_via_server(
    archive: PathLike,
    *,
    server: str | None = None,
    models: Names = (),
    rename: Renaming = None,
    replace: bool = False,
    listen: str | None = None,
    lock: PathLike | None = None,
    signers: PathLike | None = None,
    observer: Observer = ignore,
    cancel: Cancel | None = None,
) -> Given:
    """Let a running server pull the models of an archive from this process: no right to write its store is needed.

    Args:
        archive: the path of an archive that can be searched.
        server: the server's address as in ``OLLAMA_HOST``; None takes that variable, else Ollama's default.
        models: names and patterns of the models to take; none takes all.
        rename: the name that the one model gets there.
        replace: whether a model of the same name and another content may be replaced.
        listen: ``ADDRESS:PORT`` where that server reaches this machine; None is a free port of 127.0.0.1.
        lock, signers: as for :func:`import_archive`.
        observer: called with the events of :mod:`ollama_ferry.engine.events`.
        cancel: stops it from another thread.

    Returns:
        What the server has now.

    Raises:
        FerryError: the archive can't be searched, the server can't be reached or refuses, or it has another model of
            that name.
    """
    from ollama_ferry.jobs.via_server import import_via_server as give
    from ollama_ferry.ollama.api import ServerApi
    from ollama_ferry.ollama.server import ServerAddress
    from ollama_ferry.serving.addresses import Address

    address = ServerAddress.parse(server if server is not None else os.environ.get("OLLAMA_HOST", ""))
    where = Address.parse(listen) if listen is not None else Address("127.0.0.1", 0)
    trust = trust_of(lock, signers, archive=Path(archive), part=bool(texts_of(models)))
    options = import_options(models, rename, replace, verify_existing=False, trust=trust)
    return give(Path(archive), ServerApi(address), options, listen=where, run=Run(observer, cancel))


def import_options(
    models: Names,
    rename: Renaming,
    replace: bool,
    verify_existing: bool,
    *,
    lenient: bool = False,
    trust: Trust | None = None,
    exclude: Names = (),
) -> ImportOptions:
    """Read what is to be imported.

    Raises:
        InvalidName: a name is none.
    """
    from ollama_ferry.jobs.import_choices import ImportOptions
    from ollama_ferry.jobs.trust import NO_TRUST
    from ollama_ferry.model.names import ModelName, is_pattern

    texts = tuple(texts_of(models))
    for text in texts:
        if not is_pattern(text):
            ModelName.parse(text)
    return ImportOptions(
        texts,
        rename=renames_of(rename),
        replace=replace,
        verify_existing=verify_existing,
        lenient=lenient,
        trust=trust or NO_TRUST,
        exclude=tuple(texts_of(exclude)),
    )


def _import_from_media(
    archive: PathLike | Input, store: Store, options: ImportOptions, ask: Callable[[str], None], run: Run
) -> Imported:
    from ollama_ferry.archives.volumes.reading import Volumes, VolumeStream
    from ollama_ferry.jobs.import_ import import_stream

    volumes = Volumes.named(Path(archive)) if isinstance(archive, str | os.PathLike) else None
    if volumes is None:
        raise UsageError("only an archive in volumes (ARCHIVE.001) is on several media")
    with closing(VolumeStream(volumes, ask)) as stream:
        return import_stream(stream, str(volumes.whole), store, options, run=run)


def _target(store: StoreLike, run: Run) -> Store:
    from ollama_ferry.places.store.store import Store

    return Store(located_target(store, run).root)
