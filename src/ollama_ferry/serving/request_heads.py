"""Read the heads of requests off a connection, one after another, each within a time and a size."""

from __future__ import annotations

import socket
import time

from ollama_ferry.serving.requests import HEAD_LIMIT, BadRequest

# What the first message of a TLS connection begins with (RFC 8446, 5.1).
_TLS = b"\x16"


class HeadReader:
    """Reads heads; what a client sends ahead (pipelining) waits here for its turn.

    Args:
        connection: where they come from.
        idle: how long to wait for the first byte of a head, in seconds.
        whole: how long a head may take from its first byte on, in seconds, however it dribbles.
    """

    def __init__(self, connection: socket.socket, *, idle: float, whole: float) -> None:
        self._connection = connection
        self._idle = idle
        self._whole = whole
        self._buffer = bytearray()

    def read(self) -> bytes | None:
        """Return the next head, without the empty line that ends it; None where the client sends no more.

        Raises:
            BadRequest: it is too large, or takes too long.
        """
        deadline = time.monotonic() + (self._whole if self._buffer else self._idle)
        begun = bool(self._buffer)
        searched = 0
        while True:
            # An empty line or two before a request are to be passed over (RFC 9112, 2.2).
            while self._buffer.startswith(b"\r\n"):
                del self._buffer[:2]
            if self._buffer[:1] == _TLS:
                # Told at once, a client of https says what is wrong, and does not wait for its time to be up.
                raise BadRequest(400, "this is a server of plain http, and the client speaks https")
            end = self._buffer.find(b"\r\n\r\n", max(0, searched - 3))
            if 0 <= end <= HEAD_LIMIT:
                head = bytes(self._buffer[:end])
                del self._buffer[: end + 4]
                return head
            if len(self._buffer) > HEAD_LIMIT:
                raise BadRequest(431, f"the head of the request has more than {HEAD_LIMIT} bytes")
            searched = len(self._buffer)
            if self._buffer and not begun:
                begun, deadline = True, time.monotonic() + self._whole
            more = self._receive(deadline)
            if not more:
                if more is None and begun:
                    raise BadRequest(408, "the head of the request took too long")
                return None
            self._buffer += more

    def _receive(self, deadline: float) -> bytes | None:
        """Return what has come, nothing at the end, and None when the time is up."""
        left = deadline - time.monotonic()
        if left <= 0:
            return None
        self._connection.settimeout(left)
        try:
            return self._connection.recv(HEAD_LIMIT)
        except TimeoutError:
            return None
        except OSError:
            return b""
