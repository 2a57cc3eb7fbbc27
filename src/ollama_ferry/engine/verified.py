"""A blob's bytes on their way: counted and hashed, whatever the places do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NoReturn

from ollama_ferry.engine.hashing import BackgroundHash
from ollama_ferry.engine.ports import Extent, Readable, WrittenFile, extents_of
from ollama_ferry.engine.run import Run
from ollama_ferry.errors import Damaged, FerryError
from ollama_ferry.model.manifests import Descriptor
from ollama_ferry.wording import exact_size

_CHUNK = 1024 * 1024
# What the system copies at a time; the hash follows at this distance.
_STEP = 2 * 1024 * 1024


class Verified:
    """Gives a blob's bytes, and their end only when they are right.

    Args:
        blob: what they have to be.
        owners: the models that need it, for messages.
        run: notified of the bytes; stops the reading.
    """

    def __init__(self, blob: Descriptor, owners: str, run: Run) -> None:
        self._data: Readable | None = None
        self._blob = blob
        self._owners = owners
        self._run = run
        self._hash = BackgroundHash(expected=blob.size)
        self._count = 0
        self._confirmed = False

    def hash_existing(self, data: Readable) -> int:
        """Take bytes that are at the target already; return how many.

        Raises:
            Damaged: they are more than the blob has.
        """
        self._data = data
        self._run.phase(f"hashing what is there of {self._blob.digest.short}")
        while self._count < self._blob.size and self._take(_CHUNK, resumed=True):
            pass
        self._run.phase()
        if data.read(1):
            self._refuse(f"is there with more than its {exact_size(self._blob.size)}")
        return self._count

    def read_from(self, data: Readable) -> None:
        """Give these bytes from now on."""
        self._data = data

    def __enter__(self) -> Verified:
        return self

    def __exit__(self, *_: object) -> None:
        self._hash.close()

    def read(self, size: int, /) -> bytes:
        """Give the next bytes.

        Raises:
            Damaged: at the end, where the bytes are not those of the digest, or are too many or too few.
            Cancelled: the copy was given up.
        """
        chunk = self._take(size)
        if not chunk:
            self._confirm()
        return chunk

    def copy_into(self, target: WrittenFile) -> None:
        """Add all that is left to a file. Where the system copies it, what is hashed is what lies in that file then.

        Raises:
            Damaged, Cancelled: as for :meth:`read`.
            OSError: the file did not take the bytes, or can't be read back.
        """
        assert self._data is not None  # noqa: S101 -- hash_existing() or read_from() comes first
        while True:
            # One byte more than there should be shows.
            extents = extents_of(self._data, min(_STEP, self._blob.size - self._count + 1))
            if extents:
                self._run.check()
                self._copy(extents, target)
            elif chunk := self._take(_CHUNK):
                target.write(chunk)
            else:
                self._confirm()
                return

    def _copy(self, extents: Sequence[Extent], target: WrittenFile) -> None:
        begin = target.size
        for extent in extents:
            self._count_in(extent.size)
            left = extent
            while left.size and (copied := target.copy_from(left.file, left.offset, left.size)):
                left = left.behind(copied)
            if left.size:
                # The system can't, or something is wrong, and then this finds out with which of the two files.
                self._hash_written(target, begin)
                self._carry(left, target)
                begin = target.size
        self._hash_written(target, begin)

    def _carry(self, left: Extent, target: WrittenFile) -> None:
        while left.size:
            chunk = self._reading(lambda: left.read(_CHUNK))  # noqa: B023 -- called at once
            if not chunk:
                self._count -= left.size
                self._refuse_short()
            self._hash.update(chunk)
            target.write(chunk)
            self._run.advanced(len(chunk))
            left = left.behind(len(chunk))

    def _hash_written(self, target: WrittenFile, begin: int) -> None:
        if target.size > begin:
            self._hash.update_from(target, begin, target.size - begin)
            self._run.advanced(target.size - begin)

    def _confirm(self) -> None:
        """Make sure at the end that the bytes are those of the digest."""
        if not self._confirmed:
            if self._count < self._blob.size:
                self._refuse_short()
            found = self._hash.hexdigest()
            if found != self._blob.digest.hex:
                self._refuse(f"has the SHA-256 {found}")
            self._confirmed = True

    def _take(self, size: int, *, resumed: bool = False) -> bytes:
        self._run.check()
        assert self._data is not None  # noqa: S101 -- hash_existing() or read_from() comes first
        data = self._data
        chunk = self._reading(lambda: data.read(size))
        if chunk:
            self._count_in(len(chunk))
            self._hash.update(chunk)
            self._run.advanced(len(chunk), resumed=resumed)
        return chunk

    def _count_in(self, count: int) -> None:
        self._count += count
        if self._count > self._blob.size:
            self._refuse(f"holds more than the {exact_size(self._blob.size)} that the manifest states")

    def _reading(self, read: Callable[[], bytes]) -> bytes:
        try:
            return read()
        except OSError as error:
            raise FerryError(
                f"reading the blob {self._blob.digest} of {self._owners} failed after {exact_size(self._count)}: "
                f"{error.strerror or error}",
                hint="The disk may be failing: look at the system's log before you try again.",
            ) from error

    def confirm_end(self) -> None:
        """Make sure that the sink read to the end, where the check is.

        Raises:
            FerryError: it did not: the sink is at fault.
        """
        if not self._confirmed:
            raise FerryError(f"{self._blob.digest} was taken without reading it to its end")

    def _refuse_short(self) -> NoReturn:
        self._refuse(f"ends after {self._count} of {exact_size(self._blob.size)}")

    def _refuse(self, what: str) -> NoReturn:
        raise Damaged(f"the blob {self._blob.digest} of {self._owners} {what}", digest=str(self._blob.digest))
