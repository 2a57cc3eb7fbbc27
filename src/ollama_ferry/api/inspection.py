"""Looking: what a store, an archive or a host holds, and whether it is whole."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ollama_ferry.api.arguments import (
    Names,
    PathLike,
    StoreLike,
    located_store,
    paths_of,
    texts_of,
    trust_of,
    wanted_of,
)
from ollama_ferry.api.hosts import Host, Ssh, open_host
from ollama_ferry.engine.events import Cancel, Observer, ignore
from ollama_ferry.engine.run import Run
from ollama_ferry.errors import Remedy, UsageError
from ollama_ferry.files.folder import without_tilde

if TYPE_CHECKING:
    from ollama_ferry.archives.unpacking import Input
    from ollama_ferry.archives.volumes.checking import VolumeVerdict
    from ollama_ferry.engine.carried import Chosen
    from ollama_ferry.engine.ports import Inspectable
    from ollama_ferry.jobs.list_ import Listing, Shown
    from ollama_ferry.jobs.report import Report
    from ollama_ferry.jobs.select import Wanted
    from ollama_ferry.jobs.trust import Trust
    from ollama_ferry.model.lock import Lock
    from ollama_ferry.places.store.store import Store


def list_models(
    models: Names = (),
    *,
    store: StoreLike = None,
    archive: PathLike | None = None,
    host: str | None = None,
    ssh: Ssh | None = None,
    observer: Observer = ignore,
    cancel: Cancel | None = None,
) -> Listing:
    """List the models of a store, an archive, or another host; no blob is read.

    Args:
        models: patterns, or what names begin with, as for ``ollama list``; none lists all.
        store: the models folder; None finds it as the command does.
        archive: the path of an archive or a folder to list instead.
        host: a host to list instead: ``user@host``, ``host:/path/to/models``.
        ssh: how the host is called.
        observer: called with the events of :mod:`ollama_ferry.engine.events`.
        cancel: stops it from another thread, where an archive has to be read to its end.

    Returns:
        The place, and its models sorted by name, each with its size and what is wrong with it.

    Raises:
        FerryError: the place can't be read.
    """
    from ollama_ferry.engine.carried import passed_over
    from ollama_ferry.jobs.list_ import Listing, matching, survey

    texts = texts_of(models)
    with _place(store, archive, host, ssh, Run(observer, cancel)) as place:
        return Listing(place.label, tuple(matching(survey(place), texts, place.label)), passed_over(place))


def names_at_once(archive: PathLike) -> list[str]:
    """Return the names of an archive's models where it can be searched without reading it; none where it can't."""
    from ollama_ferry.errors import FerryError
    from ollama_ferry.places.archive.file import ArchiveFile

    try:
        with ArchiveFile(without_tilde(archive)) as file:
            source = file.source()
            return sorted(map(str, source.names())) if source is not None else []
    except (FerryError, OSError):
        return []


def show(
    model: str,
    *,
    store: StoreLike = None,
    archive: PathLike | None = None,
    host: str | None = None,
    ssh: Ssh | None = None,
    observer: Observer = ignore,
    cancel: Cancel | None = None,
) -> Shown:
    """Show a model's manifest and layers; the places are those of :func:`list_models`.

    Args:
        model: its name.

    Returns:
        The manifest, and of each blob its file, what is there of it, and the other models that share it.

    Raises:
        FerryError: there is no such model, its manifest is damaged, or the place can't be read.
    """
    from ollama_ferry.jobs.list_ import show_model
    from ollama_ferry.jobs.select import Wanted, pick, select
    from ollama_ferry.model.names import is_pattern

    if is_pattern(model):
        raise UsageError(f"show takes one model, and {model!r} is a pattern")
    run = Run(observer, cancel)
    if archive is None and host is None:
        store = located_store(store, run)
        (name,) = select(store, Wanted((model,))).names
    with _place(store, archive, host, ssh, run) as place:
        if archive is not None or host is not None:
            (name,) = pick(place, Wanted((model,))).names
        return show_model(place, name)


def lock(
    models: Names = (),
    *,
    store: StoreLike = None,
    archive: PathLike | None = None,
    host: str | None = None,
    ssh: Ssh | None = None,
    output: PathLike | None = None,
    sign_with: PathLike | None = None,
    replace: bool = False,
    observer: Observer = ignore,
    cancel: Cancel | None = None,
) -> Lock:
    """Tell exactly which models these are, in a text that people read, compare and sign; no blob is read.

    Args:
        models: names and patterns; none takes all of the place. The places are those of :func:`list_models`.
        output: a file that the lock is written to; None writes none.
        sign_with: a key of OpenSSH that signs it, in ``OUTPUT.sig``.
        replace: whether ``output`` may be replaced.

    Returns:
        The lock: its ``text``, and the digest of each model's manifest.

    Raises:
        FerryError: a model is not there, its manifest is damaged, or the lock can't be written or signed.
    """
    from ollama_ferry.jobs.select import pick, select
    from ollama_ferry.jobs.trust import lock_of, write_lock

    if sign_with is not None and output is None:
        raise UsageError("a signature goes beside a file, and none was named", remedies=[Remedy("output")])
    run = Run(observer, cancel)
    wanted = wanted_of(models, all_by_default=True)
    if archive is None and host is None:
        store = located_store(store, run)
        names = select(store, wanted).names
    with _place(store, archive, host, ssh, run) as place:
        if archive is not None or host is not None:
            names = pick(place, wanted).names
        found = lock_of(place, names)
    if output is not None:
        write_lock(found, Path(output), Path(sign_with) if sign_with is not None else None, replace=replace)
    return found


def verify(
    models: Names = (),
    *,
    exclude: Names = (),
    archive: PathLike | Input | None = None,
    store: StoreLike = None,
    host: str | None = None,
    ssh: Ssh | None = None,
    repair: PathLike | Iterable[PathLike] = (),
    threads: int = 0,
    changed: bool = False,
    lock: PathLike | None = None,
    signers: PathLike | None = None,
    observer: Observer = ignore,
    cancel: Cancel | None = None,
) -> Report:
    """Hash every blob of a store, of an archive, or of another host.

    Args:
        models: names and patterns of models of the store or the host; none takes all.
        exclude: names and patterns of models that are not meant.
        archive: the path of an archive or a folder to verify instead of a store, or a binary stream of a tar.
        store: the models folder; None finds it as the command does.
        host: a host to verify instead, which hashes its own blobs: ``user@host``, ``host:/path/to/models``.
        ssh: how the host is called.
        repair: archives that good copies of what is damaged in the store are taken from.
        threads: how many hash at once; 0 is one a core, up to 8.
        changed: of a store: hash only the blobs that were changed since this was asked for the last time.
        lock: a file that :func:`lock` wrote: the place has exactly these models; where some were named, these of them.
        signers: a file of allowed signers (ssh-keygen(1)), one of whom must have signed the archive's models, the lock,
            or each archive that ``repair`` takes a manifest from: then None takes that of ``OLLAMA_FERRY_SIGNERS``.
        observer: called with the events of :mod:`ollama_ferry.engine.events`.
        cancel: stops it from another thread.

    Returns:
        A verdict for each model; ``report.good`` tells whether all is whole now, ``report.repaired`` how much was
        replaced.

    Raises:
        FerryError: it could not be done; that something is damaged is in the report, where all could be read.
        NotAsLocked: the models are others, or not signed as they have to be.
    """
    run = Run(observer, cancel)
    texts, archives = texts_of(models), paths_of(repair)
    if (archives or changed) and (archive is not None or host is not None):
        raise UsageError("only a store is repaired, or asked for what was changed")
    if archives and (lock is not None or changed):
        raise UsageError("a store is held to a lock, or asked for what was changed, or repaired: one after the other")
    wanted = wanted_of(models, exclude=exclude, all_by_default=True)
    if archives:
        return _verify_and_repair(wanted, store, archives, signers, threads, run)
    if signers is not None and lock is None and archive is None:
        raise UsageError("of a store or a host the lock is signed, and none was named", remedies=[Remedy("lock")])
    path = without_tilde(archive) if isinstance(archive, str | os.PathLike) else None
    trust = trust_of(lock, signers, archive=path, part=bool(texts), always=False)
    if archive is not None:
        return _verify_archive(archive, wanted, threads, trust, run)
    if host is not None:
        return _verify_host(host, wanted, ssh, trust, run)
    return _verify_store(wanted, store, threads, changed, trust, run)


def verify_volumes(
    sums: PathLike, *, observer: Observer = ignore, cancel: Cancel | None = None
) -> tuple[VolumeVerdict, ...]:
    """Hash the volumes of an archive one by one, each as it is here.

    Args:
        sums: the file that was written with them: ``ARCHIVE.sha256``.
        observer: called with the events of :mod:`ollama_ferry.engine.events`.
        cancel: stops it from another thread.

    Returns:
        Of each volume whether it is good, damaged or not here.

    Raises:
        NotFound, Damaged: the file of sums is not there, or is none.
        FerryError: a volume can't be read.
    """
    from ollama_ferry.archives.volumes.checking import verify_volumes as check

    return check(without_tilde(sums), run=Run(observer, cancel))


def _verify_archive(archive: PathLike | Input, wanted: Wanted, threads: int, trust: Trust, run: Run) -> Report:
    from ollama_ferry.jobs.verify import verify_file, verify_stream
    from ollama_ferry.places.archive.stream import ArchiveStream

    path = without_tilde(archive) if isinstance(archive, str | os.PathLike) else None
    if path is not None and path.is_dir():
        return _verify_folder(path, wanted, threads, trust, run)
    if wanted.texts or wanted.exclude:
        raise UsageError("an archive is verified as a whole: name no model of it")
    if path is not None:
        return verify_file(path, trust=trust, threads=threads, run=run)
    assert not isinstance(archive, str | os.PathLike)  # noqa: S101 -- path says so
    return verify_stream(ArchiveStream(archive, "the stream", on_read=run.advanced, exact=True), trust=trust, run=run)


def _verify_folder(folder: Path, wanted: Wanted, threads: int, trust: Trust, run: Run) -> Report:
    from ollama_ferry.jobs.select import pick
    from ollama_ferry.jobs.sources import contents_of, no_model_in, place_in_folder
    from ollama_ferry.jobs.verify import verify_place

    place = place_in_folder(folder)
    if not any(place.names()):
        raise no_model_in(place.label, contents_of(place))
    return verify_place(place, pick(place, wanted), trust=trust, threads=threads, run=run)


def _verify_host(host: str, wanted: Wanted, ssh: Ssh | None, trust: Trust, run: Run) -> Report:
    from ollama_ferry.engine.carried import Chosen
    from ollama_ferry.jobs.select import pick
    from ollama_ferry.jobs.verify import verify_place

    with ExitStack() as stack:
        place = open_host(stack, Host.parse(host), ssh)
        run.phase(f"connecting to {place.label}")
        place.take_survey()
        run.phase()
        chosen = pick(place, wanted) if any(place.names()) else Chosen(())
        return verify_place(place, chosen, trust=trust, run=run)


def _verify_store(wanted: Wanted, store: StoreLike, threads: int, changed: bool, trust: Trust, run: Run) -> Report:
    from ollama_ferry.jobs.remembered import Remembered
    from ollama_ferry.jobs.verify import verify_place

    place, chosen = _models_of(wanted, store, run)
    remembered = Remembered(place) if changed else None
    return verify_place(place, chosen, trust=trust, threads=threads, remembered=remembered, run=run)


def _verify_and_repair(
    wanted: Wanted, store: StoreLike, archives: list[Path], signers: PathLike | None, threads: int, run: Run
) -> Report:
    from ollama_ferry.jobs.repair import verify_and_repair
    from ollama_ferry.places.archive.file import ArchiveFile

    for archive in archives:
        # One that is not there is reported before hours of hashing.
        if not archive.is_dir():
            with ArchiveFile(archive):
                pass
    place, chosen = _models_of(wanted, store, run)

    def trust_in(archive: Path) -> Trust:
        return trust_of(None, signers, archive=archive, part=True)

    return verify_and_repair(place, chosen, archives, trust_in=trust_in, threads=threads, run=run)


def _models_of(wanted: Wanted, store: StoreLike, run: Run) -> tuple[Store, Chosen]:
    from ollama_ferry.engine.carried import Chosen, passed_over
    from ollama_ferry.jobs.select import select
    from ollama_ferry.places.store.store import Store

    located = located_store(store, run)
    place = Store(located.root)
    if wanted.everything and not any(place.names()):
        # An empty store is whole.
        return place, Chosen((), left_out=passed_over(place))
    return place, select(located, wanted)


@contextmanager
def _place(
    store: StoreLike,
    archive: PathLike | None,
    host: str | None,
    ssh: Ssh | None,
    run: Run,
) -> Iterator[Inspectable]:
    """Open the one place that was named."""
    if archive is not None:
        from ollama_ferry.jobs.sources import open_contents

        yield open_contents(without_tilde(archive), run)
        return
    if host is None:
        from ollama_ferry.places.store.store import Store

        yield Store(located_store(store, run).root)
        return
    with ExitStack() as stack:
        place = open_host(stack, Host.parse(host), ssh)
        run.phase(f"connecting to {place.label}")
        place.take_survey()
        run.phase()
        yield place
