"""Run doctor's checks on a machine of the test's own, and the lines that it gives."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from ollama_ferry.doctor.findings import Finding
from ollama_ferry.doctor.machine import MachineReport, check_machine
from ollama_ferry.ollama.candidates import System
from ollama_ferry.ollama.server import ServerAddress, ServerAnswer
from support import needs
from support.stores import StoreBuilder

HOURS = 7200.0
PLENTY = 10**15
LIBRARY = "manifests/registry.ollama.ai/library"


def telling(folder: str | None, *owners: int) -> Callable[[ServerAddress], ServerAnswer]:
    """Return a server on this machine that tells a folder, of this user where no other is named; or none at all."""
    if folder is None:
        return ServerAnswer
    # That a server is believed hangs on whose it is.
    needs.require(needs.owners)
    belongs = frozenset(owners or (os.geteuid(),))
    return lambda address: ServerAnswer(address, answered=True, local=True, folder=folder, owners=belongs)


def system(tmp_path: Path, answer: str | None = None, **environ: str) -> System:
    return System(
        environ=environ,
        home=tmp_path / "home",
        platform="linux",
        ask=telling(answer),
        unit_folders=(tmp_path / "units",),
        service_home=tmp_path / "service",
        more_folders=(tmp_path / "lib/ollama",),
        volume_folders=(tmp_path / "volumes",),
    )


def checked(
    store: StoreBuilder, tmp_path: Path, *, free: int = PLENTY, answer: str | None = None, later: float = 0
) -> MachineReport:
    """Look at one store, as if some seconds later."""
    moment = time.time() + later
    return check_machine(system(tmp_path, answer), store.root, free=lambda folder: free, now=moment)


def codes(report: MachineReport) -> list[str]:
    return [finding.code for finding in report.findings]


def only(report: MachineReport, code: str) -> Finding:
    """Return the one finding of a kind, and require that there is no other kind."""
    assert codes(report) == [code]
    return report.findings[0]


def one(report: MachineReport, code: str) -> Finding:
    found = [finding for finding in report.findings if finding.code == code]
    assert len(found) == 1, codes(report)
    return found[0]


def run(line: str) -> None:
    """Run a line as an administrator would, without sudo: the tests own what they made, or are root."""
    needs.require(needs.shell)
    subprocess.run(["bash", "-c", line.replace("sudo ", "")], check=True)


def follow(finding: Finding) -> None:
    """Run the lines of a finding that change something, but for those of Ollama and of ollama-ferry."""
    lines = [line for line in finding.mend if not line.startswith(("#", "ollama", "sudo systemctl"))]
    assert lines, finding
    for line in lines:
        run(line)


def unit(tmp_path: Path, *lines: str) -> None:
    needs.require(needs.systemd)
    folder = tmp_path / "units"
    folder.mkdir(exist_ok=True)
    (folder / "ollama.service").write_text("[Service]\n" + "\n".join(lines) + "\n")


def long_ago(*paths: Path) -> None:
    moment = time.time() - 3 * 86_400
    for path in paths:
        os.utime(path, (moment, moment))
