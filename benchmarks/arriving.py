"""Measure import, verify and send beside the alternatives, in one run: ``.venv/bin/python benchmarks/arriving.py``.

Writes the table to docs/benchmarks-arriving.md. The stores are those of benchmarks/run.py.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from multiprocessing import get_context
from pathlib import Path

from run import BENCH, FERRY, ROOT, build_stores, machine

sys.path.insert(0, str(ROOT / "tests"))


@dataclass
class Row:
    """Median seconds, the spread, and the peak memory of the largest process in bytes."""

    name: str
    seconds: float
    least: float
    most: float
    peak: int


def median(name: str, command: str, clean: Callable[[], object], runs: int) -> Row:
    """Run a shell line several times, after cleaning up each time."""
    seconds, peak = [], 0
    for _ in range(runs):
        clean()
        started = time.perf_counter()
        process = subprocess.Popen(["sh", "-c", command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds.append(time.perf_counter() - started)
        if process.returncode:
            raise SystemExit(f"{command} ended with {process.returncode}")
        peak = max(peak, usage.ru_maxrss * 1024)
    print(name, statistics.median(seconds), flush=True)
    return Row(name, statistics.median(seconds), min(seconds), max(seconds), peak)


def main() -> None:
    from sshd import serving

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gb", type=float, default=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--work", type=Path, default=ROOT / "benchmarks/work")
    options = parser.parse_args()
    work: Path = options.work.resolve()
    q4, layers = work / f"q4-{options.gb:g}", work / "layers"
    builder = get_context("spawn").Process(
        target=build_stores, args=(q4, int(options.gb * 1e9), work / "models", layers)
    )
    builder.start()
    builder.join()
    blob = max((q4 / "blobs").iterdir(), key=lambda path: path.stat().st_size)
    ferry = " ".join(FERRY)
    for kind, more in ((".tar.gz", ""), (".none.tar.gz", "--compress none"), (".tar", "")):
        subprocess.run(f"{ferry} export -qf {more} --models {q4} --all {work}/in{kind}", shell=True, check=True)  # noqa: S602
    target = work / "target"

    def empty() -> None:
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        os.sync()

    def kept() -> None:
        os.sync()

    runs = options.runs
    into = f"--models {target}"
    arriving = [
        median("cp and sync of the blob", f"cp {blob} {target}/x && sync {target}/x", empty, runs),
        median("import .tar.gz", f"{ferry} import -q {work}/in.tar.gz {into}", empty, runs),
        median("import --compress none .tar.gz", f"{ferry} import -q {work}/in.none.tar.gz {into}", empty, runs),
        median("import .tar", f"{ferry} import -q {work}/in.tar {into}", empty, runs),
        median("tar -xzf of the .tar.gz", f"tar -xzf {work}/in.tar.gz -C {target}", empty, runs),
        median("tar -xf of the .tar", f"tar -xf {work}/in.tar -C {target}", empty, runs),
    ]
    empty()
    subprocess.run(f"{ferry} import -q {work}/in.tar.gz --models {target}", shell=True, check=True)  # noqa: S602
    arriving += [
        median("import .tar.gz again", f"{ferry} import -q {work}/in.tar.gz --models {target}", kept, runs),
        median("list of the .tar.gz", f"{ferry} list {work}/in.tar.gz", kept, runs),
        median("verify of the store", f"{ferry} verify -q --models {target}", kept, runs),
        median("verify of the .tar.gz", f"{ferry} verify -q {work}/in.tar.gz", kept, runs),
        median("sha256sum of the blob", f"sha256sum {blob}", kept, runs),
    ]
    few = sorted((layers / "blobs").iterdir())[:50]
    with serving(work / "sshd") as server:
        there, options_of_ssh = f"root@there:{target}", server.ssh.removeprefix("ssh ")
        send = f"{ferry} send -q --ssh '{server.ssh}'"
        over_ssh = [
            median("scp of the blob", f"scp -q {options_of_ssh} {blob} {there}/x", empty, runs),
            median("rsync -W of the blob", f"rsync -W -e '{server.ssh}' {blob} {there}/x", empty, runs),
            median("send of the model", f"{send} --models {q4} {BENCH} {there}", empty, runs),
            median("send again", f"{send} --models {q4} {BENCH} {there}", kept, runs),
            median("send of 5,001 small blobs", f"{send} --models {layers} layers {there}", empty, runs),
            median(f"scp of {len(few)} of them, one by one",
                   " && ".join(f"scp -q {options_of_ssh} {path} {there}/" for path in few), empty, 1),
        ]  # fmt: skip
    shutil.rmtree(target)
    report(blob.stat().st_size, arriving, over_ssh, len(few), runs)


def report(content: int, arriving: list[Row], over_ssh: list[Row], few: int, runs: int) -> None:
    """Write the tables."""
    rows = {row.name: row.seconds for row in (*arriving, *over_ssh)}
    cp, scp = rows["cp and sync of the blob"], rows["scp of the blob"]
    lines = [
        "# Benchmarks: what arrives",
        "",
        f"`.venv/bin/python benchmarks/arriving.py --runs {runs}` on {date.today()}: {machine()}.",
        f"One model of {content / 1e9:.2f} GB of 4-bit weights (Q4_0), page cache warm, medians in one run. Import and",
        "send hash every byte and sync it; tar, scp and rsync do neither. ssh goes over loopback: both ends share the",
        "cores.",
        "",
        "| on this machine | seconds | least and most | against `cp` | peak memory |",
        "| --- | --: | --: | --: | --: |",
    ]
    for row in arriving:
        spread = f"{row.least:.2f} to {row.most:.2f}"
        lines.append(
            f"| `{row.name}` | {row.seconds:.2f} | {spread} | {row.seconds / cp:.2f} | {row.peak / 1e6:.0f} MB |"
        )
    lines += [
        "",
        "| over ssh | seconds | least and most | against `scp` | peak memory |",
        "| --- | --: | --: | --: | --: |",
    ]
    for row in over_ssh:
        spread = f"{row.least:.2f} to {row.most:.2f}"
        lines.append(
            f"| `{row.name}` | {row.seconds:.2f} | {spread} | {row.seconds / scp:.2f} | {row.peak / 1e6:.0f} MB |"
        )
    each = rows[f"scp of {few} of them, one by one"] / few * 5001
    checks = [
        ("import again under 0.5 s", f"{rows['import .tar.gz again']:.2f} s", rows["import .tar.gz again"] < 0.5),
        ("send at least 0.9 of scp", f"{scp / rows['send of the model']:.2f}", scp >= 0.9 * rows["send of the model"]),
        ("send at least 0.9 of rsync -W", f"{rows['rsync -W of the blob'] / rows['send of the model']:.2f}",
         rows["rsync -W of the blob"] >= 0.9 * rows["send of the model"]),
        ("a model that is there already: under 1 s", f"{rows['send again']:.2f} s", rows["send again"] < 1),
        ("5,000 small blobs: 5 times as fast as scp of each", f"{each / rows['send of 5,001 small blobs']:.0f} times",
         each >= 5 * rows["send of 5,001 small blobs"]),
    ]  # fmt: skip
    lines += ["", "| what is asked | measured | met |", "| --- | --- | --- |"]
    lines += [f"| {what} | {found} | {'yes' if met else '**no**'} |" for what, found, met in checks]
    (ROOT / "docs/benchmarks-arriving.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def _line(row: Row, base: float) -> str:
    spread = f"{row.least:.2f} to {row.most:.2f}"
    return f"| `{row.name}` | {row.seconds:.2f} | {spread} | {row.seconds / base:.2f} | {row.peak / 1e6:.0f} MB |"


if __name__ == "__main__":
    main()
