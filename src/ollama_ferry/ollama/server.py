"""Ask a running Ollama server where its models are.

Source: ``envconfig/config.go`` (the forms of ``OLLAMA_HOST``) and ``server/routes.go`` (``/api/show``,
``/api/tags``) of Ollama. No step of ollama-ferry needs a server: no answer is an answer.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ollama_ferry.errors import Damaged
from ollama_ferry.model.manifests import parse_json
from ollama_ferry.ollama.listeners import listeners

if TYPE_CHECKING:
    import socket

DEFAULT_PORT = 11434
# A license is part of the answer of /api/show, and a site may have hundreds of models.
_ANSWER_LIMIT = 16 * 1024 * 1024
_FROM_BLOB = re.compile(r"^FROM (?P<root>.+?)[/\\]blobs[/\\]sha256[-:][0-9a-fA-F]{64}\s*$", re.MULTILINE)
_ASKED_AT_MOST = 8


@dataclass(frozen=True)
class ServerAddress:
    """Where a server is called.

    Attributes:
        scheme: ``http`` or ``https``.
        host: a name or an address, without brackets.
        port: the TCP port.
        path: what stands before ``/api``, without a last slash.
    """

    scheme: str
    host: str
    port: int
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> ServerAddress:
        """Read ``OLLAMA_HOST`` as Ollama does; an address to listen on becomes one that can be called.

        Args:
            text: ``host``, ``:port``, ``host:port``, ``[::1]:port``, ``http(s)://host[:port]/path`` or empty.
        """
        text = text.strip().strip("\"'")
        scheme, found, rest = text.partition("://")
        if not found:
            scheme, rest = "http", text
        port = {"http": 80, "https": 443}.get(scheme, DEFAULT_PORT) if found else DEFAULT_PORT
        authority, _, path = rest.partition("/")
        if not found and text == "ollama.com":
            scheme, port = "https", 443
        host, port = _split_port(authority, port)
        if host in ("", "0.0.0.0"):  # noqa: S104 -- this is where it is avoided
            host = "127.0.0.1"
        elif host == "::":
            host = "::1"
        path = path.rstrip("/")
        return cls(scheme, host, port, f"/{path}" if path else "")

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"


@dataclass(frozen=True)
class ServerAnswer:
    """What a server told of itself.

    Attributes:
        address: where it was asked.
        answered: whether something answered there as Ollama does.
        local: whether it listens on this machine.
        folder: the models folder on the *server's* file system; None where it has no model, or none with a file (MLX
            models and cloud stubs give none), or where it is on another machine and was not asked.
        owners: the user numbers that the sockets that listen there belong to; none where nobody was found, None where
            this system does not tell.
    """

    address: ServerAddress
    answered: bool = False
    local: bool = False
    folder: str | None = None
    owners: frozenset[int] | None = None


def ask_server(address: ServerAddress, *, timeout: float = 1.0) -> ServerAnswer:
    """Ask a server for the folder that its models are in.

    Only names that it lists itself are asked for, of models that run there: those of cloud models would be handed on to
    another machine. What does not answer in time is passed over, and the next model is asked for.

    Args:
        address: where the server is.
        timeout: for each request from its beginning to its end, in seconds.
    """
    try:
        reached = _connect(address, timeout)
    except OSError:
        return ServerAnswer(address)
    with reached:
        peer, own = reached.getpeername(), reached.getsockname()
    if not _is_loopback_pair(peer[0], own[0]):
        return ServerAnswer(address, answered=True)
    before = listeners(peer[0], peer[1])
    listed = _request(address, "GET", "/api/tags", timeout)
    if not isinstance(listed, dict):
        return ServerAnswer(address, local=True)
    folder: str | None = None
    for model in _worth_asking(listed.get("models"))[:_ASKED_AT_MOST]:
        folder = _root_of(_request(address, "POST", "/api/show", timeout, {"model": model}))
        if folder:
            break
    after = listeners(peer[0], peer[1])
    # Another socket than before: then nobody knows which one has answered.
    owners = None if before is None or after is None else frozenset(uid for uid, _ in before if before == after)
    return ServerAnswer(address, True, True, folder, owners)


def _is_loopback_pair(peer: str, own: str) -> bool:
    """Return whether a connection leads to this machine: a system calls its own addresses from the same address."""
    import ipaddress

    return peer == own or ipaddress.ip_address(peer.partition("%")[0]).is_loopback


def _worth_asking(entries: Any) -> list[str]:
    """Return the names of the local models that a server lists, those of GGUF files first."""
    found: list[tuple[bool, str]] = []
    for entry in entries if isinstance(entries, list) else ():
        name = entry.get("name") if isinstance(entry, dict) else None
        if not isinstance(name, str) or entry.get("remote_host") or name.endswith((":cloud", "-cloud")):
            continue
        details = entry.get("details")
        found.append((not (isinstance(details, dict) and details.get("format") == "gguf"), name))
    return [name for _, name in sorted(found, key=lambda pair: pair[0])]


def server_just_started(seconds: float) -> bool:
    """Return whether a process called ``ollama`` began within the last seconds; no where /proc is missing.

    Source: proc(5), ``/proc/[pid]/stat``.
    """
    try:
        with open("/proc/uptime", encoding="ascii") as file:
            now = float(file.read().split()[0])
        ticks = os.sysconf("SC_CLK_TCK")
        processes = [entry for entry in os.listdir("/proc") if entry.isdigit()]
    except (OSError, ValueError, AttributeError):
        return False
    for process in processes:
        try:
            with open(f"/proc/{process}/stat", "rb") as file:
                name, _, fields = file.read(4096).partition(b"(")[2].rpartition(b")")
            is_server = name.startswith(b"ollama") and not name.startswith(b"ollama-ferry")
            if is_server:
                with open(f"/proc/{process}/cmdline", "rb") as file:
                    is_server = b"\0serve\0" in file.read(4096)
            # The 22nd field, of which the first two are cut off.
            if is_server and now - int(fields.split()[19]) / ticks < seconds:
                return True
        except (OSError, ValueError, IndexError):
            # It has ended meanwhile.
            continue
    return False


def _root_of(answer: Any) -> str | None:
    modelfile = answer.get("modelfile") if isinstance(answer, dict) else None
    if not isinstance(modelfile, str):
        return None
    found = _FROM_BLOB.search(modelfile)
    return found["root"] if found else None


def _connect(address: ServerAddress, timeout: float) -> socket.socket:
    import socket

    return socket.create_connection((address.host, address.port), timeout)


def _request(address: ServerAddress, method: str, path: str, timeout: float, body: dict[str, str] | None = None) -> Any:
    """Make one request; the JSON of a good answer, None where there was none in time."""
    import http.client
    import socket
    import threading

    # Not urllib: it would send a request for 127.0.0.1 to the proxy that the environment names.
    connect = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
    connection = connect(address.host, address.port, timeout=timeout)
    try:
        connection.connect()
        line = connection.sock

        def give_up() -> None:
            with suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)

        # A timeout of the socket's counts each call, and bytes may come one by one for ever.
        clock = threading.Timer(timeout, give_up)
        clock.daemon = True
        clock.start()
        try:
            data = json.dumps(body).encode() if body is not None else None
            connection.request(method, address.path + path, data, {"Content-Type": "application/json"})
            response = connection.getresponse()
            raw = response.read(_ANSWER_LIMIT + 1)
        finally:
            clock.cancel()
        return parse_json(raw) if response.status == 200 and len(raw) <= _ANSWER_LIMIT else None
    except (OSError, http.client.HTTPException, ValueError, Damaged):
        return None
    finally:
        connection.close()


def _split_port(authority: str, default: int) -> tuple[str, int]:
    bracketed = re.fullmatch(r"\[([^\]]*)\](?::(.*))?", authority)
    if bracketed:
        host, port = bracketed[1], bracketed[2]
    elif authority.count(":") == 1:
        host, _, port = authority.partition(":")
    else:
        # No port, or a bare IPv6 address.
        return authority, default
    if port and re.fullmatch(r"[0-9]{1,5}", port) and int(port) <= 65535:
        return host, int(port)
    return host, default
