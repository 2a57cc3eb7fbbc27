"""Odd stores and a real Ollama: what it deletes and lists, and what ``prune``, ``verify`` and ``doctor`` make of it."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from ollama_ferry.jobs.prune import prune, undo
from ollama_ferry.jobs.sample import write_sample_store
from ollama_ferry.places.store.store import Store
from support.command_line import ferry
from support.ollama_server import BINARY, serving

pytestmark = [
    pytest.mark.ollama,
    pytest.mark.skipif(not BINARY, reason="no Ollama: set OLLAMA_BIN or put ollama on PATH"),
]

ORPHAN = f"sha256-{'1' * 64}"
LATER = 7200.0


def test_prune_beside_a_running_server_loses_nothing(tmp_path: Path) -> None:
    models = tmp_path / "models"
    write_sample_store(models)
    with serving(models, tmp_path) as server:
        before = server.listed()
        (models / "blobs" / ORPHAN).write_bytes(b"orphan")
        for number in range(5):
            assert server.run("cp", "ferry-sample:4m", f"copy:{number}").returncode == 0
            done = prune(Store(models), now=time.time() + LATER)
            assert len(done.moved) == 1 and (models / "blobs" / ORPHAN).exists() is False
            assert undo(Store(models)).back
            assert server.run("rm", f"copy:{number}").returncode == 0
        assert server.listed() == before and len(before) == 2
        prune(Store(models), now=time.time() + LATER)
        assert server.run("show", "ferry-sample:4m").returncode == 0
    # A server that starts leaves the trash alone.
    with serving(models, tmp_path) as server:
        assert server.listed() == before
    assert undo(Store(models)).back == [str(models / "blobs" / ORPHAN)]
    assert ferry("verify", "--models", models).returncode == 0


def test_digests_with_dashes_are_judged_as_the_server_does(tmp_path: Path) -> None:
    """It lists the model, and deletes its blobs at its next start."""
    models = tmp_path / "models"
    write_sample_store(models)
    path = models / "manifests/registry.ollama.ai/library/ferry-sample/4m"
    path.write_bytes(path.read_bytes().replace(b"sha256:", b"sha256-"))
    (models / "manifests/registry.ollama.ai/library/ferry-sample/4m-chat").unlink()
    for blob in (models / "blobs").iterdir():
        os.utime(blob, (1, 1))
    assert ferry("verify", "--models", models).returncode == 4
    told = json.loads(ferry("doctor", "--models", models, "--json").stdout)["findings"]
    assert "digest-form" in [finding["code"] for finding in told]
    with serving(models, tmp_path) as server:
        # Recent servers prune a moment after they answer.
        deadline = time.monotonic() + 20
        while any((models / "blobs").iterdir()) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not list((models / "blobs").iterdir())
        assert not server.listed() or server.run("show", "ferry-sample:4m").returncode


def test_id_that_is_listed_where_a_newline_follows(tmp_path: Path) -> None:
    models = tmp_path / "models"
    write_sample_store(models)
    path = models / "manifests/registry.ollama.ai/library/ferry-sample/4m"
    document = json.loads(path.read_bytes())
    raw = json.dumps(document)
    target = next(size for size in (512, 1536, 3584, 7680) if size > len(raw) + 12)
    raw = json.dumps({**document, "x": "a" * (target - len(raw) - 9)})
    assert len(raw) == target
    path.write_bytes(raw.encode() + b"\n")
    shown = json.loads(ferry("show", "ferry-sample:4m", "--models", models, "--json").stdout)
    assert shown["listed_id"] != shown["id"]
    with serving(models, tmp_path) as server:
        assert server.listed()["ferry-sample:4m"] == shown["listed_id"]
