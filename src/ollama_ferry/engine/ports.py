"""The two protocols that every place offers, and the extra powers that some have.

They stay small. A power that only some places have is a protocol of its own, found with ``isinstance``.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple, Protocol, TypeGuard, TypeVar, cast, runtime_checkable

from ollama_ferry.engine.plan import Plan
from ollama_ferry.errors import Damaged, FerryError
from ollama_ferry.model.manifests import Descriptor, Digest, Manifest
from ollama_ferry.model.names import ModelName

P = TypeVar("P")


class Readable(Protocol):
    """Bytes in order. ``read`` gives at most ``size`` bytes, and ``b""`` only at the end."""

    def read(self, size: int, /) -> bytes: ...


class Extent(NamedTuple):
    """Where some bytes lie as they are.

    Attributes:
        file: in which file; its position is of no account.
        offset: from which byte on.
        size: how many they are.
    """

    file: io.FileIO
    offset: int
    size: int

    def behind(self, count: int) -> Extent:
        """Return what follows the first bytes of it."""
        return Extent(self.file, self.offset + count, self.size - count)

    def read(self, most: int) -> bytes:
        """Return its first bytes; nothing where the file ends before it."""
        most = min(most, self.size)
        if hasattr(os, "pread"):
            return os.pread(self.file.fileno(), most, self.offset)
        self.file.seek(self.offset)
        return self.file.read(most)


@runtime_checkable
class LiesInFile(Protocol):
    """Bytes that a file has as they are, so that the system can copy or send them without anybody reading them."""

    def extents(self, most: int) -> Sequence[Extent]:
        """Pass over the next bytes, and say where they lie.

        Args:
            most: how many to pass over at most.

        Returns:
            Where they lie, in order; nothing where the next ones have to be read, and at the end.
        """
        ...


def offers(thing: object, power: Callable[..., P]) -> TypeGuard[P]:
    """Tell whether something has an extra power, as ``isinstance`` does, but once a class: there may be many blobs."""
    return _class_offers(cast(Hashable, type(thing)), cast(Hashable, power))


@lru_cache(maxsize=256)
def _class_offers(kind: Any, power: Any) -> bool:
    return issubclass(kind, power)


def extents_of(data: Readable, most: int) -> Sequence[Extent]:
    """As :meth:`LiesInFile.extents`, of any bytes."""
    if not isinstance(data, io.FileIO):
        return data.extents(most) if offers(data, LiesInFile) else ()
    position = data.tell()
    size = min(most, os.fstat(data.fileno()).st_size - position)
    if size <= 0:
        return ()
    data.seek(position + size)
    return (Extent(data, position, size),)


class WrittenFile(Protocol):
    """A file that is being written, and that what was written can be read back from.

    Attributes:
        size: how many bytes it has: where the next ones go.
    """

    @property
    def size(self) -> int: ...

    def write(self, *data: bytes | memoryview) -> None:
        """Add bytes."""
        ...

    def copy_from(self, file: io.FileIO, offset: int, size: int) -> int:
        """Have the system add bytes of another file.

        Returns:
            How many it has added; 0 where it can't, and they have to be read and written.
        """
        ...

    def read_back(self, buffer: memoryview, offset: int) -> None:
        """Fill a buffer with bytes that were written; may be called from another thread."""
        ...


@runtime_checkable
class CopiesItself(Readable, Protocol):
    """Bytes that know how to get into a file without passing through here."""

    def copy_into(self, target: WrittenFile) -> None:
        """Add all that is left to a file; what a read would raise, this raises.

        Raises:
            OSError: the file did not take them, or can't be read back.
        """
        ...


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


@dataclass(frozen=True)
class BlobEntry:
    """A blob that passes by in a stream; its bytes can be read until the next entry is asked for.

    Attributes:
        blob: its digest and size, as the stream tells them.
        data: its bytes.
        certain: it is called as its place calls blobs. Of another one only a likely digest is known, and it does no
            harm where its bytes have another.
    """

    blob: Descriptor
    data: Readable
    certain: bool = True


@dataclass(frozen=True)
class ModelEntry:
    """A manifest that passes by in a stream."""

    name: ModelName
    manifest: Manifest


@dataclass(frozen=True)
class LeavesOut:
    """Blobs that a stream counts on, and does not have: the target has them, whoever made it was told.

    It comes before the blobs and models that do pass by. One that passes by all the same is asked for all the same.
    """

    blobs: tuple[Descriptor, ...]


class StreamSource(Protocol):
    """A place whose models pass by once, in an order that nobody chose: an archive that can't be searched."""

    def entries(self) -> Iterator[BlobEntry | ModelEntry | LeavesOut]:
        """Give what passes by. Blobs may come before or after the manifests that name them.

        Raises:
            Damaged: the stream is damaged, or is cut short.
        """
        ...


class Holder(Protocol):
    """What can tell whether it has a blob."""

    def has(self, blob: Descriptor) -> bool:
        """Return whether the blob is here, whole; its size is compared, its bytes are not."""
        ...


class Sink(Holder, Protocol):
    """A place that models are written to."""

    def put(self, blob: Descriptor, data: Readable) -> None:
        """Take a blob, all or nothing.

        ``data`` is read to its end; it raises there where the bytes are not those of the digest, and then
        nothing is published.
        """
        ...

    def publish_model(self, name: ModelName, manifest: Manifest) -> None:
        """Publish a model whose blobs are all here: write the manifest's bytes as they are."""
        ...


@runtime_checkable
class Prepares(Protocol):
    """A sink that wants to know what will come: to check the free space, or to fix times."""

    def prepare(self, plan: Plan) -> None:
        """Called once, before the first :meth:`Sink.put`."""
        ...


@runtime_checkable
class Expects(Protocol):
    """A source that is faster when it knows what will be asked for."""

    def expect(self, blobs: Iterable[Descriptor]) -> None:
        """Announce which blobs will be opened, in order."""
        ...


class Arriving(Protocol):
    """A blob of which a part has arrived, held open: what is read of it is what the rest is added to."""

    def read(self, size: int, /) -> bytes:
        """Give the next bytes that are there. They are not checked: the engine hashes them before the rest."""
        ...

    def append(self, data: Readable) -> None:
        """As :meth:`Sink.put`, for the bytes behind those that were read, which are all that are there."""
        ...


@runtime_checkable
class Resumes(Protocol):
    """A sink that keeps what has arrived of a blob whose copy was broken off."""

    def unfinished(self, blob: Descriptor) -> AbstractContextManager[Arriving] | None:
        """Open what has arrived of a blob, to resume; None where there is nothing."""
        ...

    def discard(self, blob: Descriptor) -> None:
        """Forget what has arrived of a blob and is not published."""
        ...


class Searchable(Protocol):
    """A place that models are picked from.

    Attributes:
        label: what it is called in messages.
    """

    @property
    def label(self) -> str: ...

    def names(self) -> Iterator[ModelName]:
        """Give the models that are here."""
        ...


@runtime_checkable
class Inspectable(Source, Searchable, Protocol):
    """A source that can tell what it holds of a model without reading a blob (:mod:`ollama_ferry.engine.inspect`)."""

    def blob_size(self, digest: Digest) -> int | None:
        """Return a blob's size in bytes, or None where it is not here."""
        ...

    def where(self, digest: Digest) -> str:
        """Say where a blob is, or would be, for people."""
        ...

    def read_config(self, config: Descriptor) -> bytes | None:
        """Return the bytes of a config that is here; None where they can't be had at once."""
        ...

    def not_whole(self, blob: Descriptor, name: ModelName | None, size: int | None) -> Damaged:
        """Return the error for a blob that is not here as it should be, with what to do about it in this place.

        Args:
            blob: the blob.
            name: the model that needs it, or None.
            size: what is here of it in bytes; None for nothing.
        """
        ...


@runtime_checkable
class LeavesBlobsOut(Protocol):
    """A source that may lack blobs on purpose: what its target has already."""

    def leaves_out(self, digest: Digest) -> bool:
        """Return whether a blob was left out on purpose."""
        ...


@runtime_checkable
class KeepsUnfinished(Protocol):
    """A source that may have unfinished downloads beside its blobs."""

    def unfinished_downloads(self, digest: Digest | None = None) -> list[str]:
        """Return the names of unfinished downloads: all of them, or those of one blob."""
        ...


@runtime_checkable
class PassesOver(Protocol):
    """A source that may have things where models are that are none: files of other programs, names that are none."""

    def passed_over(self) -> Iterator[tuple[str, FerryError]]:
        """Give what is there and not among the names: what it is called, and why it is none."""
        ...


def whose(blob: Descriptor, name: ModelName | None) -> str:
    """Name a blob in a message, with the model that needs it."""
    return f"{name}: its {blob.kind} blob {blob.digest}" if name else f"the blob {blob.digest}"
