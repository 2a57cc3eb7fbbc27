"""Measure serve beside nginx on the same bytes, in one run: ``.venv/bin/python benchmarks/serving.py``.

Clients are curl to /dev/null over loopback. All rows are measured in turn, several times over, so that whatever else
the machine does meets each of them. Writes the table to docs/benchmarks-serving.md.
"""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from machine import summary
from measuring import FERRY
from one_blob import MODEL, ROOT, built_store, nginx, words

sys.path.insert(0, str(ROOT / "tests"))
CLIENTS = (1, 20)


@dataclass
class Row:
    """One server and one number of clients: the seconds of each run, and the server's peak memory in bytes."""

    name: str
    url: str
    clients: int
    process: int | None
    seconds: list[float] = field(default_factory=list)
    peak: int = 0

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    def run(self) -> None:
        """Let all clients fetch the blob at once."""
        if self.process is not None:
            # So that VmHWM is the peak from now on (proc(5)).
            Path(f"/proc/{self.process}/clear_refs").write_text("5")
        started = time.perf_counter()
        clients = [
            subprocess.Popen(["curl", "-sf", "-o", "/dev/null", self.url], stdin=subprocess.DEVNULL)
            for _ in range(self.clients)
        ]
        codes = [client.wait() for client in clients]
        self.seconds.append(time.perf_counter() - started)
        if any(codes):
            raise SystemExit(f"curl {self.url} ended with {codes}")
        if self.process is not None:
            self.peak = max(self.peak, _peak(self.process))
        print(f"{self.name}, {self.clients} clients: {self.seconds[-1]:.2f} s", flush=True)


def main() -> None:
    from support.served import serve_process

    options = words(__doc__)
    work: Path = options.work
    store, blob = built_store(work, options.gb)
    size = blob.stat().st_size
    for kind in (".tar", ".tar.gz"):
        line = [*FERRY, "export", "-qf", "--models", str(store), MODEL, str(work / f"serving{kind}")]
        subprocess.run(line, check=True)
    path = f"/v2/library/bench/blobs/{blob.name.replace('-', ':')}"
    with contextlib.ExitStack() as stack:
        servers: list[tuple[str, str, int | None]] = [
            ("nginx", f"http://{stack.enter_context(nginx(work / 'nginx', blob.parent))}/{blob.name}", None)
        ]
        for name, arguments in (
            ("serve, store", [MODEL, "--models", store]),
            ("serve, .tar", [work / "serving.tar"]),
            ("serve, .tar.gz", [work / "serving.tar.gz"]),
        ):
            folder = work / f"log-{name.rpartition(' ')[2]}"
            folder.mkdir(exist_ok=True)
            started = stack.enter_context(serve_process(folder, *arguments))
            servers.append((name, f"http://127.0.0.1:{started.port}{path}", started.process.pid))
        rows = [Row(name, url, clients, pid) for clients in CLIENTS for name, url, pid in servers]
        for _ in range(options.runs):
            for row in rows:
                row.run()
    report(rows, size, options.runs)


def report(rows: list[Row], size: int, runs: int) -> None:
    """Write the table."""
    lines = [
        "# Benchmarks: serving",
        "",
        f"`.venv/bin/python benchmarks/serving.py --runs {runs}` on {date.today()}: {summary()}.",
        f"One blob of {size / 1e9:.2f} GB of 4-bit weights (Q4_0), page cache warm, fetched by 1 and by 20 curls",
        "at once over loopback, on the same cores; medians, all rows in turn. nginx has sendfile and two workers.",
        "",
        "| server | clients | seconds | least and most | MB/s together | against nginx | peak memory |",
        "| --- | --: | --: | --: | --: | --: | --: |",
    ]
    by_nginx = {row.clients: row.median for row in rows if row.name == "nginx"}
    for row in rows:
        ratio = by_nginx[row.clients] / row.median
        peak = f"{row.peak / 1e6:.0f} MB" if row.peak else "-"
        lines.append(
            f"| {row.name} | {row.clients} | {row.median:.2f} | {min(row.seconds):.2f} to {max(row.seconds):.2f} "
            f"| {size * row.clients / row.median / 1e6:.0f} | {ratio:.2f} | {peak} |"
        )
    lines += ["", "| what is asked | measured | met |", "| --- | --- | --- |"]
    stores = [row for row in rows if row.name == "serve, store"]
    for row in stores:
        ratio = by_nginx[row.clients] / row.median
        verdict = "yes" if ratio >= 0.8 else "**no**"
        what = f"from a store, {row.clients} client{'s' if row.clients > 1 else ''}: at least 0.8 of nginx"
        lines.append(f"| {what} | {ratio:.2f} | {verdict} |")
    more = stores[1].peak - stores[0].peak
    lines.append(
        f"| from a store, memory for 20 clients: at most 10 MB more than for one | {more / 1e6:.1f} MB more "
        f"| {'yes' if more <= 10e6 else '**no**'} |"
    )
    (ROOT / "docs/benchmarks-serving.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def _peak(process: int) -> int:
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


if __name__ == "__main__":
    main()
