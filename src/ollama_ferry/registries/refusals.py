"""What it means when a registry refuses, or can't be reached: one error each, in words that a user can act on."""

from __future__ import annotations

import re

from ollama_ferry.errors import Damaged, FerryError, NotFound, NotPermitted, Refused, Remedy, Unreachable
from ollama_ferry.model.manifests import parse_json
from ollama_ferry.registries.access import Access
from ollama_ferry.registries.answers import Answer, ConnectionBroke

REDIRECTS = frozenset((301, 302, 303, 307, 308))
"""Statuses that name another address."""
PASSING = frozenset((408, 425, 429, 500, 502, 503, 504))
"""Statuses behind which another try may find a better mood."""

_ERROR_LIMIT = 64 * 1024
# What OpenSSL calls the refusals of a server that wants to know its clients, and of one that is too old for us.
_CLIENT_REFUSED = "ALERT_(CERTIFICATE_REQUIRED|BAD_CERTIFICATE|UNKNOWN_CA|HANDSHAKE_FAILURE|CERTIFICATE_UNKNOWN)"
_OLD_TLS = "UNSUPPORTED_PROTOCOL|ALERT_PROTOCOL_VERSION"


def explanation(answer: Answer) -> str:
    """Say what the registry says of an error: its own words, short, escaped and in brackets; empty for none."""
    try:
        raw = answer.read_whole(_ERROR_LIMIT, "an error")
        first = parse_json(raw).get("errors")[0]
        words = [first[key] for key in ("code", "message") if isinstance(first.get(key), str)]
    except (ConnectionBroke, Damaged, AttributeError, IndexError, KeyError, TypeError):
        return ""
    return f" ({repr(': '.join(words)[:300])[1:-1]})" if words else ""


def registry_refusal(answer: Answer, what: str, login_hint: str, login: str = "") -> FerryError:
    """Return the error for a status that is not what was hoped for.

    Args:
        answer: the answer.
        what: what was being done.
        login_hint: what to do where another login is wanted.
        login: which login was used, for people; empty for none.
    """
    why = explanation(answer)
    said = f"{what}: {answer.origin} answers {answer.status}{why}"
    if answer.status in (401, 403):
        return NotPermitted(f"{said} (the login is that of {login})" if login else said, hint=login_hint)
    if answer.status == 404:
        return NotFound(said)
    hint, remedies = "", []
    if answer.status in REDIRECTS:
        hint = "A redirect is followed for reading only."
    elif answer.status == 413:
        hint = "The registry, or a proxy before it, takes no requests that large; nginx: client_max_body_size 0."
    elif answer.status == 400 and answer.origin.scheme == "http" and not why:
        remedies = [Remedy("insecure", "False")]
    return Refused(said, hint=hint, remedies=remedies, status=answer.status)


def unreachable(what: str, host: str, trouble: str, registry: str, access: Access, *, answered: bool) -> Unreachable:
    """Return the error for a line that failed for good.

    Args:
        what: what was being done.
        host: whom the line led to.
        trouble: what the last failure was.
        registry: the registry's name as the user wrote it.
        access: where its certificates may be.
        answered: whether any host has answered before.
    """
    hint, remedies = "Run the same command again: it resumes.", []
    if "CERTIFICATE_VERIFY_FAILED" in trouble and "match" in trouble:
        hint = "The certificate is one for other names: call the host by one of those, or let it have another."
    elif "CERTIFICATE_VERIFY_FAILED" in trouble:
        hint, remedies = "Its certificate is of an authority that is not trusted here.", [Remedy("ca_file")]
        if host == registry:
            hint += f" Docker's place for one: {access.docker_certificates / registry}/ca.crt"
    elif re.search(_CLIENT_REFUSED, trouble):
        hint = "It wants a client's certificate, or another one than was shown."
        remedies = [Remedy("cert")]
    elif re.search(_OLD_TLS, trouble):
        hint = "It speaks no TLS that is still held safe: 1.2 at the least is needed."
    elif re.search(r"WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|HTTP_REQUEST", trouble, re.IGNORECASE):
        hint, remedies = "It seems to speak plain http.", [Remedy("insecure")]
    elif not answered:
        hint = "Is the name right, and is the registry up? HTTPS_PROXY names a proxy where one is needed."
    return Unreachable(f"{what}: {host}: {trouble}", hint=hint, remedies=remedies)
