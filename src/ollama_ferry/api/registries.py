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
from ollama_ferry.files.folder import without_tilde

if TYPE_CHECKING:
    from ollama_ferry.engine.carried import Chosen
    from ollama_ferry.engine.ports import Inspectable
    from ollama_ferry.jobs.export import Exported, ExportOptions
    from ollama_ferry.jobs.export_plan import PlannedExport
    from ollama_ferry.jobs.import_ import Imported
    from ollama_ferry.jobs.pull import Fleet, Found
    from ollama_ferry.jobs.push import Pushed
    from ollama_ferry.jobs.select import Wanted
    from ollama_ferry.jobs.trust import Trust
    from ollama_ferry.model.manifests import Digest
    from ollama_ferry.model.names import ModelName
    from ollama_ferry.model.renames import Renames
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
    everything: bool = False,
    exclude: Names = (),
    dry_run: bool = False,
    observer: Observer = ignore,
    cancel: Cancel | None = None,
) -> Imported | Exported | PlannedExport:
    """Pull models out of registries, into a store or straight into an archive.

    Args:
        models: references, such as ``registry.lab:5000/models/deepseek-r1:8b``, Ollama's names, or patterns.
        archive: a path that ends in ``.tar``, ``.tar.gz``, ``.tgz`` or ``.tar.zst``; None pulls into the store.
        store, rename, replace, verify_existing: as for :func:`import_archive`.
        lock, signers: as for :func:`import_archive`; without ``models``, all of the lock, under their names there.
        expect: the digest of the one model's manifest; where that is in the store, whole, no registry is asked.
        offline_ok: where a registry can't be reached, models that are in the store, whole, are as good as pulled.
        everything: ``models`` are registries, ``host[:port][/prefix]``, of which all models are meant.
        exclude: names and patterns of models that are not meant, whatever ``models`` say.
        dry_run: find out what would be done; nothing is written.
        jitter: the seconds to wait at most before a registry is asked, by chance, lest many machines ask at once.
        compress, sha256: of an archive, as for :func:`export`.
        insecure, ca_file, cert, key, rate, observer, cancel: as for :func:`push`.

    Returns:
        As :func:`import_archive` does of a store, and as :func:`export` or :func:`plan_export` do of an archive.

    Raises:
        FerryError: one of the tree in :mod:`ollama_ferry.errors`; nothing wrong is published.
    """
    from ollama_ferry.api.exports import export_options
    from ollama_ferry.jobs.pull import Fleet

    run = Run(observer, cancel)
    trust = trust_of(lock, signers, part=bool(texts_of(models)))
    asked = _Asked(_access(insecure, ca_file, cert, key, rate), trust, Fleet(offline_ok, jitter), expect)
    asked.read(models, renames_of(rename), texts_of(exclude), run, everything=everything)
    if archive is not None:
        how = export_options(compress, replace=replace, sha256=sha256)
        return _pull_into_archive(asked, Path(archive), how, run, dry_run=dry_run)
    return _pull_into_store(asked, store, run, replace, verify_existing, dry_run=dry_run)


plan_pull = dry_run_of(pull, "plan_pull")


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
    with open_searchable(without_tilde(archive), run, what_for="push") as source:
        yield source, pick(source, wanted)


class _Asked:
    """What is to be pulled, and what it has to be.

    Attributes:
        references: models that were named.
        found: models that patterns mean, or all of a registry; None where there was no pattern.
        access: how registries are talked to.
        trust: what the models have to be.
        fleet: when, and what is enough.
    """

    def __init__(self, access: Access, trust: Trust, fleet: Fleet, expect: str | None) -> None:
        self.references: dict[ModelName, Reference] = {}
        self.found: Found | None = None
        self.access = access
        self.trust = trust
        self.fleet = fleet
        self._expect = expect

    def read(self, models: Names, rename: Renames, exclude: list[str], run: Run, *, everything: bool) -> None:
        """Read what is named, or locked, and ask registries for what patterns mean."""
        from dataclasses import replace

        from ollama_ferry.jobs.claims import require_distinct
        from ollama_ferry.jobs.pull import find_references, references_of, wait_at_random
        from ollama_ferry.places.registry.catalogue import ReferencePattern, is_reference_pattern

        texts = texts_or_locked(models, self.trust)
        named = [] if everything else [text for text in texts if not is_reference_pattern(text)]
        read = ReferencePattern.below if everything else ReferencePattern.parse
        patterns = [read(text) for text in texts if text not in named]
        if patterns and (self.fleet.offline_ok or self._expect is not None):
            raise UsageError("what a registry has is not known before it is asked: name the models")
        self.references = references_of(named, rename, exclude, must=not patterns) if named else {}
        if self._expect is not None:
            self.trust = replace(self.trust, expected=_digest(self._expect, self.references))
        if patterns:
            wait_at_random(self.fleet.jitter, run)
            self.fleet = replace(self.fleet, jitter=0.0)
            self.found = find_references(
                patterns, self.access, exclude=exclude, rename=rename, run=run, must=not self.references
            )
            both = (*self.references.items(), *self.found.references.items())
            require_distinct((reference, name) for name, reference in both)
        for name, reference in self.all.items():
            run.explain(f"{name}: {'plain http, ' if self.access.insecure else ''}{reference}")

    @property
    def all(self) -> dict[ModelName, Reference]:
        """Every model."""
        return {**(self.found.references if self.found else {}), **self.references}


def _digest(text: str, references: dict[ModelName, Reference]) -> Digest:
    """Read the digest that the one model's manifest is to have."""
    from ollama_ferry.jobs.claims import require_one
    from ollama_ferry.model.manifests import Digest

    require_one(references, "registries")
    try:
        return Digest.parse(text if ":" in text else f"sha256:{text}")
    except Damaged:
        hint = "sha256: and 64 hexadecimal digits; `ollama-ferry lock MODEL` prints it where the model is."
        raise UsageError(f"{text[:100]!a} is no digest of a manifest", hint=hint) from None


def _pull_into_store(
    asked: _Asked, store: StoreLike, run: Run, replace: bool, verify_existing: bool, *, dry_run: bool
) -> Imported:
    from ollama_ferry.jobs.import_choices import ImportOptions
    from ollama_ferry.jobs.pull import pull_into_store
    from ollama_ferry.places.store.store import Store

    target = Store(located_target(store, run).root)
    options = ImportOptions(replace=replace, verify_existing=verify_existing, trust=asked.trust)
    return pull_into_store(
        asked.references, target, options, asked.access, found=asked.found, fleet=asked.fleet, dry_run=dry_run, run=run
    )


def _pull_into_archive(
    asked: _Asked, path: Path, options: ExportOptions, run: Run, *, dry_run: bool
) -> Exported | PlannedExport:
    from ollama_ferry.jobs.export import kind_named
    from ollama_ferry.jobs.export_plan import foresee_export
    from ollama_ferry.jobs.pull import plan_pull as plan
    from ollama_ferry.jobs.pull import pull_into_file, wait_at_random

    if asked.fleet.offline_ok:
        raise UsageError("what is there already is looked for in a store, and an archive is to be written")
    if dry_run:
        planned = plan(asked.references, asked.access, found=asked.found, trust=asked.trust, run=run)
        return foresee_export(planned, path, kind_named(path), options, place=", ".join(map(str, asked.all.values())))
    wait_at_random(asked.fleet.jitter, run)
    return pull_into_file(asked.references, path, options, asked.access, found=asked.found, trust=asked.trust, run=run)


def _access(
    insecure: bool, ca_file: PathLike | None, cert: PathLike | None, key: PathLike | None, rate: int | str
) -> Access:
    from ollama_ferry.registries.access import Access

    if key is not None and cert is None:
        raise UsageError("a key goes with its certificate, and none was named", remedies=[Remedy("cert")])
    return Access(insecure, path_of(ca_file), path_of(cert), path_of(key), rate_of(rate), dict(os.environ))
