"""Pull: models of registries into a store, or straight into an archive. No Ollama is needed for either."""

from __future__ import annotations

import random
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path

from ollama_ferry.engine.carried import Chosen, passed_over
from ollama_ferry.engine.hashing import sha256_of
from ollama_ferry.engine.plan import NotCarried, Plan
from ollama_ferry.engine.rate import sleep_until
from ollama_ferry.engine.run import Run
from ollama_ferry.errors import ModelNotFound, NotAsLocked, Remedy, Unreachable, UsageError
from ollama_ferry.files.disk import Disk
from ollama_ferry.jobs.claims import require_distinct, require_one
from ollama_ferry.jobs.export import Exported, ExportOptions, export_to_file, plan_export
from ollama_ferry.jobs.import_ import Imported, import_source, plan_source
from ollama_ferry.jobs.import_choices import ImportedModel, ImportOptions
from ollama_ferry.jobs.trust import NO_TRUST, Trust
from ollama_ferry.model.manifests import Descriptor
from ollama_ferry.model.names import ModelName, Spelling, match
from ollama_ferry.model.renames import Renames
from ollama_ferry.places.registry.catalogue import ReferencePattern, is_reference_pattern, listed_models
from ollama_ferry.places.registry.references import Reference, parse_reference
from ollama_ferry.places.registry.source import RegistrySource
from ollama_ferry.places.store.store import Store
from ollama_ferry.registries.access import Access
from ollama_ferry.registries.client import Client, Clients


def references_of(
    texts: Iterable[str], rename: Renames | None = None, exclude: Sequence[str] = (), *, must: bool = True
) -> dict[ModelName, Reference]:
    """Read what a user wants to pull.

    Args:
        texts: references, among them Ollama's names.
        rename: the names that models get here.
        exclude: what is not meant; see :func:`find_references`.
        must: whether something has to be left.

    Returns:
        The name that each model gets here, and where it is.

    Raises:
        UsageError: a text is no reference, two would get one name, or one that is no name of Ollama's gets none.
        ModelNotFound: all are excluded.
    """
    read = [parse_reference(text) for text in texts]
    references = [reference for reference in read if not _is_excluded(reference, exclude)]
    if not references:
        if must and read:
            raise _all_excluded()
        return {}
    rename = rename or Renames()
    if rename.only is not None:
        require_one(set(references), "registries")
        return {rename.only: references[0]}
    found: list[tuple[Reference, ModelName]] = []
    for reference in references:
        name = reference.model_name
        if name is None:
            raise UsageError(
                f"{reference} is no name that Ollama takes, so the model needs another one here",
                remedies=[Remedy("rename", f"{reference.repository.rpartition('/')[2]}:{reference.tag or 'latest'}")],
            )
        found.append((reference, rename.of(name) or name))
    require_distinct(found)
    return {name: reference for reference, name in found}


@dataclass(frozen=True)
class Found:
    """Models of registries that nobody named: a pattern means them, or all of a registry.

    Attributes:
        references: where each is, by the name that it gets here.
        left_out: those that can have no name here.
    """

    references: Mapping[ModelName, Reference] = field(default_factory=dict)
    left_out: tuple[NotCarried, ...] = ()


def find_references(
    patterns: Sequence[ReferencePattern],
    access: Access,
    *,
    exclude: Sequence[str] = (),
    rename: Renames | None = None,
    must: bool = True,
    run: Run | None = None,
) -> Found:
    """Ask registries for the models that patterns mean.

    Args:
        patterns: which.
        access: how the registries are talked to.
        exclude: names and patterns of what is not meant, with or without the registry before them.
        rename: the names that models get here.
        must: whether something has to be left.
        run: stops it.

    Raises:
        ModelNotFound: a pattern means none, or all are excluded.
        UsageError: a registry lists nothing, or two models would get one name.
        FerryError: a registry can't be reached, or refuses.
    """
    run, rename = run or Run(), rename or Renames()
    found: dict[Reference, ModelName] = {}
    left_out: dict[Reference, NotCarried] = {}
    with Clients(lambda registry: Client(registry, access, run)) as clients:
        for pattern in patterns:
            references = list(listed_models(clients.connect(pattern.registry), pattern))
            if not references:
                raise ModelNotFound(f"no model of {pattern.registry} matches {pattern}")
            for reference in references:
                if _is_excluded(reference, exclude):
                    continue
                name = reference.model_name
                name = rename.of(name) or name if name is not None else rename.only
                if name is None:
                    why = UsageError(f"{reference} is no name that Ollama takes", remedies=[Remedy("rename")])
                    left_out[reference] = NotCarried(str(reference), why)
                else:
                    found[reference] = name
    if not found and must:
        raise next(iter(left_out.values())).why if left_out else _all_excluded()
    require_distinct(found.items())
    return Found({name: reference for reference, name in found.items()}, tuple(left_out.values()))


def _is_excluded(reference: Reference, exclude: Sequence[str]) -> bool:
    """Tell whether a model is not meant: by its reference, its name, or what stands behind its registry."""
    repository, name = reference.repository, reference.model_name
    own = f"{repository}:{reference.tag}"
    for text in exclude:
        below = text.removeprefix(f"{reference.registry}/")
        if not is_reference_pattern(text):
            if parse_reference(text) == reference or below == own:
                return True
        elif any(fnmatchcase(form, below) for form in (own, repository)) or (name is not None and match(text, [name])):
            return True
    return False


def _all_excluded() -> ModelNotFound:
    return ModelNotFound("every model that was asked for was excluded as well")


@dataclass(frozen=True)
class Fleet:
    """What a pull is allowed where many machines run it, most of them unattended.

    Attributes:
        offline_ok: where a registry can't be reached, models that are here, whole, are as good as pulled.
        jitter: how long to wait at most before a registry is asked, in seconds: by chance, lest all ask at once.
    """

    offline_ok: bool = False
    jitter: float = 0.0


def pull_into_store(
    references: Mapping[ModelName, Reference],
    store: Store,
    options: ImportOptions,
    access: Access,
    *,
    found: Found | None = None,
    fleet: Fleet | None = None,
    dry_run: bool = False,
    disk: Disk | None = None,
    run: Run | None = None,
) -> Imported:
    """Pull models into a store, as an import does: hashed on the way, listed only when whole, resumed later.

    A model that an earlier pull put under a name is replaced. One that is expected by its digest, and here, is not
    asked for at all.

    Args:
        references: what :func:`references_of` returned.
        store: where to; it need not exist.
        options: how.
        access: how the registries are talked to.
        found: models besides, which are left out and named where they can't be carried.
        fleet: when, and what is enough.
        dry_run: find out what would be done, and write nothing.
        disk: the calls to write with.
        run: notified of every step; stops it at the next chunk.

    Raises:
        FerryError: it could not be done; models that were complete before stay, and what has arrived is kept.
    """
    run, fleet = run or Run(), fleet or Fleet()
    # What is named must be had, and what is found is all the rest.
    only = (*map(str, references), *(("*",) if found else ()))
    options = replace(options, pulling=True, only=only)
    if options.trust.expected is not None and (here := _here(references, store, options, run)) is not None:
        return here
    wait_at_random(fleet.jitter, run)
    try:
        with _source(references, access, run, found) as source:
            if dry_run:
                return plan_source(source, store, options, run)
            return import_source(source, store, options, disk=disk, run=run)
    except Unreachable as error:
        if not fleet.offline_ok:
            raise
        here = _here(references, store, options, run)
        if here is None:
            error.message += " (and what was asked for is not here, whole)"
            raise
        run.note(f"{error.message}; what is here is whole, and stays as it is")
        return here


def wait_at_random(most: float, run: Run) -> None:
    """Wait for a time that nobody knows before.

    Args:
        most: the seconds to wait at most.
        run: ends the wait, and is notified of a long one.

    Raises:
        Cancelled: the work was given up meanwhile.
    """
    seconds = random.uniform(0.0, most)  # noqa: S311 -- no secret
    if seconds >= 1.0:
        run.note(f"waiting {seconds:.0f} s before the registry is asked")
    sleep_until(time.monotonic() + seconds, run.cancel)


def _here(references: Mapping[ModelName, Reference], store: Store, options: ImportOptions, run: Run) -> Imported | None:
    """Return the models as an import does that found all of them here; None where they are not, or not whole."""
    spelling = Spelling(store.names())
    models: list[ImportedModel] = []
    for wanted in sorted(references):
        name = spelling.of(wanted)
        manifest = store.manifest_or_none(name)
        if manifest is None or not all(_is_whole(store, blob, options, run) for blob in manifest.blobs):
            return None
        models.append(ImportedModel(name, wanted, manifest, was_here=True))
    manifests = {model.source: model.manifest for model in models}
    label = ", ".join(sorted({reference.registry for reference in references.values()}))
    try:
        options.trust.check(manifests, manifests, str(store.root))
    except NotAsLocked:
        return None
    blobs = dict.fromkeys(blob for model in models for blob in model.manifest.blobs)
    return Imported(label, store.root, tuple(models), (), tuple(blobs), 0, (), run.seconds)


def _is_whole(store: Store, blob: Descriptor, options: ImportOptions, run: Run) -> bool:
    if not store.has(blob) or not options.verify_existing:
        return store.has(blob)
    with store.open(blob) as file:
        return sha256_of(file, run.cancel) == blob.digest.hex


def plan_pull(
    references: Mapping[ModelName, Reference],
    access: Access,
    *,
    found: Found | None = None,
    trust: Trust = NO_TRUST,
    run: Run | None = None,
) -> Plan:
    """Find out what an archive of some models would hold; see :func:`pull_into_store`.

    Raises:
        FerryError: a model can't be had.
    """
    run = run or Run()
    with _source(references, access, run, found) as source:
        return _planned(source, references, trust)


def pull_into_file(
    references: Mapping[ModelName, Reference],
    path: Path,
    options: ExportOptions,
    access: Access,
    *,
    found: Found | None = None,
    trust: Trust = NO_TRUST,
    disk: Disk | None = None,
    run: Run | None = None,
) -> Exported:
    """Pull models straight into an archive that any tar restores; see :func:`pull_into_store` and ``export_to_file``.

    Raises:
        FerryError: it could not be done; no file is left.
    """
    run = run or Run()
    with _source(references, access, run, found) as source:
        return export_to_file(source, _planned(source, references, trust), path, options, disk=disk, run=run)


def _planned(source: RegistrySource, named: Collection[ModelName], trust: Trust) -> Plan:
    """Plan an archive of all models, if they are those that are trusted."""
    planned = plan_export(source, Chosen(tuple(source.names()), frozenset(named), passed_over(source)))
    manifests = {model.name: model.manifest for model in planned.models}
    trust.check(manifests, manifests, source.label)
    return planned


@contextmanager
def _source(
    references: Mapping[ModelName, Reference], access: Access, run: Run, found: Found | None
) -> Iterator[RegistrySource]:
    found = found or Found()
    everything = {**found.references, **references}
    with (
        Clients(lambda registry: Client(registry, access, run)) as clients,
        closing(RegistrySource(everything, clients.connect, found.left_out)) as source,
    ):
        yield source
