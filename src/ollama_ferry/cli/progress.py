"""Progress of a job: a bar on a terminal, plain lines elsewhere. Always on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ollama_ferry.cli.output import Output
from ollama_ferry.cli.terminal import escaped, say
from ollama_ferry.engine.events import Advanced, Event, Explained, Noted, Observer, Started, StoreChosen
from ollama_ferry.wording import counted, human_rate, human_size

if TYPE_CHECKING:
    from rich.progress import Progress

# A line in a log now and then; the bar is for those who watch.
_LINE_EVERY = 10.0


@contextmanager
def progress(what: str, output: Output, *, lines: bool = False) -> Iterator[Observer]:
    """Give an observer that shows how far a job has got.

    Args:
        what: the work, as a participle: ``exporting``.
        output: how much is said.
        lines: show lines where there would be a bar: somebody will be asked something meanwhile.
    """
    if output.quiet or (output.as_json and not output.verbose):
        yield _Words(output)
    elif sys.stderr.isatty() and not lines:
        bar = _Bar(what, output)
        try:
            yield bar
        finally:
            bar.stop()
    else:
        yield _Lines(what, output)


class _Words:
    """Says what may keep somebody waiting, or mistaken; and with ``-v`` what was decided and why."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def __call__(self, event: Event) -> None:
        if isinstance(event, Noted):
            self.say(event.text)
        elif isinstance(event, Explained):
            self._explain(event.text)
        elif isinstance(event, StoreChosen):
            self._explain(f"store: {event.root} ({event.why})")
            for other in event.others:
                self._explain(f"another store, not used: {other}")

    def say(self, text: str) -> None:
        """Say it on stderr."""
        say(text, err=True)

    def _explain(self, text: str) -> None:
        if self._output.verbose:
            self.say(text)


class _Lines(_Words):
    def __init__(self, what: str, output: Output, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(output)
        self._what = what
        self._clock = clock
        self._total = 0
        self._done = 0
        self._started = self._line_at = clock()

    def __call__(self, event: Event) -> None:
        super().__call__(event)
        if isinstance(event, Started):
            # Begins anew with each copy; what an earlier one moved may move once more.
            self._total, self._done = event.total, 0
            self._started = self._clock()
            models = f"{counted(event.models, 'model')}: {counted(event.blobs, 'blob')}"
            # An archive that is read as a stream tells its bytes, if that, and what is in it later.
            what = models if event.models else "the archive"
            size = f", {human_size(event.total)}" if event.total else ""
            self.say(f"{self._what} {what}{size}")
        elif isinstance(event, Advanced):
            self._done += event.amount
            now = self._clock()
            # A stream tells of what it unpacks before it takes in more of its file.
            if now - self._line_at >= _LINE_EVERY and self._total and self._done:
                self._line_at = now
                seconds = now - self._started
                left = (self._total - self._done) * seconds / self._done
                self.say(
                    f"{self._what}: {human_size(self._done)} of {human_size(self._total)} "
                    f"({self._done * 100 // self._total} %), {human_rate(self._done, seconds)}, {left:.0f} s left"
                )


class _Bar(_Words):
    """A bar, from the moment on that something begins to move."""

    def __init__(self, what: str, output: Output) -> None:
        super().__init__(output)
        self._what = what
        self._bar: Progress | None = None

    def __call__(self, event: Event) -> None:
        super().__call__(event)
        if isinstance(event, Started):
            if self._bar is None:
                self._bar = _rich_bar()
                self._bar.add_task(self._what, total=None)
                self._bar.start()
            self._bar.reset(self._bar.task_ids[0], total=event.total or None)
        elif isinstance(event, Advanced) and self._bar is not None:
            self._bar.advance(self._bar.task_ids[0], event.amount)

    def say(self, text: str) -> None:
        if self._bar is None:
            super().say(text)
        else:
            self._bar.console.print(escaped(text), markup=False, highlight=False)

    def stop(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()


def _rich_bar() -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
