"""Start ``ollama-ferry serve`` in a process, and speak to a server byte by byte."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPMessage
from pathlib import Path
from typing import Any

from support.command_line import COMMAND


class Serving:
    """A server in a process of its own.

    Attributes:
        document: what it printed when it began to listen.
        process: the process; its stderr is in ``log``.
    """

    def __init__(self, process: subprocess.Popen[str], document: dict[str, Any], log: Path) -> None:
        self.process = process
        self.document = document
        self._log = log
        self.port = int(document["address"].rpartition(":")[2])

    @property
    def log(self) -> str:
        """What it has said on stderr so far."""
        return self._log.read_text()

    def said(self, text: str) -> bool:
        """Wait until it has said something: an answer is logged when the client has it already."""
        deadline = time.monotonic() + 120
        while text not in self.log and time.monotonic() < deadline and self.process.poll() is None:
            time.sleep(0.02)
        return text in self.log

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """Send a signal, and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(120)


@contextlib.contextmanager
def serve_process(folder: Path, *arguments: str | Path, **environ: str) -> Iterator[Serving]:
    """Run ``serve --json`` on a free port until the block ends."""
    words = [*COMMAND, "serve", "--json", *map(str, arguments)]
    if "--listen" not in words:
        words += ["--listen", "127.0.0.1:0"]
    log = folder / "serve.log"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=stderr, text=True, env={**os.environ, **environ}
        )
    assert process.stdout is not None
    with process.stdout as stdout:
        lines = []
        for line in stdout:
            lines.append(line)
            if line == "}\n":
                break
        try:
            assert lines, log.read_text()
            yield Serving(process, json.loads("".join(lines)), log)
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait(120)


def get(port: int, path: str, method: str = "GET", **headers: str) -> tuple[int, HTTPMessage, bytes]:
    """Send one request; return status, headers and body. ``_`` in a header's name stands for ``-``."""
    connection = HTTPConnection("127.0.0.1", port, timeout=120)
    with contextlib.closing(connection):
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


def raw(port: int, data: bytes, *, half_close: bool = False) -> bytes:
    """Send bytes, and return all that comes until the server ends the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=120) as connection:
        connection.sendall(data)
        if half_close:
            connection.shutdown(socket.SHUT_WR)
        return read_all(connection)


def read_all(connection: socket.socket) -> bytes:
    """Return what comes until the other end closes the connection."""
    parts = []
    while chunk := connection.recv(1 << 20):
        parts.append(chunk)
    return b"".join(parts)
