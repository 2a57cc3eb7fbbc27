"""Bytes of an archive on their way: counted, bounded, and with errors that say which archive they are of."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import BinaryIO

from ollama_ferry.archives.unpacking import Input
from ollama_ferry.engine.ports import Extent, Readable, extents_of
from ollama_ferry.errors import Damaged, FerryError

OnRead = Callable[[int], None]
"""Told how many bytes of the archive's file were read since the last call; may raise to stop."""


def ignore_reads(count: int) -> None:
    """Tell nobody."""


class Metered(io.RawIOBase):
    """A file whose reads are counted, and whose errors say which archive they are about."""

    def __init__(self, data: Input, label: str, on_read: OnRead) -> None:
        self._data = data
        self._label = label
        self._on_read = on_read

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
        if chunk is None:
            raise FerryError(f"{self._label} gives nothing just now, and does not let itself be waited for")
        self._on_read(len(chunk))
        return chunk


class Limited:
    """A part of a file."""

    def __init__(self, data: Readable, size: int) -> None:
        self._data = data
        self._left = size

    def read(self, size: int, /) -> bytes:
        chunk = self._data.read(min(size, self._left)) if self._left else b""
        self._left -= len(chunk)
        return chunk


class PlainPart(Limited):
    """A part of a file from its position on, as it is."""

    def __init__(self, file: BinaryIO, label: str, size: int) -> None:
        super().__init__(Metered(file, label, ignore_reads), size)
        self._file = file

    def extents(self, most: int) -> Sequence[Extent]:
        # Volumes that are joined are no one file.
        found = extents_of(self._file, min(most, self._left)) if isinstance(self._file, io.FileIO) else ()
        self._left -= sum(extent.size for extent in found)
        return found


class Labelled:
    """Errors of a read say which archive they are about."""

    def __init__(self, label: str, data: Readable) -> None:
        self._label = label
        self._data = data

    def read(self, size: int, /) -> bytes:
        with naming(self._label):
            return self._data.read(size)

    def extents(self, most: int) -> Sequence[Extent]:
        with naming(self._label):
            return extents_of(self._data, most)


@contextmanager
def labelled(label: str, opened: AbstractContextManager[Readable]) -> Iterator[Readable]:
    with naming(label):
        entered = opened.__enter__()
    try:
        yield Labelled(label, entered)
    finally:
        opened.__exit__(None, None, None)


@contextmanager
def naming(label: str) -> Iterator[None]:
    """Put the archive's name before what is wrong with it, once."""
    try:
        yield
    except Damaged as error:
        if error.message.startswith(f"{label}: "):
            raise
        hint = error.hint or "Copy the archive again from where it came from; `ollama-ferry verify` checks a copy."
        raise type(error)(
            f"{label}: {error.message}", hint=hint, remedies=error.remedies, digest=error.digest
        ) from error
