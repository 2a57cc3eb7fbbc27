"""Which store is found, and what is said of the others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ollama_ferry.cli.remedies import hint_of
from ollama_ferry.errors import ModelNotFound, Remedy, StoreNotFound
from ollama_ferry.jobs.select import Wanted, select
from ollama_ferry.model.names import ModelName
from ollama_ferry.ollama.locate import Located, locate
from ollama_ferry.ollama.server import ServerAddress
from support import needs
from support.checking import system
from support.stores import StoreBuilder


def store(path: Path, *names: str) -> Path:
    builder = StoreBuilder(path)
    (path / "manifests").mkdir(parents=True, exist_ok=True)
    for name in names:
        builder.model(name)
    return path


@needs.systemd
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
    assert caught.value.remedies == (Remedy("store", str(root)),)


def test_model_in_the_store_that_was_not_chosen(tmp_path: Path) -> None:
    user = store(tmp_path / "home/.ollama/models", "mine:1")
    store(tmp_path / "service/.ollama/models", "theirs:1")
    located = locate(system(tmp_path))
    assert select(located, Wanted(("theirs:1",))).names == (ModelName.parse("theirs:1"),)
    with pytest.raises(ModelNotFound) as caught:
        select(located, Wanted(("mine:1",)))
    assert str(user) in caught.value.hint
    assert f"--models {user}" in hint_of(caught.value)


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


def test_located_names_the_reason(tmp_path: Path) -> None:
    root = store(tmp_path / "s")
    assert locate(system(tmp_path), root) == Located(root, "it was named")
    assert os.environ.get("OLLAMA_MODELS") is None
