"""``doctor`` on one store: each thing that can be wrong is told, with the lines that mend it."""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path

import pytest

from ollama_ferry.doctor.disk import FREE_AT_LEAST
from ollama_ferry.doctor.findings import Severity
from ollama_ferry.places.store.staging import staging_folder
from ollama_ferry.places.store.store import Store
from ollama_ferry.shell_lines import removal
from support import needs
from support.checking import HOURS, LIBRARY, checked, codes, follow, long_ago, one, only, run, unit
from support.command_line import ferry
from support.stores import StoreBuilder, tree


@pytest.fixture
def models(source: StoreBuilder) -> StoreBuilder:
    """A store with nothing wrong."""
    source.model("qwen3:8b", [("model", b"w" * 5000), ("template", b"t")])
    return source


def test_good_store_has_no_finding(models: StoreBuilder, tmp_path: Path) -> None:
    assert codes(checked(models, tmp_path)) == []
    done = ferry("doctor", "--models", models.root)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 problems" in done.stdout and f"ollama-ferry verify --models {models.root}" in done.stdout


def test_new_store_without_blobs_is_no_problem(tmp_path: Path) -> None:
    store = StoreBuilder(tmp_path / "new")
    (store.root / "manifests").mkdir(parents=True)
    assert codes(checked(store, tmp_path)) == []


# -- models


def test_missing_config(models: StoreBuilder, tmp_path: Path) -> None:
    manifest = models.model("lost", config={"lost": 1})
    assert manifest.config is not None
    models.blob_path(manifest.config.digest).unlink()
    finding = only(checked(models, tmp_path), "missing-config")
    assert finding.severity is Severity.PROBLEM
    assert "lost:latest" in finding.text and "disappears from `ollama list`" in finding.text
    assert "ollama pull lost:latest" in finding.mend


@pytest.mark.parametrize("content", [b"not json at all!", b"[1, 2, 3, 4, 5] "])
def test_config_that_is_no_config(models: StoreBuilder, tmp_path: Path, content: bytes) -> None:
    manifest = models.model("odd", config={"odd": "12345"})
    assert manifest.config is not None and len(content) == manifest.config.size
    path = models.blob_path(manifest.config.digest)
    path.write_bytes(content)
    finding = only(checked(models, tmp_path), "unreadable-config")
    assert finding.severity is Severity.PROBLEM
    run(finding.mend[0])
    assert not path.exists()


@pytest.mark.parametrize("how", ["gone", "folder", "dangling"])
def test_missing_layer(models: StoreBuilder, tmp_path: Path, how: str) -> None:
    path = models.blob_path(models.model("lost", [("model", b"lost")]).layers[0].digest)
    path.unlink()
    if how == "folder":
        path.mkdir()
    elif how == "dangling":
        path.symlink_to(tmp_path / "nowhere")
    finding = only(checked(models, tmp_path), "missing-blob")
    assert finding.severity is Severity.PROBLEM
    assert "model blob" in finding.text and path.name[7:19] in finding.text


@pytest.mark.parametrize("content", [b"", b"w" * 4999, b"w" * 5001])
def test_wrong_size(models: StoreBuilder, tmp_path: Path, content: bytes) -> None:
    path = models.blob_path(models.blob(b"w" * 5000))
    path.write_bytes(content)
    finding = only(checked(models, tmp_path), "wrong-size")
    assert finding.severity is Severity.PROBLEM
    assert finding.mend[:2] == (removal([path]), "ollama pull qwen3:8b")


def test_same_size_and_other_bytes_is_left_to_verify(models: StoreBuilder, tmp_path: Path) -> None:
    models.blob_path(models.blob(b"w" * 5000)).write_bytes(b"x" * 5000)
    assert codes(checked(models, tmp_path)) == []
    assert "no blob was hashed" in ferry("doctor", "--models", models.root).stdout


@needs.shell
def test_repair_line_mends_what_it_says(models: StoreBuilder, tmp_path: Path) -> None:
    archive = tmp_path / "good.tar"
    assert ferry("export", "--all", archive, "--models", models.root).returncode == 0
    models.blob_path(models.blob(b"w" * 5000)).write_bytes(b"short")
    (line,) = (line for line in checked(models, tmp_path).findings[0].mend if "--repair" in line)
    done = ferry(*[str(archive) if word == "ARCHIVE" else word for word in shlex.split(line)[1:]])
    assert done.returncode == 0, done.stderr
    assert codes(checked(models, tmp_path)) == []


@pytest.mark.parametrize("raw", [b" ", b"not json", b'{"layers": [{}]}', b"[" * 100_000], ids=len)
def test_damaged_manifest(models: StoreBuilder, tmp_path: Path, raw: bytes) -> None:
    path = models.manifest_path("bad")
    path.parent.mkdir(parents=True)
    path.write_bytes(raw)
    finding = only(checked(models, tmp_path), "damaged-manifest")
    assert finding.severity is Severity.PROBLEM
    assert "ollama pull bad:latest" in finding.mend
    follow(finding)
    assert (models.root / "registry.ollama.ai_library_bad_latest").read_bytes() == raw
    assert codes(checked(models, tmp_path)) == []


def test_no_blobs_folder(models: StoreBuilder, tmp_path: Path) -> None:
    for path in (models.root / "blobs").iterdir():
        path.unlink()
    (models.root / "blobs").rmdir()
    assert only(checked(models, tmp_path), "no-blobs").severity is Severity.PROBLEM


# -- what else lies in the store


@needs.not_windows("count of blocks that Python tells")
def test_unfinished_download(models: StoreBuilder, tmp_path: Path) -> None:
    stem = models.root / "blobs" / f"sha256-{'a' * 64}-partial"
    parts = [stem, *(stem.with_name(f"{stem.name}-{number}") for number in range(3))]
    with stem.open("wb") as file:
        file.write(b"x" * 100_000)
        # Ollama makes the file as large as it will be.
        file.truncate(10**12)
    for part in parts[1:]:
        part.write_bytes(b"{}")
    assert only(checked(models, tmp_path), "unfinished").severity is Severity.NOTE
    long_ago(*parts)
    finding = only(checked(models, tmp_path), "unfinished")
    assert finding.severity is Severity.WARNING
    assert "3 days ago" in finding.text and re.search(r"takes 1\d\d kB", finding.text), finding.text
    follow(finding)
    assert codes(checked(models, tmp_path)) == []


def test_orphans(models: StoreBuilder, tmp_path: Path) -> None:
    for number in range(3):
        models.blob(b"orphan %d" % number)
    before = tree(models.root)
    # A pull or a create may be at work.
    assert only(checked(models, tmp_path), "orphans").mend == ()
    finding = only(checked(models, tmp_path, later=HOURS), "orphans")
    assert finding.severity is Severity.WARNING
    assert finding.text.startswith("3 blobs (24 B)") and "OLLAMA_NOPRUNE" in finding.text
    follow(finding)
    assert len(before) - len(tree(models.root)) == 3
    assert codes(checked(models, tmp_path)) == []


def test_orphans_may_belong_to_what_is_damaged(models: StoreBuilder, tmp_path: Path) -> None:
    models.model("bad", [("model", b"the bad one's")])
    models.manifest_path("bad").write_bytes(b"{")
    finding = one(checked(models, tmp_path), "orphans")
    assert "delete nothing" in finding.text and finding.mend == ()


def test_orphans_of_the_services_store_go_by_a_restart(tmp_path: Path) -> None:
    store = StoreBuilder(tmp_path / "data")
    store.model("a")
    store.blob(b"orphan")
    unit(tmp_path, "User=root", f"Environment=OLLAMA_MODELS={store.root}")
    assert one(checked(store, tmp_path, later=HOURS), "orphans").mend[-1] == "sudo systemctl restart ollama"


def test_stray_file_in_blobs(models: StoreBuilder, tmp_path: Path) -> None:
    (models.root / "blobs" / "my model.gguf").write_bytes(b"precious")
    (models.root / "blobs" / f"sha256-{'A' * 64}").write_bytes(b"capital")
    finding = only(checked(models, tmp_path), "stray-file")
    assert finding.severity is Severity.WARNING and finding.text.startswith("2 files")
    (models.root / "my model.gguf").write_bytes(b"another of that name")
    finding = only(checked(models, tmp_path), "stray-file")
    follow(finding)
    assert (models.root / "my model.gguf").read_bytes() == b"another of that name"
    assert (models.root / "my model.gguf.2").read_bytes() == b"precious"
    assert codes(checked(models, tmp_path)) == []


@pytest.mark.parametrize("linked", [False, True])
def test_leftovers_of_an_import(models: StoreBuilder, tmp_path: Path, linked: bool) -> None:
    if linked:
        (models.root / "blobs").rename(tmp_path / "elsewhere")
        (models.root / "blobs").symlink_to(tmp_path / "elsewhere")
    staging = staging_folder(Store(models.root))
    staging.mkdir()
    (staging / f"sha256-{'b' * 64}.partial").write_bytes(b"x" * 50_000)
    (models.root / "manifests/.ollama-ferry-manifest").write_bytes(b"{")
    finding = one(checked(models, tmp_path), "leftovers")
    assert finding.severity is Severity.WARNING
    assert "50.0 kB" in finding.text and "resumes" in finding.text
    # It may be at work.
    assert finding.mend == ()
    follow(one(checked(models, tmp_path, later=HOURS), "leftovers"))
    assert not staging.exists()
    assert codes(checked(models, tmp_path)) == (["link"] if linked else [])


@pytest.mark.parametrize("name", [".DS_Store", "._8b", "8b~", "8b (copy)", "\x1b[31mred", "bad\udcff", "pipe"])
def test_file_that_stops_pruning(models: StoreBuilder, tmp_path: Path, name: str) -> None:
    needs.require_name(name)
    path = models.root / LIBRARY / "qwen3" / name
    if name == "pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(b"x")
    finding = only(checked(models, tmp_path), "not-a-manifest")
    assert finding.severity is Severity.WARNING
    for text in (finding.text, *finding.concerns, *finding.mend):
        assert text.isprintable()
    follow(finding)
    assert not os.path.lexists(path)
    assert codes(checked(models, tmp_path)) == []


def test_deletion_at_start_is_not_claimed_where_something_stops_it(models: StoreBuilder, tmp_path: Path) -> None:
    models.blob(b"orphan")
    assert "stops its tidying" not in one(checked(models, tmp_path), "orphans").text
    (models.root / LIBRARY / "qwen3/.DS_Store").write_bytes(b"x")
    assert "stops its tidying" in one(checked(models, tmp_path), "orphans").text


@needs.any_names
def test_old_names(models: StoreBuilder, tmp_path: Path) -> None:
    for path in list((models.root / "blobs").iterdir()):
        path.rename(path.with_name(path.name.replace("-", ":")))
    finding = only(checked(models, tmp_path), "old-name")
    assert finding.severity is Severity.NOTE and finding.text.startswith("3 blobs")


@pytest.mark.parametrize("part", ["", "blobs", "manifests"])
def test_link_is_told(models: StoreBuilder, tmp_path: Path, part: str) -> None:
    path = models.root / part if part else models.root
    path.rename(tmp_path / "big-disk")
    path.symlink_to(tmp_path / "big-disk")
    finding = only(checked(models, tmp_path), "link")
    assert finding.severity is Severity.NOTE
    assert finding.concerns == (str(path), str(tmp_path / "big-disk"))


@pytest.mark.parametrize("part", ["", "blobs", "manifests"])
def test_link_that_leads_nowhere(models: StoreBuilder, tmp_path: Path, part: str) -> None:
    path = models.root / part if part else models.root
    path.rename(tmp_path / "moved")
    path.symlink_to(tmp_path / "not-mounted/x")
    finding = one(checked(models, tmp_path), "dangling-link")
    assert finding.severity is Severity.PROBLEM and "not mounted" in finding.text
    assert ferry("doctor", "--models", models.root).returncode == 4
    # A folder in its place would hide the disk when it comes back.
    assert finding.mend == ()


def test_manifest_that_is_a_link_to_nowhere(models: StoreBuilder, tmp_path: Path) -> None:
    path = models.root / LIBRARY / "qwen3/gone"
    path.symlink_to(tmp_path / "nowhere")
    finding = only(checked(models, tmp_path), "dangling-link")
    assert finding.severity is Severity.PROBLEM and "`ollama list` fails" in finding.text
    assert str(tmp_path / "nowhere") in finding.text
    follow(finding)
    assert codes(checked(models, tmp_path)) == []


@pytest.mark.parametrize("name", ["localhost:5000/library/x:y", "nul:1", "x:v1.", "com1.x:1", "x:Aux"])
@needs.any_names
def test_name_that_windows_refuses(source: StoreBuilder, tmp_path: Path, name: str) -> None:
    source.model(name)
    finding = only(checked(source, tmp_path), "windows-name")
    assert finding.severity is Severity.NOTE and finding.concerns == (name,)


@pytest.mark.parametrize("name", ["console:1", "x:v1.0", "com10:1", "hf.co/org/repo:Q4"])
def test_name_that_windows_takes(source: StoreBuilder, tmp_path: Path, name: str) -> None:
    source.model(name)
    assert codes(checked(source, tmp_path)) == []


@needs.case
def test_names_that_differ_in_case(source: StoreBuilder, tmp_path: Path) -> None:
    source.model("x:q6_K")
    source.model("x:q6_k")
    finding = only(checked(source, tmp_path), "case-clash")
    assert finding.severity is Severity.NOTE and set(finding.concerns) == {"x:q6_K", "x:q6_k"}


def test_little_space(models: StoreBuilder, tmp_path: Path) -> None:
    assert codes(checked(models, tmp_path, free=FREE_AT_LEAST)) == []
    finding = only(checked(models, tmp_path, free=FREE_AT_LEAST - 1), "little-space")
    assert finding.severity is Severity.WARNING and "5.0 GB" in finding.text
    size = 9 * 10**9
    digest = "ab" * 32
    with (models.root / "blobs" / f"sha256-{digest}").open("wb") as file:
        file.truncate(size)
    models.manifest("huge", json.dumps({"layers": [{"digest": f"sha256:{digest}", "size": size}]}).encode())
    assert "9.0 GB" in only(checked(models, tmp_path, free=size - 1), "little-space").text
    assert codes(checked(models, tmp_path, free=size)) == []
