"""A source whose missing blobs others have: several archives that are whole together only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import cached_property

from ollama_ferry.engine.ports import Inspectable, LeavesBlobsOut, PassesOver, Readable
from ollama_ferry.errors import Damaged, FerryError
from ollama_ferry.model.manifests import Descriptor, Digest, Manifest
from ollama_ferry.model.names import ModelName


class Completed:
    """A place that models are read from, with other places for the blobs that it lacks.

    Args:
        place: where the models are.
        others: opens the other places, once, and only where the first lacks something.
    """

    def __init__(self, place: Inspectable, others: Callable[[], Sequence[Inspectable]]) -> None:
        self.place = place
        self.label = place.label
        self._open_others = others

    @cached_property
    def _others(self) -> Sequence[Inspectable]:
        return self._open_others()

    def names(self) -> Iterator[ModelName]:
        return self.place.names()

    def passed_over(self) -> Iterator[tuple[str, FerryError]]:
        if isinstance(self.place, PassesOver):
            yield from self.place.passed_over()

    def manifest(self, name: ModelName) -> Manifest:
        return self.place.manifest(name)

    def open(self, blob: Descriptor, offset: int = 0) -> AbstractContextManager[Readable]:
        return self._holder(blob).open(blob, offset)

    def blob_size(self, digest: Digest) -> int | None:
        """Return a blob's size in the first place that has it."""
        sizes = (place.blob_size(digest) for place in (self.place, *self._others_for(digest)))
        return next((size for size in sizes if size is not None), None)

    def where(self, digest: Digest) -> str:
        return self.place.where(digest)

    def read_config(self, config: Descriptor) -> bytes | None:
        return self._holder(config).read_config(config)

    def not_whole(self, blob: Descriptor, name: ModelName | None, size: int | None) -> Damaged:
        return self.place.not_whole(blob, name, size)

    def leaves_out(self, digest: Digest) -> bool:
        """Return whether a blob is missing on purpose, and none of the others has it."""
        left_out = isinstance(self.place, LeavesBlobsOut) and self.place.leaves_out(digest)
        return left_out and all(other.blob_size(digest) is None for other in self._others)

    def _others_for(self, digest: Digest) -> Sequence[Inspectable]:
        return () if self.place.blob_size(digest) is not None else self._others

    def _holder(self, blob: Descriptor) -> Inspectable:
        holders = (place for place in (self.place, *self._others_for(blob.digest)))
        return next((place for place in holders if place.blob_size(blob.digest) == blob.size), self.place)
