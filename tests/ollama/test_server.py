"""What a running server is asked, and what of its answer counts."""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

import ollama_ferry
from ollama_ferry.engine.events import Event, Noted
from ollama_ferry.ollama.listeners import listeners
from ollama_ferry.ollama.server import ServerAddress, ServerAnswer, ask_server
from support import needs
from support.command_line import ferry
from support.http_double import DoubleServer
from support.stores import StoreBuilder

DATA = f"FROM /data/my models/blobs/sha256-{'a' * 64}\n"


class FakeServer:
    """A server with models, each of which has a modelfile, or hangs where it has none.

    Attributes:
        modelfiles: what ``/api/show`` tells of each model.
        fields: more of what ``/api/tags`` tells of each.
        asked: the names that it was asked for.
    """

    def __init__(self) -> None:
        self.modelfiles: dict[str, str | None] = {}
        self.fields: dict[str, dict[str, Any]] = {}
        self.asked: list[str] = []
        self.ended = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                entries = [{"name": name, **outer.fields.get(name, {})} for name in outer.modelfiles]
                self.reply(200, {"models": entries})

            def do_POST(self) -> None:
                model = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["model"]
                outer.asked.append(model)
                modelfile = outer.modelfiles.get(model, "")
                if modelfile is None:
                    outer.ended.wait()
                self.reply(200 if model in outer.modelfiles else 404, {"modelfile": modelfile})

            def reply(self, status: int, body: object) -> None:
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.http = DoubleServer(("127.0.0.1", 0), Handler)
        self.address = ServerAddress("http", "127.0.0.1", self.http.server_port)
        self.thread = threading.Thread(target=self.http.serve_forever)
        self.thread.start()

    def close(self) -> None:
        self.ended.set()
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer()
    yield fake
    fake.close()


def test_folder_is_read_from_any_models_from_line(server: FakeServer) -> None:
    assert ask_server(server.address).folder is None
    server.modelfiles["mlx"] = "# FROM mlx\nFROM \nTEMPLATE x"
    answer = ask_server(server.address)
    assert (answer.answered, answer.local, answer.folder) == (True, True, None)
    server.modelfiles["gguf"] = f"# FROM /not/this\n{DATA}FROM /y/blobs/sha256-z\n"
    assert ask_server(server.address).folder == "/data/my models"


def test_no_server_is_no_answer() -> None:
    address = ServerAddress("http", "127.0.0.1", 9)
    assert ask_server(address) == ServerAnswer(address)


def test_cloud_models_are_not_asked_for(server: FakeServer) -> None:
    server.modelfiles |= {"big:cloud": DATA, "big:120b-cloud": DATA, "remote": DATA, "local": DATA}
    server.fields["remote"] = {"remote_host": "https://ollama.com"}
    assert ask_server(server.address).folder == "/data/my models"
    assert server.asked == ["local"]


def test_files_are_asked_for_before_tensors(server: FakeServer) -> None:
    server.modelfiles |= {f"mlx:{number}": "FROM \n" for number in range(20)} | {"gguf": DATA}
    server.fields["gguf"] = {"details": {"format": "gguf"}}
    assert ask_server(server.address).folder == "/data/my models"
    assert server.asked == ["gguf"]


def test_one_slow_answer_does_not_decide(server: FakeServer) -> None:
    server.modelfiles |= {"slow": None, "good": DATA}
    assert ask_server(server.address, timeout=2).folder == "/data/my models"
    assert server.asked == ["slow", "good"]


def test_answer_that_never_ends_is_given_up() -> None:
    # Byte by byte: no single call of the socket's waits long.
    with socket.create_server(("127.0.0.1", 0)) as listening:
        ended = threading.Event()

        def dribble() -> None:
            connection, _ = listening.accept()
            connection.close()
            connection, _ = listening.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                try:
                    while not ended.wait(0.01):
                        connection.sendall(b" ")
                except OSError:
                    pass

        thread = threading.Thread(target=dribble)
        thread.start()
        try:
            port = listening.getsockname()[1]
            assert ask_server(ServerAddress("http", "127.0.0.1", port), timeout=0.3).folder is None
        finally:
            ended.set()
            thread.join()


linux_only = pytest.mark.skipif(needs.ON_WINDOWS or not Path("/proc/net/tcp").exists(), reason="needs Linux's tables")


@linux_only
def test_server_belongs_to_whoever_listens(server: FakeServer) -> None:
    assert ask_server(server.address).owners == frozenset({os.geteuid()})


@linux_only
@needs.root("needs root, to become another user")
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_another_users_socket_is_known_as_such(family: socket.AddressFamily) -> None:
    os.seteuid(65534)
    try:
        # The kernel notes who makes a socket.
        listening = socket.socket(family, socket.SOCK_STREAM)
    finally:
        os.seteuid(0)
    with listening:
        listening.bind(("", 0))
        listening.listen()
        found = listeners("127.0.0.1", listening.getsockname()[1])
    assert found is not None and {uid for uid, _ in found} == {65534}


def test_tables_that_are_not_there_tell_nothing(tmp_path: Path) -> None:
    assert listeners("127.0.0.1", 11434, tmp_path) is None


def test_tables_are_read_as_the_kernel_writes_them(tmp_path: Path) -> None:
    head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    rest = "00000000:00000000 00:00000000 00000000  {uid}        0 {inode} 1 0000000000000000 100 0 0 10 0\n"
    listen, established = "00000000:0000 0A", "0100007F:9999 01"
    order = socket.ntohl(0x7F000001)
    (tmp_path / "tcp").write_text(
        head
        + f"   0: {order:08X}:2CAA {listen} " + rest.format(uid=1000, inode=11)
        + f"   1: {order:08X}:2CAB {listen} " + rest.format(uid=1001, inode=12)
        + f"   2: {socket.ntohl(0x0A000001):08X}:2CAA {listen} " + rest.format(uid=1002, inode=13)
        + f"   3: {order:08X}:2CAA {established} " + rest.format(uid=1003, inode=14)
    )  # fmt: skip
    (tmp_path / "tcp6").write_text(
        head + f"   0: {'0' * 32}:2CAA {'0' * 32}:0000 0A " + rest.format(uid=1004, inode=15)
    )
    assert listeners("127.0.0.1", 0x2CAA, tmp_path) == frozenset({(1000, 11), (1004, 15)})
    assert listeners("::ffff:127.0.0.1", 0x2CAA, tmp_path) == frozenset({(1000, 11), (1004, 15)})
    assert listeners("::1", 0x2CAA, tmp_path) == frozenset({(1004, 15)})


@linux_only
@needs.root("only root is told")
def test_root_hears_of_the_choice_from_the_python_interface(
    server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole way: a real socket, whose owner is looked up, and the events of a job."""
    told = StoreBuilder(tmp_path / "told")
    told.model("a")
    other = StoreBuilder(tmp_path / "home/.ollama/models")
    other.model("b")
    server.modelfiles["a"] = f"FROM {told.root}/blobs/sha256-{'a' * 64}\n"
    monkeypatch.setenv("OLLAMA_HOST", str(server.address))
    events: list[Event] = []
    ollama_ferry.verify("a", observer=events.append)
    (note,) = [event.text for event in events if isinstance(event, Noted)]
    assert str(told.root) in note and str(other.root) in note
    done = ferry("list")
    assert "a:latest" in done.stdout and str(other.root) in done.stderr


@linux_only
@needs.root("needs root, to become another user")
def test_strangers_socket_chooses_nothing_for_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = StoreBuilder(tmp_path / "planted")
    planted.model("bait")
    own = StoreBuilder(tmp_path / "home/.ollama/models")
    own.model("own")
    os.seteuid(65534)
    try:
        server = FakeServer()
    finally:
        os.seteuid(0)
    try:
        server.modelfiles["bait"] = f"FROM {planted.root}/blobs/sha256-{'a' * 64}\n"
        monkeypatch.setenv("OLLAMA_HOST", str(server.address))
        done = ferry("list")
        assert "own:latest" in done.stdout and "bait" not in done.stdout
        assert str(planted.root) in done.stderr
        assert f"names {planted.root}, and is not believed" in ferry("doctor").stdout
        shutil.rmtree(own.root)
        done = ferry("list")
        assert done.returncode == 3 and f"--models {planted.root}" in done.stderr
    finally:
        server.close()
