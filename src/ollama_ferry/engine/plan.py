"""What to copy: some models of a source, and those of their blobs that a target lacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ollama_ferry.errors import Damaged, FerryError, LeftOut, NotAModel, Remedy
from ollama_ferry.model.manifests import Descriptor, Digest, Manifest
from ollama_ferry.model.names import ModelName
from ollama_ferry.wording import counted, human_size


@dataclass(frozen=True)
class PlannedModel:
    """A model to copy."""

    name: ModelName
    manifest: Manifest


@dataclass(frozen=True)
class NotCarried:
    """What is in a place and was left out.

    Attributes:
        name: its name, or the path of what has none, printable.
        why: why it can't be carried, and what can be done.
    """

    name: str
    why: FerryError

    @property
    def damaged(self) -> bool:
        """Whether it is a model that should be whole, and not something that never could be carried."""
        return isinstance(self.why, Damaged)


@dataclass(frozen=True)
class Plan:
    """What a copy will do.

    Attributes:
        models: the models, sorted by name.
        blobs: the blobs that move, each once, sorted by digest.
        present: the blobs that the sink has already.
        not_carried: what was left out of what was asked for.
        required: the models that must not be left out, whatever turns out of their blobs.
    """

    models: tuple[PlannedModel, ...]
    blobs: tuple[Descriptor, ...]
    present: tuple[Descriptor, ...] = ()
    not_carried: tuple[NotCarried, ...] = ()
    required: frozenset[ModelName] = frozenset()

    @property
    def size(self) -> int:
        """The bytes of the blobs that move."""
        return sum(blob.size for blob in self.blobs)

    def without(self, damaged: Mapping[Digest, FerryError]) -> Plan:
        """Leave out the models that need blobs which have turned out damaged, and the blobs that only these need.

        Raises:
            FerryError: one of them is required, or none is left.
        """
        kept: list[PlannedModel] = []
        lost: list[NotCarried] = []
        for model in self.models:
            bad = [damaged[blob.digest] for blob in model.manifest.blobs if blob.digest in damaged]
            if bad and model.name in self.required:
                raise bad[0]
            if bad:
                lost.append(NotCarried(str(model.name), bad[0]))
            else:
                kept.append(model)
        if lost and not kept:
            raise lost[0].why
        left = replace(self, models=tuple(kept))
        needed = left.needed_by
        return replace(
            left,
            blobs=tuple(blob for blob in self.blobs if blob.digest in needed),
            present=tuple(blob for blob in self.present if blob.digest in needed),
            not_carried=(*lost, *self.not_carried),
        )

    @property
    def needed_by(self) -> dict[Digest, list[PlannedModel]]:
        """Which models of the plan name a blob, for every blob."""
        needed: dict[Digest, list[PlannedModel]] = {}
        for model in self.models:
            for blob in model.manifest.blobs:
                needed.setdefault(blob.digest, []).append(model)
        return needed


def blobs_of(name: ModelName, manifest: Manifest) -> tuple[Descriptor, ...]:
    """Return a manifest's blobs; an error names the model.

    Raises:
        Damaged: the manifest contradicts itself.
        NotAModel: it is another program's, or a list whose manifests are not known.
    """
    if manifest.stranger:
        raise NotAModel(f"{name} is {manifest.stranger}, and no model that Ollama can run")
    if manifest.listed:
        raise NotAModel(
            f"{name} is a list of {counted(len(manifest.listed), 'manifest')}, and none of them is there",
            hint="A newer Ollama has made it: `ollama pull` it with that, where the registry can be reached.",
        )
    try:
        return manifest.blobs
    except Damaged as error:
        raise Damaged(f"{name}: {error}", hint=error.hint) from error


def left_out_error(label: str, lacking: Sequence[Descriptor]) -> LeftOut:
    """Return the error for blobs that an archive leaves out and that its target does not have."""
    what = f"{counted(len(lacking), 'blob')} ({human_size(sum(blob.size for blob in lacking))})"
    return LeftOut(
        f"{label} was made for a target that has more: it leaves out {what} that this one lacks, or has damaged; "
        f"the first is {lacking[0].digest}",
        hint="Import the archive first that it was made to follow, or make it anew for what is here.",
        remedies=[Remedy("have")],
        digest=str(lacking[0].digest),
    )
