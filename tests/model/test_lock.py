"""Locks: one text for the same models, read strictly, and compared by the manifests' digests."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_ferry.errors import Damaged, NotAsLocked
from ollama_ferry.model.lock import Lock
from ollama_ferry.model.manifests import Digest, Manifest
from ollama_ferry.model.names import ModelName


def manifest(*contents: bytes) -> Manifest:
    layers = [
        {"digest": str(Digest.of(content)), "size": len(content), "mediaType": "application/vnd.ollama.image.model"}
        for content in contents
    ]
    return Manifest.parse(json.dumps({"layers": layers}).encode())


ONE = ModelName.parse("qwen3:8b")
TWO = ModelName.parse("hf.co/org/repo:Q4_K_M")
MODELS = {TWO: manifest(b"two", b"shared"), ONE: manifest(b"one", b"shared")}


def test_text_is_read_by_people_and_the_same_every_time() -> None:
    lock = Lock.of(MODELS)
    assert lock.text == Lock.of(dict(reversed(MODELS.items()))).text
    title, first, *_ = lock.text.splitlines()
    assert title == "# ollama-ferry lock 1"
    assert first == f"hf.co/org/repo:Q4_K_M {MODELS[TWO].digest} {len(MODELS[TWO].raw)}"
    assert f"  {Digest.of(b'shared')} 6 model" in lock.text.splitlines()
    assert Lock.parse(lock.text.encode(), "x") == lock


@given(st.data())
def test_a_changed_lock_is_refused_or_locks_something_else(data: st.DataObject) -> None:
    raw = bytearray(Lock.of(MODELS).text.encode())
    place = data.draw(st.integers(0, len(raw) - 1))
    raw[place] ^= data.draw(st.integers(1, 255))
    try:
        found = Lock.parse(bytes(raw), "x")
    except Damaged:
        return
    # What the text says of blobs is for people: the manifest's digest covers them. The text itself is what is signed.
    assert found.text != Lock.of(MODELS).text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# ollama-ferry lock 2\n",
        "# ollama-ferry lock 1\nqwen3:8b sha256:00 1\n",
        f"# ollama-ferry lock 1\n  sha256:{'0' * 64} 1 model\n",
        f"# ollama-ferry lock 1\nqwen3:8b sha256:{'0' * 64} 1\nqwen3:8b sha256:{'1' * 64} 1\n",
        f"# ollama-ferry lock 1\n../../etc sha256:{'0' * 64} 1\n",
        f"# ollama-ferry lock 1\nqwen3:8b sha256:{'0' * 64} 1",
        f"# ollama-ferry lock 1\r\nqwen3:8b sha256:{'0' * 64} 1\r\n",
    ],
)
def test_what_is_no_lock_is_refused(text: str) -> None:
    with pytest.raises(Damaged):
        Lock.parse(text.encode(), "x")


def test_models_are_those_of_the_lock_or_the_error_says_which() -> None:
    lock = Lock.of({ONE: MODELS[ONE]})
    lock.require(ONE, MODELS[ONE], "the archive")
    with pytest.raises(NotAsLocked, match=r"hf\.co/org/repo:Q4_K_M is in the archive, and not in the lock"):
        lock.require(TWO, MODELS[TWO], "the archive")
    with pytest.raises(NotAsLocked, match=r"qwen3:8b is [0-9a-f]{12} in the archive, and [0-9a-f]{12} in the lock"):
        lock.require(ONE, MODELS[TWO], "the archive")
    with pytest.raises(NotAsLocked, match="qwen3:8b of the lock is not in the archive"):
        lock.require_all([TWO], "the archive")


def test_a_name_stands_in_a_form_that_reads_as_the_very_same() -> None:
    for name in (ONE, TWO, ModelName("REGISTRY.ollama.ai", "LIBRARY", "x", "y"), ModelName("h", "n", "m", "latest")):
        assert list(Lock.parse(Lock.of({name: MODELS[ONE]}).text.encode(), "x").models) == [name]
