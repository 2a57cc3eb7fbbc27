"""``push`` and ``pull`` as a user runs them, against Debian's docker-registry, and beside skopeo."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

import ollama_ferry
from ollama_ferry import api
from ollama_ferry.errors import NotFound
from ollama_ferry.jobs.import_choices import ImportOptions
from ollama_ferry.jobs.pull import pull_into_store, references_of
from ollama_ferry.jobs.push import PushOptions, push
from ollama_ferry.model.manifests import Digest
from ollama_ferry.model.renames import Renames
from ollama_ferry.places.registry.references import PushTarget
from ollama_ferry.places.store.pulled import PULLED
from ollama_ferry.places.store.store import Store
from ollama_ferry.registries.access import Access
from ollama_ferry.registries.client import Client
from support.command_line import ferry
from support.oci_registries import (
    Answered,
    FaultyHandler,
    Registry,
    connect_proxy,
    docker_registry,
    faulty_registry,
    log_in,
    quick_access,
)
from support.stores import StoreBuilder, faults_of, tree, weights
from support.tools import require_tool

SHARED = weights(3_000_000)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with docker_registry(tmp_path_factory.mktemp("plain")) as registry:
        yield registry


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """With TLS by an authority of its own, and a login."""
    with docker_registry(tmp_path_factory.mktemp("private"), tls=True, login=True) as registry:
        yield registry


@pytest.fixture
def models(source: StoreBuilder) -> StoreBuilder:
    source.model("a:1", [("model", SHARED), ("license", b"MIT"), ("system", b"")])
    source.model("b:Q4_K_M", [("model", SHARED), ("template", b"{{ .Prompt }}")])
    return source


def run(*words: str | Path, code: int = 0, environ: dict[str, str] | None = None) -> str:
    done = ferry(*words, **(environ or {}))
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("kind", ["plain", "private"])
def test_there_and_back(request: pytest.FixtureRequest, kind: str, models: StoreBuilder, tmp_path: Path) -> None:
    registry: Registry = request.getfixturevalue(kind)
    environ = {"DOCKER_CONFIG": str(log_in(registry, tmp_path / "docker"))} if kind == "private" else {}
    target, store = f"{registry.address}/there/and/back", tmp_path / "store"
    said = run("push", "a:1", "b:Q4_K_M", target, "--models", models.root, *registry.options, environ=environ)
    assert f"{target}/b:Q4_K_M" in said
    uploads = len(registry.requests("P[A-Z]+"))
    said = run("push", "a:1", "b:Q4_K_M", target, "--models", models.root, *registry.options, environ=environ)
    assert said.count("there already, the same") == 2 and len(registry.requests("P[A-Z]+")) == uploads
    for name in ("a:1", "b:Q4_K_M"):
        run("pull", f"{target}/{name}", "--as", name, "--models", store, *registry.options, environ=environ)
    # Also the manifests' bytes: their SHA-256 is the ID.
    assert tree(store).items() - tree(models.root).items() == {(PULLED, (store / PULLED).read_bytes())}
    assert not tree(models.root).items() - tree(store).items() and not faults_of(store)
    before = len(registry.requests())
    said = run("pull", f"{target}/a:1", "--as", "a:1", "--models", store, *registry.options, environ=environ)
    asked = registry.requests()[before:]
    assert "here already, the same" in said and all("/manifests/" in line for line in asked)


def test_models_share_blobs_by_mounts(plain: Registry, models: StoreBuilder) -> None:
    before = len(plain.requests())
    said = run("push", "a:1", "b:Q4_K_M", f"{plain.address}/mounts", "--models", models.root, "--insecure")
    asked = plain.requests()[before:]
    assert "taken from other repositories there" in said
    assert sum(1 for line in asked if line.startswith("PUT") and "b" in line and "/mounts/b/blobs/" in line) == 1
    said = run("push", "a:1", f"{plain.address}/elsewhere", "--models", models.root, "--insecure", "--json",
               "--mount-from", "mounts/a")  # fmt: skip
    document = json.loads(said[said.index("{") :])
    assert not document["blobs"] and len(document["mounted"]) == 4


def test_only_what_is_missing_is_sent(plain: Registry, models: StoreBuilder) -> None:
    target = f"{plain.address}/delta"
    run("push", "a:1", target, "--models", models.root, "--insecure")
    models.model("a:2", [("model", SHARED), ("license", b"another")])
    before = len(plain.requests())
    document = json.loads(ferry("push", "a:2", target, "--models", models.root, "--insecure", "--json").stdout)
    assert document["size"] == len(b"another") and document["models"][0]["reference"] == f"{target}/a:2"
    asked = plain.requests()[before:]
    assert sum(line.startswith("POST") for line in asked) == 1
    assert sum(line.startswith("PUT") for line in asked) == 2


def test_big_blob_goes_in_chunks_and_comes_in_ranges(plain: Registry, source: StoreBuilder, tmp_path: Path) -> None:
    big = weights(40_000_000, 5)
    source.model("big:1", [("model", big)])
    before = len(plain.requests())
    run("push", "big:1", f"{plain.address}/big", "--models", source.root, "--insecure")
    assert sum(line.startswith("PATCH") for line in plain.requests()[before:]) == 3
    before = len(plain.requests())
    run("pull", f"{plain.address}/big/big:1", "--models", tmp_path / "store", "--insecure")
    assert (tmp_path / "store/blobs" / Digest.of(big).file_name).read_bytes() == big
    assert sum(str(Digest.of(big)) in line for line in plain.requests()[before:]) in (2, 5)


def test_another_model_of_the_name_stays(plain: Registry, models: StoreBuilder, tmp_path: Path) -> None:
    target = f"{plain.address}/conflict"
    run("push", "a:1", target, "--models", models.root, "--insecure")
    run("pull", f"{target}/a:1", "--as", "x", "--models", tmp_path / "store", "--insecure")
    models.model("a:1", [("model", b"other")])
    said = run("push", "a:1", target, "--models", models.root, "--insecure", code=7)
    assert "nothing was sent" in said and "--force" in said
    run("push", "a:1", target, "--models", models.root, "--insecure", "--force")
    # What an earlier pull put there is replaced; of this one nobody knows any more.
    (tmp_path / "store" / PULLED).unlink()
    said = run("pull", f"{target}/a:1", "--as", "x", "--models", tmp_path / "store", "--insecure", code=7)
    assert "--force" in said
    run("pull", f"{target}/a:1", "--as", "x", "--models", tmp_path / "store", "--insecure", "--force")
    manifest = models.manifest_path("a:1").read_bytes()
    assert StoreBuilder(tmp_path / "store").manifest_path("x").read_bytes() == manifest


def test_dry_runs_write_nothing(plain: Registry, models: StoreBuilder, tmp_path: Path) -> None:
    target = f"{plain.address}/dry"
    before = len(plain.requests("P[A-Z]+"))
    said = run("push", "a:1", "b:Q4_K_M", target, "--models", models.root, "--insecure", "--dry-run")
    assert "would push" in said and "would send" in said
    assert len(plain.requests("P[A-Z]+")) == before
    run("push", "a:1", target, "--models", models.root, "--insecure")
    store = tmp_path / "store"
    said = run("pull", f"{target}/a:1", "--models", store, "--insecure", "--dry-run")
    assert "would pull" in said and not store.exists()
    said = run("pull", f"{target}/a:1", tmp_path / "a.tar.gz", "--insecure", "--dry-run")
    assert "nothing was written" in said and not list(tmp_path.glob("a.tar*"))


def test_pull_into_an_archive_that_tar_restores(plain: Registry, models: StoreBuilder, tmp_path: Path) -> None:
    run("push", "a:1", f"{plain.address}/tar", "--models", models.root, "--insecure")
    archive = tmp_path / "a.tar.gz"
    run("pull", f"{plain.address}/tar/a:1", "--as", "a:1", archive, "--insecure")
    (tmp_path / "restored").mkdir()
    subprocess.run(["tar", "-xzf", archive, "-C", tmp_path / "restored"], check=True)
    restored = StoreBuilder(tmp_path / "restored")
    assert restored.manifest_path("a:1").read_bytes() == models.manifest_path("a:1").read_bytes()
    assert not faults_of(restored.root)
    assert "there already" in run("pull", f"{plain.address}/tar/a:1", "--as", "a:1", archive, "--insecure", code=7)
    # And out of the archive into a registry again.
    said = run("push", "--from", archive, f"{plain.address}/from", "--insecure")
    assert f"{plain.address}/from/a:1" in said
    said = run("push", "--from", archive, "--model", "nothing", f"{plain.address}/from", "--insecure", code=3)
    assert "no model nothing" in said


def test_pulls_of_one_time_give_the_same_archive(plain: Registry, models: StoreBuilder, tmp_path: Path) -> None:
    run("push", "a:1", f"{plain.address}/times", "--models", models.root, "--insecure")
    archives = [tmp_path / "first.tar.gz", tmp_path / "second.tar.gz"]
    for archive in archives:
        words = ["pull", f"{plain.address}/times/a:1", "--as", "a:1", str(archive), "--insecure"]
        run(*words, environ={"SOURCE_DATE_EPOCH": "1700000000"})
    assert archives[0].read_bytes() == archives[1].read_bytes()


def test_archive_without_an_index_is_not_pushed(models: StoreBuilder, tmp_path: Path) -> None:
    subprocess.run(["tar", "-czf", tmp_path / "x.tar.gz", "-C", models.root, "blobs", "manifests"], check=True)
    said = run("push", "--from", tmp_path / "x.tar.gz", "127.0.0.1:9/x", "--insecure", code=2)
    assert "ollama-ferry import" in said


def skopeo_copy(source: str, target: str) -> None:
    flags = ["--src-tls-verify=false", "--dest-tls-verify=false", "--preserve-digests"]
    subprocess.run([require_tool("skopeo"), "copy", "-q", *flags, source, target], check=True)


def test_skopeo_and_we_read_each_other(plain: Registry, models: StoreBuilder, tmp_path: Path) -> None:
    models.manifest("oci:1", oci_manifest(models))
    run("push", "a:1", "oci:1", f"{plain.address}/skopeo", "--models", models.root, "--insecure")
    ours = f"docker://{plain.address}/skopeo"
    for name in ("a:1", "oci:1"):
        shown = subprocess.check_output(
            [require_tool("skopeo"), "inspect", "--raw", "--tls-verify=false", f"{ours}/{name}"]
        )
        assert shown == models.manifest_path(name).read_bytes()
    # Of Docker's media type skopeo takes no layers of other kinds than its own; of OCI's it takes all.
    skopeo_copy(f"{ours}/oci:1", f"dir:{tmp_path / 'dir'}")
    assert (tmp_path / "dir/manifest.json").read_bytes() == models.manifest_path("oci:1").read_bytes()
    assert (tmp_path / "dir" / Digest.of(SHARED).hex).read_bytes() == SHARED
    # Into a registry by skopeo, and then to us.
    skopeo_copy(f"dir:{tmp_path / 'dir'}", f"docker://{plain.address}/by-skopeo/deep/er:2")
    run("pull", f"{plain.address}/by-skopeo/deep/er:2", "--as", "oci:1", "--models", tmp_path / "store", "--insecure")
    stored = StoreBuilder(tmp_path / "store").manifest_path("oci:1")
    assert stored.read_bytes() == models.manifest_path("oci:1").read_bytes()
    assert not faults_of(tmp_path / "store")


@pytest.mark.parametrize("way", ["registry", "dir", "oci"])
def test_skopeo_copies_every_model_in_oci_form(plain: Registry, models: StoreBuilder, tmp_path: Path, way: str) -> None:
    """Through whatever skopeo copies it, a model comes back with its own manifest: the same ID."""
    place = f"docker://{plain.address}/oci-{way}"
    run("push", "--oci", "a:1", "b:Q4_K_M", f"{plain.address}/oci-{way}", "--models", models.root, "--insecure")
    for name in ("a:1", "b:Q4_K_M"):
        source = f"{place}/{name}"
        if way != "registry":
            between = f"{way}:{tmp_path / name.replace(':', '-')}" + (":x" if way == "oci" else "")
            skopeo_copy(source, between)
            source = between
        skopeo_copy(source, f"{place}/copied/{name}")
        reference = f"{plain.address}/oci-{way}/copied/{name}"
        run("pull", reference, "--as", name, "--models", tmp_path / "store", "--insecure")
        stored = StoreBuilder(tmp_path / "store").manifest_path(name)
        assert stored.read_bytes() == models.manifest_path(name).read_bytes()
    assert not faults_of(tmp_path / "store")


def test_skopeo_copies_what_is_served_in_oci_form(plain: Registry, models: StoreBuilder, tmp_path: Path) -> None:
    with api.serve("a:1", store=models.root, listen="127.0.0.1:0", oci=True) as server:
        served = f"{server.address}/library/a:1"
        skopeo_copy(f"docker://{served}", f"docker://{plain.address}/mirror/a:1")
        for number, place in enumerate((served, f"{plain.address}/mirror/a:1")):
            store = StoreBuilder(tmp_path / f"store {number}")
            run("pull", place, "--as", "a:1", "--models", store.root, "--insecure")
            assert store.manifest_path("a:1").read_bytes() == models.manifest_path("a:1").read_bytes()
            assert not faults_of(store.root)


def test_forms_of_one_model_replace_each_other(plain: Registry, models: StoreBuilder, tmp_path: Path) -> None:
    words = ["push", "a:1", f"{plain.address}/forms", "--models", str(models.root), "--insecure", "--json"]
    own = models.manifest_path("a:1").read_bytes()
    digests = []
    for more in ([], ["--oci"], ["--oci"], []):
        (model,) = json.loads(run(*words, *more))["models"]
        assert model["manifest_digest"] == str(Digest.of(own))
        digests.append(model["registry_digest"])
    assert digests[0] == digests[3] == str(Digest.of(own)) != digests[1] == digests[2]
    # Another model is not replaced, whatever form either has.
    models.model("a:1", [("model", SHARED), ("license", b"another")])
    for more in ([], ["--oci"]):
        assert "is another one" in run(*words, *more, code=7)
    run(*words, "--oci", "--force")
    assert "is another one" not in run(*words)


def oci_manifest(models: StoreBuilder) -> bytes:
    """Return a manifest that gives itself OCI's media type."""
    config = b'{"model_format": "gguf"}'
    document = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": str(models.blob(config)),
            "size": len(config),
        },
        "layers": [models.layer("model", SHARED), models.layer("license", b"MIT")],
    }
    return json.dumps(document, indent=2).encode()


def test_by_digest(plain: Registry, models: StoreBuilder, tmp_path: Path) -> None:
    run("push", "a:1", f"{plain.address}/digest", "--models", models.root, "--insecure")
    digest = Digest.of(models.manifest_path("a:1").read_bytes())
    reference = f"{plain.address}/digest/a@{digest}"
    assert "--as a:latest" in run("pull", reference, "--models", tmp_path / "store", "--insecure", code=2)
    run("pull", reference, "--as", "a:1", "--models", tmp_path / "store", "--insecure")
    assert not faults_of(tmp_path / "store")


def test_login_is_wanted(private: Registry, models: StoreBuilder, tmp_path: Path) -> None:
    said = run("push", "a:1", private.address, "--models", models.root, *private.options, code=5)
    assert f"docker login {private.address}" in said
    wrong = log_in(private, tmp_path / "docker")
    text = (wrong / "config.json").read_text()
    (wrong / "config.json").write_text(text.replace('"auth": "', '"auth": "eDp5", "x": "'))
    said = run("push", "a:1", private.address, "--models", models.root, *private.options, code=5,
               environ={"DOCKER_CONFIG": str(wrong)})  # fmt: skip
    assert "x in" in said


def test_authority_has_to_be_trusted(private: Registry, models: StoreBuilder, tmp_path: Path) -> None:
    environ = {"DOCKER_CONFIG": str(log_in(private, tmp_path / "docker"))}
    said = run("push", "a:1", f"{private.address}/ca", "--models", models.root, code=8, environ=environ)
    assert "--ca-file" in said and "CERTIFICATE_VERIFY_FAILED" in said
    run("push", "a:1", f"{private.address}/ca", "--models", models.root,
        environ={**environ, "SSL_CERT_FILE": str(private.ca_file)})  # fmt: skip
    said = run("push", "a:1", f"{private.address}/ca", "--models", models.root, "--ca-file", "/no/such", code=3)
    assert "/no/such" in said
    none = models.manifest_path("a:1")
    said = run("push", "a:1", f"{private.address}/ca", "--models", models.root, "--ca-file", none, code=2)
    assert "PEM" in said
    # It speaks no plain http, and says so in its own words.
    said = run("push", "a:1", f"{private.address}/ca", "--models", models.root, "--insecure", code=1)
    assert "answers 400" in said and "leave out --insecure" in said


def test_client_certificate(models: StoreBuilder, tmp_path: Path) -> None:
    with docker_registry(tmp_path / "mutual", tls=True, clients=True) as registry:
        words = ["push", "a:1", f"{registry.address}/m", "--models", str(models.root), *registry.options]
        assert "--cert FILE" in run(*words, code=8)
        pair = ["--cert", str(registry.folder / "client.crt"), "--key", str(registry.folder / "client.key")]
        run(*words, *pair)
        assert "--cert" in run(*words, "--key", str(registry.folder / "client.key"), code=2)


def test_proxy_is_asked(private: Registry, models: StoreBuilder, tmp_path: Path) -> None:
    with connect_proxy() as (address, asked):
        environ = {
            "DOCKER_CONFIG": str(log_in(private, tmp_path / "docker")),
            "HTTPS_PROXY": f"http://me:p%40ss@{address}",
            "NO_PROXY": "",
        }
        words = ["push", "a:1", f"{private.address}/proxy", "--models", str(models.root), *private.options]
        run(*words, environ=environ)
        # me:p@ss
        assert asked and set(asked) == {f"{private.address} Basic bWU6cEBzcw=="}
        asked.clear()
        run(*words, environ={**environ, "NO_PROXY": "example.com,localhost"})
        assert not asked
    for proxy in ("socks5://127.0.0.1:1", "http://user:secret@", "http://user:secret#x@host:1", "user:secret/@host:1"):
        said = run(*words, environ={**environ, "HTTPS_PROXY": proxy}, code=2)
        assert "http proxy" in said and "secret" not in said


def test_lines_with_tls_that_are_cut(models: StoreBuilder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TLS that ends without its goodbye is a broken line, and not a host that is not trusted."""
    names = list(Store(models.root).names())
    with docker_registry(tmp_path / "registry", tls=True) as registry:
        access = quick_access(insecure=False, ca_file=registry.ca_file, chunk_size=1_000_000)
        target = PushTarget.parse(registry.address)
        with connect_proxy(up=[1_500_000, 500_000]) as (address, asked):
            monkeypatch.setenv("HTTPS_PROXY", f"http://{address}")
            push(Store(models.root), names, target, PushOptions(), access)
            assert len(asked) > 2
        references = references_of([f"{registry.address}/a:1"], Renames.parse(["a:1"]))
        with connect_proxy(down=[1_000_000, 200_000]) as (address, asked):
            monkeypatch.setenv("HTTPS_PROXY", f"http://{address}")
            pull_into_store(references, Store(tmp_path / "store"), ImportOptions(), access)
            assert len(asked) > 2
    assert not faults_of(tmp_path / "store")
    assert (
        StoreBuilder(tmp_path / "store").manifest_path("a:1").read_bytes() == models.manifest_path("a:1").read_bytes()
    )


def test_proxy_by_https_sees_no_certificate(models: StoreBuilder, tmp_path: Path) -> None:
    with docker_registry(tmp_path / "registry", tls=True, clients=True) as registry:
        pair = ["--cert", str(registry.folder / "client.crt"), "--key", str(registry.folder / "client.key")]
        words = ["push", "a:1", registry.address, "--models", str(models.root), *registry.options, *pair]
        with connect_proxy(certificates=registry.folder) as (address, asked):
            run(*words, environ={"HTTPS_PROXY": f"https://{address}"})
            # Plain http goes to the proxy itself, who is not the registry either.
            run(*words, "--insecure", code=1, environ={"HTTP_PROXY": f"https://{address}"})
    assert asked and "a client's certificate" not in asked


def test_token_server_that_is_not_trusted(private: Registry, models: StoreBuilder, tmp_path: Path) -> None:
    """It is told at once, and by its own name."""
    with faulty_registry() as registry:
        registry.locked = True

        def send_elsewhere(handler: FaultyHandler) -> None:
            handler.reply(401, {"WWW-Authenticate": f'Bearer realm="https://{private.address}/token",service="x"'})
            raise Answered

        registry.always["manifest"] = send_elsewhere
        said = run("pull", f"{registry.address}/m/a:1", "--models", tmp_path / "store", "--insecure", code=8)
        assert f"asking for a token: {private.address}: CERTIFICATE_VERIFY_FAILED" in said
        assert "--ca-file" in said and "certs.d" not in said
        assert registry.count("manifest") == 1


def test_files_of_certificates_are_looked_for_before_anything_is_asked(plain: Registry, tmp_path: Path) -> None:
    said = run("pull", f"{plain.address}/m/a:1", "--models", tmp_path, "--insecure", "--ca-file", "/no/ca", code=3)
    assert "/no/ca" in said


def test_swapped_words_and_folders_are_explained(models: StoreBuilder, tmp_path: Path) -> None:
    said = run("push", "registry.lab:5000/models", "a:1", "--models", models.root, code=2)
    assert "The registry goes last" in said
    assert "neither a model's name nor an archive's" in run("pull", "a:1", f"{tmp_path}/none/", code=2)


def test_certificates_that_docker_keeps(private: Registry, tmp_path: Path) -> None:
    folder = tmp_path / "certs.d" / private.address
    folder.mkdir(parents=True)
    assert private.ca_file
    (folder / "ca.crt").write_bytes(private.ca_file.read_bytes())
    for name, kept in (("client.crt", "client.cert"), ("client.key", "client.key")):
        (folder / kept).write_bytes((private.folder / name).read_bytes())
    environ = {"DOCKER_CONFIG": str(log_in(private, tmp_path / "docker"))}
    access = Access(environ=environ, docker_certificates=tmp_path / "certs.d")
    with Client(private.address, access) as client, pytest.raises(NotFound):
        client.ask("GET", "/v2/no/manifests/1", scope="repository:no:pull", what="asking", accept=(200,))
    (folder / "client.key").unlink()
    with pytest.raises(NotFound, match=r"client"):
        Client(private.address, access)


def test_calls_from_python(plain: Registry, models: StoreBuilder, tmp_path: Path) -> None:
    pushed = ollama_ferry.push("a:1", f"{plain.address}/python", store=models.root, insecure=True)
    assert str(pushed.models[0].reference) == f"{plain.address}/python/a:1" and pushed.blobs
    reference = f"{plain.address}/python/a:1"
    imported = ollama_ferry.pull(reference, store=tmp_path / "store", rename="a:1", insecure=True)
    assert isinstance(imported, ollama_ferry.Imported) and not faults_of(tmp_path / "store")
    exported = ollama_ferry.pull(reference, tmp_path / "a.tar", insecure=True)
    assert isinstance(exported, ollama_ferry.Exported) and ollama_ferry.verify(archive=tmp_path / "a.tar").good


@pytest.mark.parametrize("kind", ["oci", "docker"])
def test_what_is_no_model_is_not_replaced_unasked(plain: Registry, models: StoreBuilder, kind: str) -> None:
    run("push", "a:1", f"{plain.address}/images", "--insecure", "--models", models.root)
    manifest = models.manifest_path("a:1").read_bytes()
    entry = {"mediaType": json.loads(manifest)["mediaType"], "size": len(manifest), "digest": str(Digest.of(manifest))}
    entry["platform"] = {"os": "linux", "architecture": "arm64"}
    media_type = {
        "oci": "application/vnd.oci.image.index.v1+json",
        "docker": "application/vnd.docker.distribution.manifest.list.v2+json",
    }[kind]
    index = json.dumps({"schemaVersion": 2, "mediaType": media_type, "manifests": [entry]}).encode()
    url = f"http://{plain.address}/v2/images/a/manifests/{kind}"
    request = urllib.request.Request(url, index, {"Content-Type": media_type}, method="PUT")
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status == 201
    words = ["push", "a:1", f"{plain.address}/images", "--as", f"a:{kind}", "--insecure", "--models", str(models.root)]
    assert "another one" in run(*words, code=7)
    assert "another one" in run(*words, "-n", code=7)
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Accept": media_type}), timeout=30) as answer:
        assert answer.read() == index
    run(*words, "--force")
