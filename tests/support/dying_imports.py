"""Imports that die: each runs in a process that is forked, because a new Python takes longer than an import.

Run as a program, by ``DYING``, since a process with threads must not fork.
"""

# ruff: noqa: T201

from __future__ import annotations

import os
import sys
from pathlib import Path

from ollama_ferry.jobs.import_ import import_file
from ollama_ferry.jobs.import_choices import ImportOptions
from ollama_ferry.jobs.report import Fault
from ollama_ferry.jobs.verify import verify_place
from ollama_ferry.places.store.store import Store
from support.faulty_disk import DeadlyDisk, FaultyDisk
from support.stores import StoreBuilder, faults_of, tree

# The rest of the command: what is to be done, the archive, a folder to make and, of some, a number of rounds.
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


def fork_import(archive: Path, root: Path, disk: FaultyDisk | None = None) -> int:
    """Begin an import in a process of its own; return its number."""
    child = os.fork()
    if child == 0:
        try:
            import_file(archive, Store(root), ImportOptions(), disk=disk)
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


def die_at_every_call(archive: Path, work: Path) -> None:
    everything = expected(archive, work)
    for number in range(100_000):
        root = work / f"target-{number}"
        neighbour = tree(target_with_a_neighbour(root).root)
        status = ended(fork_import(archive, root, DeadlyDisk(number)))
        assert_whole_and_finish(archive, root, neighbour, everything)
        if status == 0:
            print(number)
            return
        assert status == 9


def kill_at_random(archive: Path, work: Path, rounds: int) -> None:
    import random
    import signal
    import time

    rng = random.Random(rounds)
    everything = expected(archive, work)
    started = time.monotonic()
    assert ended(fork_import(archive, work / "timed")) == 0
    usual = time.monotonic() - started
    killed = finished = 0
    for number in range(rounds):
        root = work / f"target-{number}"
        neighbour = tree(target_with_a_neighbour(root).root)
        child = fork_import(archive, root)
        time.sleep(rng.uniform(0, usual * 1.05))
        os.kill(child, signal.SIGKILL)
        # What the first one took says little on a busy machine: where too many come to their end, sooner.
        if ended(child) == 0:
            finished += 1
            usual *= 0.9
        else:
            killed += 1
            usual *= 1.02
        assert_whole_and_finish(archive, root, neighbour, everything)
    print(killed, finished)


def kill_in_a_crowd(archive: Path, work: Path, rounds: int) -> None:
    import random
    import signal
    import time

    rng = random.Random(rounds)
    everything = expected(archive, work)
    killed = 0
    for number in range(rounds):
        root = work / f"target-{number}"
        neighbour = tree(target_with_a_neighbour(root).root)
        children = [fork_import(archive, root), fork_import(archive, root)]
        looker = os.fork()
        if looker == 0:
            store = Store(root)
            report = verify_place(store, list(store.names()), threads=1)
            # A model that is listed is whole at any moment.
            wrong = [problem for model in report.models for problem in model.problems]
            os._exit(1 if any(problem.fault is not Fault.UNFINISHED for problem in wrong) else 0)
        time.sleep(rng.uniform(0, 0.15))
        victim = rng.choice(children)
        os.kill(victim, signal.SIGKILL)
        statuses = [ended(child) for child in children]
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
        die_at_every_call(Path(archive_path), Path(work_path))
    elif task == "sigkill":
        kill_at_random(Path(archive_path), Path(work_path), int(more[0]))
    else:
        kill_in_a_crowd(Path(archive_path), Path(work_path), int(more[0]))
