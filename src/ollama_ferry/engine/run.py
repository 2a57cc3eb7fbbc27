"""What a job runs with, as one object: whom it notifies, what stops it, and since when it has been at work."""

from __future__ import annotations

import time
from collections.abc import Callable

from ollama_ferry.engine.events import Advanced, Cancel, Event, Explained, Noted, Observer, Phase, ignore


class Run:
    """One run of a job.

    Args:
        observer: notified of every step; called from the thread that runs the job, never from two at once.
        cancel: stops the job at its next step, from any thread or signal handler.
        clock: seconds from some fixed moment on, which never go back.

    Attributes:
        resumed: the bytes that an earlier run had moved, so far.
    """

    def __init__(
        self,
        observer: Observer = ignore,
        cancel: Cancel | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.observer = observer
        self.cancel = cancel or Cancel()
        self.clock = clock
        self._began = clock()
        self.resumed = 0

    @property
    def seconds(self) -> float:
        """How long the job has been at work."""
        return self.clock() - self._began

    def notify(self, event: Event) -> None:
        """Notify the observer of a step."""
        self.observer(event)

    def note(self, text: str) -> None:
        """Notify the observer of what the user may want to know."""
        self.observer(Noted(text))

    def explain(self, text: str) -> None:
        """Notify the observer of why something was decided."""
        self.observer(Explained(text))

    def phase(self, text: str = "") -> None:
        """Notify the observer of what the job waits for; of nothing any more where the text is empty."""
        self.observer(Phase(text))

    def advanced(self, count: int, *, resumed: bool = False) -> None:
        """Notify the observer of bytes that moved, or that an earlier run had moved.

        Raises:
            Cancelled: the job was given up.
        """
        self.cancel.check()
        self.resumed += count * resumed
        self.observer(Advanced(count, resumed))

    def unobserved(self) -> Run:
        """Return a run without an observer, and that stops with this one."""
        return Run(cancel=self.cancel, clock=self.clock)

    def part(self) -> Run:
        """Return a run of a part of the job: it stops with this one, and can be stopped alone."""
        return Run(self.observer, Cancel(self.cancel), self.clock)

    def check(self) -> None:
        """Go on, unless the job was given up.

        Raises:
            Cancelled: it was.
        """
        self.cancel.check()
