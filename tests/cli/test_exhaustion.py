"""No threads or no memory: one clear error, whichever thread it is that can't be had, and no file half written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.oci_registries import faulty_registry
from support.stores import StoreBuilder, faults_of, weights

# A system that gives so many threads and no more.
_FEW_THREADS = """
import sys, threading
left = int(sys.argv[1])
name = "_start_joinable_thread" if sys.version_info >= (3, 13) else "_start_new_thread"
start = getattr(threading, name)
def start_if_there_is_one(*arguments, **more):
    global left
    if left <= 0:
        raise RuntimeError("can't start new thread")
    left -= 1
    return start(*arguments, **more)
setattr(threading, name, start_if_there_is_one)
from ollama_ferry.cli import run
sys.exit(run(sys.argv[2:]))
"""


def with_threads(count: int, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _FEW_THREADS, str(count), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture
def filled(source: StoreBuilder) -> StoreBuilder:
    source.model("m:1", [("model", weights(3_000_000)), *(("tensor", bytes([n]) * 50) for n in range(20))])
    return source


@pytest.mark.parametrize("what", ["export", "import", "verify", "send", "push", "pull"])
def test_each_thread_may_be_the_one_too_many(filled: StoreBuilder, tmp_path: Path, what: str) -> None:
    archive, here = tmp_path / "made.tar.gz", ["--models", str(filled.root)]
    assert with_threads(1000, "export", "m:1", archive, *here).returncode == 0
    with faulty_registry() as registry:
        registry.add_model("models/p", "1", weights(3_000_000), *(bytes([n]) * 50 for n in range(20)))
        lines: dict[str, list[str | Path]] = {
            "export": ["export", "m:1", tmp_path / "new.tar.gz", "--force", *here],
            "import": ["import", archive, "--models", tmp_path / "into"],
            "verify": ["verify", *here],
            "send": ["send", "m:1", tmp_path / "into", *here],
            "push": ["push", "m:1", f"{registry.address}/x", "--insecure", *here],
            "pull": ["pull", f"{registry.address}/models/p:1", "--as=p:1", "--insecure", "--models", tmp_path / "into"],
        }
        failed = 0
        for count in (0, 1, 2, 3, 5, 8):
            done = with_threads(count, *lines[what])
            assert "Traceback" not in done.stderr and "internal error" not in done.stderr, done.stderr
            if (tmp_path / "into/manifests").exists():
                assert not faults_of(tmp_path / "into")
            if done.returncode == 0:
                break
            failed += 1
            assert done.returncode == 1 and "error: the system gives no more threads" in done.stderr, done.stderr
            assert "ulimit" in done.stderr
            assert not (tmp_path / "new.tar.gz").exists()
        assert failed


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_no_memory_is_one_clear_error(filled: StoreBuilder, tmp_path: Path) -> None:
    hungry = (
        "import sys\n"
        "from ollama_ferry.cli import run\n"
        "import ollama_ferry.places.store.store as store\n"
        "def full(*arguments, **more):\n    raise MemoryError\n"
        "store.Store.open = full\n"
        "sys.exit(run(sys.argv[1:]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", hungry, "export", "m:1", str(tmp_path / "x.tar"), "--models", str(filled.root)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=dict(os.environ),
    )
    assert done.returncode == 1 and "the system gives no more memory" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("x.tar*"))
