"""Measure ollama-ferry beside the alternatives, in one run, and write tables, a plot and the figures.

    ./dev bench                 # the whole, about an hour and 33 GB of disk
    ./dev bench --quick         # tries the machinery; the figures say nothing
    ./dev bench --only growth   # a part; without --report it prints and writes nothing

docs/benchmarks.md says how to read what it writes.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path

from alternatives import install_others
from figures import Figures, Row, as_json, read_figures, write_text
from growth_plot import growth_plot
from machine import describe
from measuring import PartFailedError, compile_package, readable, remove
from parts import PARTS
from plot import plot
from setting import Setting
from tables import regressions, report

ROOT = Path(__file__).parent.parent
TABLES, RECORD = "benchmarks-figures.md", "benchmarks-figures.json"
PLOT, GROWTH = "benchmarks-figures.svg", "benchmarks-growth.svg"

FAILED = "the whole part"

_GIGABYTES, _QUICK_GIGABYTES = 4.0, 0.02
# The store, an archive of it and what was unpacked are there at once, and the rest of the machine lives on.
_DISK = 3.5
# In gigabytes: the largest model of the part "growth", as an archive and imported; in its store it is a hole.
_GROWTH_DISK = 33.0


def main() -> None:
    """Run what was asked for, say what was found, and end with 1 where a part failed."""
    options = parse_arguments()
    compile_package()
    # An end by a signal cleans up too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    chosen = options.only or list(PARTS)
    gigabytes: float = options.gigabytes or (_QUICK_GIGABYTES if options.quick else _GIGABYTES)
    room_to_grow = _GROWTH_DISK if "growth" in chosen and not options.quick else 0.0
    folder: Path | None = options.report
    if folder is None and not options.quick and not options.only:
        folder = ROOT / "docs"
    with (
        work_folder(options.work, max(_DISK * gigabytes, room_to_grow)) as work,
        other_tools(options.others, work, wanted="one-model" in chosen and not options.quick) as others,
    ):
        figures = Figures(date.today().isoformat(), gigabytes, describe(work))
        quick = " --quick" if options.quick else ""
        results = Results(figures, folder, f"./dev bench --gigabytes {gigabytes:g} --runs {options.runs}{quick}")
        for name in chosen:
            print(f"--- {name}", flush=True)
            setting = Setting(work / name, int(gigabytes * 1e9), options.runs, options.quick, others)
            figures.parts[name] = run_part(name, setting)
            results.keep()
    print(results.text())
    print("\n".join(regressions(figures, results.before)))
    results.publish()
    if any(row.name == FAILED for row in figures.rows):
        raise SystemExit(1)


class Results:
    """The files of a run: NAME.partial as it goes, and NAME when all is done.

    Args:
        figures: the run, which grows.
        folder: where the files go, and where the record of the last run is; None for nowhere.
        command: how the run was started.
    """

    def __init__(self, figures: Figures, folder: Path | None, command: str) -> None:
        self._figures, self._folder, self._command = figures, folder, command
        self.before = read_figures(folder / RECORD) if folder else None

    def text(self) -> str:
        """Return the tables."""
        return report(self._figures, self.before, command=self._command, plot=PLOT, growth=GROWTH)

    def keep(self) -> None:
        """Write what there is: a run that is killed has not been for nothing."""
        if self._folder:
            self._folder.mkdir(parents=True, exist_ok=True)
            (self._folder / f"{TABLES}.partial").write_text(self.text(), encoding="utf-8")
            (self._folder / f"{RECORD}.partial").write_text(as_json(self._figures), encoding="utf-8")

    def publish(self) -> None:
        """Put the files in the places of the last run's."""
        if self._folder:
            write_text(self._folder / TABLES, self.text())
            write_text(self._folder / PLOT, plot(self._figures))
            if "growth" in self._figures.parts:
                write_text(self._folder / GROWTH, growth_plot(self._figures))
            write_text(self._folder / RECORD, as_json(self._figures))


@contextmanager
def work_folder(named: Path | None, gigabytes: float) -> Iterator[Path]:
    """Give the folder to work in, with so much room; one that was not named is made and removed."""
    work = named.resolve() if named else Path(tempfile.mkdtemp(prefix="ollama-ferry-bench-", dir="/var/tmp"))
    try:
        work.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(work).free / 1e9
        if free < gigabytes:
            raise SystemExit(f"{work} has {free:.1f} GB free, and this takes {gigabytes:.1f}: see --work, --gigabytes")
        yield work
    finally:
        if not named:
            remove(work)


@contextmanager
def other_tools(named: Path | None, work: Path, *, wanted: bool) -> Iterator[Path]:
    """Give the folder of the tools made for Ollama's models: the one that was named, or one that pip fills."""
    if named:
        yield named.resolve()
        return
    folder = work / "others"
    try:
        if wanted:
            install_others(folder)
        yield folder
    finally:
        remove(folder)


def run_part(name: str, setting: Setting) -> list[Row]:
    """Run one part in a folder of its own, which is removed whatever happens."""
    remove(setting.work)
    setting.work.mkdir(parents=True)
    try:
        # Where the tables say WORK/others, whatever the folder's name is here.
        (setting.work / "others").symlink_to(setting.others)
        return PARTS[name].measure(replace(setting, others=setting.work / "others"))
    except (OSError, subprocess.SubprocessError, PartFailedError) as error:
        # The other parts are still worth having.
        print(f"{name} failed: {error}", flush=True)
        return [Row(FAILED, name, "", failed=f"failed: {readable(str(error), setting.work)[:120]}", ours=True)]
    finally:
        remove(setting.work)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, metavar="N", help="size of the main model (default: 4)")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="runs of each command (default: 5)")
    parser.add_argument("--work", type=Path, metavar="DIR", help="a folder outside the repository (default: /var/tmp)")
    parser.add_argument("--only", action="append", choices=list(PARTS), help="this part alone; may be repeated")
    parser.add_argument("--quick", action="store_true", help="20 MB and few blobs: tries the machinery")
    parser.add_argument(
        "--report", type=Path, metavar="DIR", help="where the report goes (default: docs; none with --only or --quick)"
    )
    parser.add_argument(
        "--others",
        type=Path,
        metavar="DIR",
        help="a virtual environment with ollamazip and ollama-tool-cli, and ollama-models.py in it (default: made with "
        "pip for the run, without ollama-models.py)",
    )
    options = parser.parse_args()
    if options.runs < 1 or (options.gigabytes is not None and options.gigabytes <= 0):
        parser.error("--runs and --gigabytes are more than nothing")
    return options


if __name__ == "__main__":
    main()
