"""The store that is looked at, as every check of its contents sees it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ollama_ferry.doctor.advice import Advice
from ollama_ferry.doctor.findings import Finding, Findings, Severity
from ollama_ferry.places.store.store import Store
from ollama_ferry.wording import shown

HOUR = 3600.0
"""How many seconds old a file is before it counts as one that nobody is working on; newer servers use the same."""


@dataclass
class Subject:
    """A store, and what was learned of it so far.

    Attributes:
        store: the store.
        findings: where to tell what was found.
        now: the time, in seconds since the epoch.
        served: whether the running server uses this store; None where that is not known.
        restart: the line that restarts the server's service, or nothing.
        advice: what may be changed here.
        not_understood: how many manifests or folders of them could not be read: they may name any blob.
        stops_tidying: whether something keeps a server from deleting what no model names.
        tidying_hurts: whether a server would delete what a model needs.
    """

    store: Store
    findings: Findings
    now: float
    served: bool | None
    restart: str
    advice: Advice
    not_understood: int = 0
    stops_tidying: bool = False
    tidying_hurts: bool = False

    @property
    def root(self) -> Path:
        return self.store.root

    def add(
        self, severity: Severity, code: str, text: str, concerns: Iterable[str] = (), mend: Iterable[str] = ()
    ) -> None:
        """Tell a finding about this store."""
        self.findings.add(
            Finding(severity, code, text, shown(self.root), tuple(map(shown, concerns)), tuple(mend)),
        )

    def closed(self, path: str) -> None:
        """Tell of a file or folder that this user may not look into."""
        self.not_understood += 1
        self.add(
            Severity.PROBLEM,
            "closed",
            f"This user may not look into {shown(path)}: what is wrong there is not known.",
            [path],
        )

    def deletes(self, what: str) -> str:
        """Say that a server deletes something when it starts, and whether it does so now."""
        but = "; but not as long as a file above stops its tidying" if self.stops_tidying else ""
        return f"A server deletes {what} at its start, unless OLLAMA_NOPRUNE is set{but}."
