"""The one secret that a server may ask for, as a bearer token or as the password of a basic login."""

from __future__ import annotations

import base64
import binascii
import hmac
import re

from ollama_ferry.errors import UsageError

_TOKEN = re.compile(r"[\x21-\x7e]{1,1000}")


def check_token(token: str) -> str:
    """Return a token that can stand in a header.

    Raises:
        UsageError: it is empty, too long, or has other characters than printable ASCII without blanks.
    """
    if not _TOKEN.fullmatch(token):
        raise UsageError(
            "the token is empty, or holds other characters than printable ASCII without blanks",
            hint="A good one is made by: openssl rand -hex 16",
        )
    return token


def is_authorized(header: str, token: str) -> bool:
    """Return whether an Authorization header carries the token; every user's name is taken.

    How long it takes does not tell how much of a guess was right.

    Args:
        header: the header's value.
        token: what is asked for; empty where nothing is.
    """
    if not token:
        return True
    scheme, _, sent = header.partition(" ")
    sent = sent.strip()
    secret = b""
    if scheme.lower() == "bearer":
        secret = sent.encode("latin-1", "replace")
    elif scheme.lower() == "basic":
        try:
            secret = base64.b64decode(sent, validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return False
    return hmac.compare_digest(secret, token.encode("ascii"))
