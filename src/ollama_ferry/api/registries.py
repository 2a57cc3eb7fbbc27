"""Registries: push models to them, pull models out of them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ollama_ferry.api.arguments import (
    Names,
    PathLike,
    Renaming,
    StoreLike,
    dry_run_of,
    located_store,
    located_target,
    path_of,
    rate_of,
    renames_of,
    texts_of,
    texts_or_locked,
    trust_of,
    wanted_of,
)
from ollama_ferry.engine.events import Cancel, Observer, ignore
from ollama_ferry.engine.run import Run
from ollama_ferry.errors import Damaged, Remedy, UsageError

if TYPE_CHECKING:
    from ollama_ferry.engine.carried import Chosen
    from ollama_ferry.engine.ports import Inspectable
    from ollama_ferry.jobs.export import Exported
    from ollama_ferry.jobs.export_plan import PlannedExport
    from ollama_ferry.jobs.import_ import Imported
    from ollama_ferry.jobs.pull import Fleet
    from ollama_ferry.jobs.push import Pushed
    from ollama_ferry.jobs.select import Wanted
    from ollama_ferry.jobs.trust import Trust
    from ollama_ferry.model.names import ModelName
    from ollama_ferry.places.registry.references import Reference
    from ollama_ferry.registries.access import Access


def push(
    models: Names,
    target: str,
    *,
    store: StoreLike = None,
    archive: PathLike | None = None,
    everything: bool = False,
    exclude: Names = (),
    rename: str | None = None,
    replace: bool = False,
    mount_from: Iterable[str] = (),
    oci: bool = False,
    insecure: bool = False,
    ca_file: PathLike | None = None,
    cert: PathLike | None = None,
    key: PathLike | None = None,
    rate: int | str = 0,
    dry_run: bool = False,
    observer: Observer = ignore,
    cancel: Cancel | None = None,
) -> Pushed:
    """Push models of a store, or of an archive, to a registry: only what is missing there.

    Args:
        models: one name or several; patterns are taken too; none takes all of an archive.
        target: the registry and what repositories begin with there, such as ``registry.lab:5000/models``.
        store: the models folder; None finds it as the command does.
        archive: the path of an archive that can be searched, to push out of instead of a store.
        rename: what the one model is called below the target, as ``repository[:tag]``.
        replace: whether a model of the same name and another content may be replaced.
        mount_from: repositories of the same registry that may have blobs already.
        oci: send manifests of OCI's type, for registries and tools that take no other; a pull gives back the same ID.
        insecure: plain http instead of https.
        ca_file: certificates of authorities that are trusted besides the system's.
        cert, key: the client's certificate, and its key where that is another file.
        rate: bytes a second at the most, also as a text such as ``20M``; 0 is no limit.
        dry_run: find out what would be sent; nothing is.
        observer: called with the events of :mod:`ollama_ferry.engine.events`.
        cancel: stops it from another thread.

    Returns:
        What is in the registry now: models, blobs that were sent, mounted, or there; seconds.

    Raises:
        FerryError: one of the tree in :mod:`ollama_ferry.errors`; a model is there only when it is whole.
    """
    from ollama_ferry.jobs.damaged import keeping_going
    from ollama_ferry.jobs.push import PushOptions
    from ollama_ferry.jobs.push import push as push_models
    from ollama_ferry.places.registry.references import PushTarget, check_repository

    run = Run(observer, cancel)
    access = _access(insecure, ca_file, cert, key, rate)
    registry = PushTarget.parse(target)
    options = PushOptions(rename, replace, tuple(map(check_repository, mount_from)), oci)
    wanted = wanted_of(models, everything=everything, exclude=exclude, all_by_default=archive is not None)
    with _pushed_from(wanted, store, archive, run) as (source, chosen):
        how: dict[str, Any] = {"target": registry, "options": options, "access": access, "dry_run": dry_run, "run": run}
        return keeping_going(source, chosen, run, partial(push_models, source, **how))


plan_push = dry_run_of(push, "plan_push")


def pull(
    models: Names,
    archive: PathLike | None = None,
    *,
    store: StoreLike = None,
    rename: Renaming = None,
    replace: bool = False,
    verify_existing: bool = False,
    compress: str = "auto",
    sha256: bool = False,
    insecure: bool = False,
    ca_file: PathLike | None = None,
    cert: PathLike | None = None,
    key: PathLike | None = None,
    rate: int | str = 0,
    lock: PathLike | None = None,
    signers: PathLike | None = None,
    expect: str | None = None,
    offline_ok: bool = False,
    jitter: float = 0.0,
    observer: Observer = ignore,
    cancel: Cancel | None = None,
) -> Imported | Exported:
    """Pull models out of registries, into a store or straight into an archive.

    Args:
        models: one reference or several, such as ``registry.lab:5000/models/deepseek-r1:8b``, or Ollama's names.
        archive: a path that ends in ``.tar``, ``.tar.gz``, ``.tgz`` or ``.tar.zst``; None pulls into the store.
        store: the models folder, which need not exist; None finds it as the command does.
        rename: the name that the one model gets, or ``OLD=NEW`` as for :func:`import_archive`.
        replace: whether another model of the name, or a file that is there, may be replaced.
        verify_existing: hash blobs that are in the store already before they count as there.
        lock, signers: as for :func:`import_archive`; without ``models``, all of the lock, under their names there.
        expect: the digest of the one model's manifest; where that is in the store, whole, no registry is asked.
        offline_ok: where a registry can't be reached, models that are in the store, whole, are as good as pulled.
        jitter: the seconds to wait at most before a registry is asked, by chance, lest many machines ask at once.
        compress: of an archive: ``auto``, ``none``, ``fast`` or ``best``.
        sha256: write the archive's SHA-256 beside it, in ``ARCHIVE.sha256``.
        insecure, ca_file, cert, key, rate, observer, cancel: as for :func:`push`.

    Returns:
        As :func:`import_archive` where it went into a store, as :func:`export` where it went into an archive.

    Raises:
        FerryError: one of the tree in :mod:`ollama_ferry.errors`; nothing wrong is published.
    """
    from ollama_ferry.api.exports import export_options
    from ollama_ferry.jobs.pull import Fleet, pull_into_file, wait_at_random

    run = Run(observer, cancel)
    access = _access(insecure, ca_file, cert, key, rate)
    trust = trust_of(lock, signers, part=bool(texts_of(models)))
    references, trust = _references(texts_or_locked(models, trust), rename, access, trust, expect, run)
    if archive is None:
        when = Fleet(offline_ok, jitter)
        return _pull_into_store(references, store, replace, verify_existing, trust, access, when, run, dry_run=False)
    _require_store(offline_ok=offline_ok)
    wait_at_random(jitter, run)
    how = export_options(compress, replace=replace, sha256=sha256)
    return pull_into_file(references, Path(archive), how, access, trust=trust, run=run)


def plan_pull(
    models: Names,
    archive: PathLike | None = None,
    *,
    store: StoreLike = None,
    rename: Renaming = None,
    replace: bool = False,
    verify_existing: bool = False,
    insecure: bool = False,
    ca_file: PathLike | None = None,
    cert: PathLike | None = None,
    key: PathLike | None = None,
    rate: int | str = 0,
    lock: PathLike | None = None,
    signers: PathLike | None = None,
    expect: str | None = None,
    offline_ok: bool = False,
    observer: Observer = ignore,
    cancel: Cancel | None = None,
) -> Imported | PlannedExport:
    """Find out what :func:`pull` would do; nothing is written.

    Returns:
        As :func:`plan_import` for a store, as :func:`plan_export` for an archive.

    Raises:
        FerryError: it can't be done as asked.
    """
    from ollama_ferry.api.exports import export_options
    from ollama_ferry.jobs.export import kind_named
    from ollama_ferry.jobs.export_plan import foresee_export
    from ollama_ferry.jobs.pull import Fleet
    from ollama_ferry.jobs.pull import plan_pull as plan

    run = Run(observer, cancel)
    access = _access(insecure, ca_file, cert, key, rate)
    trust = trust_of(lock, signers, part=bool(texts_of(models)))
    references, trust = _references(texts_or_locked(models, trust), rename, access, trust, expect, run)
    if archive is None:
        fleet = Fleet(offline_ok)
        return _pull_into_store(references, store, replace, verify_existing, trust, access, fleet, run, dry_run=True)
    _require_store(offline_ok=offline_ok)
    path = Path(archive)
    places = ", ".join(map(str, references.values()))
    return foresee_export(
        plan(references, access, trust=trust, run=run), path, kind_named(path), export_options(), place=places
    )


@contextmanager
def _pushed_from(
    wanted: Wanted, store: StoreLike, archive: PathLike | None, run: Run
) -> Iterator[tuple[Inspectable, Chosen]]:
    from ollama_ferry.jobs.select import pick, select
    from ollama_ferry.jobs.sources import open_searchable
    from ollama_ferry.places.store.store import Store

    if archive is None:
        located = located_store(store, run)
        yield Store(located.root), select(located, wanted)
        return
    with open_searchable(Path(archive).expanduser(), run, what_for="push") as source:
        yield source, pick(source, wanted)


def _pull_into_store(
    references: dict[ModelName, Reference],
    store: StoreLike,
    replace: bool,
    verify_existing: bool,
    trust: Trust,
    access: Access,
    fleet: Fleet,
    run: Run,
    *,
    dry_run: bool,
) -> Imported:
    from ollama_ferry.jobs.import_choices import ImportOptions
    from ollama_ferry.jobs.pull import pull_into_store
    from ollama_ferry.places.store.store import Store

    target = Store(located_target(store, run).root)
    options = ImportOptions(replace=replace, verify_existing=verify_existing, trust=trust)
    return pull_into_store(references, target, options, access, fleet=fleet, dry_run=dry_run, run=run)


def _require_store(*, offline_ok: bool) -> None:
    if offline_ok:
        raise UsageError("what is there already is looked for in a store, and an archive is to be written")


def _references(
    models: Names, rename: Renaming, access: Access, trust: Trust, expect: str | None, run: Run
) -> tuple[dict[ModelName, Reference], Trust]:
    """Read what is to be pulled, and what it has to be."""
    from dataclasses import replace

    from ollama_ferry.jobs.claims import require_one
    from ollama_ferry.jobs.pull import references_of
    from ollama_ferry.model.manifests import Digest

    references = references_of(texts_of(models), renames_of(rename))
    for name, reference in references.items():
        run.explain(f"{name}: {'plain http, ' if access.insecure else ''}{reference}")
    if expect is None:
        return references, trust
    require_one(references, "registries")
    try:
        digest = Digest.parse(expect if ":" in expect else f"sha256:{expect}")
    except Damaged:
        hint = "sha256: and 64 hexadecimal digits; `ollama-ferry lock MODEL` prints it where the model is."
        raise UsageError(f"{expect[:100]!a} is no digest of a manifest", hint=hint) from None
    return references, replace(trust, expected=digest)


def _access(
    insecure: bool, ca_file: PathLike | None, cert: PathLike | None, key: PathLike | None, rate: int | str
) -> Access:
    from ollama_ferry.registries.access import Access

    if key is not None and cert is None:
        raise UsageError("a key goes with its certificate, and none was named", remedies=[Remedy("cert")])
    return Access(insecure, path_of(ca_file), path_of(cert), path_of(key), rate_of(rate), dict(os.environ))
