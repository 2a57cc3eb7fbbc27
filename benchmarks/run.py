"""Measure export beside the alternatives, in one run: ``.venv/bin/python benchmarks/run.py [--gb 2] [--runs 3]``.

Writes the table to docs/benchmarks.md and the figures to benchmarks/results.json, and says where a ratio has become
worse than in the recorded run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from datetime import date
from multiprocessing import get_context
from pathlib import Path

ROOT = Path(__file__).parent.parent
BENCH = "bench:q4_0"
RESULTS = ROOT / "benchmarks/results.json"
FERRY = [sys.executable, "-m", "ollama_ferry"]
OURS, GZIP = "ollama-ferry export .tar.gz", "tar -czf (gzip -6)"
# A ratio that is worse than the recorded one by more than this is told.
TOLERANCE = 1.15


@dataclass
class Measured:
    """One row: median seconds of ``runs`` runs, output bytes, peak memory of the largest process in bytes."""

    seconds: float
    runs: int
    size: int
    peak: int


def measure(command: list[str], output: Path | None, runs: int) -> Measured:
    """Run a command several times, its output removed before each run."""
    seconds, peak = [], 0
    for _ in range(runs):
        if output is not None:
            output.unlink(missing_ok=True)
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds.append(time.perf_counter() - started)
        if process.returncode:
            raise SystemExit(f"{command} ended with {process.returncode}")
        peak = max(peak, usage.ru_maxrss * 1024)
    return Measured(statistics.median(seconds), runs, output.stat().st_size if output else 0, peak)


def build_stores(q4: Path, size: int, models: Path, layers: Path) -> None:
    """Make the stores that are not there yet."""
    from sample_stores import many_layers, many_models, quantised_store

    quantised_store(q4, size)
    many_models(models, 1000)
    many_layers(layers, 5000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gb", type=float, default=2)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--work", type=Path, default=ROOT / "benchmarks/work")
    options = parser.parse_args()
    work: Path = options.work.resolve()
    q4, models, layers = work / f"q4-{options.gb:g}", work / "models", work / "layers"
    # In a process of its own: what runs later would inherit its peak of memory.
    builder = get_context("spawn").Process(target=build_stores, args=(q4, int(options.gb * 1e9), models, layers))
    builder.start()
    builder.join()
    for blob in (q4 / "blobs").iterdir():
        # The page cache is warm for everybody.
        with blob.open("rb") as file:
            while file.read(1 << 22):
                pass

    blob = max((q4 / "blobs").iterdir(), key=lambda path: path.stat().st_size)
    export = [*FERRY, "export", "--force", "--models", str(q4), BENCH]
    out, tar = work / "out", ["tar", "-C", str(q4)]
    contenders: list[tuple[str, str, list[str], int]] = [
        (OURS, ".tar.gz", export, options.runs),
        ("ollama-ferry export --compress none .tar.gz", ".none.tar.gz", [*export, "--compress", "none"], options.runs),
        ("ollama-ferry export .tar", ".tar", export, options.runs),
        ("ollama-ferry export .tar.zst", ".tar.zst", export, options.runs),
        (GZIP, ".plain.tgz", [*tar, "-czf"], 1),
        ("tar -cf", ".plain.tar", [*tar, "-cf"], options.runs),
        ("tar -I pigz", ".pigz.tgz", [*tar, "-I", "pigz", "-cf"], 1),
        ("tar --zstd", ".plain.zst", [*tar, "--zstd", "-cf"], options.runs),
        ("tar -I 'zstd -T0'", ".T0.zst", [*tar, "-I", "zstd -T0", "-cf"], options.runs),
    ]
    rows: dict[str, Measured | None] = {}
    for name, extension, command, runs in contenders:
        tool = "pigz" if "pigz" in name else "zstd" if name.startswith("tar") and "zstd" in name else "tar"
        path = out.with_name(out.name + extension)
        tail = ["."] if command[0] == "tar" else []
        rows[name] = measure([*command, str(path), *tail], path, runs) if shutil.which(tool) else None
        path.unlink(missing_ok=True)
        print(name, rows[name], flush=True)
    copied = out.with_name("out.cp")
    line = f"cp {blob} {copied} && sync {copied}"
    rows["cp and sync of the blob"] = measure(["sh", "-c", line], copied, options.runs)
    copied.unlink()
    listed = measure([*FERRY, "list", "--models", str(models)], None, 5)
    helped = measure([*FERRY, "--help"], None, 5)
    many = out.with_name("out.layers.tar.gz")
    exported = measure([*FERRY, "export", "--force", "--models", str(layers), "layers", str(many)], many, options.runs)
    many.unlink()
    report(rows, blob.stat().st_size, listed, helped, exported)


def report(
    rows: dict[str, Measured | None], content: int, listed: Measured, helped: Measured, layers: Measured
) -> None:
    """Write the table and the figures, and compare with the last run."""
    ours, gzip = rows[OURS], rows[GZIP]
    assert ours and gzip
    lines = [
        "# Benchmarks",
        "",
        f"`.venv/bin/python benchmarks/run.py` on {date.today()}: {machine()}.",
        f"One model of {content / 1e9:.2f} GB of 4-bit weights (Q4_0, written by the gguf package), page cache warm,",
        "medians of wall time in one run. Ours hashes every byte, gives the archive's SHA-256 and syncs it to the",
        "disk; plain tar, pigz and zstd do none of this. The peak is that of the largest process.",
        "",
        "| command | seconds | runs | against ours | against `tar -czf` | size | peak memory |",
        "| --- | --: | --: | --: | --: | --: | --: |",
    ]
    for name, row in rows.items():
        if row is None:
            lines.append(f"| `{name}` | not installed | | | | | |")
            continue
        lines.append(
            f"| `{name}` | {row.seconds:.2f} | {row.runs} | {row.seconds / ours.seconds:.2f} | "
            f"1/{gzip.seconds / row.seconds:.1f} | {row.size / content * 100:.1f} % | {row.peak / 1e6:.0f} MB |"
        )
    checks = [
        ("export to .tar.gz: at most 1/15 of `tar -czf`", f"1/{gzip.seconds / ours.seconds:.1f}",
         ours.seconds * 15 <= gzip.seconds),
        ("file no larger than gzip -6's", f"{ours.size} and {gzip.size} bytes", ours.size <= gzip.size),
        ("peak memory under 150 MB", f"{ours.peak / 1e6:.0f} MB", ours.peak < 150e6),
        ("`list` of 1,000 models under 0.5 s", f"{listed.seconds:.2f} s", listed.seconds < 0.5),
        ("`--help` under 0.2 s", f"{helped.seconds:.2f} s", helped.seconds < 0.2),
        ("a model of 5,000 layers: over 2,000 blobs a second", f"{5000 / layers.seconds:.0f} a second",
         5000 / layers.seconds > 2000),
    ]  # fmt: skip
    lines += ["", "| what is asked | measured | met |", "| --- | --- | --- |"]
    lines += [f"| {what} | {found} | {'yes' if met else '**no**'} |" for what, found, met in checks]
    (ROOT / "docs/benchmarks.md").write_text("\n".join(lines) + "\n")
    ratios = {name: row.seconds / ours.seconds for name, row in rows.items() if row}
    if RESULTS.exists():
        for name, before in json.loads(RESULTS.read_text())["ratios"].items():
            if name in ratios and before > ratios[name] * TOLERANCE:
                print(f"worse: {name} took {before:.2f} times our time, and now {ratios[name]:.2f}")
    figures = {name: asdict(row) if row else None for name, row in rows.items()}
    RESULTS.write_text(json.dumps({"machine": machine(), "ratios": ratios, "rows": figures}, indent=1) + "\n")
    print("\n".join(lines))


def machine() -> str:
    """Name the processor, its cores and the memory."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        model = next((x.split(":")[1].strip() for x in cpuinfo.read_text().splitlines() if "model name" in x), model)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GB, Python {platform.python_version()}"


if __name__ == "__main__":
    main()
