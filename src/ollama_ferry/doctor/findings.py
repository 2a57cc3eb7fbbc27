"""What doctor says: a bounded number of findings, in texts that are safe to print and lines safe to copy."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import Enum

from ollama_ferry.doctor.what_if import WHAT_IF
from ollama_ferry.wording import counted

LISTED_AT_MOST = 10
"""How many findings of a kind are kept for each store, and how many paths one finding names."""


class Severity(Enum):
    """How much a finding matters."""

    PROBLEM = "problem"
    """Something does not work, or will not."""
    WARNING = "warning"
    """Something works and will surprise somebody, or wastes space."""
    NOTE = "note"
    """Good to know; nothing need be done."""


@dataclass(frozen=True)
class Finding:
    """Something that was found.

    Attributes:
        severity: how much it matters.
        code: a word for its kind, for scripts.
        text: what it is and why it matters; printable.
        store: the store that it is about, printable; empty where it is about the machine.
        concerns: the paths or names that it is about, printable; not all of them where there are many.
        mend: the lines to copy into a shell, of which those that begin with ``#`` say what the next one does;
            empty where nothing need be done, or no line could do it.
    """

    severity: Severity
    code: str
    text: str
    store: str = ""
    concerns: tuple[str, ...] = ()
    mend: tuple[str, ...] = ()

    @property
    def what_if(self) -> str:
        """What such a finding means for whoever moves models; empty where docs/what-if.md has no line of it."""
        return WHAT_IF.get(self.code, ("", ""))[1]


@dataclass(frozen=True)
class Omitted:
    """Further findings of a kind that were counted and not kept."""

    code: str
    store: str
    severity: Severity
    count: int


class Findings:
    """Collects findings; of each kind in each store only so many are kept."""

    def __init__(self) -> None:
        self._kept: list[Finding] = []
        self._counts: Counter[tuple[str, str, Severity]] = Counter()

    def add(self, finding: Finding) -> None:
        """Take a finding, or count it where there are enough of its kind."""
        key = (finding.code, finding.store, finding.severity)
        self._counts[key] += 1
        if self._counts[key] <= LISTED_AT_MOST:
            self._kept.append(finding)

    def sorted(self) -> tuple[Finding, ...]:
        """Return what was kept: what matters most first, else in the order of adding, one kind together."""
        severities = list(Severity)
        kinds = list(self._counts)
        return tuple(
            sorted(self._kept, key=lambda f: (severities.index(f.severity), kinds.index((f.code, f.store, f.severity))))
        )

    def omitted(self) -> tuple[Omitted, ...]:
        """Return what was counted only."""
        return tuple(
            Omitted(code, store, severity, count - LISTED_AT_MOST)
            for (code, store, severity), count in self._counts.items()
            if count > LISTED_AT_MOST
        )


def and_more(count: int, listed: int) -> str:
    """Return ``" and 7 more"`` where not all of a number are listed, else nothing."""
    return f" and {count - listed} more" if count > listed else ""


def age(seconds: float) -> str:
    """Return how long ago something was, in words."""
    for name, length in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            return counted(int(seconds // length), name)
    return "less than a minute"
