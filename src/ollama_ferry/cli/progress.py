"""Progress of a copy: a bar on a terminal, plain lines elsewhere. Always on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from ollama_ferry.cli.terminal import escaped, say
from ollama_ferry.engine.events import Advanced, Cancel, Event, Noted, Observer, Started
from ollama_ferry.engine.run import Run
from ollama_ferry.wording import counted, human_size

# A line in a log now and then; the bar is for those who watch.
_LINE_EVERY = 10.0


@contextmanager
def progress(what: str, *, quiet: bool, lines: bool = False, cancel: Cancel | None = None) -> Iterator[Run]:
    """Show how far a copy has got.

    Args:
        what: the work, as a participle: ``exporting``.
        quiet: show nothing.
        lines: show lines where there would be a bar: somebody will be asked something meanwhile.
        cancel: stops what is run.
    """
    if quiet:
        yield Run(_notes_only, cancel)
    elif sys.stderr.isatty() and not lines:
        with _bar(what) as observer:
            yield Run(observer, cancel)
    else:
        yield Run(_Lines(what), cancel)


def _notes_only(event: Event) -> None:
    """Say what may keep somebody waiting, or mistaken, and nothing else."""
    if isinstance(event, Noted):
        say(event.text, err=True)


class _Lines:
    def __init__(self, what: str) -> None:
        self._what = what
        self._total = 0
        self._done = 0
        self._started = self._told = time.monotonic()

    def __call__(self, event: Event) -> None:
        if isinstance(event, Started):
            # Begins anew with each copy; what an earlier one moved may move once more.
            self._total, self._done = event.total, 0
            self._started = time.monotonic()
            models = f"{counted(event.models, 'model')}: {counted(event.blobs, 'blob')}"
            # An archive that is read as a stream tells its bytes, if that, and what is in it later.
            what = models if event.models else "the archive"
            size = f", {human_size(event.total)}" if event.total else ""
            say(f"{self._what} {what}{size}", err=True)
        elif isinstance(event, Noted):
            say(event.text, err=True)
        elif isinstance(event, Advanced):
            self._done += event.amount
            now = time.monotonic()
            if now - self._told >= _LINE_EVERY and self._total:
                self._told = now
                speed = self._done / (now - self._started)
                left = (self._total - self._done) / speed
                say(
                    f"{self._what}: {human_size(self._done)} of {human_size(self._total)} "
                    f"({self._done * 100 // self._total} %), {human_size(speed)}/s, {left:.0f} s left",
                    err=True,
                )


@contextmanager
def _bar(what: str) -> Iterator[Observer]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task(what, total=None)

        def observer(event: Event) -> None:
            if isinstance(event, Started):
                bar.reset(task, total=event.total or None)
            elif isinstance(event, Advanced):
                bar.advance(task, event.amount)
            elif isinstance(event, Noted):
                bar.console.print(escaped(event.text), markup=False, highlight=False)

        yield observer
