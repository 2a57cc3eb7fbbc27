"""Connections that are slow, many or cut, and files that change under them."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import ollama_ferry
from ollama_ferry.engine.ports import Readable
from ollama_ferry.model.manifests import Descriptor
from ollama_ferry.places.store.store import Store
from ollama_ferry.serving.connection_slots import Limits
from ollama_ferry.serving.server import Served
from support import needs
from support.served import get, raw, read_all
from support.served_here import BIG, PATH, WEIGHTS, blob_of, error_code, served, until_logged
from support.stores import StoreBuilder


def test_connection_is_kept_and_pipelining_answered_in_order(filled: StoreBuilder) -> None:
    blob = blob_of(filled, "tiny:4m", "template")
    one = b"GET %s/blobs/%s HTTP/1.1\r\nHost: localhost\r\n%s\r\n"
    with served(filled) as (server, _):
        path = (PATH.encode(), str(blob.digest).encode())
        answer = raw(
            server.port,
            one % (*path, b"Range: bytes=0-1\r\n") + one % (*path, b"") + one % (*path, b"Connection: close\r\n"),
        )
        bodies = re.findall(rb"\r\n\r\n(.*?)(?:HTTP/1.1|$)", answer, re.DOTALL)
        assert bodies == [b"{{", b"{{ .Prompt }}", b"{{ .Prompt }}"]


def test_slow_and_silent_clients_are_let_go(source: StoreBuilder) -> None:
    source.model("tiny:4m", [("model", bytes(40_000_000))])
    blob = blob_of(source, "tiny:4m")
    limits = Limits(idle=0.2, head=0.3, stall=0.2)
    with served(source, "tiny:4m", limits=limits) as (server, log):
        started = time.monotonic()
        with socket.create_connection(("127.0.0.1", server.port), timeout=120) as silent:
            assert silent.recv(10) == b""
        # A head that dribbles is given up as a whole, however regularly its bytes come.
        with socket.create_connection(("127.0.0.1", server.port), timeout=120) as slow:
            slow.setblocking(False)
            answer = b""
            while not answer and time.monotonic() - started < 100:
                with contextlib.suppress(OSError):
                    slow.send(b"G")
                time.sleep(0.02)
                with contextlib.suppress(BlockingIOError):
                    answer = slow.recv(1000)
            assert answer.startswith(b"HTTP/1.1 408 ")
        with socket.create_connection(("127.0.0.1", server.port), timeout=120) as stalled:
            stalled.sendall(
                b"GET %s/blobs/%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % (PATH.encode(), str(blob.digest).encode())
            )
            last = until_logged(log, 2)
            assert (last.trouble, last.sent < blob.size) == ("the client took nothing for too long", True)
            assert len(read_all(stalled)) < blob.size
        assert time.monotonic() - started < 28


@needs.shutting_wakes
def test_idle_connections_make_room_for_others(filled: StoreBuilder) -> None:
    with served(filled, limits=Limits(connections=3)) as (server, _), contextlib.ExitStack() as stack:
        idle = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(8)]
        for _ in range(3):
            assert get(server.port, "/v2/")[0] == 200
        idle[0].settimeout(120)
        assert idle[0].recv(10) == b""


def test_busy_connections_are_not_pushed_out(source: StoreBuilder) -> None:
    source.model("tiny:4m", [("model", bytes(40_000_000))])
    path = f"{PATH}/blobs/{blob_of(source, 'tiny:4m').digest}"
    with (
        served(source, "tiny:4m", limits=Limits(connections=2)) as (server, _),
        socket.create_connection(("127.0.0.1", server.port), timeout=120) as busy,
    ):
        busy.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        assert busy.recv(1)
        for _ in range(4):
            assert get(server.port, "/v2/")[0] == 200
        assert len(read_all(busy)) > 40_000_000


def test_many_clients_at_once_get_the_right_bytes(filled: StoreBuilder, tmp_path: Path) -> None:
    archive = tmp_path / "models.tar.gz"
    ollama_ferry.export("tiny:4m", archive, store=filled.root)
    path = f"{PATH}/blobs/{blob_of(filled, 'tiny:4m').digest}"
    with ollama_ferry.serve(archive=archive, listen="127.0.0.1:0") as server, ThreadPoolExecutor(24) as pool:

        def ask(number: int) -> bool:
            offset = number * 77_777 % BIG
            end = min(BIG, offset + 900_000)
            return get(server.port, path, Range=f"bytes={offset}-{end - 1}")[2] == WEIGHTS[offset:end]

        assert all(pool.map(ask, range(96)))


class Faulty(Store):
    """A store one of whose blobs fails in the middle."""

    def __init__(self, root: Path, fault: Exception | None) -> None:
        super().__init__(root)
        self._fault = fault

    @contextlib.contextmanager
    def open(self, blob: Descriptor, offset: int = 0) -> Iterator[Readable]:  # type: ignore[override]
        parts = iter([b"x" * 100_000])
        fault = self._fault

        class Data:
            def read(self, size: int, /) -> bytes:
                chunk = next(parts, b"")
                if not chunk and fault:
                    raise fault
                return chunk

        yield Data()


@pytest.mark.parametrize(
    "fault", [None, OSError(5, "Input/output error"), ollama_ferry.FerryError("its frame 7 is damaged")]
)
def test_blob_that_fails_in_the_middle_is_cut_and_never_padded(filled: StoreBuilder, fault: Exception | None) -> None:
    blob = blob_of(filled, "tiny:4m")
    with served(filled, source=Faulty(filled.root, fault)) as (server, log):
        with pytest.raises(http.client.IncompleteRead) as cut:
            get(server.port, f"{PATH}/blobs/{blob.digest}")
        assert cut.value.partial == b"x" * 100_000
        told = until_logged(log)
        assert told.sent == 100_000 and told.trouble.startswith("cut: ")
        assert (str(fault) if fault else "ends at byte 100000") in told.trouble


def test_file_that_shrinks_while_it_is_sent_is_cut(source: StoreBuilder) -> None:
    source.model("tiny:4m", [("model", bytes(40_000_000))])
    blob = blob_of(source, "tiny:4m")
    with served(source, "tiny:4m") as (server, log):
        with socket.create_connection(("127.0.0.1", server.port), timeout=120) as client:
            client.sendall(f"GET {PATH}/blobs/{blob.digest} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert client.recv(1)
            os.truncate(source.blob_path(blob.digest), 20_000_000)
            assert len(read_all(client)) < 21_000_000
        assert until_logged(log).trouble.startswith("cut: it ends at byte 20000000")
        # Now that this shows before a byte is sent, it is an error.
        status, _, body = get(server.port, f"{PATH}/blobs/{blob.digest}")
        assert (status, error_code(body)) == (500, "BLOB_INVALID")
        source.blob_path(blob.digest).unlink()
        assert get(server.port, f"{PATH}/blobs/{blob.digest}", "HEAD")[0] == 404


@pytest.mark.parametrize("how", ["replaced", "written to"])
@needs.open_files_go
def test_archive_that_another_has_taken_the_place_of_is_not_served(
    filled: StoreBuilder, tmp_path: Path, how: str
) -> None:
    archive, other = tmp_path / "x.tar", tmp_path / "other"
    ollama_ferry.export("tiny:4m", archive, store=filled.root)
    blob = blob_of(filled, "tiny:4m")
    with ollama_ferry.serve(archive=archive, listen="127.0.0.1:0") as server:
        assert get(server.port, f"{PATH}/blobs/{blob.digest}")[2] == WEIGHTS
        content = b"secret" * (archive.stat().st_size // 6)
        if how == "replaced":
            other.write_bytes(content)
            os.replace(other, archive)
        else:
            archive.write_bytes(content)
        status, _, body = get(server.port, f"{PATH}/blobs/{blob.digest}")
    assert status == 500 and b"secret" not in body


def test_damage_in_an_archive_cuts_the_answer(filled: StoreBuilder, tmp_path: Path) -> None:
    archive = tmp_path / "models.tar.gz"
    ollama_ferry.export("tiny:4m", archive, store=filled.root)
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 1
    archive.write_bytes(data)
    blob = blob_of(filled, "tiny:4m")
    log: list[Served] = []
    with ollama_ferry.serve(archive=archive, listen="127.0.0.1:0", log=log.append) as server:
        with pytest.raises(http.client.IncompleteRead):
            get(server.port, f"{PATH}/blobs/{blob.digest}")
        assert "is damaged" in until_logged(log).trouble


@needs.not_windows("list of descriptors")
def test_server_that_is_closed_leaves_no_thread_and_no_descriptor(filled: StoreBuilder) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    threads, before = threading.active_count(), descriptors()
    for _ in range(3):
        with served(filled) as (server, _), socket.create_connection(("127.0.0.1", server.port)) as idle:
            assert get(server.port, "/v2/")[0] == 200
            assert idle
    assert (threading.active_count(), descriptors()) == (threads, before)


@needs.not_windows("limit of descriptors")
def test_server_survives_a_want_of_descriptors(filled: StoreBuilder) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with served(filled) as (server, _), contextlib.ExitStack() as stack:
        highest = max(map(int, os.listdir("/proc/self/fd")))
        clients = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(10)]
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 12, hard))
            stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
            clients[0].sendall(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            clients[0].settimeout(120)
            read_all(clients[0])
        finally:
            stack.close()
        assert get(server.port, "/v2/")[0] == 200
