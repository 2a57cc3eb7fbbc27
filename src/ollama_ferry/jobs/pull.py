"""Pull: models of registries into a store, or straight into an archive. No Ollama is needed for either."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from ollama_ferry.engine.plan import Plan
from ollama_ferry.engine.run import Run
from ollama_ferry.errors import Remedy, UsageError
from ollama_ferry.files.disk import Disk
from ollama_ferry.jobs.claims import require_distinct, require_one
from ollama_ferry.jobs.export import Exported, ExportOptions, export_to_file, plan_export
from ollama_ferry.jobs.import_ import Imported, import_source, plan_source
from ollama_ferry.jobs.import_choices import ImportOptions
from ollama_ferry.jobs.trust import NO_TRUST, Trust
from ollama_ferry.model.names import ModelName
from ollama_ferry.model.renames import Renames
from ollama_ferry.places.registry.references import Reference, parse_reference
from ollama_ferry.places.registry.source import RegistrySource
from ollama_ferry.places.store.store import Store
from ollama_ferry.registries.access import Access
from ollama_ferry.registries.client import Client, Clients


def references_of(texts: Iterable[str], rename: Renames | None = None) -> dict[ModelName, Reference]:
    """Read what a user wants to pull.

    Args:
        texts: references, among them Ollama's names.
        rename: the names that models get here.

    Returns:
        The name that each model gets here, and where it is.

    Raises:
        UsageError: a text is no reference, two would get one name, or one that is no name of Ollama's gets none.
    """
    references = [parse_reference(text) for text in texts]
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


def pull_into_store(
    references: Mapping[ModelName, Reference],
    store: Store,
    options: ImportOptions,
    access: Access,
    *,
    dry_run: bool = False,
    disk: Disk | None = None,
    run: Run | None = None,
) -> Imported:
    """Pull models into a store, as an import does: hashed on the way, listed only when whole, resumed later.

    Args:
        references: what :func:`references_of` returned.
        store: where to; it need not exist.
        options: how.
        access: how the registries are talked to.
        dry_run: find out what would be done, and write nothing.
        disk: the calls to write with.
        run: notified of every step; stops it at the next chunk.

    Raises:
        FerryError: it could not be done; models that were complete before stay, and what has arrived is kept.
    """
    run = run or Run()
    with _source(references, access, run) as source:
        if dry_run:
            return plan_source(source, store, options, run)
        return import_source(source, store, options, disk=disk, run=run)


def plan_pull(
    references: Mapping[ModelName, Reference], access: Access, *, trust: Trust = NO_TRUST, run: Run | None = None
) -> Plan:
    """Find out what an archive of some models would hold.

    Raises:
        FerryError: a model can't be had.
    """
    run = run or Run()
    with _source(references, access, run) as source:
        return _planned(source, trust)


def pull_into_file(
    references: Mapping[ModelName, Reference],
    path: Path,
    options: ExportOptions,
    access: Access,
    *,
    trust: Trust = NO_TRUST,
    disk: Disk | None = None,
    run: Run | None = None,
) -> Exported:
    """Pull models straight into an archive that any tar restores; see :func:`pull_into_store` and ``export_to_file``.

    Raises:
        FerryError: it could not be done; no file is left.
    """
    run = run or Run()
    with _source(references, access, run) as source:
        return export_to_file(source, _planned(source, trust), path, options, disk=disk, run=run)


def _planned(source: RegistrySource, trust: Trust) -> Plan:
    """Plan an archive of all models, if they are those that are trusted."""
    planned = plan_export(source, source.names())
    manifests = {model.name: model.manifest for model in planned.models}
    trust.check(manifests, manifests, source.label)
    return planned


@contextmanager
def _source(references: Mapping[ModelName, Reference], access: Access, run: Run) -> Iterator[RegistrySource]:
    with (
        Clients(lambda registry: Client(registry, access, run)) as clients,
        closing(RegistrySource(references, clients.connect)) as source,
    ):
        yield source
