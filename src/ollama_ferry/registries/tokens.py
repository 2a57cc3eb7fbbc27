"""Tokens: how one is asked for, and what an answer means.

Source: the token specification of the distribution project (``docs/spec/auth/token.md`` and ``oauth.md``).
"""

from __future__ import annotations

import base64
import re
import time
import urllib.parse
from dataclasses import dataclass, field

from ollama_ferry.errors import Damaged, FerryError
from ollama_ferry.model.manifests import parse_json
from ollama_ferry.registries.challenges import Challenge
from ollama_ferry.registries.credentials import Credential

TOKEN_LIMIT = 256 * 1024
"""The largest answer of a token server that is read, in bytes."""

_CLIENT = "ollama-ferry"
# What the specification says of a token without a lifetime, and how long before its end it is not used any more.
_LIFETIME = 60.0
_EARLY = 5.0


@dataclass(frozen=True)
class Authorization:
    """What goes into the header.

    Attributes:
        value: the header's text; never shown.
        until: when it ends, as ``time.monotonic()``.
    """

    value: str = field(repr=False)
    until: float = float("inf")

    @property
    def fresh(self) -> bool:
        """Whether it may still be used."""
        return time.monotonic() < self.until


def basic(credential: Credential) -> str:
    """Return the header's text for a login by name and password."""
    packed = base64.b64encode(f"{credential.username}:{credential.password}".encode()).decode()
    return f"Basic {packed}"


def bearer(token: str, until: float = float("inf")) -> Authorization:
    """Return the header's text for a token.

    Args:
        token: the token.
        until: when it ends, as ``time.monotonic()``.

    Raises:
        FerryError: it has what would end the header's line, or stand for another header.
    """
    if not re.fullmatch(r"[\x21-\x7e]{1,65536}", token):
        raise FerryError("the token has characters that no token may have")
    return Authorization(f"Bearer {token}", until)


@dataclass(frozen=True)
class TokenRequest:
    """The request for a token.

    Attributes:
        method: ``GET``, or ``POST`` with a form.
        url: the token server's, with the question in it.
        body: the form, or None.
        headers: further headers, among them the login.
        scope: what we need the token for.
    """

    method: str
    url: str
    body: bytes | None = field(repr=False)
    headers: dict[str, str] = field(repr=False)
    scope: str


def token_request(challenge: Challenge, scope: str, credential: Credential | None) -> TokenRequest:
    """Return the request that answers a challenge.

    Args:
        challenge: what the registry asked for.
        scope: what we need, besides what the challenge names.
        credential: the login, or None to ask for an anonymous token.
    """
    scopes = _together(f"{challenge.scope} {scope}")
    if credential is not None and credential.identity_token:
        form = {
            "grant_type": "refresh_token",
            "refresh_token": credential.identity_token,
            "client_id": _CLIENT,
            "service": challenge.service,
            "scope": " ".join(scopes),
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return TokenRequest("POST", challenge.realm, urllib.parse.urlencode(form).encode(), headers, scope)
    pairs = [("service", challenge.service)] if challenge.service else []
    pairs += [("scope", one) for one in scopes]
    joint = "&" if "?" in challenge.realm else "?"
    url = f"{challenge.realm}{joint}{urllib.parse.urlencode(pairs)}"
    return TokenRequest("GET", url, None, {"Authorization": basic(credential)} if credential else {}, scope)


def read_token(raw: bytes, now: float) -> Authorization:
    """Read a token server's answer.

    Args:
        raw: the answer.
        now: when the question was asked, as ``time.monotonic()``.

    Raises:
        FerryError: there is no token in it.
    """
    try:
        document = parse_json(raw) if len(raw) <= TOKEN_LIMIT else None
    except Damaged:
        document = None
    if not isinstance(document, dict):
        raise FerryError("the token server's answer is not what such a server says")
    token = document.get("token") or document.get("access_token")
    if not isinstance(token, str) or not token:
        raise FerryError("the token server's answer has no token in it")
    seconds = document.get("expires_in")
    lifetime = _LIFETIME
    if isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 < seconds < 1e9:
        lifetime = float(seconds)
    return bearer(token, now + max(lifetime - _EARLY, lifetime / 2))


def _together(scopes: str) -> list[str]:
    """Return each resource once, with all that is to be done to it: ``repository:NAME:pull,push``, in one order.

    Registries name actions in any order, docker's in another one each time. Source: the token scope grammar of the
    distribution project.
    """
    actions: dict[str, set[str]] = {}
    for scope in scopes.split():
        resource, colon, named = scope.rpartition(":")
        actions.setdefault(f"{resource}:" if colon else scope, set()).update(named.split(",") if colon else ())
    return sorted(resource + ",".join(sorted(named)) for resource, named in actions.items())
