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

from support.http_double import answering

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
            deadline = time.monotonic() + 120
            while server.run("list").returncode:
                assert process.poll() is None and time.monotonic() < deadline, "the server did not start"
                time.sleep(0.1)
            yield server
        finally:
            process.terminate()
            process.wait(30)


@contextlib.contextmanager
def registry(models: Path) -> Iterator[str]:
    """Serve a models folder as Ollama's own registry does, plainly, until the block ends; give its address.

    As little as ``ollama pull --insecure`` asks for: manifests, and blobs with ranges.
    """
    import hashlib
    import re
    from http.server import BaseHTTPRequestHandler

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            found = re.fullmatch(r"/v2/([^/]+)/([^/]+)/(manifests|blobs)/([^/]+)", self.path)
            path = models / "nowhere"
            if found and found[3] == "manifests":
                path = models.joinpath("manifests/registry.ollama.ai", found[1], found[2], found[4])
            elif found:
                path = models / "blobs" / found[4].replace(":", "-")
            if not path.is_file():
                self.send_response(404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            content = path.read_bytes()
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            part = content[int(asked[1]) : int(asked[2] or len(content)) + 1] if asked else content
            self.send_response(206 if asked else 200)
            self.send_header("Content-Length", str(len(part)))
            if asked:
                start = int(asked[1])
                self.send_header("Content-Range", f"bytes {start}-{start + len(part) - 1}/{len(content)}")
            self.send_header("Docker-Content-Digest", f"sha256:{hashlib.sha256(content).hexdigest()}")
            # Ollama asks once for where a blob really is, and wants to be told even when it is here.
            self.send_header("Location", f"http://{self.headers['Host']}{self.path}")
            self.end_headers()
            if self.command == "GET":
                with contextlib.suppress(ConnectionError):
                    self.wfile.write(part)

    with answering(Handler) as address:
        yield address
