"""What to copy: some models of a source, and those of their blobs that a target lacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ollama_ferry.errors import Damaged, LeftOut, Remedy
from ollama_ferry.model.manifests import Descriptor, Digest, Manifest
from ollama_ferry.model.names import ModelName
from ollama_ferry.wording import counted, human_size


@dataclass(frozen=True)
class PlannedModel:
    """A model to copy."""

    name: ModelName
    manifest: Manifest


@dataclass(frozen=True)
class Plan:
    """What a copy will do.

    Attributes:
        models: the models, sorted by name.
        blobs: the blobs that move, each once, sorted by digest.
        present: the blobs that the sink has already.
    """

    models: tuple[PlannedModel, ...]
    blobs: tuple[Descriptor, ...]
    present: tuple[Descriptor, ...] = ()

    @property
    def size(self) -> int:
        """The bytes of the blobs that move."""
        return sum(blob.size for blob in self.blobs)

    @property
    def needed_by(self) -> dict[Digest, list[PlannedModel]]:
        """Which models of the plan name a blob, for every blob."""
        needed: dict[Digest, list[PlannedModel]] = {}
        for model in self.models:
            for blob in model.manifest.blobs:
                needed.setdefault(blob.digest, []).append(model)
        return needed


def blobs_of(name: ModelName, manifest: Manifest) -> tuple[Descriptor, ...]:
    """Return a manifest's blobs; an error names the model."""
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
