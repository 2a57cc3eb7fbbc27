"""Keep what several threads move together below a rate."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock

from ollama_ferry.engine.events import Cancel

# A pause longer than this would keep a Ctrl-C waiting.
_NAP = 0.2
_PIECE = 64 * 1024
# What was not moved for so long, because a sleep or a read took its time, is made up for; longer pauses are not.
_CREDIT = 0.25


class RateLimit:
    """A limit on bytes a second: a bucket of tokens, empty at first, that holds those of a quarter of a second.

    Args:
        bytes_per_second: the limit; 0 for none.
        clock: seconds from some fixed moment on, which never go back.
        sleep: waits for so many seconds.
    """

    def __init__(
        self,
        bytes_per_second: int,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate = bytes_per_second
        self._clock = clock
        self._sleep = sleep
        self._lock = Lock()
        # From when on nothing that has moved is above the rate.
        self._even_at = clock()

    def chunk(self, size: int) -> int:
        """Return how much of a chunk should move at once, lest a slow line come in bursts."""
        return min(size, max(4096, self._rate // 8)) if self._rate else size

    def wait(self, count: int, cancel: Cancel | None = None) -> None:
        """Wait until bytes that have just moved are within the limit.

        Raises:
            Cancelled: the work was given up meanwhile.
        """
        if not self._rate:
            return
        with self._lock:
            self._even_at = max(self._even_at, self._clock() - _CREDIT) + count / self._rate
            until = self._even_at
        sleep_until(until, cancel, self._clock, self._sleep)


def sleep_until(
    moment: float,
    cancel: Cancel | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Sleep until the clock is there.

    Raises:
        Cancelled: the work was given up meanwhile.
    """
    while (left := moment - clock()) > 0:
        if cancel is not None:
            cancel.check()
        sleep(min(left, _NAP))


class Slowed:
    """Bytes to send that are handed out no faster than is allowed."""

    def __init__(self, data: bytes | memoryview, limit: RateLimit, cancel: Cancel) -> None:
        self._data = memoryview(data)
        self._limit = limit
        self._cancel = cancel

    def read(self, size: int = -1, /) -> bytes:
        """Give some of the bytes, and ``b""`` at their end."""
        part = bytes(self._data[: self._limit.chunk(_PIECE)])
        self._data = self._data[len(part) :]
        self._limit.wait(len(part), self._cancel)
        return part
