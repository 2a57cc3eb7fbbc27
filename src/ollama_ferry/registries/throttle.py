"""Keep what several threads move together below a rate."""

from __future__ import annotations

import time
from threading import Lock

from ollama_ferry.engine.events import Cancel

# A pause longer than this would keep a Ctrl-C waiting.
_NAP = 0.2
_PIECE = 64 * 1024


class Throttle:
    """A limit on bytes a second.

    Args:
        bytes_per_second: the limit; 0 for none.
    """

    def __init__(self, bytes_per_second: int) -> None:
        self._rate = bytes_per_second
        self._free_from = time.monotonic()
        self._lock = Lock()

    def chunk(self, size: int) -> int:
        """Return how much of a chunk should move at once, lest a slow line come in bursts."""
        return min(size, max(4096, self._rate // 8)) if self._rate else size

    def wait(self, count: int, cancel: Cancel) -> None:
        """Wait until bytes that have just moved are within the limit.

        Raises:
            Cancelled: the work was given up meanwhile.
        """
        if not self._rate:
            return
        with self._lock:
            now = time.monotonic()
            self._free_from = max(self._free_from, now) + count / self._rate
            until = self._free_from
        sleep_until(until, cancel)


def sleep_until(moment: float, cancel: Cancel) -> None:
    """Sleep until ``time.monotonic()`` is there.

    Raises:
        Cancelled: the work was given up meanwhile.
    """
    while (left := moment - time.monotonic()) > 0:
        cancel.check()
        time.sleep(min(left, _NAP))


class Slowed:
    """Bytes to send that are handed out no faster than is allowed."""

    def __init__(self, data: bytes | memoryview, throttle: Throttle, cancel: Cancel) -> None:
        self._data = memoryview(data)
        self._throttle = throttle
        self._cancel = cancel

    def read(self, size: int = -1, /) -> bytes:
        """Give some of the bytes, and ``b""`` at their end."""
        part = bytes(self._data[: self._throttle.chunk(_PIECE)])
        self._data = self._data[len(part) :]
        self._throttle.wait(len(part), self._cancel)
        return part
