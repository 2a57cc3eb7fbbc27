"""The Python interface: what the commands do, as calls."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ollama_ferry.archives.kinds import Compression, Kind
from ollama_ferry.archives.unpacking import Input
from ollama_ferry.archives.volumes.reading import volume_size
from ollama_ferry.engine.events import Cancel, Noted, Observer, ignore
from ollama_ferry.engine.run import Run
from ollama_ferry.errors import UsageError
from ollama_ferry.jobs.export import (
    ByteStream,
    Exported,
    ExportOptions,
    export_to_file,
    export_to_stream,
    plan_export,
    source_date_epoch,
)
from ollama_ferry.jobs.import_ import Imported, import_file, import_stream
from ollama_ferry.jobs.import_choices import ImportOptions
from ollama_ferry.jobs.inventory import inventory_text, read_inventories
from ollama_ferry.jobs.report import Report
from ollama_ferry.jobs.select import select
from ollama_ferry.jobs.verify import verify_file, verify_place
from ollama_ferry.model.names import ModelName
from ollama_ferry.ollama.candidates import this_system
from ollama_ferry.ollama.locate import Located, locate, locate_target
from ollama_ferry.places.store.store import Store

if TYPE_CHECKING:
    # Loaded by the calls that need them: they bring the whole of HTTP and TLS along.
    from ollama_ferry.jobs.push import Pushed
    from ollama_ferry.registries.access import Access
    from ollama_ferry.serving.server import Served, Server

PathLike = str | os.PathLike[str]


def open_store(models: PathLike | None = None) -> Store:
    """Return a store to read from.

    Args:
        models: the models folder; None finds it as the commands do.

    Raises:
        StoreNotFound, NotPermitted: there is none, or it can't be read.
    """
    return Store(_located(models).root)


def export(
    models: str | Iterable[str],
    archive: PathLike | ByteStream,
    *,
    store: PathLike | None = None,
    compress: str = "auto",
    threads: int = 0,
    have: PathLike | Iterable[PathLike] = (),
    split: int | str | None = None,
    replace: bool = False,
    observer: Observer = ignore,
    cancel: Cancel | None = None,
) -> Exported:
    """Export models into an archive that any tar restores into a store.

    Args:
        models: one name or several; patterns such as ``gemma3:*`` are taken too.
        archive: a path that ends in ``.tar``, ``.tar.gz``, ``.tgz`` or ``.tar.zst``, or a binary stream, which
            gets a ``.tar.gz``.
        store: the models folder; None finds it as the command does.
        compress: ``auto``, ``none``, ``fast`` or ``best``.
        threads: how many threads pack; 0 is one a core.
        have: files that tell what the target has, which is left out: what :func:`inventory` returned there, or
            archives that were imported there.
        split: write volumes ``ARCHIVE.001`` and so on of at most this size: bytes, or a text such as ``4G`` or
            ``fat32``.
        replace: whether a file that is there may be replaced.
        observer: called with the events of :mod:`ollama_ferry.engine.events`.
        cancel: stops the export from another thread.

    Returns:
        What was written: path, size in bytes, SHA-256, models, blobs, seconds.

    Raises:
        FerryError: one of the tree in :mod:`ollama_ferry.errors`; no file is left, but whole volumes are.
    """
    texts = [models] if isinstance(models, str) else list(models)
    options = ExportOptions(
        compression=Compression.parse(compress),
        threads=threads,
        replace=replace,
        split=volume_size(split) if split is not None else None,
        fixed_time=source_date_epoch(os.environ.get("SOURCE_DATE_EPOCH")),
    )
    located = _located(store, observer)
    place = Store(located.root)
    files = [have] if isinstance(have, str | os.PathLike) else list(have)
    inventory = read_inventories(map(Path, files)) if files else None
    planned = plan_export(place, select(located, texts), inventory)
    if split is not None and not isinstance(archive, str | os.PathLike):
        raise UsageError("a stream has no volumes: split needs a path")
    if isinstance(archive, str | os.PathLike):
        return export_to_file(place, planned, Path(archive), options, run=Run(observer, cancel))
    return export_to_stream(place, planned, archive, Kind.TAR_GZ, options, run=Run(observer, cancel))


def inventory(store: PathLike | None = None) -> str:
    """Tell what a store has, for ``export(have=...)`` on another machine.

    Args:
        store: the models folder; None finds it as the command does.

    Returns:
        The text of the file: a line for each blob that a model here names and that is here with its size.

    Raises:
        StoreNotFound, NotPermitted: there is no store, or it can't be read.
    """
    return inventory_text(open_store(store))


def import_archive(
    archive: PathLike | Input,
    *,
    store: PathLike | None = None,
    models: str | Iterable[str] = (),
    rename: str | None = None,
    replace: bool = False,
    verify_existing: bool = False,
    lenient: bool = False,
    observer: Observer = ignore,
    cancel: Cancel | None = None,
) -> Imported:
    """Import models of an archive into a store: hashed on the way, listed only when whole.

    Args:
        archive: the path of any tar or zip of Ollama's layout, or a binary stream of a tar.
        store: the models folder, which need not exist; None finds it as the command does.
        models: names and patterns of the models to take; none takes all.
        rename: the name that the one model gets in the store.
        replace: whether a model of the same name and another content may be replaced.
        verify_existing: hash blobs that are there already before they count as there.
        lenient: take an archive that not every tar reads in the same way; every byte is hashed all the same.
        observer: called with the events of :mod:`ollama_ferry.engine.events`.
        cancel: stops the import from another thread; what has arrived is kept for the next one.

    Returns:
        What is in the store now: models, blobs that moved, blobs that were there, seconds.

    Raises:
        FerryError: one of the tree in :mod:`ollama_ferry.errors`; nothing wrong is published.
    """
    only = (models,) if isinstance(models, str) else tuple(models)
    options = ImportOptions(
        only, ModelName.parse(rename) if rename else None, replace, verify_existing, lenient=lenient
    )
    target = Store(_target(store, observer).root)
    if isinstance(archive, str | os.PathLike):
        return import_file(Path(archive), target, options, run=Run(observer, cancel))
    return import_stream(archive, "the stream", target, options, run=Run(observer, cancel))


def pull(
    models: str | Iterable[str],
    archive: PathLike | None = None,
    *,
    store: PathLike | None = None,
    rename: str | None = None,
    replace: bool = False,
    insecure: bool = False,
    ca_file: PathLike | None = None,
    observer: Observer = ignore,
    cancel: Cancel | None = None,
) -> Imported | Exported:
    """Pull models out of registries, into a store or straight into an archive.

    Args:
        models: one reference or several, such as ``registry.lab:5000/models/deepseek-r1:8b``, or Ollama's names.
        archive: a path that ends in ``.tar``, ``.tar.gz``, ``.tgz`` or ``.tar.zst``; None pulls into the store.
        store: the models folder, which need not exist; None finds it as the command does.
        rename: the name that the one model gets.
        replace: whether another model of the name, or a file that is there, may be replaced.
        insecure: plain http instead of https.
        ca_file: certificates of authorities that are trusted besides the system's.
        observer: called with the events of :mod:`ollama_ferry.engine.events`.
        cancel: stops it from another thread.

    Returns:
        As :func:`import_archive` where it went into a store, as :func:`export` where it went into an archive.

    Raises:
        FerryError: one of the tree in :mod:`ollama_ferry.errors`; nothing wrong is published.
    """
    from ollama_ferry.jobs.pull import PullOptions, pull_into_file, pull_into_store, references_of

    texts = [models] if isinstance(models, str) else list(models)
    references = references_of(texts, rename)
    access = _access(insecure, ca_file)
    if archive is not None:
        options = ExportOptions(replace=replace, fixed_time=source_date_epoch(os.environ.get("SOURCE_DATE_EPOCH")))
        return pull_into_file(references, Path(archive), options, access, run=Run(observer, cancel))
    target = Store(_target(store, observer).root)
    return pull_into_store(references, target, PullOptions(replace), access, run=Run(observer, cancel))


def push(
    models: str | Iterable[str],
    target: str,
    *,
    store: PathLike | None = None,
    rename: str | None = None,
    replace: bool = False,
    mount_from: Iterable[str] = (),
    oci: bool = False,
    insecure: bool = False,
    ca_file: PathLike | None = None,
    observer: Observer = ignore,
    cancel: Cancel | None = None,
) -> Pushed:
    """Push models of a store to a registry: only what is missing there.

    Args:
        models: one name or several; patterns are taken too.
        target: the registry and what repositories begin with there, such as ``registry.lab:5000/models``.
        store: the models folder; None finds it as the command does.
        rename: what the one model is called below the target, as ``repository[:tag]``.
        replace: whether a model of the same name and another content may be replaced.
        mount_from: repositories of the same registry that may have blobs already.
        oci: send manifests of OCI's type, for registries and tools that take no other; a pull gives back the same ID.
        insecure: plain http instead of https.
        ca_file: certificates of authorities that are trusted besides the system's.
        observer: called with the events of :mod:`ollama_ferry.engine.events`.
        cancel: stops it from another thread.

    Returns:
        What is in the registry now: models, blobs that were sent, mounted, or there; seconds.

    Raises:
        FerryError: one of the tree in :mod:`ollama_ferry.errors`; a model is there only when it is whole.
    """
    from ollama_ferry.jobs.push import PushOptions
    from ollama_ferry.jobs.push import push as push_models
    from ollama_ferry.places.registry.references import PushTarget, check_repository

    texts = [models] if isinstance(models, str) else list(models)
    where = PushTarget.parse(target)
    located = _located(store, observer)
    options = PushOptions(rename, replace, tuple(map(check_repository, mount_from)), oci)
    return push_models(
        Store(located.root),
        select(located, texts),
        where,
        options,
        _access(insecure, ca_file),
        run=Run(observer, cancel),
    )


def verify(
    models: str | Iterable[str] = (),
    *,
    archive: PathLike | None = None,
    store: PathLike | None = None,
    threads: int = 0,
    observer: Observer = ignore,
    cancel: Cancel | None = None,
) -> Report:
    """Hash every blob of a store or an archive.

    Args:
        models: names and patterns of models of the store; none takes all.
        archive: the path of an archive to verify instead of a store.
        store: the models folder; None finds it as the command does.
        threads: how many hash at once; 0 is one a core.
        observer: called with the events of :mod:`ollama_ferry.engine.events`.
        cancel: stops it from another thread.

    Returns:
        A verdict for each model; ``report.good`` tells whether all is whole.

    Raises:
        FerryError: it could not be done. That something is damaged is in the report, unless the archive can't be
            read to its end.
    """
    if archive is not None:
        return verify_file(Path(archive), threads=threads, run=Run(observer, cancel))
    texts = [models] if isinstance(models, str) else list(models)
    located = _located(store, observer)
    place = Store(located.root)
    names = select(located, texts) if texts else list(place.names())
    return verify_place(place, names, threads=threads, run=Run(observer, cancel))


@contextmanager
def serve(
    models: str | Iterable[str] = (),
    *,
    archive: PathLike | None = None,
    store: PathLike | None = None,
    listen: str = "127.0.0.1:11435",
    token: str = "",
    log: Callable[[Served], None] | None = None,
) -> Iterator[Server]:
    """Serve models as a read-only registry until the block ends; threads of this process do it.

    Args:
        models: names and patterns of the models to serve; none serves all.
        archive: the path of an archive to serve out of, instead of a store.
        store: the models folder; None finds it as the command does.
        listen: ``ADDRESS:PORT``; port 0 takes a free one.
        token: what requests must carry; empty lets everybody read.
        log: told of every answer, from the server's threads.

    Returns:
        The server: its ``address``, and what is on its ``shelf``.

    Raises:
        FerryError: a model is not there or not whole, the archive can't be searched, or the address is taken.
    """
    from ollama_ferry.jobs.serve import shelve_archive, shelve_store
    from ollama_ferry.serving.addresses import Address
    from ollama_ferry.serving.server import Server, log_nothing
    from ollama_ferry.serving.tokens import check_token

    texts = [models] if isinstance(models, str) else list(models)
    address = Address.parse(listen)
    secret = check_token(token) if token else ""
    with ExitStack() as stack:
        if archive is not None:
            shelved = stack.enter_context(shelve_archive(Path(archive), texts))
        else:
            shelved = shelve_store(_located(store), texts, everything=not texts)
        yield stack.enter_context(Server(shelved.shelf, address, token=secret, log=log or log_nothing))


def _access(insecure: bool, ca_file: PathLike | None) -> Access:
    from ollama_ferry.registries.access import Access

    return Access(insecure, Path(ca_file) if ca_file is not None else None, environ=dict(os.environ))


def _located(models: PathLike | None, observer: Observer = ignore) -> Located:
    return _noted(locate(this_system(), Path(models) if models is not None else None), observer)


def _target(models: PathLike | None, observer: Observer) -> Located:
    return _noted(locate_target(this_system(), Path(models) if models is not None else None), observer)


def _noted(located: Located, observer: Observer) -> Located:
    for note in located.notes:
        observer(Noted(note))
    return located
