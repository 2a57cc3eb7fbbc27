"""Which store is found, and what is said of the others."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from ollama_ferry.errors import ModelNotFound, StoreNotFound
from ollama_ferry.jobs.select import select
from ollama_ferry.model.names import ModelName
from ollama_ferry.ollama.locate import Located, System, locate
from ollama_ferry.ollama.server import ServerAddress, ask_for_root
from support.stores import StoreBuilder


def system(tmp_path: Path, answer: str | None = None, **environ: str) -> System:
    return System(
        environ=environ,
        home=tmp_path / "home",
        platform="linux",
        ask=lambda address, models: answer,
        unit_folders=(tmp_path / "units",),
        service_home=tmp_path / "service",
    )


def store(path: Path, *names: str) -> Path:
    builder = StoreBuilder(path)
    (path / "manifests").mkdir(parents=True, exist_ok=True)
    for name in names:
        builder.model(name)
    return path


def test_order_of_the_places(tmp_path: Path) -> None:
    user = store(tmp_path / "home/.ollama/models")
    assert locate(system(tmp_path)).root == user
    service = store(tmp_path / "service/.ollama/models")
    found = locate(system(tmp_path))
    assert (found.root, found.others) == (service, (user,))
    unit = store(tmp_path / "data")
    (tmp_path / "units/ollama.service.d").mkdir(parents=True)
    (tmp_path / "units/ollama.service.d/override.conf").write_text(
        f'[Service]\nEnvironment="OLLAMA_HOST=0.0.0.0" "OLLAMA_MODELS={unit}"\n'
    )
    assert locate(system(tmp_path)).root == unit
    told = store(tmp_path / "told")
    assert locate(system(tmp_path, str(told))).root == told
    named = store(tmp_path / "named")
    assert locate(system(tmp_path, str(told), OLLAMA_MODELS=f' "{named}" ')).root == named
    given = store(tmp_path / "given")
    assert locate(system(tmp_path, str(told), OLLAMA_MODELS=str(named)), given).root == given


def test_servers_folder_counts_only_where_it_is_here(tmp_path: Path) -> None:
    user = store(tmp_path / "home/.ollama/models")
    assert locate(system(tmp_path, "/root/in/a/container/models")).root == user
    assert locate(system(tmp_path, "C:\\Users\\x\\.ollama\\models")).root == user


def test_no_store_lists_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFound) as caught:
        locate(system(tmp_path))
    assert str(tmp_path / "home/.ollama/models") in caught.value.hint
    assert str(tmp_path / "service/.ollama/models") in caught.value.hint


@pytest.mark.parametrize("part", ["manifests", "blobs", "parent"])
def test_folder_beside_the_store_is_corrected(tmp_path: Path, part: str) -> None:
    root = store(tmp_path / "x/models", "a")
    with pytest.raises(StoreNotFound) as caught:
        locate(system(tmp_path), root.parent if part == "parent" else root / part)
    assert caught.value.hint.endswith(f"--models {root}")


def test_model_in_the_store_that_was_not_chosen(tmp_path: Path) -> None:
    user = store(tmp_path / "home/.ollama/models", "mine:1")
    store(tmp_path / "service/.ollama/models", "theirs:1")
    located = locate(system(tmp_path))
    assert select(located, ["theirs:1"]) == [ModelName.parse("theirs:1")]
    with pytest.raises(ModelNotFound) as caught:
        select(located, ["mine:1"])
    assert f"--models {user}" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("", "http://127.0.0.1:11434"),
        ("example.com", "http://example.com:11434"),
        (":1234", "http://127.0.0.1:1234"),
        ("host:1234", "http://host:1234"),
        ("[::1]:1234", "http://[::1]:1234"),
        ("::1", "http://[::1]:11434"),
        ("[::1]", "http://[::1]:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("[::]:80", "http://[::1]:80"),
        ("http://host", "http://host:80"),
        ("https://host", "https://host:443"),
        ("https://host:8443/ollama/", "https://host:8443/ollama"),
        ("host:99999", "http://host:11434"),
        ("host:x", "http://host:11434"),
        (' "host:1" ', "http://host:1"),
        ("ollama.com", "https://ollama.com:443"),
    ],
)
def test_forms_of_the_servers_address(text: str, url: str) -> None:
    assert str(ServerAddress.parse(text)) == url


@pytest.fixture
def fake_server() -> Iterator[tuple[ServerAddress, dict[str, str]]]:
    """A server that gives each model the modelfile of a table."""
    modelfiles: dict[str, str] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.reply(200, {"models": [{"name": name} for name in modelfiles]})

        def do_POST(self) -> None:
            model = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["model"]
            self.reply(200 if model in modelfiles else 404, {"modelfile": modelfiles.get(model)})

        def reply(self, status: int, body: object) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield ServerAddress("http", "127.0.0.1", server.server_port), modelfiles
    server.shutdown()
    thread.join()
    server.server_close()


def test_root_is_read_from_any_models_from_line(fake_server: tuple[ServerAddress, dict[str, str]]) -> None:
    address, modelfiles = fake_server
    assert ask_for_root(address, ["x"]) is None
    modelfiles["mlx"] = "# FROM mlx\nFROM \nTEMPLATE x"
    assert ask_for_root(address, ["mlx"]) is None
    modelfiles["gguf"] = f"# FROM /not/this\nFROM /data/my models/blobs/sha256-{'a' * 64}\nFROM /y/blobs/sha256-z\n"
    assert ask_for_root(address, ["mlx"]) == "/data/my models"
    assert ask_for_root(address, ["gguf"]) == "/data/my models"


def test_no_server_is_no_answer() -> None:
    assert ask_for_root(ServerAddress("http", "127.0.0.1", 9), ["x"]) is None


def test_located_names_the_reason(tmp_path: Path) -> None:
    root = store(tmp_path / "s")
    assert locate(system(tmp_path), root) == Located(root, "--models names it")
    assert os.environ.get("OLLAMA_MODELS") is None
