"""The two protocols that every place offers, and the extra powers that some have.

They stay small. A power that only some places have is a protocol of its own, found with ``isinstance``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ollama_ferry.manifests import Descriptor, Manifest
from ollama_ferry.names import ModelName

if TYPE_CHECKING:
    from ollama_ferry.copying import Plan


class Readable(Protocol):
    """Bytes in order. ``read`` gives at most ``size`` bytes, and ``b""`` only at the end."""

    def read(self, size: int, /) -> bytes: ...


class Source(Protocol):
    """A place that models are read from."""

    def names(self) -> Iterator[ModelName]:
        """Give the models that are here, each once, in any order."""
        ...

    def manifest(self, name: ModelName) -> Manifest:
        """Return a model's manifest.

        Raises:
            ModelNotFound: the place has no such model.
            Damaged: the manifest is not readable as one.
        """
        ...

    def open(self, blob: Descriptor, offset: int = 0) -> AbstractContextManager[Readable]:
        """Open a blob's bytes from ``offset`` on. They are not checked here; the engine does that.

        Raises:
            MissingBlob: the blob is not here.
        """
        ...


class Sink(Protocol):
    """A place that models are written to."""

    def has(self, blob: Descriptor) -> bool:
        """Tell whether the blob is here, whole; its size is compared, its bytes are not."""
        ...

    def put(self, blob: Descriptor, data: Readable) -> None:
        """Take a blob, all or nothing.

        ``data`` is read to its end; it raises there where the bytes are not those of the digest, and then
        nothing is published.
        """
        ...

    def commit(self, name: ModelName, manifest: Manifest) -> None:
        """Publish a model whose blobs are all here: write the manifest's bytes as they are."""
        ...


@runtime_checkable
class Prepares(Protocol):
    """A sink that wants to know what will come: to check the free space, or to fix times."""

    def prepare(self, plan: Plan) -> None:
        """Called once, before the first :meth:`Sink.put`."""
        ...
