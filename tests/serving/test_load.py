"""Many clients at once, and more that take nothing beside them: all models whole, and little memory."""

from __future__ import annotations

import contextlib
import hashlib
import re
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import pytest

from ollama_ferry.model.names import ModelName
from ollama_ferry.places.store.store import Store
from support.command_line import ferry
from support.served import serve_process
from support.stores import StoreBuilder


@pytest.mark.skipif(sys.platform != "linux", reason="every address of 127.0.0.0/8 is this machine's, and /proc tells")
@pytest.mark.parametrize("kind", ["store", ".tar.gz"])
def test_fast_clients_beside_slow_ones(source: StoreBuilder, tmp_path: Path, long: bool, kind: str) -> None:
    """In the long form a hundred, and five hundred slow ones: more than there are places."""
    # The blob is more than both ends of a connection keep for each other.
    fast, slow, size = (100, 500, 40_000_000) if long else (4, 10, 12_000_000)
    source.model("big:1", [("model", bytes(size)), ("license", bytes(range(256)) * 4000)])
    words: list[str | Path] = ["--all", "--models", source.root]
    if kind != "store":
        words = [tmp_path / f"models{kind}"]
        assert ferry("export", "--all", words[0], "--models", source.root).returncode == 0
    blobs = Store(source.root).manifest(ModelName.parse("big:1")).blobs
    big = max(blobs, key=lambda blob: blob.size)

    def pull(number: int) -> bool:
        # A connection that is idle makes room for others, which clients know: each blob has one of its own.
        for blob in blobs:
            connection = HTTPConnection("127.0.0.1", serve.port, 300, source_address=(f"127.0.2.{number + 1}", 0))
            with contextlib.closing(connection):
                connection.request("GET", f"/v2/library/big/blobs/{blob.digest}")
                answer, digest = connection.getresponse(), hashlib.sha256()
                while chunk := answer.read(1 << 20):
                    digest.update(chunk)
                if digest.hexdigest() != blob.digest.hex:
                    return False
        return True

    with serve_process(tmp_path, *words) as serve, contextlib.ExitStack() as held:
        for number in range(slow):
            address = (f"127.0.1.{number % 250 + 1}", 0)
            connection = socket.create_connection(("127.0.0.1", serve.port), 60, source_address=address)
            held.callback(connection.close)
            path = f"/v2/library/big/blobs/{big.digest}"
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        with ThreadPoolExecutor(fast) as threads:
            whole = list(threads.map(pull, range(fast)))
        status = Path(f"/proc/{serve.process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert all(whole) and found
    assert int(found[1]) < 150_000, found[1]
