"""A real Ollama, started for a test on a port and with folders of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BINARY = os.environ.get("OLLAMA_BIN") or shutil.which("ollama") or ""


class Ollama:
    """A running server.

    Attributes:
        models: its models folder.
        address: where it listens, as ``OLLAMA_HOST`` wants it.
    """

    def __init__(self, models: Path, port: int, home: Path) -> None:
        self.models = models
        self.address = f"127.0.0.1:{port}"
        self.environ = {
            **{key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")},
            "HOME": str(home),
            "OLLAMA_MODELS": str(models),
            "OLLAMA_HOST": self.address,
        }

    def run(self, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run the client."""
        return subprocess.run(
            [BINARY, *arguments], env=self.environ, cwd=cwd, capture_output=True, text=True, timeout=120, check=False
        )

    def ask(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Call the API; return the status and the answer."""
        request = urllib.request.Request(f"http://{self.address}{path}", json.dumps(body).encode())
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read() or b"{}")

    def listed(self) -> dict[str, str]:
        """Return what ``ollama list`` prints: names with their IDs."""
        lines = self.run("list").stdout.splitlines()[1:]
        return {line.split()[0]: line.split()[1] for line in lines}


@contextlib.contextmanager
def serving(models: Path, folder: Path) -> Iterator[Ollama]:
    """Serve a models folder until the block ends."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    home = folder / f"home-{port}"
    home.mkdir()
    server = Ollama(models, port, home)
    with (folder / f"server-{port}.log").open("wb") as log:
        process = subprocess.Popen([BINARY, "serve"], env=server.environ, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 30
            while server.run("list").returncode:
                assert process.poll() is None and time.monotonic() < deadline, "the server did not start"
                time.sleep(0.1)
            yield server
        finally:
            process.terminate()
            process.wait(30)
