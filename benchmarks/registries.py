"""Measure pull and push beside curl, in turns, in one run: ``.venv/bin/python benchmarks/registries.py``.

Writes the tables to docs/benchmarks-registries.md. nginx and docker-registry serve on loopback, so that all ends share
the cores of this machine.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from machine import summary
from measuring import FERRY
from one_blob import MODEL, ROOT, built_store, nginx, words

sys.path.insert(0, str(ROOT / "tests"))


@dataclass
class Row:
    """What was measured of one way: seconds of each run, and the peak memory of the largest process in bytes."""

    name: str
    command: str
    seconds: list[float] = field(default_factory=list)
    peak: int = 0

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def measure(row: Row, clean: Callable[[], object]) -> None:
    """Run a shell line once, after cleaning up."""
    clean()
    started = time.perf_counter()
    process = subprocess.Popen(["sh", "-c", row.command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    row.seconds.append(time.perf_counter() - started)
    if process.returncode:
        raise SystemExit(f"{row.command} ended with {process.returncode}")
    row.peak = max(row.peak, usage.ru_maxrss * 1024)
    print(row.name, f"{row.seconds[-1]:.2f}", flush=True)


def main() -> None:
    from oci_registries import docker_registry

    options = words(__doc__)
    work: Path = options.work
    target = work / "target"
    store, blob = built_store(work, options.gb)
    site = work / "site/v2/library/bench"
    shutil.rmtree(work / "site", ignore_errors=True)
    (site / "blobs").mkdir(parents=True)
    (site / "manifests").mkdir()
    for path in (store / "blobs").iterdir():
        (site / "blobs" / path.name.replace("-", ":")).symlink_to(path)
    shutil.copy(store / "manifests/registry.ollama.ai/library/bench/q4_0", site / "manifests/q4_0")

    def empty() -> None:
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        os.sync()

    ferry = " ".join(FERRY)
    with nginx(work / "nginx", work / "site") as files, docker_registry(work / "registry") as registry:
        subprocess.run(
            [*FERRY, "push", MODEL, registry.address, "--insecure", "-q", "--models", str(store)], check=True
        )

        def pulled(address: str, repository: str) -> str:
            reference = f"{address}/{repository}:q4_0"
            return f"{ferry} pull -q --insecure {reference} --as x --models {target}"

        def curled(address: str, repository: str, *, sync: bool) -> str:
            url = f"http://{address}/v2/{repository}/blobs/{blob.name.replace('-', ':')}"
            return f"curl -sf -o {target}/x {url}" + (f" && sync {target}/x" if sync else "")

        rows = [
            Row("nginx: curl", curled(files, "library/bench", sync=False)),
            Row("nginx: curl and sync", curled(files, "library/bench", sync=True)),
            Row("nginx: curl, sync and sha256sum",
                curled(files, "library/bench", sync=True) + f" && openssl dgst -sha256 {target}/x"),
            Row("nginx: pull", pulled(files, "library/bench")),
            Row("docker-registry: curl", curled(registry.address, "bench", sync=False)),
            Row("docker-registry: curl and sync", curled(registry.address, "bench", sync=True)),
            Row("docker-registry: pull", pulled(registry.address, "bench")),
        ]  # fmt: skip
        for _ in range(options.runs):
            for row in rows:
                measure(row, empty)
        again = Row("docker-registry: pull again", pulled(registry.address, "bench"))
        for _ in range(options.runs):
            measure(again, os.sync)
        push = f"{ferry} push -q --insecure --models {store}"
        pushes = [
            Row("docker-registry: push", f"{push} {MODEL} {registry.address}/N"),
            Row("docker-registry: push again", f"{push} {MODEL} {registry.address}"),
        ]  # fmt: skip
        named = pushes[0].command
        for number in range(options.runs):
            shutil.rmtree(registry.folder / "data", ignore_errors=True)
            pushes[0].command = named.replace("/N", f"/n{number}")
            measure(pushes[0], os.sync)
        subprocess.run(
            [*FERRY, "push", MODEL, registry.address, "--insecure", "-q", "--models", str(store)], check=True
        )
        for _ in range(options.runs):
            measure(pushes[1], os.sync)
    shutil.rmtree(target)
    report(blob.stat().st_size, [*rows, again, *pushes], options.runs)


def report(content: int, rows: list[Row], runs: int) -> None:
    """Write the table."""
    by_name = {row.name: row for row in rows}
    lines = [
        "# Benchmarks: registries",
        "",
        f"`.venv/bin/python benchmarks/registries.py --runs {runs}` on {date.today()}: {summary()}.",
        f"One model with a blob of {content / 1e9:.2f} GB of 4-bit weights (Q4_0), page cache warm, medians in turns",
        "in one run, over plain http on loopback: server and client share the cores. `pull` and `push` hash every",
        "byte, and `pull` syncs it; curl does neither.",
        "",
        "| | seconds | least and most | MB/s | peak memory |",
        "| --- | --: | --: | --: | --: |",
    ]
    for row in rows:
        spread = f"{min(row.seconds):.2f} to {max(row.seconds):.2f}"
        speed = "" if row.name.endswith("again") else f"{content / row.median / 1e6:.0f}"
        lines.append(f"| {row.name} | {row.median:.2f} | {spread} | {speed} | {row.peak / 1e6:.0f} MB |")
    lines += ["", "| what is asked | measured | met |", "| --- | --- | --- |"]
    for server in ("nginx", "docker-registry"):
        for beside in ("curl", "curl and sync"):
            ratio = by_name[f"{server}: {beside}"].median / by_name[f"{server}: pull"].median
            met = "yes" if ratio >= 0.9 else "**no**"
            lines.append(f"| {server}: pull at least 0.9 of {beside} | {ratio:.2f} | {met} |")
    (ROOT / "docs/benchmarks-registries.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
