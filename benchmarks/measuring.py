"""Run commands in turn, round after round, and keep what each took."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import IO, Any

from figures import Row

FERRY = [sys.executable, "-m", "ollama_ferry"]


def compile_package() -> None:
    """Compile the modules as an installation does: a checkout has none of that where Python is kept from writing it."""
    import compileall

    import ollama_ferry

    compileall.compile_dir(Path(ollama_ferry.__file__).parent, quiet=1)


# What takes this many times as long as the baseline, and longer than so many seconds, is run once.
_SLOW_RATIO = 8
_SLOW_SECONDS = 12.0
# Nothing here should take an hour; what does is stuck.
_LIMIT = 3600.0


class PartFailedError(Exception):
    """What a part measures with could not be made."""


@dataclass(frozen=True)
class Step:
    """One command to measure.

    Attributes:
        name: what the table calls it.
        command: a line for ``sh -c``.
        table: the title of the table that it belongs to.
        makes: a file that is removed before each run and whose size is recorded.
        fills: a folder that is made, empty, before each run.
        content: bytes of what is carried, which the size is compared with.
        check: says after the first run what is wrong with the result; an empty text for nothing.
        missing: why it can't be run here; an empty text where it can.
        shown: how the table shows the command, where that differs.
        ours: whether it is ollama-ferry that is measured.
    """

    name: str
    command: str
    table: str
    makes: Path | None = None
    fills: Path | None = None
    content: int = 0
    check: Callable[[], str] | None = None
    missing: str = ""
    shown: str = ""
    ours: bool = False


@dataclass(frozen=True)
class Chain:
    """Steps of which the later ones need what the first has made; afterwards some paths are removed.

    Attributes:
        steps: in their order.
        leftovers: what is removed.
        aside: it is put aside instead until the part ends. For a minute and more ext4 passes over the inodes of what
            was removed, one by one, which whoever makes thousands of files next has to wait for (fs/ext4/ialloc.c,
            "recently_deleted").
    """

    steps: tuple[Step, ...]
    leftovers: tuple[Path, ...] = ()
    aside: bool = False


def line(*words: str | Path) -> str:
    """Return a line for the shell."""
    return shlex.join(map(str, words))


def run_rounds(chains: Sequence[Chain], runs: int, baseline: str, work: Path) -> list[Row]:
    """Run all chains in turn, several times over.

    Args:
        chains: what to run, in this order; a chain may be there twice.
        runs: how many rounds.
        baseline: the name of the step that the ratios of a round are against; the mean where it ran several times.
        work: the folder that the tables call ``WORK``; outputs of failed commands are looked at there.

    Returns:
        A row a step, with a ratio a round. A step that failed has its reason and no figures, and the steps that need
        its result say so.
    """
    rows: dict[str, Row] = {}
    for chain in chains:
        for step in chain.steps:
            shown = step.shown or readable(step.command, work)
            rows.setdefault(
                step.name, Row(step.name, step.table, shown, content=step.content, failed=step.missing, ours=step.ours)
            )
    reference = 0.0
    for number in range(runs):
        taken: dict[str, list[float]] = {}
        processor: dict[str, list[float]] = {}
        for chain in chains:
            for step in chain.steps:
                row = rows[step.name]
                slow = bool(row.seconds) and row.seconds[0] > max(_SLOW_SECONDS, _SLOW_RATIO * reference)
                if not row.failed and not slow and (seconds := _once(step, row, work)) is not None:
                    taken.setdefault(step.name, []).append(seconds)
                    processor.setdefault(step.name, []).append(row.processor[-1])
                if step.makes and (row.failed or not step.makes.exists()):
                    # What follows would work on nothing, or on half a file.
                    for later in chain.steps[chain.steps.index(step) + 1 :]:
                        if row.failed and not rows[later.name].failed:
                            rows[later.name].failed = f"needs the file of {step.name}"
                    break
                if step.name == baseline and taken.get(baseline):
                    reference = reference or taken[baseline][0]
            for path in chain.leftovers:
                if chain.aside:
                    put_aside(path, work)
                else:
                    remove(path)
        if taken.get(baseline):
            for name, times in taken.items():
                rows[name].ratios.append(fmean(times) / fmean(taken[baseline]))
                if fmean(processor[baseline]) > 0:
                    rows[name].processor_ratios.append(fmean(processor[name]) / fmean(processor[baseline]))
        print(f"round {number + 1} of {runs} is done", flush=True)
    for row in rows.values():
        if row.failed:
            row.forget()
    return list(rows.values())


def _once(step: Step, row: Row, work: Path) -> float | None:
    """Run a step once, add to its row, and return the seconds; None where it failed."""
    if step.makes:
        step.makes.unlink(missing_ok=True)
    if step.fills:
        remove(step.fills)
        step.fills.mkdir(parents=True)
    # What was written before is not to be paid for by who comes next.
    os.sync()
    with tempfile.TemporaryFile() as said:
        code, seconds, used, peak = _launch(step.command, said)
        if code:
            row.failed = f"failed with {code}{_last_words(said, work)}"
    if step.makes and not row.failed and not (step.makes.exists() and step.makes.stat().st_size):
        row.failed = "ended well and made no file"
    if row.failed:
        print(f"{step.name}: {row.failed}", flush=True)
        return None
    row.seconds.append(seconds)
    row.processor.append(used)
    row.peak = max(row.peak, peak)
    if step.makes:
        row.size = step.makes.stat().st_size
        _read_through(step.makes)
    if step.check and len(row.seconds) == 1:
        row.looked_at, row.wrong = True, step.check()
    print(f"{step.name}: {seconds:.2f} s, {used:.2f} of a processor", flush=True)
    return seconds


def _read_through(path: Path) -> None:
    """Have a file in the page cache for who reads it next: what wrote it may have let go of it, as our export does."""
    with path.open("rb", buffering=0) as file:
        while file.read(1 << 22):
            pass


def _launch(command: str, said: IO[bytes]) -> tuple[int, float, float, int]:
    """Run a shell line; return its exit code, the seconds, those of processors, and the peak memory in bytes."""
    read, write = os.pipe()
    launcher = [sys.executable, "-I", "-S", str(Path(__file__).with_name("launcher.py")), str(write), command]
    # Its own session, so that the limit can end all of a pipeline and nothing else.
    process = subprocess.Popen(
        launcher, stdin=subprocess.DEVNULL, stdout=said, stderr=said, pass_fds=(write,), start_new_session=True
    )
    os.close(write)
    limit = threading.Timer(_LIMIT, _kill_session, (process.pid,))
    limit.start()
    try:
        with os.fdopen(read) as told:
            words = told.read().split()
        process.wait()
    except BaseException:
        _kill_session(process.pid)
        process.wait()
        raise
    finally:
        limit.cancel()
    if len(words) != 4:
        return (process.returncode or 1), 0.0, 0.0, 0
    return int(words[0]), float(words[1]), float(words[2]), int(words[3])


def _kill_session(leader: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def _last_words(said: IO[bytes], work: Path) -> str:
    said.seek(0, os.SEEK_END)
    said.seek(max(0, said.tell() - 2000))
    lines = [text.strip() for text in said.read().decode(errors="replace").splitlines() if text.strip()]
    return f": {readable(lines[-1], work)[:120]}" if lines else ""


def readable(command: str, work: Path) -> str:
    """Return a line as the tables show it: without this machine's folders and with no digests; nor what breaks one."""
    command = command.replace(shlex.join(FERRY), "ollama-ferry").replace(str(work), "WORK")
    command = command.replace(sys.executable, "python")
    command = re.sub(r"sha256-[0-9a-f]{64}", "BLOB", command)
    return "".join(c if c.isprintable() and c not in "|`" else "¦" for c in command)


def make_archive(store: Path, archive: Path) -> None:
    """Export everything that a store has, unmeasured."""
    command = [*FERRY, "export", "-qf", "--models", str(store), "--all", str(archive)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def put_aside(path: Path, work: Path) -> None:
    """Take a file or a folder out of the way, until the part's folder is removed."""
    if path.exists():
        aside = work / "aside"
        aside.mkdir(exist_ok=True)
        path.rename(aside / str(len(os.listdir(aside))))


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def in_a_process(function: Callable[..., None], *arguments: Any) -> None:
    """Call a function in a process of its own: a child inherits the peak of memory of whoever starts it."""
    process = get_context("spawn").Process(target=function, args=arguments)
    process.start()
    try:
        process.join()
    except BaseException:
        process.terminate()
        process.join()
        raise
    if process.exitcode:
        raise PartFailedError(f"{function.__name__} ended with {process.exitcode}")
