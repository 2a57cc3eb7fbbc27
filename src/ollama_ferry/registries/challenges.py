"""What a registry asks for before it answers: the header ``WWW-Authenticate``, read in time that grows with its length.

Source: RFC 9110, 11.3 and 11.6.1.
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

# All that is read of the headers, in characters; those of real registries have some hundred.
_LIMIT = 16 * 1024
_NAME = frozenset(string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~")
_BLANK = frozenset(" \t")
_END_OF_VALUE = frozenset(' \t",')


@dataclass(frozen=True)
class Challenge:
    """How a registry wants one to log in.

    Attributes:
        scheme: ``bearer`` or ``basic``.
        realm: for bearer the URL of the token server.
        service: what the token is for.
        scope: which rights are needed, several with spaces between them.
    """

    scheme: str
    realm: str = ""
    service: str = ""
    scope: str = ""


def parse_challenge(headers: Iterable[str]) -> Challenge | None:
    """Read ``WWW-Authenticate``; bearer is taken before basic. None where there is neither."""
    found: dict[str, Challenge] = {}
    left = _LIMIT
    for header in headers:
        text = header[:left]
        left -= len(text)
        for scheme, pairs in _challenges(text):
            challenge = Challenge(scheme, pairs.get("realm", ""), pairs.get("service", ""), pairs.get("scope", ""))
            found.setdefault(scheme, challenge)
    return found.get("bearer") or found.get("basic")


def _challenges(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    scheme: str | None = None
    pairs: dict[str, str] = {}
    for name, value in _items(text):
        if value is not None:
            pairs.setdefault(name.lower(), value)
            continue
        if scheme is not None:
            yield scheme, pairs
        scheme, pairs = name.lower(), {}
    if scheme is not None:
        yield scheme, pairs


def _items(text: str) -> Iterator[tuple[str, str | None]]:
    """Give each ``name=value``, and each name without a value, which is a scheme. No character is looked at thrice."""
    at, end = 0, len(text)
    while at < end:
        start = at
        at = _skip(text, at, _NAME)
        name = text[start:at]
        if not name:
            # A comma, a blank, or what has no place here.
            at += 1
            continue
        at = _skip(text, at, _BLANK)
        if text[at : at + 1] != "=":
            yield name, None
            continue
        at = _skip(text, at + 1, _BLANK)
        if text[at : at + 1] == '"':
            value, at = _quoted(text, at + 1)
        else:
            start = at
            while at < end and text[at] not in _END_OF_VALUE:
                at += 1
            value = text[start:at]
        yield name, value


def _skip(text: str, at: int, over: frozenset[str]) -> int:
    while at < len(text) and text[at] in over:
        at += 1
    return at


def _quoted(text: str, at: int) -> tuple[str, int]:
    """Return what stands before the next quote that no backslash escapes, and where the text goes on behind it."""
    parts: list[str] = []
    while at < len(text) and text[at] != '"':
        at += text[at] == "\\"
        parts.append(text[at : at + 1])
        at += 1
    return "".join(parts), at + 1
