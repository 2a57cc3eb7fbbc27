"""Models of registries, to read.

What names a model here is a :class:`ModelName`, and a reference says where that is in a registry: the two differ where
a repository has another depth than Ollama's names, or where a model gets another name on the way.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, closing

from ollama_ferry.engine.plan import NotCarried
from ollama_ferry.engine.ports import Readable, whose
from ollama_ferry.errors import Damaged, FerryError, MissingBlob, ModelNotFound
from ollama_ferry.model.manifests import CONFIG_LIMIT, Descriptor, Digest, Manifest
from ollama_ferry.model.names import ModelName
from ollama_ferry.places.registry.manifests import fetch_manifest
from ollama_ferry.places.registry.references import Reference
from ollama_ferry.registries.client import Client
from ollama_ferry.registries.downloads import open_blob
from ollama_ferry.registries.small_blobs import SmallBlobs

Connect = Callable[[str], Client]
"""Returns the client for a registry, the same one each time; whoever gave it closes it."""


class RegistrySource:
    """Models of one registry or several.

    Args:
        references: where each model is; these are all that there is here.
        connect: gives the clients.
        passed_over: what is there, was looked for, and can have no name here.
    """

    def __init__(
        self,
        references: Mapping[ModelName, Reference],
        connect: Connect,
        passed_over: Iterable[NotCarried] = (),
    ) -> None:
        self.label = ", ".join(sorted({reference.registry for reference in references.values()}))
        self._references = dict(references)
        self._passed_over = tuple(passed_over)
        self._connect = connect
        self._manifests: dict[ModelName, Manifest] = {}
        # Which repository a blob is read from: a registry has them by repository.
        self._holders: dict[Digest, Reference] = {}
        self._sizes: dict[Digest, int] = {}
        self._small = SmallBlobs(self._whole)

    def close(self) -> None:
        """Fetch nothing more ahead."""
        self._small.close()

    def names(self) -> Iterator[ModelName]:
        """Give the models, sorted."""
        yield from sorted(self._references)

    def passed_over(self) -> Iterator[tuple[str, FerryError]]:
        """Give what was found and is none of these models."""
        for one in self._passed_over:
            yield one.name, one.why

    def manifest(self, name: ModelName) -> Manifest:
        """Return a model's manifest, whose time is now; it is asked for once."""
        if name not in self._manifests:
            reference = self._reference(name)
            manifest = fetch_manifest(self._connect(reference.registry), reference)
            if manifest is None:
                raise ModelNotFound(
                    f"there is no model {reference}",
                    hint="Look at the spelling; a registry may also say so to those who are not logged in.",
                    name=str(name),
                )
            for blob in manifest.blobs:
                self._holders.setdefault(blob.digest, reference)
                self._sizes.setdefault(blob.digest, blob.size)
            self._manifests[name] = manifest
        return self._manifests[name]

    def open(self, blob: Descriptor, offset: int = 0) -> AbstractContextManager[Readable]:
        """Open a blob, in the repository of a model that names it."""
        ahead = self._small.take(blob) if not offset else None
        if ahead is not None:
            return closing(io.BytesIO(ahead))
        return self._open(blob, offset)

    def expect(self, blobs: Iterable[Descriptor]) -> None:
        """Fetch small blobs ahead of their turn."""
        self._small.expect(blobs)

    def _whole(self, blob: Descriptor) -> bytes:
        with self._open(blob, 0) as data:
            return b"".join(iter(lambda: data.read(CONFIG_LIMIT), b""))

    def _open(self, blob: Descriptor, offset: int) -> AbstractContextManager[Readable]:
        holder = self._holders.get(blob.digest) or next(iter(self._references.values()))
        return open_blob(self._connect(holder.registry), holder.repository, blob, offset)

    def blob_size(self, digest: Digest) -> int | None:
        """Return a blob's size as the manifests give it: a registry takes one only with its blobs."""
        return self._sizes.get(digest)

    def where(self, digest: Digest) -> str:
        """Return the repository that has a blob, with the digest."""
        holder = self._holders.get(digest)
        return f"{holder.registry}/{holder.repository}@{digest}" if holder else str(digest)

    def read_config(self, config: Descriptor) -> bytes | None:
        """Return the bytes of a config, hashed: they decide before the engine looks."""
        raw = self._whole(config)
        if Digest.of(raw) != config.digest:
            raise Damaged(f"{self.where(config.digest)}: its bytes have another digest", digest=str(config.digest))
        return raw

    def not_whole(self, blob: Descriptor, name: ModelName | None, size: int | None) -> Damaged:
        """Return the error for a blob that no manifest names with this size."""
        return MissingBlob(f"{whose(blob, name)} is not in {self.label}", digest=str(blob.digest))

    def _reference(self, name: ModelName) -> Reference:
        try:
            return self._references[name]
        except KeyError:
            raise ModelNotFound(f"no model {name} was asked for in {self.label}", name=str(name)) from None
