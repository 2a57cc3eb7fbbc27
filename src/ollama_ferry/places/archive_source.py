"""An archive as a place to read models from: a file that can be searched, or a stream that passes by.

Any tar is taken (plain, or packed by gzip, zstd, xz or bzip2) and any zip, whoever made it, as long as blobs and
manifests have Ollama's layout in it. Nothing in it is trusted: a member's path only tells a digest or a name, links and
devices are refused, and everything that is read into memory is bounded.
"""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from ollama_ferry.archives.frame_reading import FramePart, FrameReader
from ollama_ferry.archives.index import Index, read_index
from ollama_ferry.archives.left_out import LeftOutBlob, left_out_of
from ollama_ferry.archives.members import Member, MemberKind
from ollama_ferry.archives.tar_reading import TarReader
from ollama_ferry.archives.unpacking import CHUNK, Input, Joined, packing_of, unpacked
from ollama_ferry.archives.volumes import JoinedVolumes, Volumes
from ollama_ferry.archives.zip_reading import ZipReader
from ollama_ferry.copying import left_out_error
from ollama_ferry.errors import CloudStub, Damaged, FerryError, MissingBlob, ModelNotFound, NotFound, NotPermitted
from ollama_ferry.events import Cancel
from ollama_ferry.hashing import sha256_of
from ollama_ferry.layout import meaning_of
from ollama_ferry.manifests import MANIFEST_LIMIT, Descriptor, Digest, Manifest, remote_host
from ollama_ferry.names import ModelName, nearest
from ollama_ferry.places.archive_contents import Contents, Gathering
from ollama_ferry.places.base import BlobEntry, LeavesOut, ModelEntry, Readable

_CONFIG_LIMIT = 1024 * 1024
# A frame has up to 1 MiB.
_FRAMES_KEPT = 64

Tick = Callable[[int], None]
"""Told how many bytes of the archive's file were read since the last call; may raise to stop."""


def _no_tick(count: int) -> None:
    """Tell nobody."""


def read_contents(path: Path, *, tick: Tick = _no_tick) -> ArchiveSource:
    """Find out what an archive's file holds; a packed one without an index is read to its end for that.

    Args:
        path: the file.
        tick: told of every read.

    Returns:
        A source that tells names, manifests and sizes; it opens no blob.

    Raises:
        FerryError: it can't be read, or is damaged as far as that shows without hashing.
    """
    with ArchiveFile(path, tick=tick) as file:
        source = file.source()
        contents = source.contents if source is not None else file.stream().scan()
        return ArchiveSource(file.label, contents, None)


class Opener(Protocol):
    """Opens a blob's content from some byte on."""

    def __call__(self, size: int, place: int, offset: int) -> AbstractContextManager[Readable]: ...


class ArchiveStream:
    """An archive that passes by once: standard input, or a packed file without an index.

    Args:
        data: the archive, at its start.
        label: what it is called in messages.
        tick: told of every read.

    Raises:
        Damaged: it is a zip, which can't be read as a stream.
    """

    def __init__(self, data: Input, label: str, *, tick: Tick = _no_tick) -> None:
        self.label = label
        self.contents = Contents()
        metered = _Metered(data, label, tick)
        start = b""
        while len(start) < 6 and (more := metered.read(CHUNK)):
            start += more
        packing = packing_of(start)
        if packing == "zip":
            raise Damaged(f"{label}: a zip can't be read as a stream", hint="Save it as a file, and name that.")
        with _naming(label):
            self._unpacked = unpacked(Joined(start, metered), packing)

    def entries(self) -> Iterator[BlobEntry | ModelEntry | LeavesOut]:
        """Give blobs and manifests as they pass by; what is left out first."""
        with _naming(self.label):
            reader = TarReader(self._unpacked)
            gathering = Gathering(self.contents)
            for member in reader:
                if reader.comments:
                    left_out = _left_out(pair for comment in reader.comments for pair in left_out_of(comment))
                    reader.comments.clear()
                    self.contents.left_out.update(left_out)
                    yield LeavesOut(tuple(Descriptor(digest, size) for digest, size in left_out.items()))
                meaning = gathering.take(member)
                if isinstance(meaning, Digest):
                    blob = Descriptor(meaning, member.size)
                    yield BlobEntry(blob, _Labelled(self.label, reader))
                elif meaning is not None and gathering.add(meaning, _read_manifest(reader), member.check):
                    yield ModelEntry(meaning, self.contents.models[meaning])

    def scan(self) -> Contents:
        """Read to the end, and return what the archive holds; blobs are passed over.

        Raises:
            Damaged: it is damaged as far as that shows without hashing.
        """
        for _ in self.entries():
            pass
        return self.contents


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
        """Give the models in it, sorted."""
        yield from sorted(self.contents.models)

    def manifest(self, name: ModelName) -> Manifest:
        """Return a model's manifest."""
        try:
            return self.contents.models[name]
        except KeyError:
            raise self.not_found(name) from None

    def open(self, blob: Descriptor, offset: int = 0) -> AbstractContextManager[Readable]:
        """Open a blob's bytes.

        Raises:
            MissingBlob, Damaged: it is not here, or has another size than was asked for.
        """
        size, place = self.require_blob(blob)
        assert self._opener is not None  # noqa: S101 -- whoever made it knows that nothing can be opened
        return _labelled(self.label, self._opener(size, place, offset))

    def check_repeated(self, cancel: Cancel) -> None:
        """Make sure that blobs which occur several times are the same each time.

        Raises:
            Damaged: they are not; which one another reader would take is anybody's guess.
        """
        for digest, size, place in self.contents.repeated:
            assert self._opener is not None  # noqa: S101 -- as above
            with _labelled(self.label, self._opener(size, place, 0)) as data:
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
        """Tell whether a blob is not in the archive on purpose."""
        return digest in self.contents.left_out and digest not in self.contents.blobs

    def require_whole(self, name: ModelName, manifest: Manifest) -> None:
        """Check that each blob of a model is in the archive with its size, or was left out on purpose."""
        for blob in manifest.blobs:
            if not self.leaves_out(blob.digest):
                self.require_blob(blob, name)
        host = self.remote_host(manifest)
        if host:
            raise CloudStub(f"{name} is a cloud model: it runs at {host} and has no weights")

    def remote_host(self, manifest: Manifest) -> str | None:
        """Return the host that a cloud stub names in its config; None for a model with weights."""
        config = manifest.config
        if self._opener is None or config is None or config.size > _CONFIG_LIMIT:
            return None
        if self.blob_size(config.digest) != config.size:
            return None
        with self.open(config) as file:
            raw = b"".join(iter(lambda: file.read(_CONFIG_LIMIT), b""))
        return remote_host(raw)

    def resolve(self, name: ModelName) -> ModelName:
        """Return the name as it is spelt here: an exact match first, else one that differs in case only.

        Raises:
            ModelNotFound: there is no such model.
        """
        if name in self.contents.models:
            return name
        for other in self.names():
            if other.key == name.key:
                return other
        raise self.not_found(name)

    def not_found(self, name: ModelName) -> ModelNotFound:
        """Return the error for a model that is not here."""
        close = nearest(str(name), self.names())
        hint = f"Did you mean {', '.join(map(str, close))}?" if close else f"`ollama-ferry list {self.label}` shows it."
        return ModelNotFound(f"there is no model {name} in {self.label}", hint=hint, name=name)

    def require_blob(self, blob: Descriptor, name: ModelName | None = None) -> tuple[int, int]:
        """Check that a blob is in the archive with its size; return size and place.

        Args:
            blob: the blob.
            name: the model that needs it, for the message.

        Raises:
            MissingBlob, Damaged: it is not, or it has another size.
        """
        whose = f"{name}: its {blob.kind} blob {blob.digest}" if name else f"the blob {blob.digest}"
        found = self.contents.blobs.get(blob.digest)
        if found is None and blob.digest in self.contents.left_out:
            raise left_out_error(self.label, [blob])
        if found is None:
            raise MissingBlob(
                f"{whose} is not in {self.label}",
                hint="The archive is not whole: make it anew.",
                digest=str(blob.digest),
            )
        if found[0] != blob.size:
            raise Damaged(
                f"{whose} has {found[0]} bytes in {self.label}, and the manifest says {blob.size}",
                hint="The archive is damaged: make it anew.",
                digest=str(blob.digest),
            )
        return found


class ArchiveFile:
    """An archive's file, opened for reading; what it is is told by its content.

    Args:
        path: the file; or the first of its volumes, the others of which lie beside it.
        tick: told of every read of :meth:`stream`.
        shared: many will read at once, and often the same: frames that were unpacked are kept for the others.

    Attributes:
        size: of the file, in bytes.
        packing: what packs it; empty for a plain tar.
        index: its index; None where it has none, or needs none.
        note: what is to be told of it, such as an index that is damaged and was ignored; empty for nothing.

    Raises:
        NotFound, NotPermitted: there is no such file, or it can't be read.
    """

    def __init__(self, path: Path, *, tick: Tick = _no_tick, shared: bool = False) -> None:
        self.path = path
        self.label = str(path)
        self._keep = _FRAMES_KEPT if shared else 0
        self._tick = tick
        self._file = _open_file(path)
        self.size = self._file.seek(0, io.SEEK_END)
        self._file.seek(0)
        try:
            self.packing = packing_of(_Metered(self._file, self.label, _no_tick).read(6))
        except BaseException:
            self._file.close()
            raise
        self.index: Index | None = None
        self.note = ""
        self._frames: FrameReader | None = None
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
        if isinstance(value, Damaged) and isinstance(self._file, JoinedVolumes) and self._file.last_is_full:
            value.hint = f"Perhaps volumes are missing: the last one in {self.path.parent} is a full one."
        self._file.close()

    def peek(self, size: int) -> bytes:
        """Return the first bytes of the file, at most ``size``."""
        self._file.seek(0)
        start = b""
        with _naming(self.label):
            reader = _Metered(self._file, self.label, _no_tick)
            while len(start) < size and (more := reader.read(size - len(start))):
                start += more
        return start

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
            with _naming(self.label):
                reader = ZipReader(cast(BinaryIO, _Metered(self._file, self.label, _no_tick)))
                contents = _zip_contents(reader)

            def open_zipped(size: int, place: int, offset: int) -> AbstractContextManager[Readable]:
                return _zip_member(reader, place, offset)

            return ArchiveSource(self.label, contents, open_zipped)
        if self.index is not None:
            with _naming(self.label):
                return ArchiveSource(self.label, self._indexed_contents(self.index), self._open_framed)
        if self.packing:
            return None
        return ArchiveSource(self.label, self._plain_stream().scan(), self._open_plain)

    def stream(self) -> ArchiveStream:
        """Return the archive as a stream, from its start.

        Where there is an index, frames are unpacked on all cores, and what the tar has in it must be what the index
        says: otherwise a plain tar would restore something else than is shown here.
        """
        if self.index is not None:
            return _FramedStream(self._framed(self.index), self.index, self.label, self._tick)
        self._file.seek(0)
        return ArchiveStream(self._file, self.label, tick=self._tick)

    def _framed(self, index: Index) -> FrameReader:
        if self._frames is None:
            threads = min(8, os.cpu_count() or 1)
            self._frames = FrameReader(self._file, index.frames, self.packing, threads=threads, keep=self._keep)
        return self._frames

    def _indexed_contents(self, index: Index) -> Contents:
        contents = Contents(left_out=_left_out(index.left_out))
        gathering = Gathering(contents)
        reader = self._framed(index)
        for file in index.files:
            meaning = gathering.take(Member(file.path, MemberKind.FILE, file.size, file.offset))
            if isinstance(meaning, ModelName):
                part = reader.part(file.offset, file.size)
                raw = b"".join(iter(lambda: part.read(CHUNK), b""))  # noqa: B023 -- used up at once
                if Digest.of(raw).hex != file.sha256:
                    raise Damaged(f"the manifest of {meaning} is not the one that the index names")
                gathering.add(meaning, raw)
        return contents

    @contextmanager
    def _open_framed(self, size: int, place: int, offset: int) -> Iterator[Readable]:
        assert self._frames is not None  # noqa: S101 -- source() has made it
        yield self._frames.part(place + offset, size - offset)

    def _plain_stream(self) -> ArchiveStream:
        self._file.seek(0)
        return _SeekingStream(self._file, self.label)

    @contextmanager
    def _open_plain(self, size: int, place: int, offset: int) -> Iterator[Readable]:
        # A file of its own for every blob, so that several threads may read at once.
        with _open_file(self.path) as file:
            file.seek(place + offset)
            yield _Limited(_Metered(file, self.label, _no_tick), size - offset)


class _SeekingStream(ArchiveStream):
    """A plain tar in a file: what is not read is skipped by seeking."""

    def __init__(self, file: BinaryIO, label: str) -> None:
        self.label = label
        self.contents = Contents()
        self._unpacked = unpacked(_Metered(file, label, _no_tick), "")


class _FramedStream(ArchiveStream):
    """An indexed archive from its start to its end."""

    def __init__(self, reader: FrameReader, index: Index, label: str, tick: Tick) -> None:
        self.label = label
        self.contents = Contents()
        self._index = index
        self._unpacked = _Told(reader.part(0, index.frames.size), tick)

    def entries(self) -> Iterator[BlobEntry | ModelEntry | LeavesOut]:
        yield from super().entries()
        said = Contents()
        gathering = Gathering(said)
        with _naming(self.label):
            for file in self._index.files:
                gathering.take(Member(file.path, MemberKind.FILE, file.size, file.offset))
            models = {meaning_of(file.path): file.sha256 for file in self._index.files} if not said.ignored else {}
            found: dict[Digest | ModelName | None, str] = {digest: digest.hex for digest in self.contents.blobs}
            found.update((name, manifest.digest.hex) for name, manifest in self.contents.models.items())
            left_out = _left_out(self._index.left_out)
            if said.blobs != self.contents.blobs or models != found or left_out != self.contents.left_out:
                raise Damaged("its index says something else than is in it")


class _Told:
    """Unpacked bytes that are told of as they are read or skipped."""

    def __init__(self, data: FramePart, tick: Tick) -> None:
        self.position = 0
        self._data = data
        self._tick = tick

    def read(self, size: int, /) -> bytes:
        chunk = self._data.read(size)
        self.position += len(chunk)
        self._tick(len(chunk))
        return chunk

    def skip(self, count: int) -> None:
        self._data.skip(count)
        self.position += count
        self._tick(count)


class _Metered(io.RawIOBase):
    """A file whose reads are counted, and whose errors say which archive they are about."""

    def __init__(self, data: Input, label: str, tick: Tick) -> None:
        self._data = data
        self._label = label
        self._tick = tick

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return isinstance(self._data, io.IOBase) and self._data.seekable()

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        assert isinstance(self._data, io.IOBase)  # noqa: S101 -- seekable() says so
        return self._data.seek(offset, whence)

    def tell(self) -> int:
        assert isinstance(self._data, io.IOBase)  # noqa: S101 -- seekable() says so
        return self._data.tell()

    def read(self, size: int = -1, /) -> bytes:
        """Give at most ``size`` bytes."""
        try:
            chunk = self._data.read(size)
        except OSError as error:
            raise FerryError(
                f"reading {self._label} failed: {error.strerror or error}",
                hint="The disk or stick may be failing, or was pulled out; run the same command again.",
            ) from error
        self._tick(len(chunk))
        return chunk


class _Limited:
    """A part of a file."""

    def __init__(self, data: Readable, size: int) -> None:
        self._data = data
        self._left = size

    def read(self, size: int, /) -> bytes:
        chunk = self._data.read(min(size, self._left)) if self._left else b""
        self._left -= len(chunk)
        return chunk


class _Labelled:
    """Errors of a read say which archive they are about."""

    def __init__(self, label: str, data: Readable) -> None:
        self._label = label
        self._data = data

    def read(self, size: int, /) -> bytes:
        with _naming(self._label):
            return self._data.read(size)


@contextmanager
def _labelled(label: str, opened: AbstractContextManager[Readable]) -> Iterator[Readable]:
    with _naming(label):
        entered = opened.__enter__()
    try:
        yield _Labelled(label, entered)
    finally:
        opened.__exit__(None, None, None)


@contextmanager
def _naming(label: str) -> Iterator[None]:
    """Put the archive's name before what is wrong with it, once."""
    try:
        yield
    except Damaged as error:
        if error.message.startswith(f"{label}: "):
            raise
        hint = error.hint or "Copy the archive again from where it came from; `ollama-ferry verify` checks a copy."
        raise Damaged(f"{label}: {error.message}", hint=hint, digest=error.digest) from error


def _left_out(pairs: Iterable[LeftOutBlob]) -> dict[Digest, int]:
    return {Digest(sha256): size for sha256, size in pairs}


def _read_manifest(reader: TarReader) -> bytes:
    parts = []
    while chunk := reader.read(CHUNK):
        parts.append(chunk)
    return b"".join(parts)


def _zip_contents(reader: ZipReader) -> Contents:
    contents = Contents()
    gathering = Gathering(contents)
    for member in reader:
        meaning = gathering.take(member)
        if isinstance(meaning, ModelName):
            with reader.open(member.offset) as data:
                # zipfile ends at the size that its directory gives, which was looked at.
                gathering.add(meaning, data.read(MANIFEST_LIMIT))
    return contents


@contextmanager
def _zip_member(reader: ZipReader, number: int, offset: int) -> Iterator[Readable]:
    with reader.open(number) as data:
        while offset:
            passed = len(data.read(min(offset, CHUNK)))
            if not passed:
                break
            offset -= passed
        yield data


def _open_file(path: Path) -> BinaryIO:
    volumes = Volumes.named(path)
    if volumes is not None:
        return cast(BinaryIO, JoinedVolumes(volumes.require_all()))
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
        raise NotFound(f"{path} is a folder, and no archive", hint="To read a store, name it with --models.")
    raise NotFound(f"{path} is no regular file", hint="Use - and redirect it: ... - < FILE")
