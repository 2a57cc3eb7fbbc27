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

# What pull does.
SAME_WORK = "curl, synced and hashed"


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


def measure(row: Row, clean: Callable[[], object], number: int = 0) -> None:
    """Run a shell line once, after cleaning up; ``/N`` in it becomes ``/n`` with the number."""
    clean()
    line = row.command.replace("/N", f"/n{number}")
    started = time.perf_counter()
    process = subprocess.Popen(["sh", "-c", line], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    row.seconds.append(time.perf_counter() - started)
    if process.returncode:
        raise SystemExit(f"{line} ended with {process.returncode}")
    row.peak = max(row.peak, usage.ru_maxrss * 1024)
    print(row.name, f"{row.seconds[-1]:.2f}", flush=True)


def main() -> None:
    from support.oci_registries import docker_registry

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

        rows = []
        for server, address, repository in (
            ("nginx", files, "library/bench"),
            ("docker-registry", registry.address, "bench"),
        ):
            url = f"http://{address}/v2/{repository}/blobs/{blob.name.replace('-', ':')}"
            curl = f"curl -sf -o {target}/x {url}"
            rows += [
                Row(f"{server}: curl", curl),
                Row(f"{server}: curl, synced", f"{curl} && sync {target}/x"),
                Row(f"{server}: {SAME_WORK}", f"{curl} && sync {target}/x && openssl dgst -sha256 {target}/x"),
                Row(f"{server}: pull", pulled(address, repository)),
            ]
        for _ in range(options.runs):
            for row in rows:
                measure(row, empty)
        again = Row("docker-registry: pull again", pulled(registry.address, "bench"))
        for _ in range(options.runs):
            measure(again, os.sync)
        push = f"{ferry} push -q --insecure --models {store}"
        # The blob alone, by one PUT.
        put = (
            f"at=$(curl -sf -D - -X POST http://{registry.address}/v2/N/blobs/uploads/ | tr -d '\\r' | "
            f"sed -n 's/^[Ll]ocation: //p') && curl -sf -T {blob} -H 'Content-Type: application/octet-stream' "
            f'"$at&digest={blob.name.replace("-", ":")}"'
        )
        pushes = [
            Row("docker-registry: curl -T", put),
            Row("docker-registry: push", f"{push} {MODEL} {registry.address}/N"),
            Row("docker-registry: push again", f"{push} {MODEL} {registry.address}"),
        ]  # fmt: skip
        for number in range(options.runs):
            for row in pushes[:2]:
                shutil.rmtree(registry.folder / "data", ignore_errors=True)
                measure(row, os.sync, number)
        subprocess.run(
            [*FERRY, "push", MODEL, registry.address, "--insecure", "-q", "--models", str(store)], check=True
        )
        for _ in range(options.runs):
            measure(pushes[2], os.sync)
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
        "byte, and `pull` waits until it is safe on the disk; curl does neither by itself.",
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
        ours = by_name[f"{server}: pull"].median
        ratio = by_name[f"{server}: {SAME_WORK}"].median / ours
        lines.append(
            f"| {server}: pull at least 0.9 of {SAME_WORK} | {ratio:.2f} | {'yes' if ratio >= 0.9 else '**no**'} |"
        )
        for beside in ("curl, synced", "curl"):
            lines.append(f"| {server}: beside {beside} | {by_name[f'{server}: {beside}'].median / ours:.2f} | |")
    ratio = by_name["docker-registry: curl -T"].median / by_name["docker-registry: push"].median
    lines.append(f"| docker-registry: push beside curl -T | {ratio:.2f} | |")
    (ROOT / "docs/benchmarks-registries.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
