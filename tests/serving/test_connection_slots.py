"""Clients that hold many places, or hold theirs by reading next to nothing, while others wait."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator

import pytest

from ollama_ferry.model.names import ModelName
from ollama_ferry.places.store.store import Store
from ollama_ferry.serving.connection_slots import Limits
from ollama_ferry.serving.served_models import ServedModel, ServedModels
from ollama_ferry.serving.server import Server, log_nothing
from support.served import get, read_all
from support.stores import StoreBuilder

# More than both ends of a connection keep for each other, so that one who does not read is seen.
SIZE = 150_000_000


class Clock:
    """Seconds that only a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def big(source: StoreBuilder) -> StoreBuilder:
    source.model("big:1", [("model", bytes(SIZE))])
    return source


@contextlib.contextmanager
def serving(builder: StoreBuilder, limits: Limits, clock: Callable[[], float] = time.monotonic) -> Iterator[Server]:
    store, name = Store(builder.root), ModelName.parse("big:1")
    served_models = ServedModels(store, [ServedModel.of(name, store.manifest(name))])
    with Server(served_models, log=log_nothing, limits=limits, clock=clock) as server:
        yield server


def reading(server: Server, builder: StoreBuilder) -> socket.socket:
    """Ask for the big blob, and read its first bytes."""
    blob = Store(builder.root).manifest(ModelName.parse("big:1")).layers[0]
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    path = f"/v2/library/big/blobs/{blob.digest}"
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert connection.recv(1000)
    return connection


def test_slow_readers_lose_their_place_to_those_who_wait(big: StoreBuilder) -> None:
    clock = Clock()
    limits = Limits(connections=4, stall=600, slow_after=10, pace=1000)
    with serving(big, limits, clock) as server, contextlib.ExitStack() as stack:
        steady = stack.enter_context(reading(server, big))
        slow = [stack.enter_context(reading(server, big)) for _ in range(3)]
        waiting = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=1))
        waiting.sendall(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        # Nobody goes before the grace has passed.
        with pytest.raises(TimeoutError):
            waiting.recv(1)
        taken, answer = 0, b""
        for _ in range(8):
            # More than is kept on the way, so that more has to be sent.
            aim = taken + 12_000_000
            while taken < aim:
                taken += len(steady.recv(1 << 20))
            clock.now += 11
            # What was on its way at the first look counts once.
            with contextlib.suppress(TimeoutError):
                answer = waiting.recv(100)
                break
        assert answer.startswith(b"HTTP/1.1 200")
        # Whoever reads keeps his place; one of the others has gone.
        taken += len(read_all(steady))
        assert taken + 1000 > SIZE
        ended = 0
        for connection in slow:
            with contextlib.suppress(OSError):
                ended += len(read_all(connection)) < SIZE - 1000
        assert ended == 1


def test_slow_readers_stay_while_nobody_waits(big: StoreBuilder) -> None:
    clock = Clock()
    with serving(big, Limits(connections=4, stall=600), clock) as server, reading(server, big) as slow:
        for _ in range(3):
            clock.now += 100
            assert get(server.port, "/v2/")[0] == 200
        assert len(read_all(slow)) > SIZE - 1000


def test_one_address_can_not_have_all_places(big: StoreBuilder) -> None:
    limits = Limits(connections=6, per_address=4)
    with serving(big, limits) as server, contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(reading(server, big))
        status, headers, body = get(server.port, "/v2/")
        assert (status, headers["Retry-After"]) == (503, "5") and b"TOOMANYREQUESTS" in body
        # Another address of the same machine gets in.
        other = stack.enter_context(
            socket.create_connection(("127.0.0.1", server.port), timeout=30, source_address=("127.0.0.2", 0))
        )
        other.sendall(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert other.recv(100).startswith(b"HTTP/1.1 200")


def test_nobody_makes_room_for_nobody(big: StoreBuilder) -> None:
    with (
        serving(big, Limits(connections=1)) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=1) as idle,
    ):
        # Long enough for several looks: all places are taken, and nobody waits.
        with pytest.raises(TimeoutError):
            idle.recv(1)
        idle.sendall(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        idle.settimeout(30)
        assert idle.recv(100).startswith(b"HTTP/1.1 200")
