"""Unpack on a thread of its own, some steps ahead of whoever reads: a single stream can't be unpacked by several."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from ollama_ferry.archives.unpacking import CHUNK, Unpacked, read_over

# What waits for the reader: steps of half a chunk, which is 2 MiB together.
_STEP = CHUNK // 2
_STEPS = 4

_Step = tuple[bytes, int, BaseException | None]
"""Unpacked bytes, how many packed ones were read for them, and what went wrong behind them."""


class ReadAhead:
    """Unpacked bytes, in order; :meth:`begin` comes before the first read.

    Args:
        on_read: told how many packed bytes were read, on the reader's thread, when it gets what was made of them; it
            may raise.

    Attributes:
        position: how many bytes were given or skipped.
    """

    def __init__(self, on_read: Callable[[int], None]) -> None:
        self.position = 0
        self._on_read = on_read
        self._taken = 0
        self._step, self._at = b"", 0
        self._ended = False
        self._steps: queue.Queue[_Step] = queue.Queue(_STEPS)
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._data: Unpacked | None = None

    def count(self, taken: int) -> None:
        """Note packed bytes that were read; called by whoever reads them for :meth:`begin`'s data."""
        self._taken += taken

    def begin(self, data: Unpacked) -> None:
        """Give these bytes; they are read on another thread from the first read on."""
        self._data = data

    def read(self, size: int, /) -> bytes:
        """Give at most ``size`` bytes, and none only at the end; raises what the data raises."""
        if self._at == len(self._step):
            if self._ended:
                return b""
            self._step, self._at = b"", 0
            self._fetch()
        # What is asked for is often all that is there, and then it is not copied.
        whole = self._at == 0 and size >= len(self._step)
        chunk = self._step if whole else self._step[self._at : self._at + size]
        self._at += len(chunk)
        self.position += len(chunk)
        return chunk

    def skip(self, count: int) -> None:
        """Pass over bytes."""
        read_over(self, count)

    def close(self, *, wait: bool) -> None:
        """End the thread.

        Args:
            wait: until it has ended; not where it may be waiting for somebody who writes nothing.
        """
        self._stopped.set()
        self._ended = True
        if self._thread is not None:
            while not self._steps.empty():
                self._steps.get()
            if wait:
                self._thread.join()

    def _fetch(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="inflate", daemon=True)
            self._thread.start()
        self._step, taken, failure = self._steps.get()
        if failure is not None:
            self._ended = True
            raise failure
        self._ended = not self._step
        if taken:
            self._on_read(taken)

    def _run(self) -> None:
        assert self._data is not None  # noqa: S101 -- begin() comes first
        parts: list[bytes] = []
        size = 0
        try:
            while not self._stopped.is_set():
                part = self._data.read(CHUNK)
                parts.append(part)
                size += len(part)
                if size < _STEP and part:
                    continue
                if size:
                    self._hand_over(b"".join(parts))
                if not part:
                    self._hand_over(b"")
                    return
                parts, size = [], 0
        except BaseException as error:  # noqa: BLE001 -- raised again in the reader's thread
            if size:
                self._hand_over(b"".join(parts))
            self._hand_over(b"", error)

    def _hand_over(self, step: bytes, failure: BaseException | None = None) -> None:
        taken, self._taken = self._taken, 0
        while not self._stopped.is_set():
            try:
                self._steps.put((step, taken, failure), timeout=0.2)
                return
            except queue.Full:
                continue
