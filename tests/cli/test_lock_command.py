"""``lock``, ``--lock``, ``--sign`` and ``--signers``, as they are typed."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from support.command_line import assert_one_clear_error, ferry
from support.stores import StoreBuilder, weights

pytestmark = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="no ssh-keygen")


@pytest.fixture
def models(source: StoreBuilder) -> StoreBuilder:
    source.model("qwen3:8b", [("model", weights(200_000, 1))])
    source.model("gemma3:4b", [("model", weights(200_000, 2))])
    return source


@pytest.fixture
def locked(models: StoreBuilder, tmp_path: Path) -> Path:
    done = ferry("lock", "qwen3:8b", "--models", models.root)
    assert done.returncode == 0, done.stderr
    path = tmp_path / "models.lock"
    path.write_text(done.stdout)
    return path


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    (tmp_path / "allowed").write_text(f"lab@example.org {path.with_name('key.pub').read_text()}")
    return path


def exported(models: StoreBuilder, path: Path, *words: str | Path) -> Path:
    done = ferry("export", *words, path, "--models", models.root, "-q")
    assert done.returncode == 0, done.stderr
    return path


def test_lock_is_the_same_of_a_store_an_archive_and_a_folder(models: StoreBuilder, tmp_path: Path) -> None:
    archive = exported(models, tmp_path / "both.tar.gz", "--all")
    of_store = ferry("lock", "--models", models.root)
    of_archive = ferry("lock", archive)
    assert of_store.stdout == of_archive.stdout and of_store.stdout.startswith(
        "# ollama-ferry lock 1\ngemma3:4b sha256:"
    )
    said = json.loads(ferry("lock", "qwen3:8b", "--models", models.root, "--json").stdout)
    assert [model["name"] for model in said["models"]] == ["qwen3:8b"]


def test_import_is_held_to_the_lock(models: StoreBuilder, locked: Path, tmp_path: Path) -> None:
    one = exported(models, tmp_path / "one.tar.gz", "qwen3:8b")
    both = exported(models, tmp_path / "both.tar.gz", "--all")
    assert ferry("import", one, "--models", tmp_path / "a", "--lock", locked).returncode == 0
    done = ferry("import", both, "--models", tmp_path / "b", "--lock", locked)
    assert_one_clear_error(done, 4)
    assert "gemma3:4b is in" in done.stderr and "not in the lock" in done.stderr and not (tmp_path / "b").exists()
    # A part of it that is locked may come alone.
    part = ferry("import", both, "--model", "qwen3:8b", "--models", tmp_path / "c", "--lock", locked)
    assert part.returncode == 0, part.stderr
    models.model("qwen3:8b", [("model", weights(200_000, 9))])
    moved = exported(models, tmp_path / "moved.tar", "qwen3:8b")
    done = ferry("import", moved, "--models", tmp_path / "d", "--lock", locked)
    assert_one_clear_error(done, 4)
    assert "in the lock" in done.stderr and not (tmp_path / "d").exists()


def test_store_and_archive_are_verified_against_the_lock(models: StoreBuilder, locked: Path, tmp_path: Path) -> None:
    one = exported(models, tmp_path / "one.tar.gz", "qwen3:8b")
    assert ferry("verify", one, "--lock", locked).returncode == 0
    assert ferry("verify", "qwen3:8b", "--models", models.root, "--lock", locked).returncode == 0
    done = ferry("verify", "--models", models.root, "--lock", locked)
    assert_one_clear_error(done, 4)
    assert "gemma3:4b" in done.stderr


def test_send_and_fetch_take_what_is_locked(models: StoreBuilder, locked: Path, tmp_path: Path) -> None:
    target = tmp_path / "stick"
    assert ferry("send", f"{target}/", "--models", models.root, "--lock", locked).returncode == 0
    listed = json.loads(ferry("list", "--models", target, "--json").stdout)
    assert [model["name"] for model in listed["models"]] == ["qwen3:8b"]
    done = ferry("send", "gemma3:4b", f"{target}/", "--models", models.root, "--lock", locked)
    assert_one_clear_error(done, 4)
    here = ferry("fetch", f"{target}/", "--models", tmp_path / "here", "--lock", locked)
    assert here.returncode == 0, here.stderr
    models.model("qwen3:8b", [("model", weights(200_000, 8))])
    done = ferry("fetch", f"{models.root}/", "qwen3:8b", "--models", tmp_path / "there", "--lock", locked)
    assert_one_clear_error(done, 4)


def test_signed_archive_is_told_from_one_that_is_not(
    models: StoreBuilder, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed = key.with_name("allowed")
    signed = exported(models, tmp_path / "signed.tar.gz", "qwen3:8b", "--sign", key)
    assert signed.with_name("signed.tar.gz.sig").is_file()
    plain = exported(models, tmp_path / "plain.tar.gz", "qwen3:8b")
    done = ferry("verify", signed, "--signers", allowed)
    assert done.returncode == 0 and "signed by lab@example.org" in done.stdout
    # The index has it too.
    signed.with_name("signed.tar.gz.sig").unlink()
    assert ferry("import", signed, "--models", tmp_path / "a", "--signers", allowed).returncode == 0
    done = ferry("import", plain, "--models", tmp_path / "b", "--signers", allowed)
    assert_one_clear_error(done, 4)
    assert "is not signed" in done.stderr and not (tmp_path / "b").exists()
    monkeypatch.setenv("OLLAMA_FERRY_SIGNERS", str(allowed))
    assert_one_clear_error(ferry("import", plain, "--models", tmp_path / "b"), 4)
    assert_one_clear_error(ferry("fetch", f"{models.root}/", "qwen3:8b", "--models", tmp_path / "b"), 4)
    assert ferry("import", signed, "--models", tmp_path / "c").returncode == 0
    # Looking is nobody's risk.
    assert ferry("verify", plain).returncode == 0


def test_signed_lock_vouches_for_what_has_no_file(models: StoreBuilder, key: Path, tmp_path: Path) -> None:
    lock, allowed = tmp_path / "models.lock", key.with_name("allowed")
    words = ("lock", "qwen3:8b", "--models", models.root, "--output", lock)
    assert ferry(*words, "--sign", key).returncode == 0
    assert_one_clear_error(ferry(*words), 7)
    fetch = ("fetch", f"{models.root}/", "--models", tmp_path / "here", "--lock", lock, "--signers", allowed)
    assert ferry(*fetch).returncode == 0
    lock.write_text(lock.read_text().replace("model\n", "modem\n"))
    done = ferry(*fetch)
    assert_one_clear_error(done, 4)
    assert "lab@example.org has signed" in done.stderr


def test_repair_takes_no_manifest_that_is_not_signed(
    models: StoreBuilder, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed = exported(models, tmp_path / "signed.tar", "qwen3:8b", "--sign", key)
    models.model("qwen3:8b", [("model", weights(200_000, 66))])
    other = exported(models, tmp_path / "other.tar", "qwen3:8b")
    monkeypatch.setenv("OLLAMA_FERRY_SIGNERS", str(key.with_name("allowed")))
    store = tmp_path / "store"
    assert ferry("import", signed, "--models", store).returncode == 0
    manifest = store / "manifests/registry.ollama.ai/library/qwen3/8b"
    whole = manifest.read_bytes()
    manifest.write_bytes(b"{torn")
    done = ferry("verify", "--models", store, "--repair", other)
    assert done.returncode == 4 and "not signed" in done.stderr and manifest.read_bytes() == b"{torn"
    assert ferry("verify", "--models", store, "--repair", other, "--repair", signed).returncode == 0
    assert manifest.read_bytes() == whole


@pytest.mark.parametrize(
    "words",
    [
        ("verify", "--signers", "allowed"),
        ("verify", "--lock", "x", "--repair", "y.tar"),
    ],
)
def test_wrong_calls_are_told_before_a_store_is_looked_for(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = ferry(*words, "--models", tmp_path / "nowhere")
    assert_one_clear_error(done, 2)
    assert "nowhere" not in done.stderr


@pytest.mark.parametrize("words", [("lock", "--sign", "key"), ("fetch", "./nowhere")])
def test_wrong_calls_get_one_clear_error(models: StoreBuilder, words: tuple[str, ...]) -> None:
    assert_one_clear_error(ferry(*words, "--models", models.root), 2)
