"""An archive as a place that can be searched: what is in it is known, and blobs are opened in any order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from ollama_ferry.engine.events import Cancel
from ollama_ferry.engine.hashing import sha256_of
from ollama_ferry.engine.plan import left_out_error
from ollama_ferry.engine.ports import Readable
from ollama_ferry.errors import CloudStub, Damaged, MissingBlob, ModelNotFound
from ollama_ferry.model.manifests import Descriptor, Digest, Manifest, remote_host
from ollama_ferry.model.names import ModelName, nearest
from ollama_ferry.places.archive.contents import Contents
from ollama_ferry.places.archive.reading import labelled

_CONFIG_LIMIT = 1024 * 1024


class Opener(Protocol):
    """Opens a blob's content from some byte on."""

    def __call__(self, size: int, place: int, offset: int) -> AbstractContextManager[Readable]: ...


class ArchiveSource:
    """An archive that can be searched: blobs are opened in any order, and from any byte.

    Args:
        label: what it is called in messages.
        contents: what it holds.
        opener: opens a blob; None where the contents are all that is known, and nothing can be opened.
    """

    def __init__(self, label: str, contents: Contents, opener: Opener | None) -> None:
        self.label = label
        self.contents = contents
        self._opener = opener

    def names(self) -> Iterator[ModelName]:
        """Give the models in it, sorted."""
        yield from sorted(self.contents.models)

    def manifest(self, name: ModelName) -> Manifest:
        """Return a model's manifest."""
        try:
            return self.contents.models[name]
        except KeyError:
            raise self.not_found(name) from None

    def open(self, blob: Descriptor, offset: int = 0) -> AbstractContextManager[Readable]:
        """Open a blob's bytes.

        Raises:
            MissingBlob, Damaged: it is not here, or has another size than was asked for.
        """
        size, place = self.require_blob(blob)
        assert self._opener is not None  # noqa: S101 -- whoever made it knows that nothing can be opened
        return labelled(self.label, self._opener(size, place, offset))

    def check_repeated(self, cancel: Cancel) -> None:
        """Make sure that blobs which occur several times are the same each time.

        Raises:
            Damaged: they are not; which one another reader would take is anybody's guess.
        """
        for digest, size, place in self.contents.repeated:
            assert self._opener is not None  # noqa: S101 -- as above
            with labelled(self.label, self._opener(size, place, 0)) as data:
                if sha256_of(data, cancel) != digest.hex:
                    raise Damaged(f"{self.label}: the blob {digest} occurs twice, with different content")

    def blob_size(self, digest: Digest) -> int | None:
        """Return a blob's size in bytes, or None where it is not here."""
        found = self.contents.blobs.get(digest)
        return found[0] if found else None

    def where(self, digest: Digest) -> str:
        """Return the blob's path in the archive."""
        return f"blobs/{digest.file_name}"

    def leaves_out(self, digest: Digest) -> bool:
        """Tell whether a blob is not in the archive on purpose."""
        return digest in self.contents.left_out and digest not in self.contents.blobs

    def require_whole(self, name: ModelName, manifest: Manifest) -> None:
        """Check that each blob of a model is in the archive with its size, or was left out on purpose."""
        for blob in manifest.blobs:
            if not self.leaves_out(blob.digest):
                self.require_blob(blob, name)
        host = self.remote_host(manifest)
        if host:
            raise CloudStub(f"{name} is a cloud model: it runs at {host} and has no weights")

    def remote_host(self, manifest: Manifest) -> str | None:
        """Return the host that a cloud stub names in its config; None for a model with weights."""
        config = manifest.config
        if self._opener is None or config is None or config.size > _CONFIG_LIMIT:
            return None
        if self.blob_size(config.digest) != config.size:
            return None
        with self.open(config) as file:
            raw = b"".join(iter(lambda: file.read(_CONFIG_LIMIT), b""))
        return remote_host(raw)

    def resolve(self, name: ModelName) -> ModelName:
        """Return the name as it is spelt here: an exact match first, else one that differs in case only.

        Raises:
            ModelNotFound: there is no such model.
        """
        if name in self.contents.models:
            return name
        for other in self.names():
            if other.key == name.key:
                return other
        raise self.not_found(name)

    def not_found(self, name: ModelName) -> ModelNotFound:
        """Return the error for a model that is not here."""
        close = nearest(str(name), self.names())
        hint = f"Did you mean {', '.join(map(str, close))}?" if close else f"`ollama-ferry list {self.label}` shows it."
        return ModelNotFound(f"there is no model {name} in {self.label}", hint=hint, name=str(name))

    def require_blob(self, blob: Descriptor, name: ModelName | None = None) -> tuple[int, int]:
        """Check that a blob is in the archive with its size; return size and place.

        Args:
            blob: the blob.
            name: the model that needs it, for the message.

        Raises:
            MissingBlob, Damaged: it is not, or it has another size.
        """
        whose = f"{name}: its {blob.kind} blob {blob.digest}" if name else f"the blob {blob.digest}"
        found = self.contents.blobs.get(blob.digest)
        if found is None and blob.digest in self.contents.left_out:
            raise left_out_error(self.label, [blob])
        if found is None:
            raise MissingBlob(
                f"{whose} is not in {self.label}",
                hint="The archive is not whole: make it anew.",
                digest=str(blob.digest),
            )
        if found[0] != blob.size:
            raise Damaged(
                f"{whose} has {found[0]} bytes in {self.label}, and the manifest says {blob.size}",
                hint="The archive is damaged: make it anew.",
                digest=str(blob.digest),
            )
        return found
