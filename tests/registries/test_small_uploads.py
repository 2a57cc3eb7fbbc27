"""Small blobs and manifests that are pushed: side by side, once, and never of other bytes."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter

import pytest

from ollama_ferry.errors import (
    AlreadyExists,
    Damaged,
    FerryError,
    UsageError,
)
from ollama_ferry.model.manifests import Digest
from support.oci_registries import (
    FaultyHandler,
    FaultyRegistry,
)
from support.registry_faults import BIG, arrived, body, pushed, status
from support.stores import StoreBuilder, weights


def test_small_blobs_are_sent_side_by_side(empty: FaultyRegistry, many: StoreBuilder) -> None:
    together = threading.Barrier(4)

    def meet(_: FaultyHandler) -> None:
        together.wait(20)

    empty.faults["put"] = [meet] * 4
    done = pushed(empty, many)
    assert len(done.blobs) == empty.count("put") == 42
    assert empty.manifests["models/m:1"] == many.manifest_path("m:1").read_bytes()
    assert {str(blob.digest) for blob in done.blobs} == empty.blobs.keys()


def test_small_blob_that_is_not_taken_ends_the_push(empty: FaultyRegistry, many: StoreBuilder) -> None:
    empty.faults["put"] = [None] * 10
    empty.always["put"] = status(400)
    with pytest.raises(FerryError, match="sending the blob"):
        pushed(empty, many)
    assert not empty.manifests
    there = len(empty.blobs)
    assert there == 10
    empty.always.clear()
    assert len(pushed(empty, many).blobs) == 42 - there
    assert empty.manifests


def test_nothing_is_sent_twice_where_another_blob_is_lost(empty: FaultyRegistry, source: StoreBuilder) -> None:
    source.model("m:1", [("model", BIG), *(("tensor", weights(100, seed)) for seed in range(3, 15))])

    def slow(_: FaultyHandler) -> None:
        time.sleep(0.3)

    empty.always["put"] = slow
    empty.faults["patch"] = [None, status(404)]
    done = pushed(empty, source)
    per_blob = Counter(seen.path.partition("digest=")[2] for seen in empty.seen if seen.method == "PUT")
    assert max(per_blob.values()) == 1
    assert len(done.blobs) == 14 and not done.present


def test_document_that_only_looks_like_the_model_is_not_replaced(empty: FaultyRegistry, model: StoreBuilder) -> None:
    """What has the model's own manifest within, and is not what a push makes of it, is somebody else's."""
    pushed(empty, model, oci=True)
    ours = json.loads(empty.manifests["models/m:1"])
    theirs = json.dumps({**ours, "artifactType": "application/x"}).encode()
    empty.manifests["models/m:1"] = theirs
    for oci in (False, True):
        with pytest.raises(AlreadyExists):
            pushed(empty, model, oci=oci)
    assert empty.manifests["models/m:1"] == theirs


def test_manifest_that_would_be_too_large_in_oci_form(empty: FaultyRegistry, source: StoreBuilder) -> None:
    layer = source.layer("tensor", b"x")
    kind = "application/vnd.docker.distribution.manifest.v2+json"
    document = {"mediaType": kind, "config": source.layer("config", b"{}"), "layers": [layer] * 16_000}
    source.manifest("m:1", json.dumps(document).encode())
    with pytest.raises(UsageError, match="m:1 has so many layers"):
        pushed(empty, source, oci=True)
    assert not empty.blobs


def test_small_blob_of_other_bytes_is_not_sent(empty: FaultyRegistry, many: StoreBuilder) -> None:
    wrong = many.blob_path(Digest.of(weights(100, 20)))
    wrong.write_bytes(bytes(100))
    with pytest.raises(Damaged):
        pushed(empty, many)
    assert not empty.manifests
    assert str(Digest.of(bytes(100))) not in empty.blobs


def test_manifest_of_a_type_that_is_not_taken(empty: FaultyRegistry, model: StoreBuilder) -> None:
    """As zot answers unless it is told to take Docker's type."""
    said = b'{"errors":[{"code":"MANIFEST_INVALID","message":"manifest invalid"}]}'
    empty.always["put manifest"] = body(said, 415)
    with pytest.raises(FerryError) as caught:
        pushed(empty, model)
    assert "docker2s2" in caught.value.hint


def test_token_that_ends_in_the_middle_of_a_push(empty: FaultyRegistry, model: StoreBuilder) -> None:
    # Small blobs go side by side and share a token, which must last for one request of each.
    empty.locked, empty.expires = True, 4
    pushed(empty, model)
    assert arrived(empty, model)
    assert empty.count("token") > 3
