"""A place in memory: the shortest correct one, which the others are measured by."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing

from ollama_ferry.engine.ports import Readable
from ollama_ferry.errors import MissingBlob, ModelNotFound
from ollama_ferry.model.manifests import Descriptor, Digest, Manifest
from ollama_ferry.model.names import ModelName


class MemoryPlace:
    """Holds models in two dictionaries.

    Attributes:
        models: the manifests' bytes by name.
        blobs: the blobs' bytes by digest.
    """

    def __init__(self) -> None:
        self.models: dict[ModelName, bytes] = {}
        self.blobs: dict[Digest, bytes] = {}

    def names(self) -> Iterator[ModelName]:
        """Give the models that are here, sorted."""
        yield from sorted(self.models)

    def manifest(self, name: ModelName) -> Manifest:
        """Return a model's manifest."""
        if name not in self.models:
            raise ModelNotFound(f"there is no model {name} in memory")
        return Manifest.parse(self.models[name])

    def open(self, blob: Descriptor, offset: int = 0) -> AbstractContextManager[Readable]:
        """Open a blob's bytes."""
        if blob.digest not in self.blobs:
            raise MissingBlob(f"the blob {blob.digest} is not in memory", digest=str(blob.digest))
        return closing(io.BytesIO(self.blobs[blob.digest][offset:]))

    def has(self, blob: Descriptor) -> bool:
        """Return whether a blob is here with its size."""
        return len(self.blobs.get(blob.digest, b"")) == blob.size and blob.digest in self.blobs

    def put(self, blob: Descriptor, data: Readable) -> None:
        """Take a blob."""
        content = io.BytesIO()
        while chunk := data.read(64 * 1024):
            content.write(chunk)
        self.blobs[blob.digest] = content.getvalue()

    def publish_model(self, name: ModelName, manifest: Manifest) -> None:
        """Publish a model."""
        self.models[name] = manifest.raw
