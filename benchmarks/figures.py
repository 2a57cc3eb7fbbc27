"""What was measured, and its file: the record that the next run is compared with."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

TOLERANCE = 1.15
"""A ratio that is worse than the recorded one by more than this is marked."""


@dataclass
class Row:
    """One command, as often as it ran.

    Attributes:
        name: what was done.
        table: the table that it belongs to.
        command: how it was called, without this machine's folders.
        seconds: wall time of each run.
        ratios: for each round, that time over the baseline's of the same round.
        processor: user and kernel seconds of each run, of all processes together.
        processor_ratios: for each round, these over the baseline's of the same round.
        content: bytes of what was carried; 0 where that says nothing.
        size: bytes of the file that was made; 0 for none.
        peak: bytes, the largest resident set of any process of the command.
        failed: why there are no figures; empty where there are some.
        looked_at: whether the result was hashed after the first run.
        wrong: what is wrong with it then; empty where it is whole.
        ours: whether it is ollama-ferry that was measured.
    """

    name: str
    table: str
    command: str
    seconds: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    content: int = 0
    size: int = 0
    peak: int = 0
    failed: str = ""
    looked_at: bool = False
    wrong: str = ""
    ours: bool = False
    processor: list[float] = field(default_factory=list)
    processor_ratios: list[float] = field(default_factory=list)

    def forget(self) -> None:
        """Drop what was measured before it failed: a number would look like a result."""
        self.seconds, self.ratios, self.size, self.peak, self.looked_at, self.wrong = [], [], 0, 0, False, ""
        self.processor, self.processor_ratios = [], []

    @property
    def time(self) -> float:
        """The median of the seconds."""
        return median(self.seconds)

    @property
    def ratio(self) -> float:
        """The median of the ratios."""
        return median(self.ratios)


@dataclass
class Figures:
    """A whole run.

    Attributes:
        date: of the day, in ISO form.
        gigabytes: of the main model; ratios of different sizes are not compared.
        machine: facts by name.
        parts: the rows of each part that has run.
    """

    date: str
    gigabytes: float
    machine: dict[str, str]
    parts: dict[str, list[Row]] = field(default_factory=dict)

    def find(self, part: str, name: str) -> Row | None:
        """Return a row that has figures, or None."""
        return next((row for row in self.parts.get(part, ()) if row.name == name and row.seconds), None)

    @property
    def rows(self) -> Iterable[Row]:
        """Every row."""
        return (row for rows in self.parts.values() for row in rows)


def read_figures(path: Path) -> Figures | None:
    """Return a recorded run; None where there is none, or one of another form."""
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        parts = {part: [Row(**row) for row in rows] for part, rows in document.pop("parts").items()}
        return Figures(**document, parts=parts)
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def write_text(path: Path, text: str) -> None:
    """Write a file that appears only when whole."""
    unfinished = path.with_name(f"{path.name}.partial")
    unfinished.write_text(text, encoding="utf-8")
    os.replace(unfinished, path)


def as_json(figures: Figures) -> str:
    """Return what :func:`read_figures` reads; seconds and ratios are rounded to what a clock can tell."""
    document = asdict(figures)
    for rows in document["parts"].values():
        for row in rows:
            for key in ("seconds", "ratios", "processor", "processor_ratios"):
                row[key] = [round(x, 4) for x in row[key]]
    return json.dumps(document, indent=1) + "\n"


def change(row: Row, before: Figures | None, part: str) -> tuple[str, bool]:
    """Compare a row's ratio with the recorded one.

    Returns:
        The text ``was → is``, or the ratio alone where nothing is recorded; and whether it is one of ours that got
        worse by more than :data:`TOLERANCE`.
    """
    was = before.find(part, row.name) if before else None
    if was is None or not was.ratios or not row.ratios:
        return (f"{row.ratio:.2f}" if row.ratios else ""), False
    return f"{was.ratio:.2f} → {row.ratio:.2f}", row.ours and row.ratio > was.ratio * TOLERANCE
