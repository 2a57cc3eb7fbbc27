"""What is wrong with Ollama's models on this machine, and the lines that mend it. Nothing is changed.

Stores are found as :mod:`ollama_ferry.ollama.locate` finds them, but all of them, and none that is damaged or closed is
an error: that is what is told.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ollama_ferry.doctor.findings import Finding, Findings, Omitted, Severity, quoted, shown
from ollama_ferry.doctor.store import Examination, Held
from ollama_ferry.doctor.store_files import leads_nowhere
from ollama_ferry.errors import StoreNotFound
from ollama_ferry.files.disk import free_space
from ollama_ferry.files.permissions import Service, impassable, service_of
from ollama_ferry.ollama.locate import System, default_folders, locate
from ollama_ferry.ollama.server import ServerAddress
from ollama_ferry.wording import counted, human_size

# What locating says of a folder that the service's unit names.
_SET_BY_UNIT = " sets it"
FREE_AT_LEAST = 5 * 1000**3
"""Free bytes on a store's disk below which a warning is given."""


@dataclass(frozen=True)
class StoreSeen:
    """A store on this machine.

    Attributes:
        path: the folder.
        why: how it was found, in words.
        chosen: whether it is the one that the other commands use.
        served: whether the running server uses it; None where no server told.
        held: what it holds; None where it was not looked into.
    """

    path: Path
    why: str
    chosen: bool
    served: bool | None
    held: Held | None


@dataclass(frozen=True)
class Diagnosis:
    """What was found.

    Attributes:
        stores: the stores on this machine, the chosen one first.
        server: the address that was asked.
        server_folder: the models folder that the server told, printable; None where none answered, or had a model.
        findings: what was found, what matters most first.
        omitted: what was counted only.
    """

    stores: tuple[StoreSeen, ...]
    server: str
    server_folder: str | None
    findings: tuple[Finding, ...]
    omitted: tuple[Omitted, ...]

    def count(self, severity: Severity) -> int:
        """Return how many findings of a severity there are, those that were counted only among them."""
        found = sum(finding.severity is severity for finding in self.findings)
        return found + sum(more.count for more in self.omitted if more.severity is severity)


def diagnose(
    system: System,
    models: Path | None = None,
    *,
    now: float | None = None,
    free: Callable[[Path], int | None] = free_space,
) -> Diagnosis:
    """Find out what is wrong.

    Args:
        system: the machine.
        models: look into this store only; what is wrong with the machine is told all the same.
        now: the time, in seconds since the epoch.
        free: tells the free bytes on a folder's disk.

    Raises:
        StoreNotFound: there is no store at all, or ``models`` is none.
    """
    return _Diagnosing(system, models, time.time() if now is None else now, free).run()


@dataclass(frozen=True)
class _Candidate:
    """A folder that may be a store; ``state`` is ``store``, ``absent``, ``closed`` or ``dangling``."""

    path: Path
    why: str
    state: str


class _Diagnosing:
    """One diagnosis."""

    def __init__(self, system: System, models: Path | None, now: float, free: Callable[[Path], int | None]) -> None:
        self.now = now
        self.free = free
        self.findings = Findings()
        self.address = ServerAddress.parse(system.environ.get("OLLAMA_HOST", ""))
        answer = system.ask(self.address, [])
        # Asked once; locating asks again.
        self.system = replace(system, ask=lambda address, names: answer)
        self.answer = answer
        self.told = _absolute(Path(answer)) if answer and os.path.isabs(answer) else None
        self.service = service_of(system)
        self.defaults = [(_absolute(path), why) for path, why in default_folders(system)]
        self.by_option = _absolute(models) if models is not None else None
        variable = system.environ.get("OLLAMA_MODELS", "").strip().strip("\"'")
        self.by_variable = _absolute(Path(variable)) if variable else None
        self.named = self.by_option or self.by_variable

    def run(self) -> Diagnosis:
        candidates = self._candidates()
        there = [candidate for candidate in candidates if candidate.state != "absent"]
        if not there or (self.by_option is not None and not _is_one_of(self.by_option, there)):
            # It raises, with what was looked at and what may have been meant.
            located = locate(self.system, self.by_option)
            raise StoreNotFound(f"{shown(located.root)} has gone while it was looked at")
        chosen = self._choose(there)
        told = self.told if self.told is not None and _state(self.told) != "absent" else None
        seen: list[StoreSeen] = []
        checked_disks: set[int] = set()
        for candidate in sorted(there, key=lambda candidate: candidate is not chosen):
            served = _same(candidate.path, told) if told is not None else None
            held: Held | None = None
            if self.by_option is None or candidate is chosen:
                held = self._look_into(candidate, chosen, served)
                self._tell_space(candidate, held, checked_disks)
            seen.append(StoreSeen(candidate.path, candidate.why, candidate is chosen, served, held))
        self._tell_server(told)
        self._tell_choice(candidates, there, told, seen)
        self._tell_several(told, seen)
        self._tell_service(told, there)
        return Diagnosis(
            tuple(seen),
            str(self.address),
            shown(self.answer) if self.answer else None,
            self.findings.sorted(),
            self.findings.omitted(),
        )

    # -- which stores there are

    def _candidates(self) -> list[_Candidate]:
        """Return where a store may be, each place once, in the order in which the other commands look."""
        places: list[tuple[Path, str]] = []
        if self.by_option is not None:
            places.append((self.by_option, "--models names it"))
        if self.by_variable is not None:
            places.append((self.by_variable, "OLLAMA_MODELS names it"))
        if self.told is not None:
            places.append((self.told, f"the server at {self.address} uses it"))
        places += self.defaults
        services = self._service_folder()
        if services is not None:
            places.append((services, "the service's folder"))
        found: list[_Candidate] = []
        for path, why in places:
            for number, known in enumerate(found):
                if known.path == path and why == "the service's folder":
                    break
                if _same(known.path, path):
                    found[number] = replace(known, why=f"{known.why}; {why}")
                    break
            else:
                found.append(_Candidate(path, why, _state(path)))
        return found

    def _choose(self, there: list[_Candidate]) -> _Candidate | None:
        """Return the store that the other commands use; None where what was named is none."""
        if self.named is not None:
            return next((candidate for candidate in there if _same(candidate.path, self.named)), None)
        if self.told is not None:
            for candidate in there:
                if _same(candidate.path, self.told):
                    return candidate
        order = ("store", "closed", "dangling")
        return min(there, key=lambda candidate: order.index(candidate.state))

    def _look_into(self, candidate: _Candidate, chosen: _Candidate | None, served: bool | None) -> Held | None:
        if candidate.state == "closed":
            alone = candidate is chosen
            self._add(
                Severity.PROBLEM if alone else Severity.WARNING,
                "closed",
                f"This user may not look into {shown(candidate.path)} ({candidate.why}): what is wrong there is not "
                "known.",
                store=shown(candidate.path),
                concerns=[candidate.path],
            )
            return None
        service = self.service
        ours = service is not None and self._is_services(candidate.path)
        return Examination(
            root=candidate.path,
            findings=self.findings,
            now=self.now,
            served=served,
            owner=service.user if service and ours else None,
            restart="sudo systemctl restart ollama" if service and service.unit and (served or ours) else "",
            owners=self.system.platform != "win32" and os.name != "nt",
        ).run()

    def _is_services(self, path: Path) -> bool:
        """Tell whether the service is set to use a store."""
        wanted = self._service_folder()
        return wanted is not None and _same(path, wanted)

    def _service_folder(self) -> Path | None:
        if self.service is None:
            return None
        # Of several settings the last one counts, which comes first here.
        path, why = self.defaults[0]
        if why.endswith(_SET_BY_UNIT):
            return path
        user = self.service.user
        if user is not None and user.home is not None and user.name != "ollama":
            return user.home / ".ollama/models"
        return _absolute(self.system.service_home / ".ollama/models")

    # -- what is told of the machine

    def _add(
        self,
        severity: Severity,
        code: str,
        text: str,
        *,
        store: str = "",
        concerns: list[Path] | None = None,
        mend: list[str] | None = None,
    ) -> None:
        self.findings.add(Finding(severity, code, text, store, tuple(map(shown, concerns or ())), tuple(mend or ())))

    def _tell_server(self, told: Path | None) -> None:
        if self.answer and told is None:
            self._add(
                Severity.NOTE,
                "server-elsewhere",
                f"The server at {self.address} keeps its models in {shown(self.answer)}, which is not a folder here: "
                "it runs in a container or on another machine. What is done to the stores here does not reach it.",
            )

    def _tell_choice(
        self, candidates: list[_Candidate], there: list[_Candidate], told: Path | None, seen: list[StoreSeen]
    ) -> None:
        variable = self.by_variable
        if variable is not None and self.by_option is None and not _is_one_of(variable, there):
            self._add(
                Severity.PROBLEM,
                "no-such-store",
                f"OLLAMA_MODELS names {shown(variable)}, and no store is there. ollama-ferry stops at that, and a "
                "server that is started with it makes a new, empty store.",
                concerns=[variable],
                mend=["unset OLLAMA_MODELS"],
            )
        elif self.named is not None and told is not None and not _same(self.named, told):
            origin = "--models" if self.by_option is not None else "OLLAMA_MODELS"
            mend = [] if self.by_option is not None else [f"export OLLAMA_MODELS={quoted(told)}"]
            if any(store.chosen and store.held is not None and store.held.models for store in seen):
                mend += _copying(self.named, told)
            self._add(
                Severity.WARNING,
                "not-the-servers",
                f"{origin} names {shown(self.named)}, and the server at {self.address} uses {shown(told)}. What "
                "ollama-ferry imports into the one, the server does not see.",
                concerns=[self.named, told],
                mend=mend,
            )
        path, why = self.defaults[0]
        if why.endswith(_SET_BY_UNIT) and _state(path) == "absent":
            user = self.service.user if self.service else None
            owner = f"-o {quoted(user.name)} -g {quoted(user.group)} " if user else ""
            self._add(
                Severity.WARNING,
                "no-service-store",
                f"{shown(path)} ({shown(why)}) is not there, or holds no manifests yet. Is a disk not mounted? The "
                "server makes a new, empty store there, if it may.",
                concerns=[path],
                mend=["# If it is to be a new store:", f"sudo install -d {owner}{quoted(path)}"],
            )

    def _tell_several(self, told: Path | None, seen: list[StoreSeen]) -> None:
        full = [store for store in seen if store.held is not None and store.held.models]
        if told is None:
            if len(full) > 1:
                each = ", ".join(f"{shown(s.path)} ({s.held.models if s.held else 0})" for s in full)
                self._add(
                    Severity.WARNING,
                    "several-stores",
                    f"Models lie in {len(full)} stores: {each}. A server uses one of them, and does not see the models "
                    "in the others. (None answered with its folder; start it and run doctor again to learn which.)",
                    concerns=[store.path for store in full],
                )
            return
        for store in full:
            # One that was named is told of already.
            if store.served is False and not (store.chosen and self.named is not None):
                count = store.held.models if store.held else 0
                self._add(
                    Severity.WARNING,
                    "several-stores",
                    f"{counted(count, 'model')} in {shown(store.path)} {'is' if count == 1 else 'are'} invisible to "
                    f"the server at {self.address}, which uses {shown(told)}.",
                    store=shown(store.path),
                    concerns=[store.path, told],
                    mend=_copying(store.path, told),
                )

    def _tell_service(self, told: Path | None, there: list[_Candidate]) -> None:
        service = self.service
        if service is None:
            return
        if service.user is None:
            self._add(
                Severity.PROBLEM,
                "no-service-user",
                f"{shown(service.unit or '')} runs Ollama as {shown(service.user_name)!a}, and there is no such user: "
                "the service can't start.",
                mend=[
                    f"sudo useradd -r -s /bin/false -U -m -d /usr/share/ollama {quoted(service.user_name)}",
                ],
            )
            return
        wanted = self._service_folder()
        for candidate in there:
            ours = wanted is not None and _same(candidate.path, wanted)
            named = self.named is not None and _same(candidate.path, self.named)
            if (ours or named) and not (told is not None and _same(candidate.path, told)):
                self._tell_passing(candidate.path, service, ours=ours)
        if service.unit is not None and wanted is not None and told is not None and not _same(wanted, told):
            self._add(
                Severity.WARNING,
                "not-in-effect",
                f"The service is set to use {shown(wanted)}, and the server at {self.address} uses {shown(told)}: it "
                "was not restarted since, or is not the service.",
                concerns=[wanted, told],
                mend=["sudo systemctl daemon-reload && sudo systemctl restart ollama"],
            )

    def _tell_passing(self, path: Path, service: Service, *, ours: bool) -> None:
        user = service.user
        if user is None:
            return
        for folder in impassable(path, user):
            self._add(
                Severity.PROBLEM if ours else Severity.NOTE,
                "impassable",
                f"{shown(user.name)}, the user that Ollama's service runs as, may not pass {shown(folder)}, which is "
                f"above the store {shown(path)}. "
                + (
                    "The service can't reach its models." if ours else "It matters if the service is to use that store."
                ),
                store=shown(path),
                concerns=[folder],
                mend=[
                    "# For that user alone (package acl):",
                    f"sudo setfacl -m u:{quoted(user.name)}:x {quoted(folder)}",
                    "# Or for all users:",
                    f"sudo chmod o+x {quoted(folder)}",
                ],
            )

    def _tell_space(self, candidate: _Candidate, held: Held | None, checked: set[int]) -> None:
        if held is None or candidate.state != "store":
            return
        blobs = candidate.path / "blobs"
        folder = blobs if blobs.is_dir() else candidate.path
        try:
            disk = os.stat(folder).st_dev
        except OSError:
            return
        left = self.free(folder)
        if left is None or disk in checked or left >= max(FREE_AT_LEAST, held.largest):
            return
        checked.add(disk)
        why = (
            "That is little."
            if left < FREE_AT_LEAST
            else f"The largest model here takes {human_size(held.largest)}; a new version of it would not fit."
        )
        self._add(
            Severity.WARNING,
            "little-space",
            f"{human_size(left)} are free on the disk of {shown(folder)}. {why}",
            store=shown(candidate.path),
            concerns=[folder],
            mend=[
                "# What removing each model would free (OWN); then `ollama rm MODEL`:",
                f"ollama-ferry list --models {quoted(candidate.path)}",
            ],
        )


def _copying(source: Path, target: Path) -> list[str]:
    """Return the line that copies all models of a store into another."""
    return [
        f"# To copy its models into {quoted(target)}, which takes their space once more:",
        f"ollama-ferry export --all --format tar --models {quoted(source)} - | "
        f"ollama-ferry import --models {quoted(target)} -",
    ]


def _state(path: Path) -> str:
    manifests = path / "manifests"
    try:
        os.stat(manifests)
        os.listdir(manifests)
    except PermissionError:
        return "closed"
    except OSError:
        return "dangling" if leads_nowhere(path) or leads_nowhere(manifests) else "absent"
    return "store"


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path.expanduser()))


def _same(one: Path, other: Path | None) -> bool:
    if other is None:
        return False
    try:
        return one == other or os.path.samefile(one, other)
    except OSError:
        return False


def _is_one_of(path: Path, candidates: list[_Candidate]) -> bool:
    return any(_same(candidate.path, path) for candidate in candidates)
