"""What is wrong with Ollama's models on this machine, and the lines that mend it. Nothing is changed.

Stores are those that :mod:`ollama_ferry.ollama.candidates` lists, all of them, and none that is damaged or closed is an
error: that is what is reported.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ollama_ferry.doctor.choice import StoreSeen, check_choice, is_served
from ollama_ferry.doctor.disk import check_space
from ollama_ferry.doctor.findings import Finding, Findings, Omitted, Severity
from ollama_ferry.doctor.service import check_service, services_store
from ollama_ferry.doctor.store import Held, check_store
from ollama_ferry.errors import StoreNotFound
from ollama_ferry.files.disk import free_space
from ollama_ferry.files.folder import without_tilde
from ollama_ferry.ollama.candidates import Candidate, Candidates, State, System, list_candidates
from ollama_ferry.ollama.locate import locate
from ollama_ferry.wording import shown


@dataclass(frozen=True)
class MachineReport:
    """What was found.

    Attributes:
        stores: the stores on this machine, the chosen one first.
        server: the address that was asked.
        server_folder: the models folder that the server told, printable; None where none answered, or had a model.
        answered: whether a server answered at that address, with a folder or without.
        findings: what was found, what matters most first.
        omitted: what was counted only.
    """

    stores: tuple[StoreSeen, ...]
    server: str
    server_folder: str | None
    findings: tuple[Finding, ...]
    omitted: tuple[Omitted, ...]
    answered: bool = False

    def count(self, severity: Severity) -> int:
        """Return how many findings of a severity there are, those that were counted only among them."""
        found = sum(finding.severity is severity for finding in self.findings)
        return found + sum(more.count for more in self.omitted if more.severity is severity)


def check_machine(
    system: System,
    models: Path | None = None,
    *,
    now: float | None = None,
    free: Callable[[Path], int | None] = free_space,
) -> MachineReport:
    """Find out what is wrong.

    Args:
        system: the machine.
        models: look into this store only; what is wrong with the machine is told all the same.
        now: the time, in seconds since the epoch.
        free: tells the free bytes on a folder's disk.

    Raises:
        StoreNotFound: there is no store at all, or ``models`` is none.
    """
    moment = time.time() if now is None else now
    listed = list_candidates(system, Path(os.path.abspath(without_tilde(models))) if models is not None else None)
    chosen = listed.chosen
    existing = [one for one in listed.found if one.state is not State.ABSENT]
    if not existing or (models is not None and chosen not in existing):
        # It raises, with what was looked at and what may have been meant.
        located = locate(system, models)
        raise StoreNotFound(f"{shown(located.root)} has gone while it was looked at")
    findings = Findings()
    seen: list[StoreSeen] = []
    checked_disks: set[int] = set()
    for one in sorted(existing, key=lambda one: one is not chosen):
        held: Held | None = None
        if models is None or one is chosen:
            held = _check_store(one, listed, system, findings, moment)
            if held is not None and one.state is State.STORE:
                check_space(one.path, held.largest, free, checked_disks, findings)
        seen.append(StoreSeen(one.path, one.why, one is chosen, is_served(listed, one), held))
    check_choice(listed, seen, findings)
    check_service(listed, findings)
    answer = listed.answer
    folder = shown(answer.folder) if answer.folder else None
    return MachineReport(
        tuple(seen), str(answer.address), folder, findings.sorted(), findings.omitted(), answer.answered
    )


def _check_store(one: Candidate, listed: Candidates, system: System, findings: Findings, now: float) -> Held | None:
    if one.state is State.CLOSED:
        findings.add(
            Finding(
                Severity.PROBLEM if one is listed.chosen else Severity.WARNING,
                "closed",
                f"This user may not look into {shown(one.path)} ({shown(one.why)}): what is wrong there is not known.",
                shown(one.path),
                (shown(one.path),),
            )
        )
        return None
    service, served = listed.service, is_served(listed, one)
    ours = service is not None and one is services_store(listed)
    restarts = service is not None and service.unit is not None and (served or ours)
    return check_store(
        Path(os.path.abspath(one.path)),
        findings,
        now=now,
        served=served,
        owner=service.user if service is not None and ours else None,
        restart="sudo systemctl restart ollama" if restarts else "",
        owners=system.platform != "win32" and os.name != "nt",
    )
