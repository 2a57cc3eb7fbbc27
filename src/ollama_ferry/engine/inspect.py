"""What a place has of a model: under which name, whether all of it, whether it has weights at all.

Each is a function over the few things that a place tells of itself (:class:`ollama_ferry.engine.ports.Inspectable`), so
that every place answers by the same rule. No blob is read but a config.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ollama_ferry.engine.plan import blobs_of
from ollama_ferry.engine.ports import Inspectable, KeepsUnfinished, LeavesBlobsOut, Searchable, Source, offers
from ollama_ferry.errors import CloudStub, Damaged, FerryError, ModelNotFound, NotAModel, UsageError
from ollama_ferry.model.manifests import (
    CONFIG_LIMIT,
    MANIFEST_LIMIT,
    MANIFESTS_LIMIT,
    Descriptor,
    Digest,
    Manifest,
    remote_host,
)
from ollama_ferry.model.names import ModelName, is_id, nearest


def resolve(place: Searchable, name: ModelName) -> ModelName:
    """Return a name as it is spelt in a place: an exact match first, else one that differs in case only.

    Raises:
        ModelNotFound: there is no such model; the hint has the nearest names.
    """
    names = list(place.names())
    if name in names:
        return name
    for other in names:
        if other.key == name.key:
            return other
    raise not_found(place, name)


def meant(place: Searchable, text: str) -> ModelName:
    """Return the model of a place that a text means: by its name, else by the ID that ``ollama list`` prints.

    Raises:
        InvalidName, ModelNotFound: it means none.
        UsageError: several models have this ID, for they are the same.
    """
    name = ModelName.parse(text)
    try:
        return resolve(place, name)
    except ModelNotFound:
        if not is_id(text) or not isinstance(place, Inspectable):
            raise
        whole, _ = manifests_of(place, place.names())
        found = sorted(name for name, manifest in whole.items() if manifest.digest.hex.startswith(text.lower()))
        if len(found) > 1:
            raise UsageError(
                f"{text} is the ID of {', '.join(map(str, found[:8]))}", hint="Name the one that is meant."
            ) from None
        if not found:
            raise
        return found[0]


def not_found(place: Searchable, name: ModelName) -> ModelNotFound:
    """Return the error for a model that a place does not have."""
    close = nearest(str(name), place.names())
    lines = [f"Did you mean {', '.join(map(str, close))}?"] if close else []
    if isinstance(place, KeepsUnfinished) and place.unfinished_downloads():
        lines.append(f"There is an unfinished download; if it is this model, run `ollama pull {name}`.")
    return ModelNotFound(
        f"there is no model {name} in {place.label}", hint="\n".join(lines), name=str(name), place=place.label
    )


def leaves_out(place: object, blob: Descriptor) -> bool:
    """Return whether a place lacks a blob on purpose, for its target has it."""
    return offers(place, LeavesBlobsOut) and place.leaves_out(blob.digest)


def manifests_of(
    place: Source, names: Iterable[ModelName]
) -> tuple[dict[ModelName, Manifest], dict[ModelName, FerryError]]:
    """Read the manifests of some models.

    Returns:
        Those that can be read, and what is wrong with the others. A model that was removed meanwhile is in neither.

    Raises:
        NotPermitted: they can't be read at all.
    """
    whole: dict[ModelName, Manifest] = {}
    broken: dict[ModelName, FerryError] = {}
    left = MANIFESTS_LIMIT
    for name in names:
        try:
            manifest = place.manifest(name)
            blobs_of(name, manifest)
            left -= len(manifest.raw)
            if left < 0:
                raise Damaged(
                    f"the manifest of {name} is not read: all together have more than {MANIFESTS_LIMIT} bytes"
                )
        except ModelNotFound:
            continue
        except (Damaged, NotAModel) as error:
            broken[name] = error
        else:
            whole[name] = manifest
    return whole, broken


def with_listed(manifest: Manifest, size_of: Callable[[Digest], int | None], place: Source) -> Manifest:
    """Take those manifests of a list that a place has; any other manifest is returned as it is."""
    found: dict[Digest, bytes] = {}
    for digest in manifest.listed:
        size = size_of(digest)
        if size is not None and size <= MANIFEST_LIMIT:
            raw = b""
            with place.open(Descriptor(digest, size)) as data:
                while len(raw) <= size and (chunk := data.read(size + 1)):
                    raw += chunk
            if Digest.of(raw) != digest:
                raise Damaged(f"the manifest {digest} is damaged, which a list of manifests names", digest=str(digest))
            found[digest] = raw
    return manifest.with_listed(found) if manifest.listed else manifest


def require_blob(place: Inspectable, blob: Descriptor, name: ModelName | None = None) -> None:
    """Check that a blob is in a place with its size.

    Args:
        place: where it should be.
        blob: the blob.
        name: the model that needs it, for the message.

    Raises:
        MissingBlob, Unfinished, LeftOut, Damaged: it is not there, not all there, left out, or of another size.
    """
    size = place.blob_size(blob.digest)
    if size != blob.size:
        raise place.not_whole(blob, name, size)


def require_whole(place: Inspectable, name: ModelName, manifest: Manifest) -> None:
    """Check that a model has weights and that each of its blobs is there with its size, or left out on purpose.

    The bytes are not read: whoever reads them hashes them.

    Raises:
        CloudStub: the model runs elsewhere.
        MissingBlob, Unfinished, Damaged: a blob is not there, not all there, or of another size.
    """
    for blob in blobs_of(name, manifest):
        if not leaves_out(place, blob):
            require_blob(place, blob, name)
    host = runs_at(place, manifest)
    if host:
        raise cloud_stub(name, host)


def cloud_stub(name: ModelName, host: str) -> CloudStub:
    """Return the error for a model that runs at a host."""
    return CloudStub(
        f"{name} is a cloud model: it runs at {host} and has no weights here to copy",
        hint="Every machine that can reach that host has it by `ollama pull` or `ollama run`.",
    )


def runs_at(place: Inspectable, manifest: Manifest) -> str | None:
    """Return the host that a cloud stub names in its config; None for a model with weights."""
    config = manifest.config
    if config is None or config.size > CONFIG_LIMIT or place.blob_size(config.digest) != config.size:
        return None
    raw = place.read_config(config)
    return remote_host(raw) if raw is not None else None
