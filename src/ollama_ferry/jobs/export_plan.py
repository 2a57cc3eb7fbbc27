"""What an export, or a pull into an archive, would write."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ollama_ferry.archives.kinds import Kind
from ollama_ferry.engine.copy import plan
from ollama_ferry.engine.inspect import require_whole
from ollama_ferry.engine.pinned import Pinned
from ollama_ferry.engine.plan import NotCarried, Plan, PlannedModel
from ollama_ferry.engine.ports import Holder
from ollama_ferry.jobs.export import ExportOptions, expected_size
from ollama_ferry.jobs.list_ import layers_in_use
from ollama_ferry.model.manifests import Descriptor, Digest, Manifest
from ollama_ferry.model.names import ModelName
from ollama_ferry.places.store.store import Store


@dataclass(frozen=True)
class PlannedFile:
    """A file that an archive would have.

    Attributes:
        path: within the archive.
        size: in bytes.
        shared_with: further models of the store that need it.
    """

    path: str
    size: int
    shared_with: tuple[ModelName, ...] = ()


@dataclass(frozen=True)
class PlannedExport:
    """What an archive would be.

    Attributes:
        path: where it would be written; None for a stream.
        kind: its format.
        place: what the models come from, for people; of a store its folder.
        models: the models that go into it.
        blobs: the blobs that go into it.
        left_out: the blobs that it would leave out, for its target has them.
        files: all that goes into it.
        expected_size: about how many bytes it would take; None where samples would have to be fetched from far away.
        volumes: about how many volumes that makes; 0 where it is not split.
        not_carried: what was asked for by a pattern, or as all, and can't be carried.
    """

    path: Path | None
    kind: Kind
    place: str
    models: tuple[PlannedModel, ...]
    blobs: tuple[Descriptor, ...]
    left_out: tuple[Descriptor, ...]
    files: tuple[PlannedFile, ...]
    expected_size: int | None
    volumes: int = 0
    not_carried: tuple[NotCarried, ...] = ()

    @property
    def size(self) -> int:
        """The bytes of all files before packing."""
        return sum(file.size for file in self.files)


def plan_of_refused(store: Store, manifest: Manifest, name: ModelName, have: Holder | None = None) -> Plan:
    """Plan an archive of a model whose own name Ollama does not take any more, under another one.

    Raises:
        CloudStub, Damaged: it can't be carried.
    """
    require_whole(store, name, manifest)
    planned = plan(Pinned(store, {name: manifest}), have, [name])
    return replace(planned, required=frozenset({name}))


def foresee_export(
    planned: Plan, path: Path | None, kind: Kind, options: ExportOptions, *, place: str, store: Store | None = None
) -> PlannedExport:
    """Find out what an archive would be, without writing it.

    Args:
        planned: what ``plan_export`` returned.
        path: where it would go, or None for a stream.
        kind: its format.
        options: how it would be written.
        place: what the models come from, for people.
        store: the store that they come from, where it is one.
    """
    shared: dict[Digest, dict[ModelName, None]] = {}
    expected = None
    if store is not None:
        expected = expected_size(store, planned, kind, options.compression)
        for model in planned.models:
            for layer in layers_in_use(store, model.manifest, model.name):
                shared.setdefault(layer.blob.digest, {}).update(dict.fromkeys(layer.shared_with))
    files = [
        PlannedFile(f"blobs/{blob.digest.file_name}", blob.size, tuple(shared.get(blob.digest, ())))
        for blob in planned.blobs
    ]
    files += [PlannedFile(f"manifests/{model.name.path}", len(model.manifest.raw)) for model in planned.models]
    return PlannedExport(
        path,
        kind,
        place,
        planned.models,
        planned.blobs,
        planned.present,
        tuple(files),
        expected,
        -(-(expected or 0) // options.split) if options.split else 0,
        planned.not_carried,
    )
