"""Jobs of one kind at one target at once, one of which kills itself at a call of its own disk.

Run as a program, by ``AT_ONCE``: each job is a process that is forked, and a process with threads must not fork.
"""

# ruff: noqa: T201

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

from ollama_ferry.errors import FerryError
from ollama_ferry.files.disk import Disk
from ollama_ferry.jobs.export import ExportOptions, export_to_file, plan_export
from ollama_ferry.places.store.store import Store
from support.faulty_disk import FaultyDisk, HastyDisk
from support.writing_jobs import JOBS, Export, Material, WritingJob

_CODE = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent.parent)!r})
from support.jobs_at_once import main
main()
"""
AT_ONCE = [sys.executable, "-c", _CODE]
"""The rest of the command: what, the folder of the material, a registry, a folder to work in, rounds, seed."""

SURE = ("import", "pull", "repair", "send")
"""Those that wait for each other and then end well; the others may find that the name is taken."""

_ALREADY_EXISTS = 7


class Gate:
    """Where the others wait until the one that is to be killed has come so far, or has ended."""

    def __init__(self) -> None:
        self._reading, self._writing = os.pipe()

    def wait(self) -> None:
        os.close(self._writing)
        os.read(self._reading, 1)

    def open(self) -> None:
        if self._writing >= 0:
            os.close(self._writing)
            self._writing = -1

    def close(self) -> None:
        os.close(self._reading)
        self.open()


class KillingDisk(FaultyDisk):
    """Lets the others begin at one call, and kills the process at another one.

    Args:
        steps: how many calls there are when nobody else is there.
        rng: chooses the calls; the second may lie behind the end.
    """

    def __init__(self, steps: int, rng: random.Random) -> None:
        at = rng.randrange(steps + steps // 5)
        super().__init__(at)
        self.gate: Gate | None = None
        self._others_at = rng.choice((0, rng.randrange(at + 1)))

    def before(self, call: str, arguments: tuple[Any, ...]) -> None:
        if self.gate is not None and self.count >= self._others_at:
            self.gate.open()
        super().before(call, arguments)

    def _fail(self, call: str) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class Rival(Export):
    """An export of other models that replaces what has the archive's name."""

    def run(self, disk: Disk) -> None:
        export_part(self.material, self.path, disk)


def export_part(material: Material, path: Path, disk: Disk) -> None:
    store = Store(material.source)
    export_to_file(store, plan_export(store, list(store.names())[:1]), path, ExportOptions(replace=True), disk=disk)


def begin(job: WritingJob, disk: Disk, gate: Gate) -> int:
    """Fork a process that runs a job; return its number."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        if isinstance(disk, KillingDisk):
            disk.gate = gate
        else:
            gate.wait()
        job.run(disk)
        status = 0
    except FerryError as error:
        # What is no failure of the disk has to say what to do.
        status = error.exit_code if error.hint or error.remedies else 1
        if status != _ALREADY_EXISTS:
            print(repr(error), file=sys.stderr)
    except BaseException as error:
        print(repr(error), file=sys.stderr)
    finally:
        os._exit(status)


def run_at_once(jobs: list[WritingJob], disks: list[Disk], allowed: set[bytes] | None) -> list[int]:
    """Run jobs at once; look all the time at what has its final name. Return the exit codes, or minus the signals."""
    gate = Gate()
    children = [begin(job, disk, gate) for job, disk in zip(jobs, disks, strict=True)]
    gate.close()
    statuses: dict[int, int] = {}
    while len(statuses) < len(children):
        for child in children:
            if child not in statuses:
                number, status = os.waitpid(child, os.WNOHANG)
                if number:
                    statuses[child] = os.waitstatus_to_exitcode(status)
        assert_sound(jobs[0], allowed)
        time.sleep(0.001)
    return [statuses[child] for child in children]


def assert_sound(job: WritingJob, allowed: set[bytes] | None) -> None:
    if allowed is None:
        assert not job.faults(), job.faults()
    elif (path := job.target / "all.tar").exists():
        assert path.read_bytes() in allowed, "the archive is neither the one nor the other"


def one_round(name: str, material: Material, target: Path, steps: int, rng: random.Random) -> bool:
    """Run two or three at once, one of them killed; then one more. Tell whether one was."""
    count = rng.choice((2, 3))
    jobs: list[WritingJob] = [JOBS[name](material, target) for _ in range(count)]
    jobs[0].prepare()
    disks: list[Disk] = [HastyDisk() for _ in jobs]
    victim = rng.randrange(count)
    disks[victim] = KillingDisk(steps, rng)
    statuses = run_at_once(jobs, disks, None)
    others = [status for number, status in enumerate(statuses) if number != victim]
    fine = {0} if name in SURE else {0, _ALREADY_EXISTS}
    assert set(others) <= fine and statuses[victim] in {*fine, -signal.SIGKILL}, statuses
    if 0 in statuses:
        assert jobs[0].is_complete(), statuses
        assert name in (*SURE, "export over another") or statuses.count(0) == 1, statuses
    # Who comes next takes over what was left.
    (status,) = run_at_once(jobs[:1], [HastyDisk()], None)
    assert status in (0, _ALREADY_EXISTS) and jobs[0].is_done(), (statuses, status, jobs[0].leftovers())
    return -signal.SIGKILL in statuses


def rivals_round(material: Material, target: Path, steps: int, rng: random.Random) -> bool:
    """Run an export that replaces nothing beside one of other models that does."""
    whole = material.archive.read_bytes()
    part_path = material.folder / "part.tar"
    if not part_path.exists():
        export_part(material, part_path, Disk())
    part = part_path.read_bytes()
    jobs: list[WritingJob] = [Export(material, target), Rival(material, target)]
    jobs[0].prepare()
    disks: list[Disk] = [HastyDisk(), HastyDisk()]
    victim = rng.randrange(3)
    if victim < 2:
        disks[victim] = KillingDisk(steps, rng)
    first, second = run_at_once(jobs, disks, {whole, part})
    here = (target / "all.tar").read_bytes() if (target / "all.tar").exists() else b""
    assert {first, second} <= {0, _ALREADY_EXISTS, -signal.SIGKILL}, (first, second)
    if second == 0:
        assert here == part, (first, second)
    elif first == 0:
        assert here == whole or (second == -signal.SIGKILL and here == part), (first, second)
    (status,) = run_at_once(jobs[1:], [HastyDisk()], {whole, part})
    assert status == 0 and (target / "all.tar").read_bytes() == part and not jobs[0].leftovers(), status
    return -signal.SIGKILL in (first, second)


def main() -> None:
    """Run the rounds, and print in how many a job was killed."""
    name, material_folder, registry, work, rounds, seed = sys.argv[1:]
    material = Material(Path(material_folder), registry)
    rng = random.Random(f"{seed} {name}")
    counted = FaultyDisk()
    alone = JOBS["export" if name == "rivals" else name](material, Path(work) / "alone")
    alone.prepare()
    alone.run(counted)
    killed = 0
    for number in range(int(rounds)):
        target = Path(work) / str(number)
        try:
            if name == "rivals":
                killed += rivals_round(material, target, counted.count, rng)
            else:
                killed += one_round(name, material, target, counted.count, rng)
        except AssertionError as error:
            raise AssertionError(f"--seed {seed}, round {number}: {error}") from error
    print(killed)
