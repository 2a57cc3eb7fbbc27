"""Standard streams in odd states: one that does not wait, one that is closed."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from pathlib import Path

import ollama_ferry
from support import needs
from support.command_line import COMMAND, ferry_process
from support.stores import StoreBuilder, weights


@needs.not_windows("descriptors that do not wait")
def test_a_stream_that_does_not_let_itself_be_waited_for_is_waited_for(source: StoreBuilder, tmp_path: Path) -> None:
    source.model("m:1", [("model", weights(200_000, 1))])
    raw = tmp_path / "m.tar"
    ollama_ferry.export("m:1", raw, store=source.root)
    read, write = os.pipe()
    os.set_blocking(read, False)

    def feed() -> None:
        with os.fdopen(write, "wb") as out:
            content = raw.read_bytes()
            out.write(content[:70_000])
            out.flush()
            time.sleep(0.2)
            out.write(content[70_000:])

    threading.Thread(target=feed, daemon=True).start()
    done = subprocess.run(
        [*COMMAND, "verify", "-"], stdin=read, capture_output=True, text=True, timeout=60, check=False
    )
    os.close(read)
    assert done.returncode == 0, done.stderr


def test_a_closed_output_is_no_internal_error(source: StoreBuilder) -> None:
    source.model("m:1")
    line = " ".join([*COMMAND, "list", "--models", str(source.root), ">&-"])
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=60, check=False)
    assert "internal error" not in done.stderr


def test_a_host_that_no_network_takes_is_a_usage_error(source: StoreBuilder) -> None:
    done = ferry_process("list", OLLAMA_HOST="a..b")
    assert done.returncode in (2, 3) and "internal error" not in done.stderr
