"""Answers of a registry, whose bodies are bounded, and what it means when a line fails."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import time
from email.utils import parsedate_to_datetime

import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    ReadTimeoutError,
)

from ollama_ferry.errors import Damaged
from ollama_ferry.registries.connections import Origin
from ollama_ferry.registries.deadlines import Watch

# What an answer that is not read may still hold for its connection to be worth keeping.
_DRAIN_LIMIT = 64 * 1024
_DRAIN_SECONDS = 2.0
# TLS that ended without saying goodbye, or whose bytes were changed on the way: the line broke, whoever it leads to.
_LINE_ENDED = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
_LINE_DAMAGED = "BAD_RECORD_MAC"
# A piece is half a megabyte: what is slower than 2 kB a second has stalled.
_PIECE_SECONDS = 240.0
FAILURES = (HTTPError, OSError, http.client.HTTPException, ValueError)
"""What urllib3 and Python raise where a line fails, or where something comes that is no HTTP."""


class ConnectionBroke(Exception):
    """The line to a host failed, or was silent for too long; the text says how.

    Attributes:
        pause: the seconds to wait before another try, where the host asked for some.
        origin: whom it led to, where that is known.
    """

    def __init__(self, text: str, pause: float = 0.0) -> None:
        super().__init__(text)
        self.pause = pause
        self.origin: Origin | None = None


class NotConnected(ConnectionBroke):
    """There was no connection to begin with."""


class TlsEnded(ConnectionBroke):
    """TLS ended without a word; where there was no answer before, it may well have been refused."""


class NotTrusted(ConnectionBroke):
    """The other side is not who it should be; another try would not help."""


class Answer:
    """An answer whose body is read as it is needed; use it in a ``with`` block.

    Attributes:
        status: the HTTP status.
        url: what was asked in the end, behind all redirects; it may hold a signature and is not shown.
        origin: who answered.
    """

    def __init__(
        self, response: urllib3.BaseHTTPResponse, url: str, origin: Origin, patience_end: float, watch: Watch
    ) -> None:
        self.status = response.status
        self.url = url
        self.origin = origin
        self._response = response
        self._end = patience_end
        self._watch = watch
        self._socket: socket.socket | None = getattr(response, "watched", None)

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def header(self, name: str) -> str:
        """Return a header's text; empty where there is none."""
        return self._response.headers.get(name, "")

    def headers(self, name: str) -> list[str]:
        """Return each header of a name."""
        return list(self._response.headers.getlist(name))

    @property
    def pause(self) -> float:
        """The seconds to wait before another try, as ``Retry-After`` asks."""
        return retry_after(self.header("Retry-After"))

    @property
    def length(self) -> int | None:
        """The body's length in bytes as the header gives it, or None."""
        text = self.header("Content-Length")
        return int(text) if re.fullmatch(r"[0-9]{1,19}", text) else None

    def read(self, size: int, seconds: float | None = None) -> bytes:
        """Give at most ``size`` bytes of the body, and ``b""`` at its end.

        Args:
            size: how many at most.
            seconds: how long they may take together; None takes what a large piece may take.

        Raises:
            ConnectionBroke: the line failed, or nothing came for too long.
        """
        try:
            with self._watch.within(self._socket, _PIECE_SECONDS if seconds is None else seconds):
                return self._response.read(size, decode_content=False)
        except FAILURES as error:
            raise broken(error) from error

    def read_whole(self, limit: int, what: str) -> bytes:
        """Give the whole body.

        Raises:
            Damaged: it has more bytes than the limit.
            ConnectionBroke: the line failed, or the body took too long to come.
        """
        if (self.length or 0) > limit:
            raise Damaged(f"{what} of {self.length} bytes is not read: {limit} is the most")
        parts, count = [], 0
        while chunk := self.read(min(65536, limit + 1 - count), max(0.0, self._end - time.monotonic())):
            parts.append(chunk)
            count += len(chunk)
            if count > limit:
                raise Damaged(f"{what} of more than {limit} bytes is not read")
            if time.monotonic() > self._end:
                raise ConnectionBroke("the answer came too slowly")
        # What is cut within its headers looks like an answer without a body.
        if count != self.length if self.length is not None else not parts:
            raise ConnectionBroke("the answer ended early")
        return b"".join(parts)

    def close(self) -> None:
        """Give the connection back where little is left to read, else close it."""
        try:
            left = self._response.length_remaining
            if left is not None and 0 < left <= _DRAIN_LIMIT:
                with self._watch.within(self._socket, _DRAIN_SECONDS):
                    self._response.read(left, decode_content=False)
        except FAILURES:
            pass
        if self._response.length_remaining == 0:
            self._response.release_conn()
        self._response.close()


def retry_after(text: str) -> float:
    """Read ``Retry-After``: seconds, or a date. What is neither asks for nothing."""
    if re.fullmatch(r"[0-9]{1,9}", text):
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, IndexError, OverflowError, OSError):
        return 0.0


def broken(error: BaseException) -> ConnectionBroke:
    """Return what a failure of the line means, without the addresses that urllib3 puts into its words."""
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and len(seen) < 10:
        seen.append(cause)
        inner = next((arg for arg in cause.args if isinstance(arg, BaseException)), None)
        cause = inner or cause.__cause__ or cause.__context__
    for one in seen:
        if isinstance(one, _LINE_ENDED):
            return TlsEnded("the other side ended the TLS connection")
        if isinstance(one, ssl.SSLError) and _LINE_DAMAGED not in (one.reason or ""):
            return NotTrusted(
                f"{one.reason or 'TLS failed'}: {getattr(one, 'verify_message', '') or one.strerror or ''}"
            )
    for one in seen:
        if isinstance(one, NameResolutionError):
            return NotConnected("its name is not known")
    fresh = any(isinstance(one, NewConnectionError | ConnectTimeoutError) for one in seen)
    kind = NotConnected if fresh else ConnectionBroke
    for one in seen:
        if isinstance(one, OSError) and one.strerror:
            return kind(one.strerror)
    if any(isinstance(one, TimeoutError | ReadTimeoutError | ConnectTimeoutError) for one in seen):
        return kind("no answer in time")
    return kind(repr(str(seen[-1])[:200])[1:-1] or type(error).__name__)
