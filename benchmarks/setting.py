"""What every part of the benchmark is given, and what it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from figures import Row


@dataclass(frozen=True)
class Setting:
    """Where a part works, and how much it measures.

    Attributes:
        work: a folder of its own, which is removed when it ends.
        size: bytes of the main model.
        runs: how often each command runs.
        quick: whether only the machinery is tried.
        others: where the tools made for Ollama's models are.
    """

    work: Path
    size: int
    runs: int
    quick: bool
    others: Path


@dataclass(frozen=True)
class Part:
    """A part of the benchmark.

    Attributes:
        about: what is measured, for the reader of its tables.
        baseline: the row that its ratios are against.
        measure: does it.
    """

    about: str
    baseline: str
    measure: Callable[[Setting], list[Row]]
