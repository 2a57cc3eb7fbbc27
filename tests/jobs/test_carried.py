"""What can't be carried is named and left out; what was asked for by name, and can't be, is an error."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ollama_ferry.model.manifests import Manifest
from ollama_ferry.places.store.store import Store
from support.command_line import assert_one_clear_error, ferry
from support.odd_stores import CARRIED, CHINESE, OddStore, every_oddity, everything, whole_models
from support.served import serve_process
from support.stores import StoreBuilder, faults_of

# What is wrong with the rest of the store with every oddity.
DAMAGED = {"empty:latest", "lost:latest", "flipped:latest"}
NO_MODELS = {
    "packed:latest", "stub:latest", "registry.ollama.ai/library/good/my notes",
    "registry.ollama.ai/library/good/latest.meta",
    *(f"registry.ollama.ai/library/{CHINESE}/{tag}" for tag in ("latest", "8b")),
}  # fmt: skip


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> OddStore:
    return every_oddity(tmp_path_factory.mktemp("odd"))


def left_out(text: str) -> set[str]:
    return {entry["name"] for entry in json.loads(text)["left_out"]}


def export(odd: OddStore, target: Path) -> list[str | Path]:
    return ["export", "--all", target / "all.tar", "--models", odd.root]


def send(odd: OddStore, target: Path) -> list[str | Path]:
    return ["send", "--all", target / "store", "--models", odd.root]


def fetch(odd: OddStore, target: Path) -> list[str | Path]:
    return ["fetch", odd.root, "--all", "--models", target / "store"]


@pytest.mark.parametrize("command", [export, send, fetch])
def test_every_oddity_at_once(odd: OddStore, tmp_path: Path, command: Callable[..., list[str | Path]]) -> None:
    before = everything(odd.root)
    done = ferry(*command(odd, tmp_path), "--json")
    assert done.returncode == 4
    assert left_out(done.stdout) == DAMAGED | NO_MODELS
    notes = [json.loads(line).get("text", "") for line in done.stderr.splitlines()]
    for name in DAMAGED | NO_MODELS:
        assert sum(name in note for note in notes if note.startswith("left out: ")) == 1, name
    if command is export:
        assert ferry("import", tmp_path / "all.tar", "--models", tmp_path / "store").returncode == 0
    assert set(map(str, Store(tmp_path / "store").names())) == CARRIED
    assert everything(odd.root) == before


def test_list_and_verify_name_the_rest_once(odd: OddStore) -> None:
    listed = ferry("list", "--models", odd.root, "--json")
    assert listed.returncode == 0
    assert left_out(listed.stdout) == NO_MODELS - {"packed:latest", "stub:latest"}
    models = {model["name"]: model for model in json.loads(listed.stdout)["models"]}
    assert models.keys() == CARRIED | DAMAGED | {"packed:latest", "stub:latest"}
    assert models["listed:latest"]["size"] > 400 and not models["new:latest"]["problem"]
    verified = ferry("verify", "--models", odd.root, "--json")
    assert verified.returncode == 4
    assert left_out(verified.stdout) == left_out(listed.stdout)
    good = {model["name"] for model in json.loads(verified.stdout)["models"] if model["good"]}
    # A server deletes the blobs of the one, and has nothing to run of the other.
    assert good == CARRIED - {"dashed:latest", "confused:latest"} | {"stub:latest"}


def test_every_oddity_is_served_but_for_the_rest(odd: OddStore, tmp_path: Path) -> None:
    with serve_process(tmp_path, "--all", "--exclude", "two*", "--exclude", "hf.co/*", "--models", odd.root) as server:
        done = ferry("pull", f"127.0.0.1:{server.port}/library/new:latest", "--insecure", "--models", tmp_path / "s")
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("name", "code", "why"),
    [
        ("stub", 3, "cloud model"),
        ("packed", 3, "ModelPack"),
        ("empty", 4, "damaged"),
        ("lost", 4, "is not in"),
        ("flipped", 4, "has the SHA-256"),
        (f"{CHINESE}:8b", 2, "does not take"),
        ("good:latest.meta", 3, "is no manifest"),
    ],
)
def test_what_was_named_is_an_error(odd: OddStore, tmp_path: Path, name: str, code: int, why: str) -> None:
    for command in ("export", "send"):
        target = tmp_path / ("a.tar" if command == "export" else "store")
        done = ferry(command, name, "good", target, "--models", odd.root)
        assert_one_clear_error(done, code)
        assert why in done.stderr
    assert not (tmp_path / "a.tar").exists()
    assert not list(Store(tmp_path / "store").names())


def test_keep_going(odd: OddStore, tmp_path: Path) -> None:
    """It counts for models that were named, too; without it one damaged model of a pattern ends all."""
    archive = tmp_path / "a.tar"
    done = ferry("export", "flipped", "good", "--keep-going", archive, "--models", odd.root, "--json")
    assert done.returncode == 4
    assert json.loads(done.stdout)["models"] == ["good:latest"] and left_out(done.stdout) == {"flipped:latest"}
    assert ferry("verify", archive).returncode == 0
    done = ferry("export", "--all", "--no-keep-going", tmp_path / "b.tar", "--models", odd.root)
    assert_one_clear_error(done, 4)
    assert not (tmp_path / "b.tar").exists()
    # What is written of volumes can't be taken back: all is hashed first.
    done = ferry(
        "export",
        "--all",
        "--keep-going",
        "--split",
        "64k",
        "--exclude",
        "dashed",
        tmp_path / "c.tar",
        "--models",
        odd.root,
    )
    assert done.returncode == 4 and ferry("verify", tmp_path / "c.tar.001").returncode == 0


def test_exclude(odd: OddStore, tmp_path: Path) -> None:
    done = ferry("export", "good*", "--exclude", "good:8b", tmp_path / "a.tar", "--models", odd.root, "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["models"] == ["good:latest"]
    done = ferry("export", "good:8b", "--exclude", "good*", tmp_path / "b.tar", "--models", odd.root)
    assert_one_clear_error(done, 3)
    done = ferry("verify", "--exclude", "[!g]*", "--models", odd.root, "--json")
    assert [model["name"] for model in json.loads(done.stdout)["models"]] == ["good:8b", "good:latest"]


def test_model_under_a_refused_name_is_exported_under_another(odd: OddStore, tmp_path: Path) -> None:
    archive = tmp_path / "a.tar"
    for text in (f"{CHINESE}:8b", f"registry.ollama.ai/library/{CHINESE}/8b"):
        done = ferry("export", text, "--as", "chinese:8b", archive, "-f", "--models", odd.root)
        assert done.returncode == 0, done.stderr
    assert ferry("import", archive, "--models", tmp_path / "s").returncode == 0
    assert [str(name) for name in Store(tmp_path / "s").names()] == ["chinese:8b"]
    done = ferry("export", "good:8b", "good", "--as", "x", archive, "-f", "--models", odd.root)
    assert_one_clear_error(done, 2)


def test_models_get_other_names_in_the_archive(odd: OddStore, tmp_path: Path) -> None:
    archive = tmp_path / "a.tar"
    words = ["export", "good*", str(archive), "-f", "--models", str(odd.root)]
    done = ferry(*words, "--as", "good*=me/fine*")
    assert done.returncode == 0, done.stderr
    assert ferry("import", archive, "--models", tmp_path / "s").returncode == 0
    assert [str(name) for name in Store(tmp_path / "s").names()] == ["me/fine:8b", "me/fine:latest"]
    done = ferry(*words, "--as", "good:8b=x:1", "--as", "good:latest=x:1")
    assert_one_clear_error(done, 2)
    assert "would both become x:1" in done.stderr
    # What is left out is called as it is in the store.
    done = ferry("export", "--all", archive, "-f", "--models", odd.root, "--as", "good*=mine/m*", "--json")
    assert done.returncode == 4, done.stderr
    left_out = {one["name"] for one in json.loads(done.stdout)["left_out"]}
    assert left_out and not any("mine/" in name for name in left_out)


def test_manifest_that_is_being_written_is_no_damage(tmp_path: Path) -> None:
    store = StoreBuilder(tmp_path / "store")
    store.model("good")
    path = store.manifest_path("coming")
    path.parent.mkdir()
    path.touch()
    for command in (["verify"], ["export", "--all", tmp_path / "a.tar"], ["list"]):
        done = ferry(*command, "--models", store.root, "--json")
        assert done.returncode == 0 and left_out(done.stdout) == {"registry.ollama.ai/library/coming/latest"}
        assert "being written" in done.stderr


def test_nothing_is_left(tmp_path: Path) -> None:
    store = StoreBuilder(tmp_path / "store")
    store.model("stub", [], config={"remote_host": "https://ollama.com:443"})
    for command, target in (("export", "a.tar"), ("send", "s")):
        done = ferry(command, "--all", tmp_path / target, "--models", store.root)
        assert_one_clear_error(done, 3)
        assert "cloud model" in done.stderr


def test_linked_send_copies_nothing(odd: OddStore, tmp_path: Path) -> None:
    done = ferry("send", "good*", odd.root.parent / "linked", "--link", "--models", odd.root)
    assert done.returncode == 0, done.stderr
    blobs = odd.root.parent / "linked/blobs"
    shared = [path for path in blobs.iterdir() if path.samefile(odd.blobs / path.name)]
    # Where the file system has reflinks, they are files of their own.
    assert len(shared) in (0, len(list(blobs.iterdir())))
    assert not faults_of(odd.root.parent / "linked")
    shutil.rmtree(odd.root.parent / "linked")
    assert len(whole_models(odd.root)) > 3


STRANGERS = {
    "application/vnd.cncf.model.weight.v1.raw": "ModelPack",
    "application/vnd.docker.ai.gguf.v3": "Docker Model Runner",
    "application/vnd.cncf.helm.chart.content.v1.tar+gzip": "Helm chart",
}


@pytest.mark.parametrize("kind", STRANGERS)
def test_other_programs_models_are_refused_by_name(tmp_path: Path, kind: str) -> None:
    """In an archive that can be searched, in a stream, and from a registry."""
    store = StoreBuilder(tmp_path / "store")
    store.model("good")
    layer = {"mediaType": kind, "digest": str(store.blob(b"theirs")), "size": 6}
    store.manifest("theirs", json.dumps({"config": {}, "layers": [layer]}).encode())
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, "w") as made:
        made.add(store.root, arcname=".")
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as made:
        made.add(store.root, arcname=".")
    for number, path in enumerate((archive, tmp_path / "a.tar.gz")):
        done = ferry("import", path, "--models", tmp_path / f"t{number}", "--json")
        assert done.returncode == 0 and "theirs:latest is a" in done.stderr, done.stdout
        done = ferry("import", path, "--model", "theirs", "--models", tmp_path / "u")
        assert_one_clear_error(done, 3)
        assert STRANGERS[kind] in done.stderr
    assert not (tmp_path / "u/manifests").exists()
    page = Manifest.parse(store.manifest_path("theirs").read_bytes())
    assert STRANGERS[kind] in page.stranger
