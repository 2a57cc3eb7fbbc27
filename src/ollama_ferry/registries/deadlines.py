"""A watch over connections: what takes too long as a whole is ended, however steadily its bytes drip.

The timeout of a socket is for each of its bytes, so a host that sends one now and then would be waited for for ever.
And what is no content (statuses in between, headers, the sizes of chunks, trailers) has a bound, or it could flow
without end.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

# How often the watch looks, in seconds.
_LOOK = 0.25
# How many bytes of an answer may be no content, besides as many as its content has.
_FRAMING_LIMIT = 256 * 1024


class Watch:
    """Ends what it watches when its time is up, or all of it at once; from a thread of its own."""

    def __init__(self) -> None:
        self._armed: dict[object, tuple[float, socket.socket]] = {}
        self._open: WeakSet[socket.socket] = WeakSet()
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @contextmanager
    def within(self, connection: socket.socket | None, seconds: float) -> Iterator[None]:
        """End the connection if the block takes longer than some seconds: its reads then fail."""
        if connection is None:
            yield
            return
        key = object()
        self._armed[key] = (time.monotonic() + seconds, connection)
        self._start()
        try:
            yield
        finally:
            del self._armed[key]

    def add(self, connection: socket.socket) -> None:
        """Learn of a connection, which :meth:`close` ends."""
        with self._lock:
            self._open.add(connection)
        if self._closed.is_set():
            _end(connection)

    def close(self) -> None:
        """End every connection at once, in whatever thread it is read."""
        self._closed.set()
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            _end(connection)

    def pools(self, seconds: float, meet: Callable[[str], None] | None = None) -> dict[str, Any]:
        """Return pools for urllib3 whose connections are watched.

        Args:
            seconds: for the head of an answer, from the end of the request on.
            meet: called with the other side's address before anything is asked there; what it raises is the answer.
        """
        watch = self

        class Plain(HTTPConnection):
            response_class = _BoundedResponse

            def connect(self) -> None:
                super().connect()
                if meet is not None:
                    meet(str(self.sock.getpeername()[0]))

            def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]
                # The connection may let go of its socket when the answer is there.
                used = self.sock
                watch.add(used)
                with watch.within(used, seconds):
                    response = super().getresponse()
                response.watched = used  # type: ignore[attr-defined]
                return response

        # urllib3's connection by TLS is one of the plain ones, and of those of Python: so is this.
        class Secret(Plain, HTTPSConnection):
            pass

        class PlainPool(urllib3.HTTPConnectionPool):
            ConnectionCls = Plain

        class SecretPool(urllib3.HTTPSConnectionPool):
            ConnectionCls = Secret

        return {"http": PlainPool, "https": SecretPool}

    def _start(self) -> None:
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._watch_deadlines, name="watch", daemon=True)
                    self._thread.start()

    def _watch_deadlines(self) -> None:
        while not self._closed.wait(_LOOK):
            now = time.monotonic()
            for end, connection in list(self._armed.values()):
                if now > end:
                    _end(connection)


class _Framed(io.BufferedReader):
    """What comes on a connection; all that is read by lines is no content."""

    left = _FRAMING_LIMIT

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(size)
        self.left -= len(line)
        if self.left < 0:
            raise http.client.HTTPException("the answer is all framing, and no content")
        return line

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(size)
        self.left += len(found)
        return found

    def readinto(self, buffer: Any, /) -> int:
        count = super().readinto(buffer)
        self.left += count
        return count


class _BoundedResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *arguments: Any, **more: Any) -> None:
        super().__init__(sock, *arguments, **more)
        self.fp = _Framed(self.fp.detach())


def _end(connection: socket.socket) -> None:
    while not isinstance(connection, socket.socket):
        # TLS within TLS, as through a proxy by https: urllib3 wraps the socket once more.
        connection = connection.socket
    with contextlib.suppress(OSError):
        # Not the method of a TLS socket, which would pull its state from under the thread that reads.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)
