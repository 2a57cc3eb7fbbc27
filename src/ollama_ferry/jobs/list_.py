"""What a place holds, model by model, without reading a blob."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ollama_ferry.engine.inspect import leaves_out, manifests_of, require_whole, runs_at
from ollama_ferry.engine.plan import NotCarried
from ollama_ferry.engine.ports import Inspectable
from ollama_ferry.errors import CloudStub, Damaged, FerryError, ModelNotFound, NotAModel
from ollama_ferry.model.manifests import Descriptor, Digest, Manifest
from ollama_ferry.model.names import ModelName, is_pattern, match
from ollama_ferry.places.store.store import Store


@dataclass(frozen=True)
class ModelSummary:
    """One line of a list.

    Attributes:
        name: the model.
        manifest: its manifest, or None where that is not readable as one.
        own_size: the bytes that only this model uses; None where the manifest is not readable.
        problem: what is wrong with it, or an empty text.
        remote: the host where a cloud model runs, or an empty text.
        left_out: the bytes of its blobs that an archive leaves out on purpose.
    """

    name: ModelName
    manifest: Manifest | None
    own_size: int | None
    problem: str = ""
    remote: str = ""
    left_out: int = 0


@dataclass(frozen=True)
class Listing:
    """What a place holds.

    Attributes:
        place: what it is called; of a store its folder.
        models: its models, sorted by name.
        not_carried: what is there and can't be named, or is no model.
    """

    place: str
    models: tuple[ModelSummary, ...]
    not_carried: tuple[NotCarried, ...] = ()


def survey(store: Inspectable) -> list[ModelSummary]:
    """List the models of a store or an archive, sorted by name.

    A missing blob, a wrong size or an unreadable manifest is reported in the summary; the blobs' bytes are not
    read.

    Raises:
        NotPermitted: the store can't be read.
    """
    manifests, broken = manifests_of(store, store.names())
    users = usage(manifests.values())
    summaries = [ModelSummary(name, None, None, str(error)) for name, error in broken.items()]
    for name, manifest in manifests.items():
        own = sum(blob.size for blob in manifest.blobs if users[blob.digest] == 1)
        problem = remote = ""
        try:
            require_whole(store, name, manifest)
        except CloudStub:
            remote = runs_at(store, manifest) or ""
        except (Damaged, NotAModel) as error:
            problem = str(error)
        left_out = sum(blob.size for blob in manifest.blobs if leaves_out(store, blob))
        summaries.append(ModelSummary(name, manifest, own, problem, remote, left_out))
    return sorted(summaries, key=lambda summary: summary.name)


def matching(models: list[ModelSummary], texts: Sequence[str], label: str) -> list[ModelSummary]:
    """Pick lines of a list, by patterns or by what names begin with, letter case aside; none picks all.

    Raises:
        ModelNotFound: a text covers no model.
    """
    picked: set[ModelName] = set()
    for text in texts:
        names = [model.name for model in models]
        found = match(text if is_pattern(text) else f"{text}*", names)
        if not found:
            raise ModelNotFound(
                f"no model in {label} {'matches' if is_pattern(text) else 'begins with'} {text!r}",
                hint=f"For the models of a host of that name: ollama-ferry list {text}:" if text.isalnum() else "",
            )
        picked.update(found)
    return [model for model in models if not texts or model.name in picked]


def usage(manifests: Iterable[Manifest]) -> Counter[Digest]:
    """Count how many of some manifests name each blob."""
    counts: Counter[Digest] = Counter()
    for manifest in manifests:
        counts.update(blob.digest for blob in manifest.blobs)
    return counts


@dataclass(frozen=True)
class LayerUse:
    """A blob of a model, and who else needs it.

    Attributes:
        blob: the blob, with its media type.
        here: its size in the place in bytes, or None where it is missing.
        shared_with: the other models that name it.
        file: where it is, or would be.
        left_out: it is missing on purpose: the archive counts on its target to have it.
    """

    blob: Descriptor
    here: int | None
    shared_with: tuple[ModelName, ...]
    file: str
    left_out: bool


@dataclass(frozen=True)
class Shown:
    """A model as it is in a place.

    Attributes:
        name: its name, as it is spelt there.
        manifest: its manifest.
        place: what the place is called; of a store its folder.
        path: the manifest's file; in an archive the member.
        layers: its blobs in the manifest's order, the config last.
    """

    name: ModelName
    manifest: Manifest
    place: str
    path: str
    layers: tuple[LayerUse, ...]

    @property
    def own_size(self) -> int:
        """The bytes that only this model uses."""
        return sum(layer.blob.size for layer in self.layers if not layer.shared_with)


def show_model(place: Inspectable, name: ModelName) -> Shown:
    """Find out what a place has of a model.

    Args:
        place: where it is.
        name: the model, spelt as there.

    Raises:
        ModelNotFound, Damaged: it is not there, or its manifest can't be read.
    """
    manifest = place.manifest(name)
    path = str(place.manifest_path(name)) if isinstance(place, Store) else f"manifests/{name.path}"
    return Shown(name, manifest, place.label, path, tuple(layers_in_use(place, manifest, name)))


def layers_in_use(store: Inspectable, manifest: Manifest, own: ModelName) -> list[LayerUse]:
    """Return a model's blobs in the manifest's order, the config last, with the models that share them."""
    sharing: dict[Digest, list[ModelName]] = {blob.digest: [] for blob in manifest.blobs}
    for other in store.names():
        if other == own:
            continue
        try:
            blobs = store.manifest(other).blobs
        except FerryError:
            # A damaged neighbour is the list's business, not this model's.
            continue
        for blob in blobs:
            if blob.digest in sharing:
                sharing[blob.digest].append(other)
    return [
        LayerUse(
            blob,
            store.blob_size(blob.digest),
            tuple(sharing[blob.digest]),
            store.where(blob.digest),
            leaves_out(store, blob),
        )
        for blob in manifest.blobs
    ]
