"""Stores where distributions, containers and the desktop app keep them."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from ollama_ferry.cli.options import complete_stores
from ollama_ferry.doctor.machine import check_machine
from ollama_ferry.errors import StoreNotFound
from ollama_ferry.ollama.candidates import StoreOrigin, list_candidates
from ollama_ferry.ollama.desktop import desktop_database, desktop_models
from ollama_ferry.ollama.locate import locate, locate_target
from support.checking import system
from support.stores import StoreBuilder


def app_settings(path: Path, models: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(path) as made:
        made.execute("CREATE TABLE settings (id INTEGER PRIMARY KEY, models TEXT NOT NULL DEFAULT '')")
        made.execute("INSERT INTO settings VALUES (1, ?)", (models,))
    made.close()


@pytest.mark.parametrize("where", ["lib/ollama", "volumes/ollama/_data/models", "volumes/x/_data",
                                   "home/.local/share/containers/storage/volumes/o/_data/models"])  # fmt: skip
def test_store_is_found(tmp_path: Path, where: str) -> None:
    store = StoreBuilder(tmp_path / where)
    store.model("a")
    (tmp_path / "volumes/empty/_data").mkdir(parents=True)
    assert locate(system(tmp_path)).root == store.root
    # What is Ollama's own default goes first.
    own = StoreBuilder(tmp_path / "home/.ollama/models")
    own.model("b")
    found = locate(system(tmp_path))
    assert {found.root, *found.others} == {store.root, own.root}
    assert found.root == own.root


def test_a_folder_that_any_system_has_is_no_ollama(tmp_path: Path) -> None:
    """/var/lib is everywhere: an import without a name does not begin a store in it."""
    (tmp_path / "lib").mkdir()
    with pytest.raises(StoreNotFound):
        locate_target(system(tmp_path))
    (tmp_path / "lib/ollama").mkdir()
    assert locate_target(system(tmp_path)).root.is_relative_to(tmp_path / "lib/ollama")


def test_doctor_lists_them_with_their_sizes(tmp_path: Path) -> None:
    for where in ("lib/ollama", "volumes/ollama/_data/models"):
        StoreBuilder(tmp_path / where).model("a", [("model", b"12345678")])
    report = check_machine(system(tmp_path))
    assert len(report.stores) == 2 and all(store.held and store.held.size > 8 for store in report.stores)
    assert "several-stores" in [finding.code for finding in report.findings]


@pytest.mark.parametrize("platform", ["linux", "darwin", "win32"])
def test_desktop_app(tmp_path: Path, platform: str) -> None:
    store = StoreBuilder(tmp_path / "app models")
    store.model("a")
    machine = replace(system(tmp_path), platform=platform)
    database = desktop_database(platform, machine.home, machine.environ)
    with pytest.raises(StoreNotFound):
        locate(machine)
    app_settings(database, str(store.root))
    before = {path: path.read_bytes() for path in database.parent.iterdir()}
    found = list_candidates(machine).of(StoreOrigin.DESKTOP)
    assert found is not None and found.path == store.root and "desktop app" in found.why
    assert {path: path.read_bytes() for path in database.parent.iterdir()} == before


@pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\0" + bytes(100)])
def test_what_is_no_database_is_passed_over(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "db.sqlite"
    path.write_bytes(content)
    assert desktop_models(path) is None
    assert desktop_models(tmp_path / "none") is None
    path.unlink()
    app_settings(path, "not/whole")
    assert desktop_models(path) is None


def test_models_completes_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = StoreBuilder(tmp_path / "home/.ollama/models")
    store.model("a")
    monkeypatch.setattr("ollama_ferry.ollama.candidates.this_system", lambda: system(tmp_path))
    done = complete_stores(None, None, str(tmp_path)[:3])  # type: ignore[arg-type]
    assert [item.value for item in done] == [str(store.root)]
    assert complete_stores(None, None, "nowhere")[0].type == "dir"  # type: ignore[arg-type]
