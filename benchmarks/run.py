"""Measure ollama-ferry beside the alternatives, in one run, and write tables, a plot and the figures.

    ./dev bench                 # the whole, about half an hour and 14 GB of disk
    ./dev bench --quick         # tries the machinery; the figures say nothing
    ./dev bench --only memory   # a part; without --report it prints and writes nothing

docs/benchmarks.md says how to read what it writes.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from datetime import date
from pathlib import Path

from alternatives import install_others
from figures import Figures, Row, as_json, read_figures, write_text
from machine import describe
from measuring import PartFailedError, readable, remove
from parts import PARTS
from plot import plot
from setting import Setting
from tables import regressions, report

ROOT = Path(__file__).parent.parent
TABLES, PLOT, RECORD = "benchmarks-figures.md", "benchmarks-figures.svg", "benchmarks-figures.json"

_QUICK_GIGABYTES = 0.01
# The store, an archive of it and what was unpacked are there at once, and the rest of the machine lives on.
_DISK = 3.5


def main() -> None:
    """Run what was asked for; what is measured is written as it comes, to NAME.partial, and in the end to NAME."""
    options = parse_arguments()
    # An end by a signal cleans up too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    chosen = options.only or list(PARTS)
    gigabytes = _QUICK_GIGABYTES if options.quick else options.gigabytes
    folder: Path | None = options.report
    if folder is None and not options.quick and not options.only:
        folder = ROOT / "docs"
    made = options.work is None
    work = Path(tempfile.mkdtemp(prefix="ollama-ferry-bench-", dir="/var/tmp")) if made else options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    size = int(gigabytes * 1e9)
    free = shutil.disk_usage(work).free
    if free < _DISK * size:
        raise SystemExit(f"{work} has {free / 1e9:.1f} GB free, and this takes {_DISK * gigabytes:.1f}: see --work")
    others = options.others.resolve() if options.others else work / "others"
    figures = Figures(date.today().isoformat(), gigabytes, describe(work))
    before = read_figures(folder / RECORD) if folder else None
    command = f"benchmarks/run.py --gigabytes {gigabytes:g} --runs {options.runs}{' --quick' if options.quick else ''}"
    try:
        if not options.others and not options.quick and "one-model" in chosen:
            install_others(others)
        for name in chosen:
            print(f"--- {name}", flush=True)
            figures.parts[name] = run_part(name, Setting(work / name, size, options.runs, options.quick, others))
            if folder:
                folder.mkdir(parents=True, exist_ok=True)
                write_text(folder / f"{TABLES}.partial", report(figures, before, command=command, plot=PLOT))
                write_text(folder / f"{RECORD}.partial", as_json(figures))
    finally:
        if made:
            remove(work)
        elif not options.others:
            remove(others)
    text = report(figures, before, command=command, plot=PLOT)
    print(text)
    print("\n".join(regressions(figures, before)))
    if folder:
        write_text(folder / TABLES, text)
        write_text(folder / PLOT, plot(figures))
        write_text(folder / RECORD, as_json(figures))
        for name in (TABLES, RECORD):
            (folder / f"{name}.partial").unlink(missing_ok=True)


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
        return [
            Row("the whole part", name, "", failed=f"failed: {readable(str(error), setting.work)[:120]}", ours=True)
        ]
    finally:
        remove(setting.work)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=4, metavar="N", help="size of the main model (default: 4)")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="runs of each command (default: 5)")
    parser.add_argument("--work", type=Path, metavar="DIR", help="a folder outside the repository (default: /var/tmp)")
    parser.add_argument("--only", action="append", choices=list(PARTS), help="this part alone; may be repeated")
    parser.add_argument("--quick", action="store_true", help="10 MB and a few blobs: tries the machinery")
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
    if options.runs < 1 or options.gigabytes <= 0:
        parser.error("--runs and --gigabytes are more than nothing")
    return options


if __name__ == "__main__":
    main()
