"""The server: a thread for each connection, a bound on these, and an end that waits for nobody."""

from __future__ import annotations

import contextlib
import errno
import http
import selectors
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any

from ollama_ferry.errors import FerryError
from ollama_ferry.serving.addresses import Address, bind, is_loopback, shown_peer
from ollama_ferry.serving.answers import Registry, ServedAnswer, failure
from ollama_ferry.serving.connection_slots import ConnectionSlots, Limits
from ollama_ferry.serving.request_heads import HeadReader
from ollama_ferry.serving.requests import BadRequest, Request, parse_head
from ollama_ferry.serving.sending import ClientGone, send_answer, send_part
from ollama_ferry.serving.served_models import ServedModels

# How long a client may go on sending after its last answer, before it is cut off: a connection that is closed with
# bytes unread takes the answer with it.
_LINGER = 1.0
_LINGER_BYTES = 256 * 1024
# How long close() waits for threads, together.
_CLOSING = 5.0
_LATER = ("Retry-After", "5")


@dataclass(frozen=True)
class Served:
    """One request that was answered, for a log.

    Attributes:
        client: its address.
        status: of the answer.
        what: what was asked for.
        sent: how many bytes of body were sent.
        seconds: how long it took.
        trouble: why less was sent than was asked for; empty where all was.
    """

    client: str
    status: int
    what: str
    sent: int
    seconds: float
    trouble: str = ""


Log = Callable[[Served], None]
"""Called from the servers' threads, never from two at once."""


def log_nothing(served: Served) -> None:
    """Log nothing."""


class Server:
    """Serves models from the moment it is made until :meth:`close`; a context manager.

    Args:
        served_models: what is served; what it reads from must stay open for as long.
        listen: where to listen; port 0 takes a free one.
        token: what requests must carry; empty where everybody may read.
        log: notified of every answer.
        limits: what it bears.
        clock: seconds that never go back, by which is told who is idle and who is slow.

    Attributes:
        host: the address that it is bound to.
        port: the port.

    Raises:
        UsageError, NotPermitted, FerryError: it can't listen there.
    """

    def __init__(
        self,
        served_models: ServedModels,
        listen: Address | None = None,
        *,
        token: str = "",
        log: Log = log_nothing,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.served_models = served_models
        self._limits = limits or Limits()
        self._log = log
        self._log_lock = threading.Lock()
        self._listener = bind(listen or Address("127.0.0.1", 0))
        self.host, self.port = self._listener.getsockname()[:2]
        self._registry = Registry(served_models, token=token, only_loopback=is_loopback(self.host))
        self._room = ConnectionSlots(self._limits, clock)
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._accept, name="serve", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """Where it is bound, as ``host:port``; an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def wait(self) -> None:
        """Wait until another thread closes it."""
        self._thread.join()

    def close(self) -> None:
        """Stop listening and end all connections at once, also in the middle of an answer."""
        threads = [self._thread, *self._room.close()]
        with contextlib.suppress(OSError):
            self._wake.send(b"x")
        deadline = time.monotonic() + _CLOSING
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        for one in (self._listener, self._wake, self._woken):
            one.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listener, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while True:
                selector.select()
                # Only now, when somebody waits, has anybody to make room.
                if not self._room.wait_for_a_slot():
                    return
                try:
                    connection, peer = self._listener.accept()
                except OSError as error:
                    # Whoever knocked has gone again; or there are no descriptors left, until a connection ends.
                    if error.errno in (errno.EMFILE, errno.ENFILE):
                        self._room.free_a_slot()
                    continue
                self._begin(connection, peer)

    def _begin(self, connection: socket.socket, peer: Any) -> None:
        client = shown_peer(peer)
        thread = threading.Thread(target=self._converse, args=(connection, client), name=f"serve {client}", daemon=True)
        if not self._room.enter(connection, client, thread):
            # Said without waiting: what a connection sends first always fits.
            busy = failure(503, "a place", "TOOMANYREQUESTS", "too many connections from this address", _LATER)
            with contextlib.suppress(OSError):
                connection.setblocking(False)
                connection.send(_head_of(busy, keep=False) + busy.body)
            connection.close()

    def _converse(self, connection: socket.socket, client: str) -> None:
        try:
            with contextlib.suppress(OSError):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            heads = HeadReader(connection, idle=self._limits.idle, whole=self._limits.head)
            while self._answer_next(connection, client, heads):
                pass
        finally:
            self._room.leave(connection)
            connection.close()

    def _answer_next(self, connection: socket.socket, client: str, heads: HeadReader) -> bool:
        """Answer one request; tell whether another one may follow."""
        request: Request | None = None
        try:
            with self._room.idle(connection):
                head = heads.read()
        except BadRequest as error:
            head = b""
            answer = failure(error.status, f"no request: {error.why}", "UNSUPPORTED", error.why)
        if head is None or self._room.closing:
            return False
        started = time.monotonic()
        if head:
            try:
                request = parse_head(head)
                answer = self._registry.answer(request, _reached_at(connection))
            except BadRequest as error:
                answer = failure(error.status, f"no request: {error.why}", "UNSUPPORTED", error.why)
            except Exception as error:  # noqa: BLE001 -- one request must not end in a traceback, nor end the others
                answer = failure(500, f"internal error: {error!r}"[:500], "UNKNOWN", "internal error")
        keep = request is not None and request.keep_alive and not request.has_body
        bare = request is not None and request.method == "HEAD"
        sent, trouble = self._send(connection, answer, keep=keep, bare=bare)
        what = f"HEAD {answer.what}" if bare and answer.status < 400 else answer.what
        self._log_answer(Served(client, answer.status, what, sent, time.monotonic() - started, trouble))
        if trouble:
            return False
        if not keep:
            _linger(connection)
        return keep

    def _send(self, connection: socket.socket, answer: ServedAnswer, *, keep: bool, bare: bool) -> tuple[int, str]:
        """Send an answer; return how many bytes of body went, and what was in the way of the others."""
        connection.settimeout(self._limits.stall)
        sent, begun = 0, False
        try:
            if answer.blob is None or bare:
                body = b"" if bare else answer.body
                send_answer(connection, _head_of(answer, keep=keep) + body)
                return len(body), ""
            with self.served_models.open(answer.blob, answer.offset) as data:
                send_answer(connection, _head_of(answer, keep=keep))
                begun = True
                # More than was promised is never sent, and less ends the connection: the client must see it.
                for now_sent in send_part(connection, data, answer.offset, answer.length):
                    self._room.sent(connection, now_sent - sent)
                    sent = now_sent
        except ClientGone as error:
            return sent, "the server ends" if self._room.closing else str(error)
        except (FerryError, OSError) as error:
            if not begun:
                unread = failure(500, answer.what, "BLOB_INVALID", "the blob can't be read")
                with contextlib.suppress(ClientGone):
                    send_answer(connection, _head_of(unread, keep=False) + unread.body)
            return sent, f"cut: {error}"
        return sent, ""

    def _log_answer(self, served: Served) -> None:
        with self._log_lock:
            self._log(served)


def _head_of(answer: ServedAnswer, *, keep: bool) -> bytes:
    lines = [
        f"HTTP/1.1 {answer.status} {http.HTTPStatus(answer.status).phrase}",
        f"Date: {formatdate(usegmt=True)}",
        "Server: ollama-ferry",
        "X-Content-Type-Options: nosniff",
        "Docker-Distribution-Api-Version: registry/2.0",
        *(f"{name}: {value}" for name, value in answer.headers),
    ]
    if answer.status != 304:
        lines.append(f"Content-Length: {answer.length}")
    lines.append(f"Connection: {'keep-alive' if keep else 'close'}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _reached_at(connection: socket.socket) -> str:
    try:
        host, port = connection.getsockname()[:2]
    except OSError:
        return "localhost"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _linger(connection: socket.socket) -> None:
    """Say that no more comes, and take in what the client still sends, for a moment."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        deadline, left = time.monotonic() + _LINGER, _LINGER_BYTES
        while left > 0 and (seconds := deadline - time.monotonic()) > 0:
            connection.settimeout(seconds)
            more = connection.recv(65536)
            if not more:
                return
            left -= len(more)
