"""An archive that passes by once, from its start to its end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import BinaryIO

from ollama_ferry.archives.frame_reading import FramePart
from ollama_ferry.archives.index import Index
from ollama_ferry.archives.left_out import LeftOutBlob, left_out_of
from ollama_ferry.archives.members import Member, MemberKind
from ollama_ferry.archives.tar_reading import TarReader
from ollama_ferry.archives.unpacking import CHUNK, Input, Joined, packing_of, unpacked
from ollama_ferry.engine.ports import BlobEntry, LeavesOut, ModelEntry
from ollama_ferry.errors import Damaged
from ollama_ferry.model.layout import meaning_of
from ollama_ferry.model.manifests import Descriptor, Digest
from ollama_ferry.model.names import ModelName
from ollama_ferry.places.archive.contents import Contents, ContentsBuilder
from ollama_ferry.places.archive.reading import Labelled, Metered, OnRead, ignore_reads, naming


class ArchiveStream:
    """An archive that passes by once: standard input, or a packed file without an index.

    Args:
        data: the archive, at its start.
        label: what it is called in messages.
        on_read: notified of every read.
        lenient: take what not every tar reads in the same way.
        exact: unpack as strictly as others do, though it takes longer.

    Raises:
        Damaged: it is a zip, which can't be read as a stream.
    """

    def __init__(
        self, data: Input, label: str, *, on_read: OnRead = ignore_reads, lenient: bool = False, exact: bool = False
    ) -> None:
        self.label = label
        self._lenient = lenient
        self.contents = Contents()
        metered = Metered(data, label, on_read)
        start = b""
        while len(start) < 6 and (more := metered.read(CHUNK)):
            start += more
        packing = packing_of(start)
        if packing == "zip":
            raise Damaged(f"{label}: a zip can't be read as a stream", hint="Save it as a file, and name that.")
        with naming(label):
            self._unpacked = unpacked(Joined(start, metered), packing, lenient=lenient, exact=exact)

    def entries(self) -> Iterator[BlobEntry | ModelEntry | LeavesOut]:
        """Give blobs and manifests as they pass by; what is left out first."""
        with naming(self.label):
            reader = TarReader(self._unpacked, lenient=self._lenient)
            builder = ContentsBuilder(self.contents, lenient=self._lenient)
            for member in reader:
                if reader.comments:
                    left_out = left_out_blobs(pair for comment in reader.comments for pair in left_out_of(comment))
                    reader.comments.clear()
                    self.contents.left_out.update(left_out)
                    yield LeavesOut(tuple(Descriptor(digest, size) for digest, size in left_out.items()))
                self._meet(member)
                meaning = builder.take(member)
                if isinstance(meaning, Digest):
                    blob = Descriptor(meaning, member.size)
                    yield BlobEntry(blob, Labelled(self.label, reader))
                elif meaning is not None and builder.add(meaning, _read_manifest(reader), member.check):
                    yield ModelEntry(meaning, self.contents.models[meaning])

    def _meet(self, member: Member) -> None:
        """Look at a member before its meaning is."""

    def scan(self) -> Contents:
        """Read to the end, and return what the archive holds; blobs are passed over.

        Raises:
            Damaged: it is damaged as far as that shows without hashing.
        """
        for _ in self.entries():
            pass
        return self.contents


class SeekingStream(ArchiveStream):
    """A plain tar in a file: what is not read is skipped by seeking."""

    def __init__(self, file: BinaryIO, label: str, *, lenient: bool) -> None:
        self.label = label
        self._lenient = lenient
        self.contents = Contents()
        self._unpacked = unpacked(Metered(file, label, ignore_reads), "")


class FramedStream(ArchiveStream):
    """An indexed archive from its start to its end.

    What the tar has in it must be what the index says: otherwise a plain tar would restore something else than is
    shown here. To find that out (:meth:`scan`) costs the frames between the blobs, not those of the blobs: what hides
    beside these would need a header.
    """

    def __init__(self, data: FramePart, index: Index, label: str, on_read: OnRead, *, lenient: bool) -> None:
        self.label = label
        self._lenient = lenient
        self.contents = Contents(signature=index.signature)
        self._index = index
        self._files = iter(index.files)
        self._unpacked = _CountedReader(data, on_read)

    def entries(self) -> Iterator[BlobEntry | ModelEntry | LeavesOut]:
        yield from super().entries()
        with naming(self.label):
            if next(self._files, None) is not None or left_out_blobs(self._index.left_out) != self.contents.left_out:
                raise _other_than_its_index()
            for file in self._index.files:
                meaning = meaning_of(file.path)
                if isinstance(meaning, Digest):
                    wrong = meaning.hex != file.sha256
                else:
                    wrong = isinstance(meaning, ModelName) and self.contents.models[meaning].digest.hex != file.sha256
                if wrong:
                    raise _other_than_its_index()

    def _meet(self, member: Member) -> None:
        file = next(self._files, None) if member.kind is MemberKind.FILE else None
        if member.kind is MemberKind.FILE and (
            file is None or (file.path, file.size, file.offset) != (member.name, member.size, member.offset)
        ):
            raise _other_than_its_index()


def _other_than_its_index() -> Damaged:
    return Damaged("its index says something else than is in it")


class _CountedReader:
    """Unpacked bytes that are told of as they are read or skipped."""

    def __init__(self, data: FramePart, on_read: OnRead) -> None:
        self.position = 0
        self._data = data
        self._on_read = on_read

    def read(self, size: int, /) -> bytes:
        chunk = self._data.read(size)
        self.position += len(chunk)
        self._on_read(len(chunk))
        return chunk

    def skip(self, count: int) -> None:
        self._data.skip(count)
        self.position += count
        self._on_read(count)


def left_out_blobs(pairs: Iterable[LeftOutBlob]) -> dict[Digest, int]:
    return {Digest(sha256): size for sha256, size in pairs}


def _read_manifest(reader: TarReader) -> bytes:
    parts = []
    while chunk := reader.read(CHUNK):
        parts.append(chunk)
    return b"".join(parts)
