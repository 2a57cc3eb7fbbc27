"""Manifests of a registry that are none, or none of a model's."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from ollama_ferry.errors import (
    Damaged,
    ModelNotFound,
)
from ollama_ferry.jobs.import_choices import ImportOptions
from ollama_ferry.jobs.pull import pull_into_store, references_of
from ollama_ferry.places.store.store import Store
from support.oci_registries import (
    FaultyHandler,
    FaultyRegistry,
    quick_access,
)
from support.registry_faults import body, pull, whole

MANIFESTS = {
    "of a gigabyte": body(b"{" + b" " * 100_000, length=2**30),
    "without end": lambda handler: _without_end(handler),
    "no JSON": body(b"<html>"),
    "an index": body(b'{"mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []}'),
    "other bytes than it says": body(b'{"layers": []}', Docker_Content_Digest=f"sha256:{'0' * 64}"),
    "a path": body(b'{"layers": [{"digest": "sha256:../../etc/passwd", "size": 1}]}'),
    "sizes": body(b'{"layers": [{"digest": "sha256:%s", "size": 99999999999999999999}]}' % (b"0" * 64)),
}


def _without_end(handler: FaultyHandler) -> None:
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    for _ in range(400):
        handler.wfile.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
    handler.cut()


@pytest.mark.parametrize("fault", MANIFESTS)
def test_manifest_that_is_none_is_refused(registry: FaultyRegistry, tmp_path: Path, fault: str) -> None:
    registry.always["manifest"] = MANIFESTS[fault]
    with pytest.raises(Damaged, match=r"models/m:1"):
        pull(registry, tmp_path)
    assert not (tmp_path / "store/blobs").exists()


@pytest.mark.parametrize("kind", ["vnd.docker.image.rootfs.diff.tar.gzip", "vnd.oci.image.layer.v1.tar+zstd"])
def test_container_image_is_no_model(registry: FaultyRegistry, tmp_path: Path, kind: str) -> None:
    image = json.loads(registry.manifests["models/m:1"])
    for layer in image["layers"]:
        layer["mediaType"] = f"application/{kind}"
    registry.manifests["models/m:1"] = json.dumps(image).encode()
    with pytest.raises(Damaged, match="container image"):
        pull(registry, tmp_path)
    assert not (tmp_path / "store/blobs").exists() and not registry.count("blob")
    # What else a model has beside its weights is nobody's business.
    image["layers"][0]["mediaType"] = "application/vnd.ollama.image.model"
    registry.manifests["models/m:1"] = json.dumps(image).encode()
    pull(registry, tmp_path)
    assert whole(tmp_path)


OWN = "ollama-ferry.manifest"
WITHIN: dict[str, object] = {
    "no base64": "***",
    "no text": 7,
    "a list": ["e30="],
    "no manifest": base64.b64encode(b"[]").decode(),
    "other blobs": base64.b64encode(
        json.dumps({"config": {"digest": f"sha256:{'1' * 64}", "size": 1}, "layers": []}).encode()
    ).decode(),
    "nothing": "",
}


@pytest.mark.parametrize("fault", WITHIN)
def test_manifest_within_a_manifest_is_not_trusted(registry: FaultyRegistry, tmp_path: Path, fault: str) -> None:
    around = json.loads(registry.manifests["models/m:1"])
    registry.manifests["models/m:1"] = json.dumps({**around, "annotations": {OWN: WITHIN[fault]}}).encode()
    with pytest.raises(Damaged, match=r"models/m:1"):
        pull(registry, tmp_path)
    assert not (tmp_path / "store/blobs").exists()


def test_digest_of_a_reference_is_checked(registry: FaultyRegistry, tmp_path: Path) -> None:
    registry.manifests[f"sha256:{'1' * 64}"] = registry.manifests["models/m:1"]
    references = references_of([f"{registry.address}/models/m:1@sha256:{'1' * 64}"])
    with pytest.raises(Damaged, match="1111"):
        pull_into_store(references, Store(tmp_path / "store"), ImportOptions(), quick_access())


def test_model_that_is_not_there(registry: FaultyRegistry, tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"models/m:2"):
        pull(registry, tmp_path, tag="2")
