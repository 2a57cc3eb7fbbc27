"""Pulls that nobody watches: a tag that moved, a registry that is down, a digest that was expected."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ollama_ferry.engine.events import Noted
from ollama_ferry.engine.run import Run
from ollama_ferry.jobs.import_choices import ImportOptions
from ollama_ferry.jobs.pull import pull_into_store, references_of, wait_at_random
from ollama_ferry.model.manifests import Digest
from ollama_ferry.model.names import ModelName
from ollama_ferry.places.store.pulled import PULLED, pulls_into
from ollama_ferry.places.store.store import Store
from support.command_line import assert_one_clear_error, ferry
from support.faulty_disk import WatchedDisk
from support.oci_registries import FaultyRegistry, faulty_registry, quick_access
from support.registry_faults import cut_at_once, status
from support.stores import StoreBuilder, faults_of, weights

OLD, NEW = weights(30_000, 1), weights(30_000, 2)


@pytest.fixture
def registry() -> Iterator[FaultyRegistry]:
    with faulty_registry() as server:
        server.add_model("models/m", "1", OLD)
        yield server


@pytest.fixture
def store(tmp_path: Path) -> StoreBuilder:
    return StoreBuilder(tmp_path / "models")


def pull(registry: FaultyRegistry, store: StoreBuilder, *more: str, tag: str = "1") -> subprocess.CompletedProcess[str]:
    words = [f"{registry.address}/models/m:{tag}", "--as", "m:1", "--models", str(store.root), "--insecure", *more]
    return ferry("pull", *words)


def here(store: StoreBuilder) -> bytes:
    assert not faults_of(store.root)
    return store.manifest_path("m:1").read_bytes()


def digest_of(raw: bytes) -> str:
    return str(Digest.of(raw))


# -- a tag that moved


@pytest.mark.parametrize("tag", ["1", "2"])
def test_what_a_pull_put_there_a_later_one_replaces(registry: FaultyRegistry, store: StoreBuilder, tag: str) -> None:
    old = registry.manifests["models/m:1"]
    assert pull(registry, store).returncode == 0
    new = registry.add_model("models/m", tag, NEW)
    done = pull(registry, store, tag=tag)
    assert done.returncode == 0, done.stderr
    assert here(store) == new
    assert f"in place of {Digest.of(old).short}" in done.stdout
    # And back again.
    registry.manifests["models/m:3"] = old
    assert pull(registry, store, tag="3").returncode == 0 and here(store) == old


def test_what_nobody_pulled_stays(registry: FaultyRegistry, store: StoreBuilder) -> None:
    """Made here, imported, or put in place of what was pulled: all the same."""
    assert pull(registry, store).returncode == 0
    mine = store.model("m:1", [("model", b"made here")])
    registry.add_model("models/m", "1", NEW)
    assert_one_clear_error(pull(registry, store), 7)
    assert here(store) == store.manifest_path("m:1").read_bytes() and mine
    # Nor does a pull of another name help.
    assert (
        ferry("pull", f"{registry.address}/models/m:1", "--as", "n:1", "--models", store.root, "--insecure").returncode
        == 0
    )
    assert_one_clear_error(pull(registry, store), 7)
    assert pull(registry, store, "--force").returncode == 0


def test_what_was_here_before_is_not_taken_for_pulled(registry: FaultyRegistry, store: StoreBuilder) -> None:
    for content in (OLD, b'{"model_format":"gguf"}'):
        store.blob(content)
    store.manifest("m:1", registry.manifests["models/m:1"])
    assert "is here already" in pull(registry, store).stdout
    registry.add_model("models/m", "1", NEW)
    assert_one_clear_error(pull(registry, store), 7)


@pytest.mark.parametrize(
    "text", ["", "{", "\0\xff", "sha256:1 x\n", f"sha256:{'0' * 64} ../../x/y/z\n", "x" * 5_000_000]
)
def test_damaged_record_lets_nothing_be_replaced(registry: FaultyRegistry, store: StoreBuilder, text: str) -> None:
    assert pull(registry, store).returncode == 0
    (store.root / PULLED).write_text(text)
    registry.add_model("models/m", "1", NEW)
    assert_one_clear_error(pull(registry, store), 7)
    assert pull(registry, store, "--force").returncode == 0
    assert list(pulls_into(Store(store.root))) == [(ModelName.parse("m:1"), Digest.of(here(store)))]


def test_record_that_can_not_be_written_keeps_no_model_away(registry: FaultyRegistry, store: StoreBuilder) -> None:
    store.root.mkdir(parents=True)
    (store.root / PULLED).mkdir()
    done = pull(registry, store)
    assert done.returncode == 0 and "can't write down that it was pulled" in done.stderr
    assert here(store)


class Killed(BaseException):
    """The process is no more."""


class MortalDisk(WatchedDisk):
    """Makes so many calls that give names or make them safe, and nothing more."""

    def __init__(self, calls: int) -> None:
        self.left = calls

    def before(self, call: str, arguments: tuple[Any, ...]) -> None:
        self.left -= call in ("link", "replace", "sync_folder")
        if self.left < 0:
            raise Killed


def test_record_is_written_before_the_model_gets_its_name(registry: FaultyRegistry, tmp_path: Path) -> None:
    references = references_of([f"{registry.address}/models/m:1"])
    (name,) = references
    for calls in range(100):
        store = Store(tmp_path / f"killed-{calls}")
        try:
            pull_into_store(references, store, ImportOptions(), quick_access(), disk=MortalDisk(calls))
            break
        except Killed:
            found = store.manifest_or_none(name)
            assert found is None or (name, found.digest) in pulls_into(store)
    assert calls > 5 and store.manifest_or_none(name)


# -- a registry that is down

DOWN = {"nobody there": None, "cut": cut_at_once, "503": status(503), "429": status(429, Retry_After="0")}


def take_down(registry: FaultyRegistry, how: str) -> None:
    trouble = DOWN[how]
    if trouble is None:
        registry.address = "127.0.0.1:9"
    else:
        registry.always["manifest"] = trouble


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ollama_ferry.registries.retries.sleep_until", lambda *_: None)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("how", DOWN)
def test_what_is_here_is_enough_where_the_registry_is_down(
    registry: FaultyRegistry, store: StoreBuilder, how: str
) -> None:
    assert pull(registry, store).returncode == 0
    before = here(store)
    take_down(registry, how)
    assert_one_clear_error(pull(registry, store), 8)
    done = pull(registry, store, "--offline-ok")
    assert done.returncode == 0, done.stderr
    assert "stays as it is" in done.stderr and "is here already" in done.stdout
    assert here(store) == before
    shown = json.loads(pull(registry, store, "--offline-ok", "--json").stdout)
    assert [model["was_here"] for model in shown["models"]] == [True]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("lacking", ["the model", "a blob", "its bytes", "what is expected"])
def test_what_is_not_here_is_not_enough(registry: FaultyRegistry, store: StoreBuilder, lacking: str) -> None:
    more = ["--offline-ok"]
    if lacking != "the model":
        assert pull(registry, store).returncode == 0
    blob = store.blob_path(Digest.of(OLD))
    if lacking == "a blob":
        blob.unlink()
    elif lacking == "its bytes":
        blob.write_bytes(bytes(len(OLD)))
        more.append("--checksum")
    elif lacking == "what is expected":
        more += ["--expect", "sha256:" + "0" * 64]
    take_down(registry, "cut")
    assert_one_clear_error(pull(registry, store, *more), 8)


@pytest.mark.usefixtures("impatient")
def test_line_that_breaks_in_the_middle_leaves_what_was_here(registry: FaultyRegistry, store: StoreBuilder) -> None:
    assert pull(registry, store).returncode == 0
    before = here(store)
    new = registry.add_model("models/m", "1", NEW)
    registry.always["blob"] = cut_at_once
    assert pull(registry, store, "--offline-ok").returncode == 0
    assert here(store) == before
    registry.always.clear()
    assert pull(registry, store, "--offline-ok").returncode == 0 and here(store) == new


@pytest.mark.parametrize(("trouble", "code"), [(status(404), 3), (status(403), 5)])
def test_registry_that_answers_is_not_down(
    registry: FaultyRegistry, store: StoreBuilder, trouble: object, code: int
) -> None:
    assert pull(registry, store).returncode == 0
    registry.always["manifest"] = trouble  # type: ignore[assignment]
    assert_one_clear_error(pull(registry, store, "--offline-ok"), code)


# -- a digest that is expected


def test_expected_digest_is_taken_and_no_other(registry: FaultyRegistry, store: StoreBuilder) -> None:
    raw = registry.manifests["models/m:1"]
    wrong = pull(registry, store, "--expect", "sha256:" + "0" * 64)
    assert_one_clear_error(wrong, 4)
    assert digest_of(raw) in wrong.stderr and not registry.count("blob")
    assert pull(registry, store, "--expect", digest_of(raw)).returncode == 0
    asked = len(registry.seen)
    done = pull(registry, store, "--expect", digest_of(raw).partition(":")[2], "--jitter", "100000")
    assert done.returncode == 0 and "is here already" in done.stdout
    # It is here: nobody is asked, and nothing waited for.
    assert len(registry.seen) == asked
    # A damaged blob is found by hashing, and fetched.
    store.blob_path(Digest.of(OLD)).write_bytes(bytes(len(OLD)))
    assert pull(registry, store, "--expect", digest_of(raw)).returncode == 0 and len(registry.seen) == asked
    store.blob_path(Digest.of(OLD)).unlink()
    assert pull(registry, store, "--expect", digest_of(raw)).returncode == 0 and here(store) == raw


def test_archive_is_held_to_the_digest_too(registry: FaultyRegistry, tmp_path: Path) -> None:
    words = ["pull", f"{registry.address}/models/m:1", str(tmp_path / "m.tar"), "--insecure"]
    assert_one_clear_error(ferry(*words, "--expect", "sha256:" + "0" * 64), 4)
    assert ferry(*words, "--expect", digest_of(registry.manifests["models/m:1"])).returncode == 0
    assert_one_clear_error(ferry(*words, "--offline-ok", "--force"), 2)


@pytest.mark.parametrize("text", ["", "sha256:", "0" * 12, "sha512:" + "0" * 128, "latest"])
def test_what_is_no_digest(registry: FaultyRegistry, store: StoreBuilder, text: str) -> None:
    assert_one_clear_error(pull(registry, store, "--expect", text), 2)


def test_digest_is_one_models(registry: FaultyRegistry, store: StoreBuilder) -> None:
    words = [f"{registry.address}/models/m:1", f"{registry.address}/models/m:2", "--expect", "0" * 64]
    assert_one_clear_error(ferry("pull", *words, "--models", store.root, "--insecure"), 2)


# -- not all at once


def test_wait_is_by_chance_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    notes: list[object] = []
    monkeypatch.setattr("ollama_ferry.jobs.pull.time.monotonic", lambda: 0.0)
    monkeypatch.setattr("ollama_ferry.jobs.pull.sleep_until", lambda moment, cancel: waits.append(moment))
    for _ in range(300):
        wait_at_random(600, Run(notes.append))
    assert 0 <= min(waits) < 60 and 540 < max(waits) <= 600
    assert all(isinstance(note, Noted) and "before the registry is asked" in note.text for note in notes)
    waits.clear()
    wait_at_random(0, Run(notes.append))
    assert waits == [0]
