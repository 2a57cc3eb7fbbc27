"""Measure pull and push beside curl, in turns, in one run: ``.venv/bin/python benchmarks/registries.py``.

Writes the tables to docs/benchmarks-registries.md. nginx and docker-registry serve on loopback, so that all ends share
the cores of this machine.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from multiprocessing import get_context
from pathlib import Path

from machine import summary
from measuring import FERRY
from sample_stores import one_model

ROOT = Path(__file__).parent.parent
BENCH = "bench:q4_0"

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


@contextmanager
def nginx(folder: Path, root: Path) -> Iterator[str]:
    """Serve files by nginx until the block ends; give its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "nginx.conf").write_text(
        f"worker_processes 2; daemon off; user root; pid {folder}/pid; error_log {folder}/error.log;\n"
        f"events {{ worker_connections 64; }}\n"
        f"http {{ access_log off; sendfile on; server {{ listen {address}; root {root};\n"
        f"  location ~ /manifests/ {{ default_type application/vnd.oci.image.manifest.v1+json; }} }} }}\n"
    )
    server = subprocess.Popen([shutil.which("nginx") or "/usr/sbin/nginx", "-c", str(folder / "nginx.conf")])
    time.sleep(0.5)
    try:
        yield address
    finally:
        server.terminate()
        server.wait()


def _build(store: Path, size: int) -> None:
    if not (store / "manifests").exists():
        one_model(store, BENCH, size, "q4_0")


def main() -> None:
    from oci_registries import docker_registry

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gb", type=float, default=1)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--work", type=Path, default=ROOT / "benchmarks/work")
    options = parser.parse_args()
    work: Path = options.work.resolve()
    store, target = work / f"q4-{options.gb:g}", work / "target"
    builder = get_context("spawn").Process(target=_build, args=(store, int(options.gb * 1e9)))
    builder.start()
    builder.join()
    blob = max((store / "blobs").iterdir(), key=lambda path: path.stat().st_size)
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
            [*FERRY, "push", BENCH, registry.address, "--insecure", "-q", "--models", str(store)], check=True
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
            Row("docker-registry: push", f"{push} {BENCH} {registry.address}/N"),
            Row("docker-registry: push again", f"{push} {BENCH} {registry.address}"),
        ]  # fmt: skip
        named = pushes[0].command
        for number in range(options.runs):
            shutil.rmtree(registry.folder / "data", ignore_errors=True)
            pushes[0].command = named.replace("/N", f"/n{number}")
            measure(pushes[0], os.sync)
        subprocess.run(
            [*FERRY, "push", BENCH, registry.address, "--insecure", "-q", "--models", str(store)], check=True
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
