"""The file of an archive, opened for reading: as a place that can be searched, or as a stream.

Any tar is taken (plain, or packed by gzip, zstd, xz or bzip2) and any zip, whoever made it, as long as blobs and
manifests have Ollama's layout in it. Nothing in it is trusted: a member's path only tells a digest or a name, links and
devices are refused, and everything that is read into memory is bounded.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from ollama_ferry.archives.frame_reading import FrameReader
from ollama_ferry.archives.index import Index, read_index
from ollama_ferry.archives.recognizing import unfinished_hint
from ollama_ferry.archives.unpacking import CHUNK, packing_of
from ollama_ferry.archives.volumes.foreign import foreign_volumes, is_first_part
from ollama_ferry.archives.volumes.reading import JoinedVolumes, Volumes
from ollama_ferry.archives.zip_reading import ZipReader
from ollama_ferry.engine.cores import threads_at_once
from ollama_ferry.engine.ports import BlobEntry, Readable
from ollama_ferry.errors import Damaged, FerryError, NotFound, NotPermitted, Remedy
from ollama_ferry.files.identity import as_started
from ollama_ferry.model.layout import LoosePath, ManifestPath
from ollama_ferry.model.manifests import MANIFEST_LIMIT, Digest
from ollama_ferry.places.archive.contents import Contents, ContentsBuilder
from ollama_ferry.places.archive.reading import Metered, OnRead, PlainPart, ignore_reads, naming
from ollama_ferry.places.archive.source import ArchiveSource
from ollama_ferry.places.archive.stream import ArchiveStream, FramedStream, SeekingStream

# A frame has up to 1 MiB.
_FRAMES_KEPT = 64
_THREADS = threads_at_once()


def read_contents(path: Path, *, on_read: OnRead = ignore_reads) -> ArchiveSource:
    """Find out what an archive's file holds; a packed one without an index is read to its end for that.

    Nothing of it is taken, so what not every tar reads in the same way is reported too.

    Args:
        path: the file.
        on_read: notified of every read.

    Returns:
        A source that tells names, manifests and sizes; it opens no blob.

    Raises:
        FerryError: it can't be read, or is damaged as far as that shows without hashing.
    """
    with ArchiveFile(path, on_read=on_read, lenient=True) as file:
        source = file.source()
        contents = source.contents if source is not None else file.stream().scan()
        return ArchiveSource(file.label, contents, None)


class ArchiveFile:
    """An archive's file, opened for reading; what it is is told by its content.

    Args:
        path: the file; or the first of its volumes, the others of which lie beside it.
        on_read: notified of every read of :meth:`stream`.
        shared: many will read at once, and often the same: frames that were unpacked are kept for the others.
        lenient: take what not every tar reads in the same way (:mod:`ollama_ferry.archives.portable_tar`).
        exact: unpack as strictly as others do, though it takes longer: for a verdict.

    Attributes:
        size: of the file, in bytes.
        packing: what packs it; empty for a plain tar.
        index: its index; None where it has none, or needs none.
        note: what is to be notified of it, such as an index that is damaged and was ignored; empty for nothing.

    Raises:
        NotFound, NotPermitted: there is no such file, or it can't be read.
    """

    def __init__(
        self,
        path: Path,
        *,
        on_read: OnRead = ignore_reads,
        shared: bool = False,
        lenient: bool = False,
        exact: bool = False,
    ) -> None:
        self._lenient = lenient
        self._exact = exact
        self.path = path
        self.label = str(path)
        self._keep = _FRAMES_KEPT if shared else 2 * (_THREADS + 1)
        self._on_read = on_read
        self._file = _open_file(path)
        self._identity = _identity(self._file)
        self.size = self._file.seek(0, io.SEEK_END)
        self._file.seek(0)
        try:
            self.packing = packing_of(Metered(self._file, self.label, ignore_reads).read(6))
        except BaseException:
            self._file.close()
            raise
        self.index: Index | None = None
        self.note = ""
        self._frames: FrameReader | None = None
        self._stream: ArchiveStream | None = None
        if self.packing in ("gzip", "zstd"):
            try:
                self.index = read_index(self._file, self.packing)
            except Damaged as error:
                self.note = f"{self.label}: {error}; it is ignored, and the archive is read as a stream"
            except BaseException:
                self._file.close()
                raise

    def __enter__(self) -> ArchiveFile:
        return self

    def __exit__(self, kind: object, value: BaseException | None, trace: object) -> None:
        if self._frames is not None:
            self._frames.close()
        if self._stream is not None:
            self._stream.close(wait=True)
        if isinstance(value, Damaged) and self.may_lack_volumes:
            value.hint = f"Perhaps volumes are missing: the last one in {self.path.parent} is a full one."
        elif isinstance(value, Damaged) and is_first_part(self.path) and not isinstance(self._file, JoinedVolumes):
            value.hint = f"By its name it is the first of several parts: copy the others into {self.path.parent}."
        elif isinstance(value, Damaged) and (hint := unfinished_hint(self.path.name)):
            value.hint = hint
        self._file.close()

    def peek(self, size: int) -> bytes:
        """Return the first bytes of the file, at most ``size``."""
        self._file.seek(0)
        start = b""
        with naming(self.label):
            reader = Metered(self._file, self.label, ignore_reads)
            while len(start) < size and (more := reader.read(size - len(start))):
                start += more
        return start

    @property
    def may_lack_volumes(self) -> bool:
        """Whether it is in volumes the last of which is a full one: where its end is missing, that is why."""
        return isinstance(self._file, JoinedVolumes) and self._file.last_is_full

    @property
    def searchable(self) -> bool:
        """Whether :meth:`source` gives one, without reading the archive."""
        return self.packing in ("", "zip") or self.index is not None

    @property
    def stream_size(self) -> int:
        """How many bytes :meth:`stream` will tell of."""
        return self.index.frames.size if self.index is not None else self.size

    def source(self) -> ArchiveSource | None:
        """Return the archive as a place that can be searched; None where it has to be read as a stream.

        Raises:
            Damaged: it is damaged as far as that shows without reading the blobs.
        """
        if self.packing == "zip":
            with naming(self.label):
                file = cast(BinaryIO, Metered(self._file, self.label, ignore_reads))
                reader = ZipReader(file, lenient=self._lenient, exact=self._exact)
                contents = _zip_contents(reader, lenient=self._lenient, exact=self._exact)

            def open_zipped(digest: Digest, size: int, place: int, offset: int) -> AbstractContextManager[Readable]:
                return _zip_member(reader, place, offset)

            return ArchiveSource(self.label, contents, open_zipped)
        if self.index is not None:
            contents = self._framed_stream(self.index, ignore_reads, ahead=False).scan()
            return ArchiveSource(self.label, contents, self._open_framed)
        if self.packing:
            return None
        contents = self._plain_stream().scan()
        return ArchiveSource(self.label, contents, self._open_plain if contents.searchable else self._open_streamed)

    def slow_source(self) -> ArchiveSource:
        """Return a packed archive as a place that can be searched all the same: it is read up to each blob anew.

        Raises:
            Damaged: it is damaged as far as that shows without hashing; it was read to its end.
        """
        return ArchiveSource(self.label, self.stream().scan(), self._open_streamed)

    def stream(self) -> ArchiveStream:
        """Return the archive as a stream, from its start; where there is an index, unpacked on all cores."""
        if self.index is not None:
            return self._framed_stream(self.index, self._on_read, ahead=True)
        if self._stream is not None:
            # It reads the same file.
            self._stream.close(wait=True)
        self._file.seek(0)
        self._stream = ArchiveStream(
            self._file, self.label, on_read=self._on_read, lenient=self._lenient, exact=self._exact
        )
        return self._stream

    def _framed_stream(self, index: Index, on_read: OnRead, *, ahead: bool) -> FramedStream:
        if self._frames is None:
            self._frames = FrameReader(
                self._file, index.frames, self.packing, threads=_THREADS, keep=self._keep, exact=self._exact
            )
        data = self._frames.part(0, index.frames.size, ahead=ahead)
        return FramedStream(data, index, self.label, on_read, lenient=self._lenient, exact=self._exact)

    @contextmanager
    def _open_framed(self, digest: Digest, size: int, place: int, offset: int) -> Iterator[Readable]:
        assert self._frames is not None  # noqa: S101 -- source() has made it
        yield self._frames.part(place + offset, size - offset)

    def _plain_stream(self) -> ArchiveStream:
        self._file.seek(0)
        return SeekingStream(self._file, self.label, lenient=self._lenient, exact=self._exact)

    @contextmanager
    def _open_plain(self, digest: Digest, size: int, place: int, offset: int) -> Iterator[Readable]:
        with self._open_again() as file:
            file.seek(place + offset)
            yield PlainPart(file, self.label, size - offset)

    @contextmanager
    def _open_streamed(self, digest: Digest, size: int, place: int, offset: int) -> Iterator[Readable]:
        with self._open_again() as file:
            stream = ArchiveStream(file, self.label, lenient=self._lenient)
            try:
                for entry in stream.entries():
                    if isinstance(entry, BlobEntry) and (entry.blob.digest, entry.blob.size) == (digest, size):
                        while offset and (passed := len(entry.data.read(min(offset, CHUNK)))):
                            offset -= passed
                        yield entry.data
                        return
            finally:
                # What reads ahead must be done with the file.
                stream.close(wait=True)
        raise Damaged(f"{self.label}: the blob {digest} is not in it any more")

    @contextmanager
    def _open_again(self) -> Iterator[BinaryIO]:
        """Open the file anew for every blob, so that several threads may read at once."""
        with as_started():
            opened = _open_file(self.path)
        with opened as file:
            if _identity(file) != self._identity:
                raise Damaged(f"{self.label}: another file has taken its place, or it was changed, since it was opened")
            yield file


def _zip_contents(reader: ZipReader, *, lenient: bool, exact: bool) -> Contents:
    contents = Contents()
    builder = ContentsBuilder(contents, lenient=lenient, by_size=True)
    others = []
    for member in reader:
        meaning = builder.take(member)
        if meaning is not None and reader.costs_to_search(member.offset):
            contents.searchable = False
        if meaning is None:
            others.append(member.offset)
        elif isinstance(meaning, ManifestPath | LoosePath):
            with reader.open(member.offset) as data:
                builder.add(meaning, member, _beginning(data, MANIFEST_LIMIT))
    builder.finish()
    if exact:
        # The blobs are read for the verdict.
        reader.check_contents(others)
    return contents


def _beginning(data: Readable, limit: int) -> bytes:
    """Read until there are so many bytes, or no more."""
    parts = []
    while limit and (part := data.read(limit)):
        parts.append(part)
        limit -= len(part)
    return b"".join(parts)


@contextmanager
def _zip_member(reader: ZipReader, number: int, offset: int) -> Iterator[Readable]:
    with reader.open(number) as data:
        while offset:
            passed = len(data.read(min(offset, CHUNK)))
            if not passed:
                break
            offset -= passed
        yield data


def _identity(file: BinaryIO) -> tuple[int, ...]:
    """Return what tells a file from another one, or from its own later self; nothing for joined volumes."""
    if not isinstance(file, io.FileIO):
        return ()
    found = os.fstat(file.fileno())
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _open_file(path: Path) -> BinaryIO:
    volumes = Volumes.named(path)
    if volumes is not None:
        return cast(BinaryIO, JoinedVolumes(volumes.require_all()))
    if parts := foreign_volumes(path):
        return cast(BinaryIO, JoinedVolumes(parts))
    try:
        # Not blocking: a FIFO that nobody writes to is refused below instead of waited for.
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {path}", hint="Name an archive's file.") from error
    except PermissionError as error:
        raise NotPermitted(f"not permitted to read {path}: {error.strerror}") from error
    except OSError as error:
        if error.errno == errno.EISDIR:
            raise NotFound(f"{path} is a folder, and no archive") from error
        raise FerryError(f"can't read {path}: {error.strerror or error}") from error
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode) or stat.S_ISBLK(mode):
        return open(fd, "rb", buffering=0)
    os.close(fd)
    if stat.S_ISDIR(mode):
        raise NotFound(f"{path} is a folder, and no archive", remedies=[Remedy("store", str(path))])
    raise NotFound(f"{path} is no regular file", hint="Use - and redirect it: ... - < FILE")
