"""A server that speaks as much of Ollama's API as an import through it needs, and can be told to fail."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

from ollama_ferry.model.names import ModelName
from support.http_double import answering


class ServerDouble:
    """The models of a server in memory.

    Attributes:
        manifests: by full name.
        blobs: by digest.
        fault: what goes wrong: ``error``, ``break``, ``copy``, ``garbage``, ``forget``, ``long``, ``escape``,
            ``slow``, ``hashing``, ``mlx``, or nothing.
        pruned: how many more pulls end as if another import had pruned a folder meanwhile.
        loses: whether a blob is pruned between the first pull and the copy.
        denies: how many more times a name that is there is not found for its removal.
        hashed: the end of hashing, of ``hashing``.
        rewrites: whether manifests are written anew, as up to 0.12, where the names of tensors get lost.
        asked: the requests, in order.
    """

    def __init__(self) -> None:
        self.manifests: dict[str, bytes] = {}
        self.blobs: dict[str, bytes] = {}
        self.fault = ""
        self.rewrites = False
        self.asked: list[str] = []
        self.address = ""
        self.pruned = self.denies = 0
        self.loses = False
        self.slow = threading.Event()
        self.hashed = threading.Event()

    def pull(self, model: str) -> Iterator[dict[str, Any]]:
        scheme, _, rest = model.partition("://")
        host, _, path = rest.partition("/")
        if path.lower().endswith(":local"):
            # As from 0.33 on, where that is no tag but says where a model runs.
            path = f"{path[: -len(':local')]}:latest"
        repository, _, tag = path.partition(":")
        base = f"{scheme}://{host}/v2/{repository}"
        yield {"status": "pulling manifest"}
        if self.fault == "long":
            yield {"status": "x" * 100_000}
            # A server gives up where nobody listens any more.
            return
        if self.fault == "escape":
            yield {"error": "\x1b]0;owned\x07" + "x" * 10_000}
            return
        raw = _get(f"{base}/manifests/{tag}")
        manifest = json.loads(raw)
        if self.fault == "mlx" and any(layer["mediaType"].endswith(".tensor") for layer in manifest["layers"]):
            yield {"error": "this model requires MLX support, but the MLX runtime is not available"}
            return
        for layer in [manifest["config"], *manifest["layers"]]:
            digest, total = layer["digest"], layer["size"]
            yield {"status": f"pulling {digest[7:19]}", "digest": digest, "total": total, "completed": total // 2}
            if self.fault == "error":
                yield {"error": "max retries exceeded: EOF"}
                return
            if self.fault == "break":
                return
            if digest not in self.blobs:
                content = _get(f"{base}/blobs/{digest}")
                assert f"sha256:{hashlib.sha256(content).hexdigest()}" == digest
                self.blobs[digest] = content
            yield {"status": f"pulling {digest[7:19]}", "digest": digest, "total": total, "completed": total}
        if self.pruned:
            self.pruned -= 1
            yield {"error": "open /models/manifests/127.0.0.1/x: no such file or directory"}
            return
        name = _full(f"{host}/{path}")
        if self.fault == "hashing":
            yield {"status": "verifying sha256 digest"}
            self.slow.set()
            self.hashed.wait(120)
        if self.fault == "slow":
            # As a server that writes the name only after its client has gone.
            self.slow.set()
            time.sleep(1)
        # As Go writes it: without blanks.
        if self.rewrites:
            for layer in manifest["layers"]:
                layer.pop("name", None)
            raw = json.dumps(manifest, separators=(",", ":")).encode()
        self.manifests[name] = raw
        yield {"status": "success"}


# Whatever proxy a test sets for the command, this server has none.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _get(url: str) -> bytes:
    with _OPENER.open(url, timeout=30) as answer:
        content: bytes = answer.read()
        return content


def _full(text: str) -> str:
    return str(ModelName.parse(text).path)


@contextlib.contextmanager
def serving_double() -> Iterator[ServerDouble]:
    """Run one until the block ends."""
    double = ServerDouble()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

        def answer(self, status: int, body: Any) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body if isinstance(body, bytes) else json.dumps(body).encode())

        def body(self) -> dict[str, Any]:
            found: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            double.asked.append(f"{self.path} {found.get('model') or found.get('source')}")
            return found

        def do_GET(self) -> None:
            if double.fault == "garbage":
                self.answer(200, b'{"models": [{"name": 3}, {"name": "..", "digest": ""}, 7, "x"], "x": ' + b"[" * 9999)
                return
            models = [
                # Short names for people, as a server gives them.
                {"name": str(ModelName.parse(_short(name))), "digest": hashlib.sha256(raw).hexdigest()}
                for name, raw in double.manifests.items()
            ]
            self.answer(200, {"models": models})

        def do_POST(self) -> None:
            asked = self.body()
            if self.path == "/api/pull":
                self.send_response(200)
                self.end_headers()
                for line in double.pull(asked["model"]):
                    with contextlib.suppress(ConnectionError):
                        self.wfile.write(json.dumps(line).encode() + b"\n")
                        self.wfile.flush()
                return
            source = _full(asked["source"])
            if double.fault == "copy" or source not in double.manifests:
                self.answer(500, {"error": "no space left on device"})
                return
            if double.loses:
                double.blobs.clear()
            if double.fault != "forget":
                double.manifests[_full(asked["destination"])] = double.manifests[source]
            self.answer(200, b"")

        def do_DELETE(self) -> None:
            name = _full(self.body()["model"])
            found = None
            if double.denies:
                double.denies -= 1
            else:
                found = double.manifests.pop(name, None)
            self.answer(200 if found else 404, {} if found else {"error": f"model '{name}' not found"})

    with answering(Handler) as double.address:
        yield double


def _short(name: str) -> str:
    host, namespace, rest = name.split("/", 2)
    model, _, tag = rest.replace("/", ":").partition(":")
    return f"{host}/{namespace}/{model}:{tag}"
