"""``ollama pull`` from ``ollama-ferry serve``: what a real Ollama asks for, and what it has then."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ollama_ferry.jobs.sample import write_sample_store
from support import needs
from support.command_line import COMMAND, ferry, ferry_as_nobody
from support.ollama_server import BINARY, Ollama, serving
from support.served import serve_process
from support.stores import StoreBuilder, faults_of, weights
from support.tars import everybody

pytestmark = [
    pytest.mark.ollama,
    pytest.mark.skipif(not BINARY, reason="no Ollama: set OLLAMA_BIN or put ollama on PATH"),
]

SAMPLE = "ferry-sample:4m"


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Ollama]:
    """A server with an empty store."""
    with serving(tmp_path / "target", tmp_path) as server:
        yield server


def pull_and_rename(server: Ollama, model: dict[str, str]) -> None:
    """Run the two lines that serve prints."""
    for line in (model["pull"], model["rename"]):
        done = server.run(*line.split()[1:])
        assert done.returncode == 0, done.stderr


def same_content(source: Path, target: Path, name: str) -> None:
    """Compare two manifests of a name: the same layers and config, whatever else a pull writes."""
    path = f"manifests/registry.ollama.ai/library/{name.replace(':', '/')}"
    before, after = (json.loads((root / path).read_bytes()) for root in (source, target))

    def digests(manifest: dict[str, object]) -> str:
        return json.dumps([manifest["config"], manifest["layers"]], sort_keys=True)

    assert digests(before) == digests(after)
    assert not faults_of(target)


@pytest.mark.parametrize("kind", ["store", ".tar", ".tar.gz", ".tar.zst"])
def test_pull_and_rename_give_the_same_model(target: Ollama, tmp_path: Path, kind: str) -> None:
    source = tmp_path / "source"
    write_sample_store(source)
    (source / "manifests/hf.co/Org/Repo-GGUF").mkdir(parents=True)
    manifest = (source / "manifests/registry.ollama.ai/library/ferry-sample/4m").read_bytes()
    (source / "manifests/hf.co/Org/Repo-GGUF/Q4_K_M").write_bytes(manifest)
    words: list[str | Path] = ["--all", "--models", source]
    if kind != "store":
        words = [tmp_path / f"models{kind}"]
        assert ferry("export", "--all", words[0], "--models", source).returncode == 0
    with serve_process(tmp_path, *words) as serve:
        for model in serve.document["models"]:
            pull_and_rename(target, model)
        assert serve.end() == 0
        log = serve.log
    same_content(source, target.models, SAMPLE)
    listed = target.listed()
    assert {SAMPLE, "ferry-sample:4m-chat"} <= set(listed)
    assert "hf.co/org/repo-gguf:q4_k_m" in {name.lower() for name in listed}
    # Up to 0.12 a pull writes the manifest anew, so the ID changes; later ones keep the bytes.
    kept = (target.models / "manifests/registry.ollama.ai/library/ferry-sample/4m").read_bytes() == manifest
    assert (listed[SAMPLE] == serve.document["models"][-2]["id"]) is kept
    # It asks for a blob's size, then where it is, and then for its parts.
    weights = re.findall(r"(\d{3}) (HEAD )?model blob", log)
    assert weights[:3] == [("200", "HEAD "), ("200", ""), ("206", "")]


@pytest.mark.parametrize("kind", ["store", ".tar.gz"])
def test_what_ollama_has_pulled_keeps_its_id(target: Ollama, tmp_path: Path, kind: str) -> None:
    """A manifest as Ollama writes it comes out of each further pull as it is, with old versions too."""
    write_sample_store(tmp_path / "source")
    with serve_process(tmp_path, SAMPLE, "--models", tmp_path / "source") as serve:
        pull_and_rename(target, serve.document["models"][0])
    words: list[str | Path] = [SAMPLE, "--models", target.models]
    if kind != "store":
        words = [tmp_path / f"models{kind}"]
        assert ferry("export", SAMPLE, words[0], "--models", target.models).returncode == 0
    with serving(tmp_path / "next", tmp_path) as next_one, serve_process(tmp_path, *words) as serve:
        pull_and_rename(next_one, serve.document["models"][0])
        assert next_one.listed()[SAMPLE] == target.listed()[SAMPLE] == serve.document["models"][0]["id"]
    path = "manifests/registry.ollama.ai/library/ferry-sample/4m"
    assert (next_one.models / path).read_bytes() == (target.models / path).read_bytes()


@pytest.mark.parametrize(("kind", "size"), [("store", 1_000_000_000), (".tar", 250_000_000), (".tar.gz", 250_000_000)])
def test_large_blob_is_pulled_in_parts(
    target: Ollama, source: StoreBuilder, tmp_path: Path, kind: str, size: int
) -> None:
    weights = bytes(range(256)) * 4096
    content = source.blob_path(source.blob(b"")).with_name("large")
    with content.open("wb") as file:
        # Sparse but for its ends, and larger than a part of a download.
        file.write(weights)
        file.seek(size - len(weights))
        file.write(weights)
    import hashlib

    with content.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256") if hasattr(hashlib, "file_digest") else hashlib.sha256(file.read())
    content.rename(content.with_name(f"sha256-{digest.hexdigest()}"))
    layer = {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{digest.hexdigest()}", "size": size}
    config = {
        **source.layer("config", b'{"model_format":"gguf"}'),
        "mediaType": "application/vnd.docker.container.image.v1+json",
    }
    source.manifest("large:1", json.dumps({"schemaVersion": 2, "config": config, "layers": [layer]}).encode())
    words: list[str | Path] = ["large:1", "--models", source.root]
    if kind != "store":
        words = [tmp_path / f"large{kind}"]
        assert ferry("export", "large:1", words[0], "--models", source.root).returncode == 0
    with serve_process(tmp_path, *words) as serve:
        pull_and_rename(target, serve.document["models"][0])
        assert serve.end() == 0
        parts = re.findall(r"206 model blob \w+ of library/large, (\d+) to (\d+)", serve.log)
    assert len(parts) == -(-size // 100_000_000)
    same_content(source.root, target.models, "large:1")


def test_token_is_more_than_ollama_can_send(target: Ollama, tmp_path: Path) -> None:
    write_sample_store(tmp_path / "source")
    with serve_process(tmp_path, SAMPLE, "--models", tmp_path / "source", "--token", "tok") as serve:
        done = target.run(*serve.document["models"][0]["pull"].split()[1:])
    assert done.returncode != 0
    assert " 401 GET /v2/library/ferry-sample/manifests/4m" in serve.log
    assert target.listed() == {}


def test_pull_over_https_is_told_at_once_that_this_is_http(target: Ollama, tmp_path: Path) -> None:
    write_sample_store(tmp_path / "source")
    with serve_process(tmp_path, SAMPLE, "--models", tmp_path / "source") as serve:
        done = target.run("pull", f"127.0.0.1:{serve.port}/library/{SAMPLE}")
    assert done.returncode != 0
    assert "server gave HTTP response to HTTPS client" in done.stderr


@needs.root("needs root, to give it up")
@pytest.mark.parametrize("kind", [".tar", ".tar.gz"])
def test_a_server_whose_store_we_cannot_read_takes_a_model(target: Ollama, tmp_path: Path, kind: str) -> None:
    source = tmp_path / "source"
    write_sample_store(source)
    archive = tmp_path / f"models{kind}"
    assert ferry("export", "--models", source, "--all", archive).returncode == 0
    everybody(tmp_path)
    target.models.chmod(0o700)
    assert ferry_as_nobody("verify", "--models", target.models).returncode == 5
    done = ferry_as_nobody("import", archive, "--via-server", OLLAMA_HOST=target.address)
    assert done.returncode == 0, done.stderr
    names = {"ferry-sample:4m", "ferry-sample:4m-chat"}
    assert set(target.listed()) == names
    for name in names:
        same_content(source, target.models, name)
    ids = {name: manifest_id(source, name) for name in names}
    if target.listed() != ids:
        assert "writes manifests anew" in done.stderr
    # A manifest that was written anew is known all the same.
    again = ferry_as_nobody("import", archive, "--via-server", OLLAMA_HOST=target.address)
    assert again.stdout.count("is there already, the same") == 2, again.stderr
    assert not list((target.models / "blobs").glob("*partial*"))


@pytest.mark.parametrize("count", [2, 5])
def test_several_imports_through_one_server_at_once(target: Ollama, tmp_path: Path, count: int) -> None:
    """Each with models of its own and a blob that all have: the end of one prunes what another one counts on."""
    archives, expected = [], set()
    for number in range(count):
        builder = StoreBuilder(tmp_path / f"source-{number}")
        for version in (1, 2):
            layers = [
                ("model", weights(3_000_000)),
                ("license", weights(100_000, 10 + number)),
                ("system", bytes([version])),
            ]
            builder.model(f"mine{number}:{version}", layers)
            expected.add(f"mine{number}:{version}")
        archives.append(tmp_path / f"{number}.tar")
        assert ferry("export", "--all", archives[-1], "--models", builder.root).returncode == 0
    environ = {**os.environ, "OLLAMA_HOST": target.address}
    running = [
        subprocess.Popen([*COMMAND, "import", archive, "--via-server"], env=environ, stderr=subprocess.PIPE, text=True)
        for archive in archives
    ]
    for process in running:
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said
    assert set(target.listed()) == expected
    assert not faults_of(target.models)


def test_tensors_go_to_no_server_that_would_lose_them(target: Ollama, source: StoreBuilder, tmp_path: Path) -> None:
    layers = [{**source.layer("tensor", weights(1000, seed)), "name": f"layer.{seed}"} for seed in (1, 2)]
    config = source.layer("config", b'{"model_format":"safetensors"}')
    config = {**config, "mediaType": "application/vnd.docker.container.image.v1+json"}
    source.manifest("tensors:1", json.dumps({"schemaVersion": 2, "config": config, "layers": layers}).encode())
    archive = tmp_path / "tensors.tar"
    assert ferry("export", "--all", archive, "--models", source.root).returncode == 0
    done = ferry("import", archive, "--via-server", OLLAMA_HOST=target.address)
    if done.returncode == 0:
        # One with MLX, which keeps the manifest's bytes.
        assert target.listed()["tensors:1"] == manifest_id(source.root, "tensors:1")
        return
    assert "drops the names of tensors" in done.stderr or "requires MLX support" in done.stderr
    assert target.listed() == {} and not list((target.models / "blobs").glob("sha256-*"))


def manifest_id(store: Path, name: str) -> str:
    raw = (store / "manifests/registry.ollama.ai/library" / name.replace(":", "/")).read_bytes()
    return hashlib.sha256(raw).hexdigest()[:12]
