"""SHA-256 beside the thread that reads, so that hashing and packing, or copying, of one blob overlap."""

from __future__ import annotations

import hashlib
import queue
import threading
from typing import NamedTuple, Protocol

from ollama_ferry.engine.events import Cancel
from ollama_ferry.engine.ports import WrittenFile

# Below this a thread costs more than it gains.
_INLINE = 4 * 1024 * 1024
# Chunks waiting for the hash; with chunks of 1 MiB this bounds the memory to 4 MiB.
_AHEAD = 4
_CHUNK = 1024 * 1024
# What is read back is read in pieces that stay in a processor's own cache.
_PIECE = 128 * 1024


class _Written(NamedTuple):
    """Bytes that were written, to be read back."""

    file: WrittenFile
    offset: int
    size: int


class BackgroundHash:
    """A SHA-256 whose ``update`` returns at once; ``hexdigest`` waits for all of it.

    Args:
        expected: the bytes to come, where that is known; small amounts are hashed on the spot.
    """

    def __init__(self, expected: int | None = None) -> None:
        self._hash = hashlib.sha256()
        self._queue: queue.Queue[bytes | memoryview | _Written | None] | None = None
        self._failure: BaseException | None = None
        self._piece: memoryview | None = None
        if expected is None or expected >= _INLINE:
            self._queue = queue.Queue(_AHEAD)
            self._thread = threading.Thread(target=self._run, args=(self._queue,), name="hash", daemon=True)
            self._thread.start()

    def update(self, data: bytes | memoryview) -> None:
        """Add bytes, which must not change any more."""
        self._add(data)

    def update_from(self, file: WrittenFile, offset: int, size: int) -> None:
        """Add bytes that were written, as they lie there now."""
        self._add(_Written(file, offset, size))

    def hexdigest(self) -> str:
        """Return the digest of all that was added; nothing may be added afterwards.

        Raises:
            OSError, FerryError: what was written can't be read back.
        """
        self.close()
        if self._failure is not None:
            raise self._failure
        return self._hash.hexdigest()

    def close(self) -> None:
        """End the thread; a second call does nothing."""
        if self._queue is not None:
            self._queue.put(None)
            self._thread.join()
            self._queue = None

    def _add(self, part: bytes | memoryview | _Written) -> None:
        if self._queue is None:
            self._hash_part(part)
        else:
            self._queue.put(part)

    def _run(self, parts: queue.Queue[bytes | memoryview | _Written | None]) -> None:
        # After a failure the queue is still emptied, so that nobody waits for a place in it.
        while (part := parts.get()) is not None:
            if self._failure is None:
                try:
                    self._hash_part(part)
                except BaseException as error:  # noqa: BLE001 -- raised again by hexdigest()
                    self._failure = error

    def _hash_part(self, part: bytes | memoryview | _Written) -> None:
        if not isinstance(part, _Written):
            self._hash.update(part)
            return
        file, offset, size = part
        if self._piece is None:
            self._piece = memoryview(bytearray(min(size, _PIECE)) if self._queue is None else bytearray(_PIECE))
        for start in range(0, size, len(self._piece)):
            piece = self._piece[: size - start]
            file.read_back(piece, offset + start)
            self._hash.update(piece)


class _Input(Protocol):
    def read(self, size: int, /) -> bytes: ...


def sha256_of(data: _Input, cancel: Cancel) -> str:
    """Return the SHA-256 of the rest of a file, in hexadecimal.

    Raises:
        Cancelled: the work was given up.
    """
    found = hashlib.sha256()
    while chunk := data.read(_CHUNK):
        cancel.check()
        found.update(chunk)
    return found.hexdigest()
