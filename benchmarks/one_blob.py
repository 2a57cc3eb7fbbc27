"""What the benchmarks over HTTP share: a store with one big blob, and nginx to serve files beside ours."""

from __future__ import annotations

import argparse
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

from measuring import compile_package
from sample_stores import biggest_blob, one_model

ROOT = Path(__file__).parent.parent
MODEL = "bench:q4_0"


def words(what: str | None) -> argparse.Namespace:
    """Get ready, and read the command line: ``gb``, ``runs`` and ``work``, the folder to work in.

    Args:
        what: what the program is for.
    """
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--gb", type=float, default=1)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--work", type=lambda text: Path(text).resolve(), default=ROOT / "benchmarks/work")
    compile_package()
    return parser.parse_args()


def built_store(work: Path, gigabytes: float) -> tuple[Path, Path]:
    """Make a store of one model of 4-bit weights, unless it is there; return it, and its big blob."""
    store = work / f"q4-{gigabytes:g}"
    if not (store / "manifests").exists():
        # In a process of its own: what runs later would inherit its peak of memory.
        builder = get_context("spawn").Process(target=one_model, args=(store, MODEL, int(gigabytes * 1e9), "q4_0"))
        builder.start()
        builder.join()
    return store, biggest_blob(store)


@contextmanager
def nginx(folder: Path, root: Path) -> Iterator[str]:
    """Serve files by nginx, on two workers with sendfile, until the block ends; give its address.

    Args:
        folder: for its own files; what is there is removed.
        root: the files to serve; below a folder ``manifests`` they are OCI's manifests.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    (folder / "nginx.conf").write_text(
        f"worker_processes 2; daemon off; pid {folder}/pid; error_log {folder}/error.log; user root;\n"
        f"events {{ worker_connections 256; }}\n"
        f"http {{ access_log off; sendfile on; client_body_temp_path {folder}/body;\n"
        f"  server {{ listen 127.0.0.1:{port}; root {root};\n"
        f"    location ~ /manifests/ {{ default_type application/vnd.oci.image.manifest.v1+json; }} }} }}\n"
    )
    command = shutil.which("nginx") or "/usr/sbin/nginx"
    process = subprocess.Popen([command, "-c", str(folder / "nginx.conf")], stderr=subprocess.DEVNULL)
    try:
        _wait_for(port)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
