"""What a running copy tells its caller, and how the caller stops it. Nothing here prints."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ollama_ferry.errors import Cancelled
from ollama_ferry.model.manifests import Descriptor
from ollama_ferry.model.names import ModelName


@dataclass(frozen=True)
class Started:
    """A copy begins.

    Attributes:
        models: how many models it copies; 0 where it is a stream, whose content shows later.
        blobs: how many blobs will be moved; those that are there already are not counted.
        total: the bytes of these blobs; of a stream, those of its file, or 0 where it has none.
        what: what this pass over the bytes is for, as a participle, where it is not yet the work itself: ``looking
            through x.tar.gz``.
    """

    models: int
    blobs: int
    total: int
    what: str = ""


@dataclass(frozen=True)
class Phase:
    """The job does something that takes its time while no byte moves.

    Attributes:
        text: what, as a participle, for people: ``connecting to lab``; empty where it is over.
    """

    text: str


@dataclass(frozen=True)
class BlobStarted:
    """The first byte of a blob is about to move.

    Attributes:
        blob: which.
        models: the models that need it; of a stream it may not be known yet.
    """

    blob: Descriptor
    models: tuple[ModelName, ...] = ()


@dataclass(frozen=True)
class Advanced:
    """Some more bytes moved.

    Attributes:
        amount: how many since the last such event; never negative.
        resumed: an earlier run had moved them; now they were hashed only.
    """

    amount: int
    resumed: bool = False


@dataclass(frozen=True)
class BlobDone:
    """A blob arrived whole, under its digest."""

    blob: Descriptor


@dataclass(frozen=True)
class ModelDone:
    """A model arrived whole: its manifest is there."""

    name: ModelName


@dataclass(frozen=True)
class Noted:
    """Something the user may want to know; not an error."""

    text: str


@dataclass(frozen=True)
class Explained:
    """Why something was decided, for who wants to know."""

    text: str


@dataclass(frozen=True)
class StoreChosen:
    """A store was found on this machine, and is used.

    Attributes:
        root: its folder.
        why: how it was found, in words.
        others: further stores on this machine, which are not used.
    """

    root: Path
    why: str
    others: tuple[Path, ...]


Event = Started | Phase | BlobStarted | Advanced | BlobDone | ModelDone | Noted | Explained | StoreChosen
Observer = Callable[[Event], None]
"""Called from the thread that called the copy, never from two threads at once."""


def ignore(event: Event) -> None:
    """Observe nothing."""


class Cancel:
    """A switch that stops a copy at the next chunk, from any thread or signal handler.

    Args:
        above: a switch that stops this one's work too, and that this one does not touch.
    """

    def __init__(self, above: Cancel | None = None) -> None:
        self._set = threading.Event()
        self._above = above

    def set(self) -> None:
        """Ask the copy to stop."""
        self._set.set()

    def check(self) -> None:
        """Raise where a stop was asked for.

        Raises:
            Cancelled: :meth:`set` was called.
        """
        if self._set.is_set():
            raise Cancelled(
                "cancelled",
                hint="Run the same command again: no final name has half a file.",
            )
        if self._above is not None:
            self._above.check()
