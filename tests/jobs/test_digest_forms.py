"""A model whose manifest writes digests as file names: it runs, and a server that starts deletes its blobs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ollama_ferry.model.manifests import Manifest
from support.command_line import ferry
from support.stores import StoreBuilder


def written(source: StoreBuilder, mark: str) -> bytes:
    digests = [f"sha256{mark}{source.blob(content).hex}" for content in (b"{}", b"weights")]
    config, layer = ({"digest": digest, "size": size} for digest, size in zip(digests, (2, 7), strict=True))
    return json.dumps({"config": config, "layers": [layer]}).encode()


@pytest.mark.parametrize(
    ("mark", "loses"), [(":", False), ("-", True), ("\\u002d", True), ("\\u003a", False)], ids=ascii
)
def test_digests_are_compared_as_text(source: StoreBuilder, mark: str, loses: bool) -> None:
    raw = written(source, ":").replace(b"sha256:", b"sha256" + mark.encode())
    assert Manifest.parse(raw).loses_blobs is loses


def test_one_layer_is_enough() -> None:
    plain, dashed = (f'{{"digest": "sha256{mark}{digit * 64}", "size": 1}}' for mark, digit in ((":", "a"), ("-", "b")))
    assert Manifest.parse(f'{{"config": {plain}, "layers": [{dashed}]}}'.encode()).loses_blobs
    assert not Manifest.parse(f'{{"config": {{"digest": ""}}, "layers": [{plain}]}}'.encode()).loses_blobs


def test_verify_judges_as_a_server_that_tidies(source: StoreBuilder, tmp_path: Path) -> None:
    source.model("good")
    source.manifest("dashed", written(source, "-"))
    done = ferry("verify", "--models", source.root)
    assert done.returncode == 4 and "sha256-<hex>" in done.stdout, done.stdout + done.stderr
    assert ferry("verify", "--models", source.root, "good").returncode == 0
    archive = tmp_path / "x.tar.gz"
    assert ferry("export", "--all", archive, "--models", source.root).returncode == 0
    done = ferry("verify", archive)
    assert done.returncode == 4 and "sha256-<hex>" in done.stdout
