"""How far a job has got: its events summed up, for whoever shows them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from ollama_ferry.engine.events import Advanced, BlobStarted, Event, Phase, Started
from ollama_ferry.wording import counted, human_rate, human_size, human_time

# The speed is that of the last seconds: a stick that has filled its cache is slower than it was.
_WINDOW = 15.0


class Meter:
    """Sums up a job's events.

    Args:
        what: the work, as a participle: ``exporting``.
        clock: seconds from some fixed moment on.

    Attributes:
        what: what is being done now: the work, or a pass before it.
        phase: what the job waits for; empty while bytes move.
        total: the bytes to move; 0 where nobody knows.
        done: those that are there by now.
        resumed: those of them that an earlier run had moved.
        model: the models whose blob is on its way, in words.
        passes: how many copies or other passes have begun.
    """

    def __init__(self, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.what = self._work = what
        self.phase = self.model = self.scope = ""
        self.total = self.done = self.resumed = self.passes = 0
        self.clock = clock
        self._moved: deque[tuple[float, int]] = deque([(clock(), 0)])

    def observe(self, event: Event) -> None:
        """Take in an event."""
        if isinstance(event, Started):
            # Begins anew with each pass; what an earlier one moved may move once more.
            self.what = event.what or self._work
            self.phase = self.model = ""
            self.total, self.done, self.resumed = event.total, 0, 0
            self.passes += 1
            models = f"{counted(event.models, 'model')} in {counted(event.blobs, 'blob')}"
            # An archive that is read as a stream tells its bytes, if that, and what is in it later.
            self.scope = models if event.models else "" if event.what else "the archive"
            self._moved = deque([(self.clock(), 0)])
        elif isinstance(event, Phase):
            self.phase = event.text
        elif isinstance(event, BlobStarted):
            self.model = str(event.models[0]) if event.models else ""
            if len(event.models) > 1:
                self.model += f" and {len(event.models) - 1} more"
        elif isinstance(event, Advanced):
            self.done += event.amount
            if event.resumed:
                self.resumed += event.amount
            else:
                self._take(event.amount)

    @property
    def percent(self) -> int | None:
        """How much of the bytes is there; None where nobody knows how many there will be."""
        return min(100, self.done * 100 // self.total) if self.total else None

    @property
    def rate(self) -> float:
        """Bytes a second, lately; those that were resumed do not count."""
        (since, before), (until, after) = self._moved[0], self._moved[-1]
        return (after - before) / max(until - since, 0.001) if after > before and until > since else 0.0

    @property
    def left(self) -> float | None:
        """The seconds that are left at this speed; None where that can't be told."""
        rate = self.rate
        return max(0, self.total - self.done) / rate if rate and self.total else None

    def heading(self) -> str:
        """Say what begins: ``exporting 2 models in 8 blobs, 4.7 GB``."""
        size = f", {human_size(self.total)}" if self.total else ""
        return f"{self.what} {self.scope}".rstrip() + size

    def sums(self) -> list[str]:
        """Say how far it is, in parts: percentage, bytes, speed, time left, what was resumed, what is waited for."""
        if self.phase and not self.done:
            return [self.phase]
        parts = []
        if self.percent is not None:
            parts += [f"{self.percent} %", f"{human_size(self.done)} of {human_size(self.total)}"]
        else:
            parts.append(human_size(self.done))
        if self.phase:
            parts.append(self.phase)
        else:
            if self.rate:
                parts.append(human_rate(self.rate, 1))
            if self.left is not None:
                parts.append(f"{human_time(self.left)} left")
        if self.resumed:
            parts.append(f"{human_size(self.resumed)} resumed")
        return parts

    def _take(self, amount: int) -> None:
        now = self.clock()
        moved = self._moved[-1][1] + amount
        # A tenth of a second is one entry: a window of them stays short.
        if len(self._moved) > 1 and now - self._moved[-2][0] < _WINDOW / 150:
            self._moved.pop()
        self._moved.append((now, moved))
        while len(self._moved) > 2 and now - self._moved[1][0] > _WINDOW:
            self._moved.popleft()
