"""Ask a running Ollama server where its models are.

Source: ``envconfig/config.go`` (the forms of ``OLLAMA_HOST``) and ``server/routes.go`` (``/api/show``,
``/api/tags``) of Ollama. No step of ollama-ferry needs a server: no answer is an answer.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from typing import Any

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


def ask_for_root(address: ServerAddress, models: list[str], *, timeout: float = 1.0) -> str | None:
    """Ask a server for the folder that its models are in.

    Args:
        address: where the server is.
        models: names to ask for first; where they tell nothing, those that the server lists are asked for.
        timeout: for each request, in seconds.

    Returns:
        The path on the *server's* file system, or None where there is no server, no model, or no model with a
        file (MLX models and cloud stubs give none).
    """
    try:
        asked: set[str] = set()
        for model in models[:_ASKED_AT_MOST]:
            asked.add(model)
            if root := _root_of(_request(address, "POST", "/api/show", timeout, {"model": model})):
                return root
        listed = _request(address, "GET", "/api/tags", timeout)
        names = [
            entry["name"]
            for entry in (listed.get("models") or () if isinstance(listed, dict) else ())
            if isinstance(entry, dict) and isinstance(entry.get("name"), str) and not entry.get("remote_host")
        ]
        for model in [name for name in names if name not in asked][:_ASKED_AT_MOST]:
            if root := _root_of(_request(address, "POST", "/api/show", timeout, {"model": model})):
                return root
    except _NoAnswer:
        pass
    return None


def server_just_started(seconds: float) -> bool:
    """Tell whether a process called ``ollama`` began within the last seconds; where /proc is missing, nobody knows: no.

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


class _NoAnswer(Exception):
    """The server can't be asked."""


def _root_of(answer: Any) -> str | None:
    modelfile = answer.get("modelfile") if isinstance(answer, dict) else None
    if not isinstance(modelfile, str):
        return None
    found = _FROM_BLOB.search(modelfile)
    return found["root"] if found else None


def _request(address: ServerAddress, method: str, path: str, timeout: float, body: dict[str, str] | None = None) -> Any:
    """Make one request; the JSON of a good answer, None for a refusal."""
    import http.client

    # Not urllib: it would send a request for 127.0.0.1 to the proxy that the environment names.
    connect = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
    connection = connect(address.host, address.port, timeout=timeout)
    try:
        data = json.dumps(body).encode() if body is not None else None
        connection.request(method, address.path + path, data, {"Content-Type": "application/json"})
        response = connection.getresponse()
        raw = response.read(_ANSWER_LIMIT + 1)
        if response.status != 200 or len(raw) > _ANSWER_LIMIT:
            return None
        return json.loads(raw)
    except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
        raise _NoAnswer from error
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
