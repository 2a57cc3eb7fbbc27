"""``verify``, and ``list`` and ``show`` of an archive, as a user meets them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

import ollama_ferry
from ollama_ferry.places.archive.file import ArchiveFile
from ollama_ferry.shell_lines import removal
from support import needs
from support.command_line import COMMAND, assert_one_clear_error, ferry, ferry_as_nobody
from support.stores import StoreBuilder, tree, weights

KINDS = [".tar", ".tar.gz", ".tar.zst"]


@pytest.fixture
def models(source: StoreBuilder) -> StoreBuilder:
    shared = weights(2_500_000)
    source.model("qwen3:8b", [("model", shared), ("template", b"{{ .Prompt }}")])
    source.model("qwen3:14b", [("model", shared), ("template", b"User: {{ .Prompt }}")])
    source.model("hf.co/org/repo:Q4_K_M", [("model", weights(100_000, 2))])
    return source


def archive_of(models: StoreBuilder, folder: Path, kind: str) -> Path:
    path = folder / f"models{kind}"
    ollama_ferry.export("*/*/*:*", path, store=models.root)
    return path


def blob_of(models: StoreBuilder, name: str, kind: str) -> Path:
    manifest = json.loads(models.manifest_path(name).read_bytes())
    digest = next(layer["digest"] for layer in manifest["layers"] if layer["mediaType"].endswith(kind))
    return models.root / "blobs" / str(digest).replace(":", "-")


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)


def test_whole_store_is_good_and_nothing_changes(models: StoreBuilder) -> None:
    before = {path: path.stat().st_mtime_ns for path in models.root.rglob("*")}
    done = ferry("verify", "--models", models.root)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(" good") == 3
    assert "checked 5 blobs" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in models.root.rglob("*")} == before
    one = json.loads(ferry("verify", "--models", models.root, "qwen3:8b", "--json").stdout)
    assert one["good"] and one["blobs"] == 3 and [model["name"] for model in one["models"]] == ["qwen3:8b"]


@pytest.mark.parametrize(
    ("fault", "said"),
    [("content", "damaged"), ("size", "of the wrong size"), ("missing", "missing"), ("unfinished", "unfinished")],
)
def test_each_fault_is_found_and_told_how_to_mend(models: StoreBuilder, fault: str, said: str) -> None:
    blob = blob_of(models, "qwen3:8b", "template")
    if fault == "content":
        flip(blob, 3)
    elif fault == "size":
        blob.write_bytes(b"short")
    else:
        blob.unlink()
        if fault == "unfinished":
            (blob.parent / f"{blob.name}-partial").write_bytes(b"")
    done = ferry("verify", "--models", models.root)
    assert_one_clear_error(done, 4)
    (line,) = [line for line in done.stdout.splitlines() if "  damaged  " in line]
    assert line.startswith("qwen3:8b") and said in line and blob.name[7:19] in line
    assert "ollama pull qwen3:8b" in done.stderr and "--repair" in done.stderr
    assert (removal([blob]) in done.stderr) == (fault in ("content", "size"))
    told = json.loads(ferry("verify", "--models", models.root, "--json").stdout)
    (problem,) = [problem for model in told["models"] for problem in model["problems"]]
    assert problem["fault"] == fault and problem["digest"] == blob.name.replace("-", ":")
    # What is not asked for is not in the way.
    assert ferry("verify", "--models", models.root, "qwen3:14b").returncode == 0


def test_damaged_weights_count_for_every_model_that_shares_them(models: StoreBuilder) -> None:
    flip(blob_of(models, "qwen3:8b", "model"), 1_000_000)
    done = ferry("verify", "--models", models.root)
    assert done.returncode == 4
    assert done.stdout.count("  damaged  ") == 2 and "2 of 3 models" in done.stderr


def test_damaged_manifest_is_told(models: StoreBuilder) -> None:
    models.manifest_path("qwen3:8b").write_bytes(b"{")
    done = ferry("verify", "--models", models.root)
    assert_one_clear_error(done, 4)
    assert "not valid JSON" in done.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_archive_is_verified_whole_and_as_a_stream(models: StoreBuilder, tmp_path: Path, kind: str) -> None:
    archive = archive_of(models, tmp_path, kind)
    done = ferry("verify", archive)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(" good") == 3
    with archive.open("rb") as stream:
        piped = subprocess.run([*COMMAND, "verify", "-"], stdin=stream, capture_output=True, text=True, check=True)
    assert piped.stdout.count(" good") == 3


def test_archive_with_a_damaged_blob_names_the_models(models: StoreBuilder, tmp_path: Path) -> None:
    archive = archive_of(models, tmp_path, ".tar")
    with ArchiveFile(archive) as file:
        source = file.source()
        assert source is not None
        size, place = max(source.contents.blobs.values())
    flip(archive, place + size // 2)
    done = ferry("verify", archive)
    assert_one_clear_error(done, 4)
    assert done.stdout.count("  damaged  ") == 2 and done.stdout.count(" good") == 1


@pytest.mark.parametrize("kind", [".tar.gz", ".tar.zst"])
def test_damaged_index_is_ignored_with_a_word(models: StoreBuilder, tmp_path: Path, kind: str) -> None:
    archive = archive_of(models, tmp_path, kind)
    flip(archive, archive.stat().st_size - 120)
    assert_one_clear_error(ferry("verify", archive), 4)
    listed = ferry("list", archive)
    assert listed.returncode == 0 and "index is damaged" in listed.stderr
    done = ferry("import", archive, "--models", tmp_path / "target")
    assert done.returncode == 0 and "index is damaged" in done.stderr
    assert tree(tmp_path / "target") == tree(models.root)


def test_index_that_tells_something_else_than_the_tar_is_found(models: StoreBuilder, tmp_path: Path) -> None:
    from ollama_ferry.archives.index import Index, index_bytes, read_index
    from ollama_ferry.archives.kinds import Kind

    archive = archive_of(models, tmp_path, ".tar.gz")
    with archive.open("rb") as file:
        index = read_index(file, "gzip")
    assert index is not None
    # Without the last model: a list would not show what plain tar restores.
    fewer = Index(index.files[:-1], index.frames)
    data = archive.read_bytes()[: index.frames.packed_size] + index_bytes(fewer, Kind.TAR_GZ, "somebody")
    archive.write_bytes(data)
    for words in (("verify", archive), ("list", archive), ("import", archive, "--models", tmp_path / "target")):
        done = ferry(*words)
        assert_one_clear_error(done, 4)
        assert "index says something else" in done.stderr


@pytest.mark.parametrize("kind", [*KINDS, ".plain.tar.gz"])
def test_repair_takes_what_is_damaged_from_an_archive(models: StoreBuilder, tmp_path: Path, kind: str) -> None:
    if kind.startswith(".plain"):
        archive = tmp_path / "plain.tar.gz"
        subprocess.run(["tar", "-C", models.root, "-czf", archive, "."], check=True)
    else:
        archive = archive_of(models, tmp_path, kind)
    whole = tree(models.root)
    flip(blob_of(models, "qwen3:8b", "model"), 1_000_000)
    blob_of(models, "qwen3:14b", "template").unlink()
    models.manifest_path("hf.co/org/repo:Q4_K_M").write_bytes(b"junk")
    assert ferry("verify", "--models", models.root).returncode == 4
    done = ferry("verify", "--models", models.root, "--repair", archive)
    assert done.returncode == 0, done.stderr
    assert "repaired 3 blobs and manifests" in done.stdout
    assert tree(models.root) == whole


def test_repair_says_what_it_could_not_mend(models: StoreBuilder, tmp_path: Path) -> None:
    path = tmp_path / "one.tar.gz"
    ollama_ferry.export("qwen3:14b", path, store=models.root)
    for name, kind in (("qwen3:8b", "template"), ("qwen3:14b", "template")):
        blob_of(models, name, kind).unlink()
    done = ferry("verify", "--models", models.root, "--repair", path)
    assert_one_clear_error(done, 4)
    assert "repaired 1 " in done.stdout and "1 of 3 models" in done.stderr and "qwen3:8b" in done.stderr
    # An archive that is damaged itself repairs nothing, and publishes nothing.
    flip(path, 5000)
    before = tree(models.root)
    blob_of(models, "qwen3:14b", "model").unlink()
    assert ferry("verify", "--models", models.root, "--repair", path).returncode == 4
    assert tree(models.root).items() <= before.items()


@pytest.mark.parametrize("kind", [*KINDS, ".plain.tar.gz"])
def test_list_and_show_of_an_archive(models: StoreBuilder, tmp_path: Path, kind: str) -> None:
    if kind.startswith(".plain"):
        archive = tmp_path / "plain.tar.gz"
        subprocess.run(["tar", "-C", models.root, "-czf", archive, "."], check=True)
    else:
        archive = archive_of(models, tmp_path, kind)
    of_store = json.loads(ferry("list", "--models", models.root, "--json").stdout)["models"]
    of_archive = json.loads(ferry("list", archive, "--json").stdout)["models"]
    for model in (*of_store, *of_archive):
        model.pop("modified")
    assert of_archive == of_store
    shown = ferry("show", "QWEN3:8b", archive)
    assert shown.returncode == 0, shown.stderr
    assert "qwen3:14b" in shown.stdout and blob_of(models, "qwen3:8b", "model").name in shown.stdout
    assert_one_clear_error(ferry("show", "qwen3:9b", archive), 3)
    assert_one_clear_error(ferry("list", tmp_path / "nowhere.tar"), 3)


@pytest.mark.parametrize("words", [["a.tar", "b.tar"], ["qwen3:8b", "a.tar"], ["./a.tar", "--repair", "b.tar"]])
def test_wrong_calls_get_one_clear_error(models: StoreBuilder, words: list[str]) -> None:
    assert_one_clear_error(ferry("verify", *words, "--models", models.root), 2)


def test_what_is_not_there(models: StoreBuilder, tmp_path: Path) -> None:
    assert_one_clear_error(ferry("verify", tmp_path / "nowhere.tar.gz"), 3)
    assert_one_clear_error(ferry("verify", "qwen3:9b", "--models", models.root), 3)
    assert_one_clear_error(ferry("verify", "--models", tmp_path / "nowhere"), 3)
    (tmp_path / "empty/manifests").mkdir(parents=True)
    done = ferry("verify", "--models", tmp_path / "empty")
    assert done.returncode == 0 and "no models" in done.stdout


@needs.root("acts as another user")
def test_without_permission_the_line_to_run_is_given(models: StoreBuilder, tmp_path: Path) -> None:
    for folder in [tmp_path, *tmp_path.parents]:
        if folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    (models.root / "blobs").chmod(0o700)
    done = ferry_as_nobody("verify", "--models", models.root)
    assert_one_clear_error(done, 5)
    assert "sudo /usr/local/bin/ollama-ferry verify" in done.stderr


@needs.root("what root is told")
def test_lines_that_mend_are_for_root_run_as_the_owner(source: StoreBuilder) -> None:
    source.model("m:1", [("model", b"weights")])
    path = blob_of(source, "m:1", "model")
    flip(path, 0)
    os.chown(source.root / "blobs", 65534, 65534)
    done = ferry("verify", "--models", source.root)
    assert f"sudo -u nobody rm {path} && ollama pull m:1" in done.stderr
