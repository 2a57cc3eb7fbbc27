"""Requests of HTTP/1.1 as they come off the wire: strict, bounded, and without bodies.

Source: RFC 9110 and RFC 9112. ``http.server`` is not used: it takes a head for as long as a client cares to dribble it,
and headers in forms that a proxy before us may read otherwise.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote

HEAD_LIMIT = 16 * 1024
"""The largest head of a request, in bytes. Ollama's are some 300 bytes."""

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}"  # noqa: S105 -- RFC 9110's word for a name
_LINE = re.compile(rf"({_TOKEN}) ([\x21-\x7e]+) HTTP/1\.([01])")
_HEADER = re.compile(rf"({_TOKEN}):[ \t]*([\x20-\x7e\x80-\xff\t]*?)[ \t]*")
_ABSOLUTE = re.compile(r"https?://[^/?#]*", re.IGNORECASE)
_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})", re.IGNORECASE)

_HOST = re.compile(r"([A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,252})|\[[0-9A-Fa-f:.]{2,45}\])(?::(\d{1,5}))?")


class BadRequest(Exception):
    """What came is no request that is answered.

    Args:
        status: the status to answer with.
        why: one sentence.
    """

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status
        self.why = why


@dataclass(frozen=True)
class Request:
    """The head of a request.

    Attributes:
        method: as it came.
        target: as it came; only ever shown.
        path: the target's path, its escapes taken back once; it is compared, and never opened.
        query: the target's query, by name; of a name that comes twice the first.
        headers: values by lower-case name.
        keep_alive: the client may send another request on this connection.
        has_body: a body follows, which nobody reads.
    """

    method: str
    target: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    keep_alive: bool
    has_body: bool


def parse_head(raw: bytes) -> Request:
    """Read a request's head, without the empty line that ends it.

    Raises:
        BadRequest: it is not in the grammar.
    """
    lines = raw.decode("latin-1").split("\r\n")
    found = _LINE.fullmatch(lines[0])
    if not found:
        raise BadRequest(400, "the first line is no request of HTTP/1.1")
    method, target, minor = found[1], found[2], found[3]
    headers: dict[str, str] = {}
    for line in lines[1:]:
        header = _HEADER.fullmatch(line)
        if not header:
            raise BadRequest(400, "a header line is not well-formed")
        name, value = header[1].lower(), header[2]
        if name in headers:
            # What is a list may come in pieces, and we need none of these; two lengths or hosts are an attack.
            if name in ("host", "content-length", "transfer-encoding", "authorization", "range", "if-range"):
                raise BadRequest(400, f"the header {name} came twice")
            value = f"{headers[name]}, {value}"
        headers[name] = value
    if minor == "1" and "host" not in headers:
        raise BadRequest(400, "the header Host is missing")
    options = {option.strip().lower() for option in headers.get("connection", "").split(",")}
    keep_alive = "close" not in options and (minor == "1" or "keep-alive" in options)
    has_body = "transfer-encoding" in headers or headers.get("content-length", "0") != "0"
    path, query = _parts(target)
    return Request(method, target, path, query, headers, keep_alive, has_body)


def parse_range(text: str, size: int) -> tuple[int, int] | None:
    """Read a Range header.

    Args:
        text: the header's value.
        size: of what is asked for, in bytes.

    Returns:
        Offset and length of the one range; None where the header is to be ignored: it is of another form, or
        has several ranges.

    Raises:
        BadRequest: the range lies outside (416).
    """
    found = _RANGE.fullmatch(text.strip())
    if not found or not (found[1] or found[2]):
        return None
    if not found[1]:
        offset, end = max(0, size - int(found[2])), size
    else:
        offset = int(found[1])
        end = min(size, int(found[2]) + 1) if found[2] else size
        if found[2] and int(found[2]) < offset:
            return None
    if offset >= end:
        raise BadRequest(416, f"there is nothing at this range of {size} bytes")
    return offset, end - offset


def split_host(text: str) -> tuple[str, int | None] | None:
    """Read a Host header: the host, with its brackets where it is an IPv6 address, and the port.

    Returns:
        None where it is not in the grammar.
    """
    found = _HOST.fullmatch(text)
    if not found or (found[2] and int(found[2]) > 65535):
        return None
    return found[1], int(found[2]) if found[2] else None


def _parts(target: str) -> tuple[str, dict[str, str]]:
    absolute = _ABSOLUTE.match(target)
    rest = target[absolute.end() :] if absolute else target
    path, _, query = rest.partition("#")[0].partition("?")
    pairs = reversed(parse_qsl(query, keep_blank_values=True, errors="replace"))
    return unquote(path or "/", errors="replace"), dict(pairs)
