"""An archive as a place that can be searched: what is in it is known, and blobs are opened in any order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from ollama_ferry.engine.events import Cancel
from ollama_ferry.engine.hashing import sha256_of
from ollama_ferry.engine.inspect import not_found, require_blob, with_listed
from ollama_ferry.engine.plan import left_out_error
from ollama_ferry.engine.ports import Readable, whose
from ollama_ferry.errors import Damaged, MissingBlob
from ollama_ferry.model.manifests import CONFIG_LIMIT, Descriptor, Digest, Manifest
from ollama_ferry.model.names import ModelName
from ollama_ferry.places.archive.contents import Contents
from ollama_ferry.places.archive.reading import labelled
from ollama_ferry.wording import exact_size


class Opener(Protocol):
    """Opens a blob's content, of ``size`` bytes at ``place``, from some byte on."""

    def __call__(self, digest: Digest, size: int, place: int, offset: int) -> AbstractContextManager[Readable]: ...


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
        """Give the models in it, sorted; those too that can't be taken, as of a store."""
        yield from sorted({**self.contents.models, **self.contents.broken})

    def manifest(self, name: ModelName) -> Manifest:
        """Return a model's manifest."""
        if error := self.contents.broken.get(name):
            raise Damaged(f"{self.label}: {error}", hint=error.hint)
        try:
            manifest = self.contents.models[name]
        except KeyError:
            raise not_found(self, name) from None
        return with_listed(manifest, self.blob_size, self) if self._opener is not None else manifest

    def open(self, blob: Descriptor, offset: int = 0) -> AbstractContextManager[Readable]:
        """Open a blob's bytes.

        Raises:
            MissingBlob, Damaged: it is not here, or has another size than was asked for.
        """
        require_blob(self, blob)
        size, place = self.contents.blobs[blob.digest]
        assert self._opener is not None  # noqa: S101 -- whoever made it knows that nothing can be opened
        return labelled(self.label, self._opener(blob.digest, size, place, offset))

    def check_repeated(self, cancel: Cancel) -> None:
        """Make sure that blobs which occur several times are the same each time.

        Raises:
            Damaged: they are not; which one another reader would take is anybody's guess.
        """
        for digest, size, place in self.contents.repeated:
            assert self._opener is not None  # noqa: S101 -- as above
            with labelled(self.label, self._opener(digest, size, place, 0)) as data:
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
        """Return whether a blob is not in the archive on purpose."""
        return digest in self.contents.left_out and digest not in self.contents.blobs

    def read_config(self, config: Descriptor) -> bytes | None:
        """Return the bytes of a config; None where nothing can be opened."""
        if self._opener is None:
            return None
        with self.open(config) as file:
            return b"".join(iter(lambda: file.read(CONFIG_LIMIT), b""))

    def not_whole(self, blob: Descriptor, name: ModelName | None, size: int | None) -> Damaged:
        """Return the error for a blob that is not here as it should be."""
        if size is not None:
            return Damaged(
                f"{whose(blob, name)} has {exact_size(size)} in {self.label}, and the manifest says "
                f"{exact_size(blob.size)}",
                hint="The archive is damaged: make it anew.",
                digest=str(blob.digest),
            )
        if blob.digest in self.contents.left_out:
            return left_out_error(self.label, [blob])
        target = self.contents.links.get(blob.digest)
        return MissingBlob(
            f"{whose(blob, name)} of {exact_size(blob.size)} is not in {self.label}{as_link(target)}",
            hint=missing_hint(linked=target is not None),
            digest=str(blob.digest),
        )


def as_link(target: str | None) -> str:
    """Say that a blob is there as a link to something; nothing where it is not."""
    return f"; it is there as a link to {target[:200]!r} alone, which was not followed" if target is not None else ""


def missing_hint(*, linked: bool = False) -> str:
    """Say from where a blob may come that an archive lacks."""
    if linked:
        return "Make it anew with files in the place of links: `tar -h`, and `--hard-dereference` for hard ones."
    return (
        "Name another archive or folder beside it that has this blob: ollama-ferry import THIS OTHER. Or make it anew, "
        "with ollama-ferry export or the whole of blobs/ and manifests/."
    )
