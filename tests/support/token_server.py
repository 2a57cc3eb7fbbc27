"""A token server for Debian's docker-registry, by its token specification: signed by a key that the registry knows."""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import time
import urllib.parse
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from support.http_double import answering
from support.tools import require_tool

ISSUER, SERVICE = "ferry tests", "the registry"
# How much later than a token says the registry lets go of it.
_LEEWAY = 60


@dataclass
class TokenServer:
    """A running token server.

    Attributes:
        folder: for its key.
        lifetime: of a token, in seconds.
        login: the header that is asked for; empty where anybody gets a token.
        asked: the scopes that tokens were asked for.
    """

    folder: Path
    lifetime: int
    login: str = ""
    address: str = ""
    asked: list[list[str]] = field(default_factory=list)

    @property
    def config(self) -> dict[str, Any]:
        """What the registry is told of it."""
        realm, bundle = f"http://{self.address}/token", str(self.folder / "token.crt")
        return {"token": {"realm": realm, "service": SERVICE, "issuer": ISSUER, "rootcertbundle": bundle}}

    def make_key(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [require_tool("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
        names = ["-subj", "/CN=ferry tokens", "-keyout", "token.key", "-out", "token.crt"]
        subprocess.run([*command, *names], cwd=self.folder, check=True, capture_output=True)

    def token(self, scopes: list[str]) -> str:
        """Return a token that ends, with the leeway that the registry gives, after the lifetime."""
        lines = (self.folder / "token.crt").read_text().splitlines()
        header = {"typ": "JWT", "alg": "RS256", "x5c": ["".join(line for line in lines if "-" not in line)]}
        now = int(time.time())
        access = []
        for scope in scopes:
            kind, rest = scope.split(":", 1)
            name, _, actions = rest.rpartition(":")
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
        ends = now + self.lifetime - _LEEWAY
        claims = {"iss": ISSUER, "sub": "", "aud": SERVICE, "exp": ends, "nbf": now - 3600, "iat": now - 3600}
        claims |= {"jti": uuid.uuid4().hex, "access": access}
        text = ".".join(_packed(json.dumps(part).encode()) for part in (header, claims))
        command = [require_tool("openssl"), "dgst", "-sha256", "-sign", str(self.folder / "token.key")]
        return f"{text}.{_packed(subprocess.check_output(command, input=text.encode()))}"


def _packed(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


@contextlib.contextmanager
def token_server(folder: Path, *, lifetime: int, login: str = "") -> Iterator[TokenServer]:
    """Serve on 127.0.0.1 until the block ends."""
    tokens = TokenServer(folder, lifetime, login)
    tokens.make_key()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *arguments: Any) -> None:
            pass

        def do_GET(self) -> None:
            query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
            scopes = query.get("scope", [])
            tokens.asked.append(scopes)
            if tokens.login and self.headers.get("Authorization") != tokens.login:
                self.send_response(401)
                self.end_headers()
                return
            body = json.dumps({"token": tokens.token(scopes), "expires_in": tokens.lifetime}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with answering(Handler) as tokens.address:
        yield tokens
