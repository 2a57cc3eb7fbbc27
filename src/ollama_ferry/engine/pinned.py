"""A source whose manifests are read once: what was decided on is what is copied, whatever the place says later."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager

from ollama_ferry.engine.ports import Expects, Readable, Source
from ollama_ferry.model.manifests import Descriptor, Manifest
from ollama_ferry.model.names import ModelName


class Pinned:
    """Some models of a source, by the manifests that were looked at.

    Args:
        source: where their blobs are.
        manifests: of each model, under the name that it gets at the target.
    """

    def __init__(self, source: Source, manifests: Mapping[ModelName, Manifest]) -> None:
        self._source = source
        self._manifests = manifests

    def names(self) -> Iterator[ModelName]:
        yield from self._manifests

    def manifest(self, name: ModelName) -> Manifest:
        return self._manifests[name]

    def open(self, blob: Descriptor, offset: int = 0) -> AbstractContextManager[Readable]:
        return self._source.open(blob, offset)

    def expect(self, blobs: Iterable[Descriptor]) -> None:
        if isinstance(self._source, Expects):
            self._source.expect(blobs)
