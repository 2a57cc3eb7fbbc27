"""Progress of a job on stderr: a line that is painted again on a terminal, plain lines elsewhere, or lines of JSON."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from ollama_ferry.cli.meter import Meter
from ollama_ferry.cli.output import Output
from ollama_ferry.cli.terminal import columns_of, escaped, is_terminal, paint, say, say_json_line
from ollama_ferry.engine.events import (
    Advanced,
    BlobStarted,
    Event,
    Explained,
    ModelDone,
    Noted,
    Observer,
    Phase,
    Started,
    StoreChosen,
)
from ollama_ferry.errors import FerryError

# A line in a log now and then; the painted one is for those who watch.
_LINE_EVERY = 10.0
_PAINT_EVERY = 0.1
_JSON_EVERY = 1.0


@contextmanager
def progress(what: str, output: Output, *, lines: bool = False) -> Iterator[Observer]:
    """Give an observer that shows how far a job has got.

    Args:
        what: the work, as a participle: ``exporting``.
        output: how much is said, and in which form.
        lines: show lines where one would be painted: somebody will be asked something meanwhile.

    Raises:
        NotPermitted, FerryError: the log can't be written.
    """
    form = output.progress
    if form == "auto":
        if output.quiet or (output.as_json and not output.verbose):
            form = "none"
        else:
            form = "painted" if is_painted() and not lines and not output.as_json else "plain"
    shown: _Words = {"painted": _Painted, "plain": _Lines, "json": _Json}.get(form, _Words)(what, output)
    try:
        if output.log is None:
            yield shown
            return
        with output.log.open("a", encoding="utf-8", errors="backslashreplace") as file:
            log = _Log(what, output, file.write)

            def both(event: Event) -> None:
                shown(event)
                log(event)
                file.flush()

            try:
                yield both
            except BaseException as error:
                why = error.message if isinstance(error, FerryError) else f"{type(error).__name__} {error}"
                log.say(f"failed: {why}")
                raise
            log.say("done: " + ", ".join([what, *log.meter.sums()]))
    finally:
        shown.stop()


def is_painted() -> bool:
    """Tell whether stderr is a terminal on which a line can be painted again."""
    return is_terminal(sys.stderr) and os.environ.get("TERM", "") != "dumb"


class _Words:
    """Says what may keep somebody waiting, or mistaken; and with ``-v`` what was decided and why."""

    def __init__(self, what: str, output: Output, clock: Callable[[], float] = time.monotonic) -> None:
        self.output = output
        self.meter = Meter(what, clock)

    def __call__(self, event: Event) -> None:
        self.meter.observe(event)
        if isinstance(event, Noted):
            self.note(event.text)
        elif isinstance(event, Explained):
            self._explain(event.text)
        elif isinstance(event, StoreChosen):
            self._explain(f"store: {event.root} ({event.why})")
            for other in event.others:
                self._explain(f"another store, not used: {other}")

    def note(self, text: str) -> None:
        """Say what somebody wants to know."""
        if self.output.as_json:
            say_json_line({"event": "note", "text": text})
        else:
            self.say(text)

    def say(self, text: str) -> None:
        """Say it on stderr."""
        say(text, err=True)

    def stop(self) -> None:
        """Nothing more comes."""

    def _explain(self, text: str) -> None:
        if self.output.verbose:
            self.note(text)


class _Lines(_Words):
    def __init__(self, what: str, output: Output, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(what, output, clock)
        self._last = clock()

    def __call__(self, event: Event) -> None:
        super().__call__(event)
        if isinstance(event, Started):
            self.say(self.meter.heading())
        elif isinstance(event, Phase) and event.text and not self.meter.passes:
            # Nothing moves yet, and it may take long.
            self.say(event.text)
        # A stream tells of what it unpacks before it takes in more of its file.
        elif isinstance(event, Advanced | Phase) and self.meter.done:
            now = self.meter.clock()
            if now - self._last >= _LINE_EVERY:
                self._last = now
                name = f" {self.meter.model}" if self.meter.model else ""
                self.say(f"{self.meter.what}{name}: {', '.join(self.meter.sums())}")


class _Log(_Lines):
    """What is said in lines, with the time, at the end of a file."""

    def __init__(self, what: str, output: Output, write: Callable[[str], object]) -> None:
        super().__init__(what, output)
        self._write = write

    def note(self, text: str) -> None:
        self.say(text)

    def say(self, text: str) -> None:
        self._write(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {escaped(text)}\n")

    def _explain(self, text: str) -> None:
        self.say(text)


class _Json(_Words):
    """An event a line, for programs; bytes once a second."""

    def __init__(self, what: str, output: Output, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(what, output, clock)
        self._last = clock()

    def __call__(self, event: Event) -> None:
        super().__call__(event)
        meter = self.meter
        if isinstance(event, Started):
            say_json_line(
                {
                    "event": "started",
                    "what": meter.what,
                    "models": event.models,
                    "blobs": event.blobs,
                    "total": event.total or None,
                }
            )
        elif isinstance(event, Phase) and event.text:
            say_json_line({"event": "phase", "text": event.text})
        elif isinstance(event, BlobStarted):
            models = [str(name) for name in event.models]
            blob = {"digest": str(event.blob.digest), "size": event.blob.size}
            say_json_line({"event": "blob", **blob, "models": models})
        elif isinstance(event, ModelDone):
            say_json_line({"event": "model", "name": str(event.name)})
        elif isinstance(event, Advanced):
            now = meter.clock()
            if now - self._last >= _JSON_EVERY or meter.done == meter.total:
                self._last = now
                say_json_line(
                    {
                        "event": "progress",
                        "done": meter.done,
                        "total": meter.total or None,
                        "resumed": meter.resumed,
                        "rate": round(meter.rate),
                        "seconds_left": None if meter.left is None else round(meter.left, 1),
                    }
                )

    def note(self, text: str) -> None:
        say_json_line({"event": "note", "text": text})


class _Painted(_Words):
    """One line, painted again and again, and the terminal's title; both are gone at the end."""

    def __init__(self, what: str, output: Output, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(what, output, clock)
        self._last = float("-inf")
        self._line = self._title = ""

    def __call__(self, event: Event) -> None:
        super().__call__(event)
        begins = isinstance(event, Started | Phase)
        if (begins or isinstance(event, Advanced | BlobStarted)) and (self.meter.passes or self.meter.phase):
            now = self.meter.clock()
            if begins or now - self._last >= _PAINT_EVERY:
                self._last = now
                self._paint()

    def say(self, text: str) -> None:
        self._wipe()
        super().say(text)

    def stop(self) -> None:
        """Take the line away, and give the title back."""
        with suppress(OSError):
            self._wipe()
            if self._title:
                paint("\x1b[23;2t")

    def _paint(self) -> None:
        width = columns_of(sys.stderr)
        line = painted_line(self.meter, width - 1)
        self._wipe()
        self._line = line
        title = " ".join([*self.meter.sums()[:1], self.meter.model or self.meter.what])
        if title != self._title:
            paint(("" if self._title else "\x1b[22;2t") + f"\x1b]2;{escaped(title)} - ollama-ferry\x07")
            self._title = title
        paint(line)

    def _wipe(self) -> None:
        """Remove the line, which has become several where the terminal was narrowed meanwhile."""
        if self._line:
            rows = (len(self._line) - 1) // max(1, columns_of(sys.stderr))
            paint(f"\x1b[{rows}A\r\x1b[J" if rows else "\r\x1b[K")
            self._line = ""


def painted_line(meter: Meter, width: int) -> str:
    """Return how far a job has got, in a line of at most so many columns: what matters least is left out first."""
    sums = meter.sums()
    bar = _bar(meter.percent, 20) if meter.percent is not None else ""
    head = meter.what if meter.passes else ""
    name = meter.model
    tries = [
        [head, name, bar, *sums],
        [head, name, *sums],
        [name or head, *sums],
        [_short(name or head, 24), *sums],
        sums,
        sums[:1],
    ]
    for parts in tries:
        # Files, hosts and models in it have their names from outside.
        line = escaped("  ".join(filter(None, parts)))
        if len(line) <= width:
            break
    return line[: max(0, width)]


def _bar(percent: int, width: int) -> str:
    full = percent * width // 100
    return "[" + "#" * full + "." * (width - full) + "]"


def _short(text: str, width: int) -> str:
    return text if len(text) <= width else "..." + text[3 - width :]
