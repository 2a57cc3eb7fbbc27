"""File systems that don't offer everything (SMB, S3, FUSE, exFAT): what nothing depends on is done without."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import Any

import pytest

from ollama_ferry.engine.events import Explained, Noted
from ollama_ferry.engine.run import Run
from ollama_ferry.jobs.prune import prune, undo
from ollama_ferry.jobs.send import SendOptions, send
from ollama_ferry.jobs.send_targets import FolderTarget
from ollama_ferry.places.store.store import Store
from support.faulty_disk import WatchedDisk
from support.odd_stores import ODDITIES, OddStore
from support.writing_jobs import JOBS, Material

REFUSALS = {
    "set_mode": (errno.EPERM, errno.ENOTSUP, errno.EACCES),
    "touch": (errno.EPERM, errno.ENOSYS),
    "link": (errno.EPERM, errno.ENOTSUP, errno.EMLINK),
    "sync_folder": (errno.EINVAL, errno.EBADF, errno.EACCES),
    "sync": (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP),
}


class RefusingDisk(WatchedDisk):
    """Refuses some calls, as file systems do that don't offer them: below what checks such calls."""

    def __init__(self, calls: dict[str, int]) -> None:
        self.calls = calls
        self.refused: set[str] = set()

    def before(self, call: str, arguments: tuple[Any, ...]) -> None:
        # What syncs is refused by the system, and not here.
        if call in self.calls and not call.startswith("sync"):
            self.refused.add(call)
            raise OSError(self.calls[call], os.strerror(self.calls[call]))


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return Material.make(tmp_path_factory.mktemp("material"))


CASES = [{call: code} for call, codes in REFUSALS.items() for code in codes]
ALL = {call: codes[0] for call, codes in REFUSALS.items()}


def refuse_syncs(monkeypatch: pytest.MonkeyPatch, calls: dict[str, int]) -> None:
    real = os.fsync

    def fsync(fd: int) -> None:
        folder = os.path.isdir(f"/proc/self/fd/{fd}") if os.path.isdir("/proc/self/fd") else False
        code = calls.get("sync_folder" if folder else "sync")
        if code is not None:
            raise OSError(code, os.strerror(code))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.parametrize(
    "calls", [*CASES, ALL], ids=lambda calls: "+".join(f"{c}-{errno.errorcode[n]}" for c, n in calls.items())
)
@pytest.mark.parametrize("job_name", ["export", "import", "send"])
def test_a_job_does_without(
    material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job_name: str, calls: dict[str, int]
) -> None:
    refuse_syncs(monkeypatch, calls)
    job = JOBS[job_name](material, tmp_path / "t")
    job.prepare()
    job.run(RefusingDisk(calls))
    assert job.is_done(), job.leftovers()


@pytest.mark.parametrize("calls", [*CASES, ALL], ids=str)
def test_prune_does_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: dict[str, int]) -> None:
    refuse_syncs(monkeypatch, calls)
    odd = OddStore(tmp_path)
    ODDITIES["orphan"](odd)
    assert len(prune(Store(odd.root), disk=RefusingDisk(calls), now=time.time() + 7200).moved) == 1
    assert len(undo(Store(odd.root), disk=RefusingDisk(calls)).back) == 1


def test_it_is_said_once_and_with_v_only(material: Material, tmp_path: Path) -> None:
    said: list[object] = []
    # Modes that are right already are not set.
    before = os.umask(0o077)
    send(
        Store(material.source),
        list(Store(material.source).names()),
        [FolderTarget(tmp_path / "t", disk=RefusingDisk({"set_mode": errno.EPERM}))],
        SendOptions(),
        run=Run(said.append),
    )
    os.umask(before)
    assert [event.text.count("modes") for event in said if isinstance(event, Explained)].count(1) == 1
    assert not any(isinstance(event, Noted) for event in said)
