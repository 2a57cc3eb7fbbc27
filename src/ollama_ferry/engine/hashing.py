"""SHA-256 beside the thread that reads, so that hashing and packing of one blob overlap."""

from __future__ import annotations

import hashlib
import queue
import threading
from typing import Protocol

from ollama_ferry.engine.events import Cancel

# Below this a thread costs more than it gains.
_INLINE = 4 * 1024 * 1024
# Chunks waiting for the hash; with chunks of 1 MiB this bounds the memory to 4 MiB.
_AHEAD = 4
_CHUNK = 1024 * 1024


class BackgroundHash:
    """A SHA-256 whose ``update`` returns at once; ``hexdigest`` waits for all of it.

    Args:
        expected: the bytes to come, where that is known; small amounts are hashed on the spot.
    """

    def __init__(self, expected: int | None = None) -> None:
        self._hash = hashlib.sha256()
        self._queue: queue.Queue[bytes | memoryview | None] | None = None
        if expected is None or expected >= _INLINE:
            self._queue = queue.Queue(_AHEAD)
            self._thread = threading.Thread(target=self._run, args=(self._queue,), name="hash", daemon=True)
            self._thread.start()

    def update(self, data: bytes | memoryview) -> None:
        """Add bytes, which must not change any more."""
        if self._queue is None:
            self._hash.update(data)
        else:
            self._queue.put(data)

    def hexdigest(self) -> str:
        """Return the digest of all that was added; nothing may be added afterwards."""
        self.close()
        return self._hash.hexdigest()

    def close(self) -> None:
        """End the thread; a second call does nothing."""
        if self._queue is not None:
            self._queue.put(None)
            self._thread.join()
            self._queue = None

    def _run(self, chunks: queue.Queue[bytes | memoryview | None]) -> None:
        while (chunk := chunks.get()) is not None:
            self._hash.update(chunk)


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
