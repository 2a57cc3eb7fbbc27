"""Pulls of what a pattern means, or of all that a registry has."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from ollama_ferry import api
from ollama_ferry.engine.run import Run
from ollama_ferry.errors import Cancelled, Damaged, FerryError, ModelNotFound, Unreachable, UsageError
from ollama_ferry.jobs import pull
from support.command_line import assert_one_clear_error, ferry
from support.http_double import answering
from support.oci_registries import Registry, docker_registry
from support.stores import StoreBuilder, faults_of


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """It has models below ``models``, and one so deep that Ollama has no name for it."""
    folder = tmp_path_factory.mktemp("registry")
    store = StoreBuilder(folder / "store")
    for name in ("qwen3:8b", "qwen3:4b", "gemma3:4b", "me/mine:latest"):
        store.model(name, [("model", name.encode())])
    with docker_registry(folder / "served") as running:
        api.push("*", f"{running.address}/models", store=store.root, insecure=True)
        api.push("qwen3:8b", f"{running.address}/deep/er", store=store.root, insecure=True)
        yield running


def pulled(store: Path) -> set[str]:
    assert not faults_of(store)
    return {str(model.name).partition("/")[2] for model in api.list_models(store=store).models}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["{}/models/qwen3:*"], {"models/qwen3:8b", "models/qwen3:4b"}),
        (["{}/models/q*"], {"models/qwen3:8b", "models/qwen3:4b"}),
        (["{}/models/*:4b", "{}/models/qwen3:8b"], {"models/qwen3:8b", "models/qwen3:4b", "models/gemma3:4b"}),
        (["--all", "{}/models", "--exclude", "*/qwen3"], {"models/gemma3:4b"}),
        (
            ["{}/models/*:4b", "{}/models/qwen3:8b", "--exclude", "models/qwen3:8b"],
            {"models/qwen3:4b", "models/gemma3:4b"},
        ),
        (["{}/models/q*", "--exclude", "{}/models/qwen3:8b", "--exclude", "deep/er/a/b:1"], {"models/qwen3:4b"}),
        (["{}/models/*", "--exclude", "models/qwen3:*", "--exclude", "{}/models/me/*"], {"models/gemma3:4b"}),
    ],
)
def test_patterns(registry: Registry, tmp_path: Path, words: list[str], expected: set[str]) -> None:
    words = [word.format(registry.address) for word in words]
    done = ferry("pull", *words, "--models", tmp_path / "store", "--insecure")
    assert done.returncode == 0, done.stderr
    assert pulled(tmp_path / "store") == expected
    # What there is no name for here is said, unless it was not meant.
    assert ("left out: " in done.stderr) == ("*/qwen3" in words)


def test_all_of_a_registry_under_names_of_ones_own(registry: Registry, tmp_path: Path) -> None:
    store = tmp_path / "store"
    words: list[str | Path] = [
        "--all",
        registry.address,
        "--as",
        f"{registry.address}/models/*=*",
        "--models",
        store,
        "--insecure",
    ]
    done = ferry("pull", *words, "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert {model["name"] for model in answer["models"]} >= {"qwen3:8b", "qwen3:4b", "gemma3:4b"}
    left = {one["name"].partition("/")[2] for one in answer["left_out"]}
    assert left == {"deep/er/qwen3:8b", "models/me/mine:latest"}
    again = ferry("pull", *words)
    assert again.returncode == 0 and again.stdout.count("is here already") == 3


def test_into_an_archive_and_as_a_plan(registry: Registry, tmp_path: Path) -> None:
    archive = tmp_path / "some.tar"
    text = f"{registry.address}/models/qwen3:*"
    planned = api.plan_pull(text, archive, insecure=True)
    assert isinstance(planned, api.PlannedExport) and len(planned.models) == 2 and not archive.exists()
    assert isinstance(api.pull(text, archive, insecure=True), api.Exported)
    assert api.verify(archive=archive).good
    assert len(api.list_models(archive=archive).models) == 2


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["*"], 2, "of which registry"),
        (["{}/models/none*"], 3, "no model of"),
        (["{}/models/qwen3:*", "--exclude", "*"], 3, "excluded as well"),
        (["{}/models/qwen3:8b", "--exclude", "{}/models/*"], 3, "excluded as well"),
        (["{}/models/qwen3:8b", "{}/models/qwen3:4*", "--as", "one:1"], 2, "one:1"),
        (["{}/models/qwen3:*", "--as", "one:1"], 2, "would both become one:1"),
        (["{}/models/qwen3:*", "--offline-ok"], 2, "name the models"),
        (["{}/models/qwen3:*", "--expect", "0" * 64], 2, "name the models"),
        (["--all", "models"], 2, "is no registry"),
    ],
)
def test_what_can_not_be_meant(registry: Registry, tmp_path: Path, words: list[str], code: int, said: str) -> None:
    words = [word.format(registry.address) for word in words]
    done = ferry("pull", *words, "--models", tmp_path / "store", "--insecure")
    assert_one_clear_error(done, code)
    assert said in done.stderr


def test_an_address_of_ipv6_is_no_pattern(tmp_path: Path) -> None:
    with pytest.raises(Unreachable):
        api.pull("[::1]:9/models/m:1", rename="m:1", store=tmp_path / "store", insecure=True)
    with pytest.raises(UsageError, match="name the models"):
        api.pull("[::1]:9/models/*", store=tmp_path / "store", insecure=True, offline_ok=True)


def listing(pages: dict[str, tuple[Any, str]]) -> type[BaseHTTPRequestHandler]:
    """Return a registry that lists, for a path with its query, a document and a ``Link``."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            document, link = pages.get(self.path, pages.get(self.path.partition("?")[0], (None, "")))
            self.send_response(404 if document is None else 200)
            if link:
                self.send_header("Link", link)
            self.end_headers()
            self.wfile.write(document if isinstance(document, bytes) else json.dumps(document).encode())

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    return Handler


def test_a_registry_is_asked_for_nothing_before_the_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def given_up(most: float, run: Run) -> None:
        assert most == 600
        raise Cancelled("given up")

    monkeypatch.setattr(pull, "wait_at_random", given_up)
    with answering(listing({})) as address, pytest.raises(Cancelled):
        api.pull(address, everything=True, store=tmp_path / "store", insecure=True, jitter=600)


NEXT = '</v2/_catalog?n=2&last=b>; rel="next"'


@pytest.mark.parametrize(
    ("pages", "raises", "said"),
    [
        ({}, UsageError, "does not list its repositories"),
        ({"/v2/_catalog": ([], "")}, ModelNotFound, "no model of"),
        ({"/v2/_catalog": ({"repositories": {"a": 1}}, "")}, Damaged, "no list of repositories"),
        ({"/v2/_catalog": ({"repositories": ["a"]}, NEXT)}, Damaged, "does not end"),
        ({"/v2/_catalog": (b"[" * 100_000, "")}, Damaged, "listing the repositories"),
        ({"/v2/_catalog": ({"repositories": [7, None, "../x", "a b", "A" * 2000, "-"]}, "")}, ModelNotFound, "no"),
        ({"/v2/_catalog": ({"repositories": ["a"]}, ""), "/v2/a/tags/list": ({"tags": ["\x1b[2J", ".", ""]}, "")},
         ModelNotFound, "no model of"),
        ({"/v2/_catalog": ({"repositories": ["a"]}, ""), "/v2/a/tags/list": ({"tags": None}, "")}, ModelNotFound, "no"),
    ],
)  # fmt: skip
def test_lists_of_a_hostile_registry(
    tmp_path: Path, pages: dict[str, tuple[Any, str]], raises: type[FerryError], said: str
) -> None:
    with answering(listing(pages)) as address, pytest.raises(raises, match=said):
        api.pull(address, everything=True, store=tmp_path / "store", insecure=True)


def test_a_list_in_pages_is_followed_at_this_registry_alone(tmp_path: Path) -> None:
    elsewhere = '<http://192.0.2.1/v2/_catalog?n=2&last=b>; rel="next"'
    pages = {
        "/v2/_catalog?n=1000": ({"repositories": ["a", "b"]}, elsewhere),
        "/v2/_catalog?n=2&last=b": ({"repositories": ["c"]}, ""),
        "/v2/c/tags/list": ({"tags": ["1"]}, ""),
        "/v2/c/manifests/1": ({}, ""),
    }
    with answering(listing(pages)) as address, pytest.raises(Damaged, match=f"{address}/c:1"):
        api.pull(address, everything=True, store=tmp_path / "store", rename="c:1", insecure=True)
