"""An archive that passes by once, from its start to its end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import BinaryIO

from ollama_ferry.archives.frame_reading import FramePart
from ollama_ferry.archives.index import Index
from ollama_ferry.archives.left_out import LeftOutBlob, left_out_of
from ollama_ferry.archives.members import Member, MemberKind
from ollama_ferry.archives.portable_tar import odd
from ollama_ferry.archives.read_ahead import ReadAhead
from ollama_ferry.archives.recognizing import START, recognized
from ollama_ferry.archives.tar_reading import TarReader, is_tar
from ollama_ferry.archives.unpacking import CHUNK, Input, Joined, Unpacked, packing_of, peek, unpacked
from ollama_ferry.engine.ports import BlobEntry, LeavesOut, ModelEntry
from ollama_ferry.errors import Damaged
from ollama_ferry.model.layout import BlobPath, ImageLayer, LoosePath, ManifestPath, meaning_of
from ollama_ferry.model.manifests import Descriptor, Digest
from ollama_ferry.places.archive.contents import Contents, ContentsBuilder
from ollama_ferry.places.archive.reading import Labelled, Metered, OnRead, ignore_reads, naming

# How often it may be packed: once more than a browser's or a proxy's mistake makes it.
_PACKED_AGAIN = 3


class ArchiveStream:
    """An archive that passes by once: standard input, or a packed file without an index.

    Args:
        data: the archive, at its start.
        label: what it is called in messages.
        on_read: notified of every read.
        lenient: take what not every tar reads in the same way.
        exact: unpack as strictly as others do, though it takes longer, and take nothing that they do not unpack.

    Raises:
        Damaged: it is a zip, which can't be read as a stream, or no archive at all.
    """

    # What passes by can't be had again.
    _opens_any = False
    _looks_into_blobs = True
    _unpacked: Unpacked
    _ahead: ReadAhead | None = None

    def __init__(
        self, data: Input, label: str, *, on_read: OnRead = ignore_reads, lenient: bool = False, exact: bool = False
    ) -> None:
        self.label = label
        self._lenient = lenient
        self._exact = exact
        self.contents = Contents()
        metered = Metered(data, label, on_read)
        start = b""
        while len(start) < 6 and (more := metered.read(CHUNK)):
            start += more
        packing = packing_of(start)
        if packing == "zip":
            raise Damaged(f"{label}: a zip can't be read as a stream", hint="Save it as a file, and name that.")
        with naming(label):
            if not packing:
                self._unpacked = self._tar_in(unpacked(Joined(start, metered), packing))
                return
            ahead = self._ahead = ReadAhead(on_read)
            rest = Metered(data, label, ahead.count)
            ahead.begin(unpacked(Joined(start, rest), packing, lenient=lenient, exact=exact))
            try:
                self._unpacked = self._tar_in(ahead)
            except BaseException:
                self.close()
                raise

    def close(self, *, wait: bool = False) -> None:
        """End what reads ahead; see :meth:`ReadAhead.close`."""
        if self._ahead is not None:
            self._ahead.close(wait=wait)

    def entries(self) -> Iterator[BlobEntry | ModelEntry | LeavesOut]:
        """Give what is left out, then blobs as they pass by, and at the end the models."""
        with naming(self.label), closing(self):
            builder = ContentsBuilder(self.contents, lenient=self._lenient, exact=self._exact, by_size=self._opens_any)
            reader = TarReader(self._unpacked, lenient=self._lenient)
            for member in reader:
                if reader.comments:
                    left_out = left_out_blobs(pair for comment in reader.comments for pair in left_out_of(comment))
                    reader.comments.clear()
                    self.contents.left_out.update(left_out)
                    yield LeavesOut(tuple(Descriptor(digest, size) for digest, size in left_out.items()))
                self._meet(member)
                yield from self._sorted(member, reader, builder)
            builder.finish()
            # Only now is it known what they are called, and whether there are two of one name.
            for name, manifest in self.contents.models.items():
                yield ModelEntry(name, manifest)

    def scan(self) -> Contents:
        """Read to the end, and return what the archive holds; blobs are passed over.

        Raises:
            Damaged: it is damaged as far as that shows without hashing.
        """
        for _ in self.entries():
            pass
        return self.contents

    def _meet(self, member: Member) -> None:
        """Look at a member before its meaning is."""

    def _sorted(self, member: Member, reader: TarReader, builder: ContentsBuilder) -> Iterator[BlobEntry]:
        meaning = builder.take(member)
        if isinstance(meaning, BlobPath):
            yield self._blob(meaning, member, reader, builder)
        elif isinstance(meaning, ImageLayer):
            yield from self._image_layer(meaning, member, reader, builder)
        elif meaning is not None:
            builder.add(meaning, member, _read_whole(reader))

    def _blob(self, path: BlobPath, member: Member, data: Unpacked, builder: ContentsBuilder) -> BlobEntry:
        if self._looks_into_blobs:
            data = builder.telling_blobs.look_into(path, member, data)
        blob = Descriptor(path.digest, member.size)
        return BlobEntry(blob, Labelled(self.label, data), certain=path.root is not None)

    def _image_layer(
        self, layer: ImageLayer, member: Member, reader: TarReader, builder: ContentsBuilder
    ) -> Iterator[BlobEntry]:
        """Read what is a layer of a container's image by its name; a tar within, or a blob."""
        start, data = peek(reader, START)
        packing = packing_of(start)
        if packing not in ("gzip", "zstd") and not is_tar(start):
            if layer.blob is not None:
                builder.note_blob(layer.blob, member)
                yield self._blob(layer.blob, member, data, builder)
            return
        if self._exact:
            raise odd(
                f"{member.name[:200]!r} is a layer of an image, out of which no tar restores a model",
                "`ollama-ferry import` takes the models out of it, and checks every byte.",
                lenient=False,
            )
        if packing:
            self.contents.searchable = False
            data = unpacked(data, packing, lenient=True)
        with builder.in_layer(member):
            inner = TarReader(data, lenient=True)
            for one in inner:
                meaning = builder.take(one)
                if isinstance(meaning, BlobPath):
                    yield self._blob(meaning, one, inner, builder)
                elif isinstance(meaning, ManifestPath | LoosePath):
                    builder.add(meaning, one, _read_whole(inner))

    def _tar_in(self, data: Unpacked) -> Unpacked:
        """Find the tar in what was unpacked, which may be packed once more; tell what is none.

        Raises:
            ReadDifferently: others would not unpack it.
            Damaged: it is something else.
        """
        for _ in range(_PACKED_AGAIN):
            start, data = peek(data, START)
            packing = packing_of(start)
            if not packing or is_tar(start):
                break
            if packing == "zip":
                raise Damaged("it is a zip that was packed again", hint="Unpack it once, and name the zip.")
            if self._exact:
                raise odd(
                    f"it is packed twice, by {packing} within, and most readers unpack it once",
                    "`ollama-ferry import` takes it; unpacked once (`gzip -dc`) it is an ordinary archive.",
                    lenient=False,
                )
            data = unpacked(data, packing, lenient=self._lenient)
        if start and not is_tar(start) and (found := recognized(start)):
            raise Damaged(f"it is {found.what}, and no archive of models", hint=found.hint)
        return data


class SeekingStream(ArchiveStream):
    """A plain tar in a file: what is not read is skipped by seeking."""

    _opens_any = True

    def __init__(self, file: BinaryIO, label: str, *, lenient: bool, exact: bool) -> None:
        self.label = label
        self._lenient = lenient
        self._exact = exact
        self.contents = Contents()
        with naming(label):
            self._unpacked = self._tar_in(unpacked(Metered(file, label, ignore_reads), ""))


class FramedStream(ArchiveStream):
    """An indexed archive from its start to its end.

    What the tar has in it must be what the index says: otherwise a plain tar would restore something else than is
    shown here. To find that out (:meth:`scan`) costs the frames between the blobs, not those of the blobs: what hides
    beside these would need a header.
    """

    # Exports write neither links nor cloud stubs, and to look for them would unpack frames that are passed over.
    _looks_into_blobs = False

    def __init__(
        self, data: FramePart, index: Index, label: str, on_read: OnRead, *, lenient: bool, exact: bool
    ) -> None:
        self.label = label
        self._lenient = lenient
        self._exact = exact
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
                found = meaning.digest if isinstance(meaning, BlobPath) else None
                if isinstance(meaning, ManifestPath) and meaning.name in self.contents.models:
                    found = self.contents.models[meaning.name].digest
                if found is not None and found.hex != file.sha256:
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


def _read_whole(reader: TarReader) -> bytes:
    return b"".join(iter(lambda: reader.read(CHUNK), b""))
