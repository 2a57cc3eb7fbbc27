"""Registries to test against: Debian's docker-registry in three guises, and one of our own with faults."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import re
import socket
import ssl
import subprocess
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from ollama_ferry.registries.access import Access, Patience
from support.http_double import answering
from support.tools import require_tool

USER, PASSWORD = "ferry", "over the water"

QUICK = Patience(connect=60, stall=60, answer=120, attempts=4, first_wait=0.01, longest_wait=0.05)
"""Short waits before another try, so that a fault takes no time; to be slow, on a busy machine, is no fault."""


def quick_access(**more: Any) -> Access:
    """Return access for faults: plain, impatient, and with parts so small that a little blob has several."""
    known: dict[str, Any] = {"patience": QUICK, "part_size": 100_000, "chunk_size": 100_000, "insecure": True}
    # No line is so fast that one range would do, unless a test says so.
    known["fast_enough"] = float("inf")
    return Access(**{**known, **more})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


# -- Debian's docker-registry


@dataclass(frozen=True)
class Registry:
    """A running docker-registry.

    Attributes:
        address: host and port.
        log: its log, a line for each request.
        ca_file: the authority of its certificate, or None where it is plain.
        folder: its own.
    """

    address: str
    log: Path
    ca_file: Path | None
    folder: Path

    def requests(self, method: str = "[A-Z]+") -> list[str]:
        """Return the requests so far, as the log has them: ``PUT /v2/...``."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return re.findall(rf'"({method} /v2/[^ "]*) HTTP', text)

    @property
    def options(self) -> list[str]:
        """What the command needs to be notified of it."""
        return ["--insecure"] if self.ca_file is None else ["--ca-file", str(self.ca_file)]


@contextlib.contextmanager
def docker_registry(
    folder: Path,
    *,
    tls: bool = False,
    login: bool = False,
    clients: bool = False,
    auth: dict[str, Any] | None = None,
) -> Iterator[Registry]:
    """Serve until the block ends, on 127.0.0.1 (with TLS under the name of localhost).

    Args:
        folder: for certificates and data.
        tls: whether by https.
        login: whether a name and a password are asked for.
        clients: whether clients need a certificate, too.
        auth: who is let in, as its configuration says it, where that is not by a name and a password.
    """
    program = require_tool("docker-registry")
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    http: dict[str, Any] = {"addr": f"127.0.0.1:{port}", "secret": "tests"}
    if tls:
        certificate(folder)
        http["tls"] = {"certificate": str(folder / "server.crt"), "key": str(folder / "server.key")}
        if clients:
            http["tls"]["clientcas"] = [str(folder / "ca.crt")]
    config: dict[str, Any] = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}, "delete": {"enabled": True}},
        "http": http,
    }
    if login:
        line = subprocess.check_output([require_tool("htpasswd", "apache2-utils"), "-Bbn", USER, PASSWORD], text=True)
        (folder / "htpasswd").write_text(line)
        config["auth"] = {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}}
    if auth is not None:
        config["auth"] = auth
    (folder / "config.yml").write_text(json.dumps(config))
    log = folder / "log"
    with log.open("wb") as output:
        server = subprocess.Popen([program, "serve", str(folder / "config.yml")], stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 120
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert server.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        host = "localhost" if tls else "127.0.0.1"
        yield Registry(f"{host}:{port}", log, folder / "ca.crt" if tls else None, folder)
    finally:
        server.terminate()
        server.wait(20)


def certificate(folder: Path) -> None:
    """Make an authority, and certificates by it for a server called localhost and for a client."""
    openssl = require_tool("openssl")

    def run(*arguments: str) -> None:
        subprocess.run([openssl, *arguments], cwd=folder, check=True, capture_output=True)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    run("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=ferry tests")
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for name in ("server", "client"):
        run("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signing = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names"]
        run("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.crt", *signing)


def log_in(registry: Registry, folder: Path) -> Path:
    """Write what `docker login` writes; return the folder for ``DOCKER_CONFIG``."""
    import base64

    folder.mkdir(exist_ok=True)
    packed = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    (folder / "config.json").write_text(json.dumps({"auths": {registry.address: {"auth": packed}}}))
    return folder


# -- one of our own, with faults


@dataclass
class Seen:
    """A request that came.

    Attributes:
        method, path: as sent, the query with it.
        headers: as sent, names in lower case.
        size: the bytes of its body that arrived.
        sent: the bytes of a body that were given back.
    """

    method: str
    path: str
    headers: dict[str, str]
    size: int = 0
    sent: int = 0


class Fault(Exception):
    """Raised by a fault that has cut the line, or wants it cut."""


class Answered(Exception):
    """Raised by a fault that has answered in its own way."""


Trouble = Callable[["FaultyHandler"], None]
"""Looks at a request before it is answered; may answer it in its own way, and raises Fault then."""


@dataclass
class FaultyRegistry:
    """A registry in memory, whose faults are switched on per request.

    Attributes:
        address: host and port.
        seen: the requests so far.
        blobs, manifests, uploads: what it holds; manifests by ``repository:tag`` and by digest.
        faults: for a kind of request (see :meth:`kind`) what happens, each once and in order; None is no fault.
        always: the same for every request of a kind.
        locked: whether a bearer token is asked for; ``expires`` says how many requests each one serves, and
            ``lifetime`` how many seconds it is said to last.
        redirect: where blobs really are: the address of another such server, or empty.
        ranges: whether it knows ranges.
    """

    address: str = ""
    seen: list[Seen] = field(default_factory=list)
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, bytes] = field(default_factory=dict)
    uploads: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, list[Trouble | None]] = field(default_factory=dict)
    always: dict[str, Trouble] = field(default_factory=dict)
    locked: bool = False
    expires: int = 0
    lifetime: float = 300
    redirect: str = ""
    ranges: bool = True
    lock: threading.RLock = field(default_factory=threading.RLock)
    numbers: Iterator[int] = field(default_factory=itertools.count)
    tokens: dict[str, int] = field(default_factory=dict)

    def add(self, content: bytes) -> str:
        """Hold a blob; return its digest."""
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self.blobs[digest] = content
        return digest

    def add_model(self, repository: str, tag: str, *layers: bytes) -> bytes:
        """Hold a model; return its manifest."""
        config = b'{"model_format":"gguf"}'
        entries = [
            {"mediaType": "application/vnd.ollama.image.model", "digest": self.add(layer), "size": len(layer)}
            for layer in layers
        ]
        document = {"config": {"digest": self.add(config), "size": len(config)}, "layers": entries}
        raw = json.dumps(document, indent=1).encode()
        self.manifests[f"{repository}:{tag}"] = raw
        return raw

    def count(self, kind: str) -> int:
        """Return how many requests of a kind came."""
        return sum(1 for seen in self.seen if self.kind(seen.method, seen.path) == kind)

    def sent(self, kind: str = "blob") -> int:
        """Return how many bytes of bodies of a kind were given out."""
        return sum(seen.sent for seen in self.seen if self.kind(seen.method, seen.path) == kind)

    @staticmethod
    def kind(method: str, path: str) -> str:
        """Tell what a request is for: token, manifest, put manifest, look, blob, start, patch, how far, put, delete."""
        path = path.partition("?")[0]
        if path == "/token":
            return "token"
        if "/manifests/" in path:
            return "put manifest" if method == "PUT" else "manifest"
        if "/blobs/uploads/" in path:
            return {"POST": "start", "PATCH": "patch", "GET": "how far", "PUT": "put", "DELETE": "delete"}[method]
        return "look" if method == "HEAD" else "blob"


class FaultyHandler(BaseHTTPRequestHandler):
    """Answers one request after another."""

    protocol_version = "HTTP/1.1"
    registry: FaultyRegistry
    seen: Seen
    body: bytes

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.close_connection = False
        # As a proxy is asked: for a whole URL.
        self.path = re.sub(r"^http://[^/]+", "", self.path)
        self.seen = Seen(self.command, self.path, {key.lower(): value for key, value in self.headers.items()})
        registry = self.registry
        kind = registry.kind(self.command, self.path)
        with registry.lock:
            registry.seen.append(self.seen)
            waiting = registry.faults.get(kind, [])
            fault = waiting.pop(0) if waiting else registry.always.get(kind)
        self.body = b""
        try:
            if fault is not None:
                fault(self)
            self._read_body()
            self._answer(kind)
        except Answered:
            pass
        except Fault:
            self.close_connection = True
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 -- names that the base class looks for

    def read_some(self, count: int) -> bytes:
        """Take a part of the body."""
        found = self.rfile.read(count)
        self.body += found
        self.seen.size += len(found)
        return found

    def cut(self) -> None:
        """Cut the line."""
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        raise Fault

    def reply(
        self, status: int, headers: dict[str, str] | None = None, body: bytes = b"", length: int | None = None
    ) -> None:
        """Answer; ``length`` is what the header says where that is not the truth."""
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
            self.seen.sent += len(body)

    def blob(self) -> bytes:
        """Return the blob that is asked for."""
        return self.registry.blobs[self.path.partition("?")[0].rpartition("/")[2]]

    def asked(self, size: int) -> tuple[int, int]:
        """Return the range that is asked for: its start, and its end, which is the first byte not in it."""
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.seen.headers.get("range", ""))
        return (int(found[1]), min(int(found[2] or size - 1) + 1, size)) if found else (0, size)

    def _read_body(self) -> None:
        length = int(self.seen.headers.get("content-length", 0)) - len(self.body)
        if length > 0:
            self.read_some(length)

    def _answer(self, kind: str) -> None:
        registry = self.registry
        if kind == "token":
            with registry.lock:
                token = f"token-{len(registry.tokens)}"
                registry.tokens[token] = registry.expires or 10**9
            self.reply(200, body=json.dumps({"token": token, "expires_in": registry.lifetime}).encode())
            return
        if registry.locked and not self._let_in():
            challenge = f'Bearer realm="http://{registry.address}/token",service="tests",scope="repository:x:pull"'
            self.reply(401, {"WWW-Authenticate": challenge})
            return
        {
            "manifest": self._manifest,
            "put manifest": self._put_manifest,
            "look": self._blob,
            "blob": self._blob,
            "start": self._start,
            "patch": self._patch,
            "how far": self._how_far,
            "put": self._put,
            "delete": self._delete,
        }[kind]()

    def _let_in(self) -> bool:
        token = self.seen.headers.get("authorization", "").removeprefix("Bearer ")
        with self.registry.lock:
            left = self.registry.tokens.get(token, 0)
            self.registry.tokens[token] = left - 1
        return left > 0

    def _names(self) -> tuple[str, str]:
        found = re.fullmatch(r"/v2/(.+)/(?:manifests|blobs)/([^/?]+)(?:\?.*)?", self.path)
        assert found
        return found[1], found[2]

    def _manifest(self) -> None:
        repository, tag = self._names()
        raw = self.registry.manifests.get(f"{repository}:{tag}") or self.registry.manifests.get(tag)
        if raw is None:
            self.reply(404, body=b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"no such thing"}]}')
        else:
            self.reply(200, {"Docker-Content-Digest": f"sha256:{hashlib.sha256(raw).hexdigest()}"}, raw)

    def _put_manifest(self) -> None:
        repository, tag = self._names()
        document = json.loads(self.body)
        needed = {blob["digest"] for blob in [document["config"], *document["layers"]]}
        if needed - self.registry.blobs.keys():
            self.reply(400, body=b'{"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","message":"gone"}]}')
            return
        self.registry.manifests[f"{repository}:{tag}"] = self.body
        self.reply(201)

    def _blob(self) -> None:
        _, digest = self._names()
        if digest not in self.registry.blobs:
            self.reply(404)
            return
        if self.registry.redirect and self.command == "GET":
            self.reply(307, {"Location": f"http://{self.registry.redirect}{self.path}?signature=secret"})
            return
        content = self.registry.blobs[digest]
        start, end = self.asked(len(content))
        if self.registry.ranges and "range" in self.seen.headers:
            self.reply(206, {"Content-Range": f"bytes {start}-{end - 1}/{len(content)}"}, content[start:end])
        else:
            self.reply(200, body=content)

    def _start(self) -> None:
        query = urllib.parse.parse_qs(self.path.partition("?")[2])
        if query.get("mount", [""])[0] in self.registry.blobs:
            self.reply(201)
            return
        with self.registry.lock:
            number = str(next(self.registry.numbers))
            self.registry.uploads[number] = b""
        self.reply(202, self._where(number))

    def _where(self, number: str) -> dict[str, str]:
        repository = self.path.partition("/blobs/")[0]
        end = max(0, len(self.registry.uploads[number]) - 1)
        return {"Location": f"{repository}/blobs/uploads/{number}?state={end}", "Range": f"0-{end}"}

    @property
    def number(self) -> str:
        """Which upload a request is about."""
        return self.path.partition("?")[0].rpartition("/")[2]

    def keep(self) -> None:
        """Keep what has come of a chunk."""
        self.registry.uploads[self.number] += self.body

    def _patch(self) -> None:
        start = int(self.seen.headers["content-range"].partition("-")[0])
        if self.number not in self.registry.uploads:
            self.reply(404)
        elif start != len(self.registry.uploads[self.number]):
            self.reply(416, self._where(self.number))
        else:
            self.keep()
            self.reply(202, self._where(self.number))

    def _how_far(self) -> None:
        if self.number in self.registry.uploads:
            self.reply(204, self._where(self.number))
        else:
            self.reply(404)

    def _delete(self) -> None:
        self.reply(204)

    def _put(self) -> None:
        digest = urllib.parse.parse_qs(self.path.partition("?")[2])["digest"][0]
        content = self.registry.uploads.pop(self.number, b"") + self.body
        if f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
            self.reply(400, body=b'{"errors":[{"code":"DIGEST_INVALID","message":"other bytes"}]}')
            return
        self.registry.blobs[digest] = content
        self.reply(201)


@contextlib.contextmanager
def faulty_registry() -> Iterator[FaultyRegistry]:
    """Serve until the block ends."""
    registry = FaultyRegistry()
    handler = type("Handler", (FaultyHandler,), {"registry": registry})
    with answering(handler) as registry.address:
        yield registry


@contextlib.contextmanager
def connect_proxy(
    up: Iterable[int] = (), down: Iterable[int] = (), *, certificates: Path | None = None
) -> Iterator[tuple[str, list[str]]]:
    """Serve as a proxy for https until the block ends; give its address, and the lines that it was asked with.

    Args:
        up: after how many bytes to the server a line is cut: the first, the second ...; the others stay whole.
        down: the same for bytes to the client.
        certificates: the folder of a registry with TLS, whose certificate the proxy has too; None is plain. What a
            client shows of its own is among the lines.
    """
    asked: list[str] = []
    cuts_up, cuts_down = list(up), list(down)

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *arguments: Any) -> None:
            pass

        def handle(self) -> None:
            if isinstance(self.connection, ssl.SSLSocket) and self.connection.getpeercert():
                asked.append("a client's certificate")
            super().handle()

        def do_CONNECT(self) -> None:
            asked.append(f"{self.path} {self.headers.get('Proxy-Authorization', '')}")
            host, _, port = self.path.rpartition(":")
            with socket.create_connection((host, int(port)), 5) as there:
                self.send_response(200)
                self.end_headers()
                back = threading.Thread(target=_pour, args=(there, self.connection, cuts_down), daemon=True)
                back.start()
                _pour(self.connection, there, cuts_up)
                back.join()
            self.close_connection = True

    context = None
    if certificates is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificates / "ca.crt"))
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_cert_chain(certificates / "server.crt", certificates / "server.key")
    with answering(Handler, context) as address:
        yield address.replace("127.0.0.1", "localhost") if certificates else address, asked


def _pour(source: socket.socket, sink: socket.socket, cuts: list[int]) -> None:
    count = 0
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
            count += len(data)
            if cuts and count > cuts[0]:
                cuts.pop(0)
                source.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
