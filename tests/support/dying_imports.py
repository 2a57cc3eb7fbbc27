"""Imports that die: each runs in a process that is forked, because a new Python takes longer than an import.

Run as a program, by ``DYING``, since a process with threads must not fork.
"""

# ruff: noqa: T201

from __future__ import annotations

import itertools
import os
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ollama_ferry.files.disk import Disk
from ollama_ferry.files.folder import Folder
from ollama_ferry.jobs.import_ import import_file
from ollama_ferry.jobs.import_choices import ImportOptions
from ollama_ferry.jobs.report import Fault
from ollama_ferry.jobs.verify import verify_place
from ollama_ferry.places.store.store import Store
from support.faulty_disk import DeadlyDisk, HastyDisk, WatchedDisk
from support.stores import StoreBuilder, faults_of, tree

# The rest of the command: what is to be done, the archive, a folder to make, and how much: all, or rounds and a seed.
_CODE = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent.parent)!r})
from support.dying_imports import main
main()
"""
DYING = [sys.executable, "-c", _CODE]


def target_with_a_neighbour(folder: Path) -> StoreBuilder:
    """A store that has a model already, and a blob of the archive's with the wrong content."""
    target = StoreBuilder(folder)
    target.model("neighbour", [("model", b"must stay"), ("template", b"one")])
    return target


def numbers(every: bool) -> Iterator[int]:
    """Give the numbers of calls to try one after the other: all, or the first ones and then some of each hundred."""
    yield from itertools.count() if every else itertools.chain(range(25), itertools.count(25, 9))


class Progress:
    """How far an import in another process is, told by its disk: a byte before each call, whatever time that takes."""

    def __init__(self) -> None:
        self._reading, writing = os.pipe()
        self.disk: Disk = _TellingDisk(writing)
        self._writing = writing

    def wait(self, steps: int) -> None:
        """Wait until so many calls have begun, or the import has ended."""
        self._end_writing()
        while steps and (said := os.read(self._reading, steps)):
            steps -= len(said)

    def all(self) -> int:
        """Return how many calls it made, when it has ended."""
        self._end_writing()
        return sum(iter(lambda: len(os.read(self._reading, 65536)), 0))

    def close(self) -> None:
        """Let go of it."""
        self._end_writing()
        os.close(self._reading)

    def _end_writing(self) -> None:
        # The other process has it too; the end is seen only when none has.
        if self._writing >= 0:
            os.close(self._writing)
            self._writing = -1


class _TellingDisk(WatchedDisk):
    def __init__(self, fd: int) -> None:
        self._fd = fd

    def before(self, call: str, arguments: tuple[Any, ...]) -> None:
        os.write(self._fd, b".")

    def sync(self, fd: int) -> None:
        pass

    def sync_folder(self, folder: Folder) -> None:
        pass


def fork_import(archive: Path, root: Path, disk: Disk | None = None) -> int:
    """Begin an import in a process of its own; return its number. No disk is waited for: no power is cut."""
    child = os.fork()
    if child == 0:
        try:
            import_file(archive, Store(root), ImportOptions(), disk=disk or HastyDisk())
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return child


def ended(child: int) -> int:
    """Wait for a process; return its exit code, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def assert_whole_and_finish(
    archive: Path, root: Path, neighbour: dict[str, bytes], everything: dict[str, bytes]
) -> None:
    assert not faults_of(root), faults_of(root)
    assert neighbour.items() <= tree(root).items()
    assert ended(fork_import(archive, root)) == 0
    assert tree(root) == everything, sorted(tree(root).keys() ^ everything.keys())


def expected(archive: Path, work: Path) -> dict[str, bytes]:
    root = target_with_a_neighbour(work / "expected").root
    assert ended(fork_import(archive, root)) == 0
    return tree(root)


def die_at_every_call(archive: Path, work: Path, *, every: bool) -> None:
    everything = expected(archive, work)
    for number in numbers(every):
        root = work / f"target-{number}"
        neighbour = tree(target_with_a_neighbour(root).root)
        status = ended(fork_import(archive, root, DeadlyDisk(number)))
        assert_whole_and_finish(archive, root, neighbour, everything)
        if status == 0:
            print(number)
            return
        assert status == 9


def kill_at_random(archive: Path, work: Path, rounds: int, seed: int) -> None:
    rng = random.Random(seed)
    everything = expected(archive, work)
    whole = Progress()
    child = fork_import(archive, work / "counted", whole.disk)
    steps = whole.all()
    assert ended(child) == 0 and steps > 50
    killed = finished = 0
    for number in range(rounds):
        root = work / f"target-{number}"
        neighbour = tree(target_with_a_neighbour(root).root)
        progress = Progress()
        child = fork_import(archive, root, progress.disk)
        progress.wait(rng.randrange(steps))
        os.kill(child, signal.SIGKILL)
        if ended(child) == 0:
            finished += 1
        else:
            killed += 1
        progress.close()
        assert_whole_and_finish(archive, root, neighbour, everything)
    print(killed, finished)


def kill_in_a_crowd(archive: Path, work: Path, rounds: int, seed: int) -> None:
    rng = random.Random(seed)
    everything = expected(archive, work)
    killed = 0
    for number in range(rounds):
        root = work / f"target-{number}"
        neighbour = tree(target_with_a_neighbour(root).root)
        progress = [Progress(), Progress()]
        children = [fork_import(archive, root, each.disk) for each in progress]
        looker = os.fork()
        if looker == 0:
            store = Store(root)
            report = verify_place(store, list(store.names()), threads=1)
            # A model that is listed is whole at any moment.
            wrong = [problem for model in report.models for problem in model.problems]
            os._exit(1 if any(problem.fault is not Fault.UNFINISHED for problem in wrong) else 0)
        victim = rng.randrange(2)
        # One of the two waits for the other one's lock: what it has done by then is little.
        progress[victim].wait(rng.randrange(60))
        os.kill(children[victim], signal.SIGKILL)
        statuses = [ended(child) for child in children]
        for each in progress:
            each.close()
        assert all(status in (0, -signal.SIGKILL) for status in statuses), statuses
        assert ended(looker) == 0
        killed += -signal.SIGKILL in statuses
        assert_whole_and_finish(archive, root, neighbour, everything)
    print(killed)


def main() -> None:
    """Do what the command line asks for."""
    task, archive_path, work_path, *more = sys.argv[1:]
    Path(work_path).mkdir()
    if task == "every-call":
        die_at_every_call(Path(archive_path), Path(work_path), every=more == ["all"])
    elif task == "sigkill":
        kill_at_random(Path(archive_path), Path(work_path), *map(int, more))
    else:
        kill_in_a_crowd(Path(archive_path), Path(work_path), *map(int, more))
