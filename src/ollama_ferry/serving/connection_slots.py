"""Who may be connected: a bound on all, one on each address, and who makes room for those who wait."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

# How long a connection may be without a request before it has to make room for another, in seconds; and how often that
# is looked at while there is no room.
_GRACE = 0.25
_LOOK_AGAIN = 0.05
# How long the place of one that was told to leave is waited for, before another one is told.
_LEAVING = 1.0
# Where Linux says how many bytes the other side has confirmed (`tcpi_bytes_acked` of `struct tcp_info`, linux/tcp.h).
_TCP_INFO: int | None = getattr(socket, "TCP_INFO", None) if sys.platform == "linux" else None
_CONFIRMED = struct.Struct("@120xQ")


@dataclass(frozen=True)
class Limits:
    """How much the server bears, and how long it waits, in seconds.

    Attributes:
        connections: at once; where there are so many, the one that is idle for longest makes room, then one that takes
            its answer too slowly, and while there is neither the next one waits. One client of Ollama takes up to 16
            for a large blob.
        per_address: at once from one address (of IPv6, one network of 64 bits); more are told to come back later.
        idle: between two requests.
        head: for a request's head, from its first byte on.
        stall: for a client that takes nothing of an answer.
        pace: the bytes a second that a client must take to keep its place while others wait.
        slow_after: how long it is watched before that counts.
    """

    connections: int = 512
    per_address: int = 384
    idle: float = 60.0
    head: float = 10.0
    stall: float = 60.0
    pace: float = 1000.0
    slow_after: float = 10.0


@dataclass
class _Slot:
    """A connection that has a place.

    Attributes:
        thread: who answers on it.
        address: whose it is, as addresses are counted.
        sent: the bytes that were sent on it so far, as far as its thread has told.
        idle_since: since when it waits for a request; None while it answers one.
        watched: when it was last looked at for its pace, and how many bytes it had taken then.
        ended: when it was told to make room; its thread needs a moment for that.
    """

    thread: threading.Thread
    address: str
    sent: int = 0
    idle_since: float | None = None
    watched: tuple[float, int] | None = None
    ended: float | None = None


class ConnectionSlots:
    """The places of a server.

    Args:
        limits: how many there are, and who has to leave.
        clock: seconds that never go back.

    Attributes:
        closing: no more are let in.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        self._changed = threading.Condition()
        self._places: dict[socket.socket, _Slot] = {}
        self._addresses: Counter[str] = Counter()
        self.closing = False

    def enter(self, connection: socket.socket, client: str, thread: threading.Thread) -> bool:
        """Give a connection a place and start its thread; False where its address has too many, or that can't be."""
        address = _network(client)
        with self._changed:
            if self.closing or self._addresses[address] >= self._limits.per_address:
                return False
            try:
                thread.start()
            except RuntimeError:
                # The system gives no more threads.
                return False
            self._places[connection] = _Slot(thread, address)
            self._addresses[address] += 1
            return True

    def leave(self, connection: socket.socket) -> None:
        """Let others have a connection's place."""
        with self._changed:
            place = self._places.pop(connection, None)
            if place is not None:
                self._addresses[place.address] -= 1
                if not self._addresses[place.address]:
                    del self._addresses[place.address]
            self._changed.notify_all()

    @contextmanager
    def idle(self, connection: socket.socket) -> Iterator[None]:
        """Count a connection as idle within the block."""
        with self._changed:
            place = self._places.get(connection)
            if place is not None:
                place.idle_since = self._clock()
        try:
            yield
        finally:
            with self._changed:
                if place is not None:
                    place.idle_since = place.watched = None

    def sent(self, connection: socket.socket, count: int) -> None:
        """Note that so many more bytes were sent."""
        place = self._places.get(connection)
        if place is not None:
            place.sent += count

    def wait_for_a_slot(self) -> bool:
        """Wait until one more connection may come; False where the server ends."""
        with self._changed:
            while not self.closing and len(self._places) >= self._limits.connections:
                self._end_one()
                self._changed.wait(_LOOK_AGAIN)
            return not self.closing

    def free_a_slot(self) -> None:
        """Let a connection end that others need more, and wait a moment for that."""
        with self._changed:
            self._end_one()
            self._changed.wait(_LOOK_AGAIN)

    def close(self) -> list[threading.Thread]:
        """End all connections at once; return their threads."""
        with self._changed:
            self.closing = True
            for connection in self._places:
                shut(connection)
            self._changed.notify_all()
            return [place.thread for place in self._places.values()]

    def _end_one(self) -> None:
        now = self._clock()
        if any(place.ended is not None and now - place.ended < _LEAVING for place in self._places.values()):
            return
        idle = {one: place.idle_since for one, place in self._places.items() if place.idle_since is not None}
        longest = min(idle, key=lambda one: idle[one], default=None)
        if longest is not None and now - idle[longest] > _GRACE:
            self._end(longest, now)
            return
        for connection, place in self._places.items():
            if place.idle_since is None and place.ended is None and self._is_slow(connection, place, now):
                self._end(connection, now)
                return

    def _end(self, connection: socket.socket, now: float) -> None:
        place = self._places[connection]
        place.ended, place.idle_since, place.watched = now, None, None
        shut(connection)

    def _is_slow(self, connection: socket.socket, place: _Slot, now: float) -> bool:
        taken = _taken(connection, place.sent)
        if place.watched is None:
            place.watched = (now, taken)
        since, before = place.watched
        if now - since < self._limits.slow_after:
            return False
        if taken - before < self._limits.pace * (now - since):
            return True
        place.watched = (now, taken)
        return False


def shut(connection: socket.socket) -> None:
    """End a connection, in whatever thread it is used."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _taken(connection: socket.socket, sent: int) -> int:
    """Return how many bytes a client has taken: the kernel knows, who alone is at work in a long sendfile."""
    if _TCP_INFO is not None:
        with contextlib.suppress(OSError, struct.error):
            found: int = _CONFIRMED.unpack(connection.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _CONFIRMED.size))[0]
            return found
    return sent


def _network(client: str) -> str:
    """Return what counts as one address: of IPv6 the 64 bits that one line has for itself."""
    try:
        address = ipaddress.IPv6Address(client.partition("%")[0])
    except ValueError:
        return client
    return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))
