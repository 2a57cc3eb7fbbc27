"""``import`` as a user meets it: what it writes, and what it says when something is wrong."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import time
import zipfile
from pathlib import Path
from typing import IO

import pytest

import ollama_ferry
from ollama_ferry.model.names import ModelName
from ollama_ferry.places.archive.file import ArchiveFile
from support import needs
from support.command_line import COMMAND, assert_one_clear_error, ferry, ferry_as_nobody
from support.stores import StoreBuilder, faults_of, tree, weights
from support.tools import require_tool


@pytest.fixture
def models(source: StoreBuilder) -> StoreBuilder:
    shared = weights(3_000_000)
    source.model("qwen3:8b", [("model", shared), ("template", b"{{ .Prompt }}")])
    source.model("qwen3:14b", [("model", shared), ("template", b"User: {{ .Prompt }}")])
    source.model("hf.co/org/repo:Q4_K_M", [("model", weights(100_000, 2))])
    return source


@pytest.fixture
def archive(models: StoreBuilder, tmp_path: Path) -> Path:
    path = tmp_path / "models.tar.gz"
    ollama_ferry.export("*/*/*:*", path, store=models.root)
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "new folder" / "models"


def piped(stream: IO[bytes], target: Path) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, "import", "-", "--models", str(target)]
    return subprocess.run(command, stdin=stream, capture_output=True, text=True, check=False)


def plainly_made(models: StoreBuilder, folder: Path, how: str) -> Path:
    """Make an archive of a store as people do, without ollama-ferry."""
    path = folder / how
    layouts = {"dot": (models.root, "."), "bare": (models.root, "blobs manifests"), "models": (folder, "models")}
    layout, _, kind = how.partition(".")
    if layout == "models":
        (folder / "models").symlink_to(models.root)
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
            for file in sorted(models.root.rglob("*")):
                made.write(file, file.relative_to(models.root))
        return path
    start, names = layouts[layout]
    subprocess.run(["tar", "-h", "-C", start, "-caf", path, *names.split()], check=True)
    return path


@pytest.mark.parametrize("how", ["dot.tar", "dot.tar.gz", "bare.tar.zst", "bare.tar.xz", "bare.tar.bz2",
                                 "models.tar.gz", "models.tar", "zipped.zip"])  # fmt: skip
def test_archives_of_other_tools_are_read(models: StoreBuilder, tmp_path: Path, target: Path, how: str) -> None:
    require_tool("zstd")
    made = plainly_made(models, tmp_path, how)
    # The content tells what it is, not the name.
    unnamed = tmp_path / "download.bin"
    made.rename(unnamed)
    done = ferry("import", unnamed, "--models", target)
    assert done.returncode == 0, done.stderr
    assert tree(target) == tree(models.root)
    part = ferry("import", unnamed, "--models", tmp_path / "part", "--model", "qwen3:8b")
    assert part.returncode == 0, part.stderr
    assert len(tree(tmp_path / "part")) == 4


def test_two_tars_in_a_row_are_read_where_asked_for(models: StoreBuilder, tmp_path: Path, target: Path) -> None:
    parts = []
    for name in ("qwen3:8b", "hf.co/org/repo:Q4_K_M"):
        path = tmp_path / "part.tar.gz"
        ollama_ferry.export(name, path, store=models.root, replace=True)
        parts.append(path.read_bytes())
    both = tmp_path / "both.tar.gz"
    both.write_bytes(b"".join(parts))
    # Behind the first there is no index of all: its own is in the middle now.
    refused = ferry("import", both, "--models", target)
    assert refused.returncode == 4 and "follows the mark of its end" in refused.stderr
    done = ferry("import", "--lenient", both, "--models", target)
    assert done.returncode == 0, done.stderr
    assert {str(name) for name in ollama_ferry.Store(target).names()} == {"qwen3:8b", "hf.co/org/repo:Q4_K_M"}


def test_import_from_a_pipe(models: StoreBuilder, archive: Path, target: Path) -> None:
    with archive.open("rb") as stream:
        done = subprocess.run(
            [*COMMAND, "import", "-", "--models", target], stdin=stream, capture_output=True, text=True
        )
    assert done.returncode == 0, done.stderr
    assert tree(target) == tree(models.root)
    zipped = subprocess.run(
        [*COMMAND, "import", "-", "--models", target], input=b"PK\x03\x04" + bytes(30), capture_output=True, check=False
    )
    assert zipped.returncode == 4 and b"Save it as a file" in zipped.stderr


def test_import_again_reads_no_blob_and_writes_nothing(
    models: StoreBuilder, archive: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ferry("import", archive, "--models", target).returncode == 0
    before = {path: path.stat().st_mtime_ns for path in target.rglob("*")}
    # Whoever reads a blob stumbles over it.
    damaged = bytearray(archive.read_bytes())
    with ArchiveFile(archive) as file:
        source = file.source()
        assert source is not None and file.index is not None
        blob = max(source.contents.blobs.values())
        start, length, _, _ = file.index.frames.place(file.index.frames.at(blob[1]))
    damaged[start + 10 : start + length] = bytes(length - 10)
    archive.write_bytes(damaged)
    done = ferry("import", archive, "--models", target)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("is here already, the same") == 3
    assert {path: path.stat().st_mtime_ns for path in target.rglob("*")} == before
    assert ferry("list", archive).returncode == 0
    assert ferry("import", archive, "--models", target.parent / "empty").returncode == 4


def test_one_model_reads_its_own_frames_only(models: StoreBuilder, archive: Path, target: Path) -> None:
    damaged = bytearray(archive.read_bytes())
    with ArchiveFile(archive) as file:
        source = file.source()
        assert source is not None and file.index is not None
        size, place = max(source.contents.blobs.values())
        start, length, _, _ = file.index.frames.place(file.index.frames.at(place))
    assert size == 3_000_000
    damaged[start + 10 : start + length] = bytes(length - 10)
    archive.write_bytes(damaged)
    done = ferry("import", archive, "--models", target, "--model", "hf.co/org/*:*")
    assert done.returncode == 0, done.stderr
    assert not faults_of(target)
    assert_one_clear_error(ferry("import", archive, "--models", target, "--model", "qwen3:8b"), 4)
    assert not faults_of(target) and len(list(target.glob("manifests/*/*/*/*"))) == 1


def test_a_part_with_another_name(models: StoreBuilder, archive: Path, target: Path) -> None:
    done = ferry("import", archive, "--models", target, "--model", "QWEN3:8B", "--as", "me/mine:v1")
    assert done.returncode == 0, done.stderr
    assert "imported me/mine:v1" in done.stdout and "as qwen3:8b there" in done.stdout
    manifest = target / "manifests/registry.ollama.ai/me/mine/v1"
    assert manifest.read_bytes() == models.manifest_path("qwen3:8b").read_bytes()
    assert len(tree(target)) == 4
    several = ferry("import", archive, "--models", target, "--as", "me/mine:v2")
    assert_one_clear_error(several, 2)
    assert "--model" in several.stderr


def test_dry_run_says_what_would_be_done_and_writes_nothing(archive: Path, target: Path) -> None:
    done = ferry("import", archive, "--models", target, "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)["archives"][0]
    assert not target.exists() and not target.parent.exists()
    assert len(told["models"]) == 3 and len(told["blobs"]) == 5
    assert told["size"] == sum(blob["size"] for blob in told["blobs"])
    assert "would import qwen3:8b" in ferry("import", archive, "--models", target, "-n").stdout
    assert not target.parent.exists()


def test_json_is_one_document(archive: Path, target: Path) -> None:
    told = json.loads(ferry("import", archive, "--models", target, "--json").stdout)
    assert told["store"] == str(target) and not told["dry_run"]
    assert {model["name"] for model in told["archives"][0]["models"]} == {
        "qwen3:8b", "qwen3:14b", "hf.co/org/repo:Q4_K_M",
    }  # fmt: skip
    again = json.loads(ferry("import", archive, "--models", target, "--json").stdout)
    assert all(model["was_here"] for model in again["archives"][0]["models"])
    assert not again["archives"][0]["blobs"] and len(again["archives"][0]["present"]) == 5


def test_another_model_of_the_same_name_stays_without_force(models: StoreBuilder, archive: Path, target: Path) -> None:
    there = StoreBuilder(target)
    there.model("qwen3:8b", [("model", b"another one")])
    before = tree(target)
    refused = ferry("import", archive, "--models", target)
    assert_one_clear_error(refused, 7)
    assert "qwen3:8b" in refused.stderr and "--force" in refused.stderr
    assert tree(target) == before
    # A stream tells too late to leave the others out.
    with archive.open("rb") as stream:
        piped = subprocess.run(
            [*COMMAND, "import", "-", "--models", target], stdin=stream, capture_output=True, text=True
        )
    assert piped.returncode == 7 and "imported: " in piped.stderr
    assert before.items() <= tree(target).items() and not faults_of(target)
    assert ferry("import", archive, "--models", target, "--force").returncode == 0
    assert tree(target).items() >= tree(models.root).items()


def test_names_that_differ_in_case_are_one_as_for_ollama(models: StoreBuilder, archive: Path, target: Path) -> None:
    there = StoreBuilder(target)
    there.model("QWEN3:8B", [("model", b"another one")])
    assert_one_clear_error(ferry("import", archive, "--models", target, "--model", "qwen3:8b"), 7)
    done = ferry("import", archive, "--models", target, "--model", "qwen3:*", "--force")
    assert done.returncode == 0, done.stderr
    # Written under the spelling that is there, the neighbour's tag too: two spellings side by side confuse a server.
    assert {name.path.rpartition("library/")[2] for name in ollama_ferry.Store(target).names()} == {
        "QWEN3/8B", "QWEN3/14b",
    }  # fmt: skip


def test_archive_with_two_spellings_is_refused(source: StoreBuilder, tmp_path: Path, target: Path) -> None:
    source.model("m:q6_K", [("model", b"one")])
    source.model("m:q6_k", [("model", b"two")])
    path = tmp_path / "m.tar"
    subprocess.run(["tar", "-C", source.root, "-cf", path, "."], check=True)
    done = ferry("import", path, "--models", target)
    assert_one_clear_error(done, 7)
    assert "case" in done.stderr
    assert ferry("import", path, "--models", target, "--model", "m:q6_k").returncode == 0
    assert not faults_of(target)


def test_present_blobs_are_skipped_and_wrong_ones_replaced(models: StoreBuilder, archive: Path, target: Path) -> None:
    assert ferry("import", archive, "--models", target, "--model", "qwen3:14b").returncode == 0
    told = json.loads(ferry("import", archive, "--models", target, "--model", "qwen3:8b", "--json").stdout)
    assert [blob["size"] for blob in told["archives"][0]["blobs"]] == [len(b"{{ .Prompt }}")]
    big = max((target / "blobs").iterdir(), key=lambda path: path.stat().st_size)
    content = big.read_bytes()
    # Wrong size: seen at once. Wrong content: seen when asked for.
    big.write_bytes(content[:-5])
    assert ferry("import", archive, "--models", target).returncode == 0
    assert big.read_bytes() == content
    big.write_bytes(bytes(len(content)))
    assert ferry("import", archive, "--models", target).returncode == 0
    assert big.read_bytes() != content
    done = ferry("import", archive, "--models", target, "--verify-existing")
    assert done.returncode == 0, done.stderr
    assert tree(target) == tree(models.root)


def test_several_archives_and_one_of_them_damaged(models: StoreBuilder, tmp_path: Path, target: Path) -> None:
    paths: list[Path] = []
    for name in ("qwen3:8b", "qwen3:14b", "hf.co/org/repo:Q4_K_M"):
        paths.append(tmp_path / f"{len(paths)}.tar.zst")
        ollama_ferry.export(name, paths[-1], store=models.root)
    paths[1].write_bytes(paths[1].read_bytes()[:-100_000])
    done = ferry("import", *paths, "--models", target)
    assert done.returncode == 4
    assert "1 of 3 archives" in done.stderr and str(paths[1]) in done.stderr
    assert len(list(ollama_ferry.Store(target).names())) == 2
    assert not faults_of(target)


def test_files_that_are_not_ollamas_are_left_out(models: StoreBuilder, tmp_path: Path, target: Path) -> None:
    (models.root / "README").write_text("hello")
    (models.root / "blobs/sha256-0-partial-3").write_text("begun")
    models.blob(b"named by no model")
    (models.manifest_path("qwen3:8b").parent / ".DS_Store").write_bytes(b"\0")
    path = tmp_path / "store.tar.gz"
    subprocess.run(["tar", "-C", models.root, "-czf", path, "."], check=True)
    done = ferry("import", path, "--models", target)
    assert done.returncode == 0, done.stderr
    assert "README" in done.stderr and ".DS_Store" in done.stderr
    assert len(tree(target)) == 5 + 3
    assert not (target / ".ollama-ferry").exists()


def test_archive_without_models_says_what_it_holds(tmp_path: Path, target: Path, models: StoreBuilder) -> None:
    path = tmp_path / "x.tar"
    (tmp_path / "notes.txt").write_text("x")
    subprocess.run(["tar", "-C", tmp_path, "-cf", path, "notes.txt"], check=True)
    done = ferry("import", path, "--models", target)
    assert_one_clear_error(done, 3)
    assert "holds no model" in done.stderr and "notes.txt" in done.stderr
    subprocess.run(["tar", "-C", models.root, "-cf", path, "blobs"], check=True)
    assert "It has 5 blobs, and no manifest" in ferry("import", path, "--models", target).stderr
    assert not target.exists()


@pytest.mark.parametrize("words", [[], ["nowhere.tar"], ["/"], ["-", "a.tar"], ["a.tar", "b.tar", "--as", "x"],
                                   ["a.tar", "--as", "../x"], ["a.tar", "--model", "a b"]])  # fmt: skip
def test_wrong_calls_get_one_clear_error(words: list[str], target: Path) -> None:
    done = ferry("import", *words, "--models", target)
    assert done.returncode in (2, 3)
    assert_one_clear_error(done, done.returncode)
    assert not target.exists()


def test_model_that_is_not_in_the_archive(archive: Path, target: Path) -> None:
    done = ferry("import", archive, "--models", target, "--model", "qwen3:8")
    assert_one_clear_error(done, 3)
    assert "qwen3:8b" in done.stderr
    assert_one_clear_error(ferry("import", archive, "--models", target, "--model", "llama*"), 3)


@needs.root("gives files to somebody else")
def test_ownership_and_modes_follow_the_store(models: StoreBuilder, archive: Path, tmp_path: Path) -> None:
    root = tmp_path / "service"
    root.mkdir()
    os.chown(root, 12345, 23456)
    previous = os.umask(0o077)
    try:
        assert ferry("import", archive, "--models", root / "models").returncode == 0
    finally:
        os.umask(previous)
    for path in [root / "models", *(root / "models").rglob("*")]:
        found = path.stat()
        assert (found.st_uid, found.st_gid) == (12345, 23456), path
        assert stat.S_IMODE(found.st_mode) == (0o755 if path.is_dir() else 0o644), path
        assert abs(found.st_mtime - time.time()) < 600


@needs.root("acts as another user")
def test_without_permission_the_line_to_run_is_given(archive: Path, tmp_path: Path) -> None:
    for folder in [tmp_path, *tmp_path.parents]:
        if folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    archive.chmod(0o644)
    root = tmp_path / "closed"
    StoreBuilder(root).model("there")
    before = tree(root)
    done = ferry_as_nobody("import", archive, "--models", root)
    assert_one_clear_error(done, 5)
    line = next(line.strip() for line in done.stderr.splitlines() if "sudo" in line)
    assert line == f"sudo /usr/local/bin/ollama-ferry import {archive} --models {root}"
    assert "--via-server" in done.stderr
    assert tree(root) == before
    # Looking is allowed: what is there already needs no writing.
    assert ferry("import", archive, "--models", root).returncode == 0
    assert ferry_as_nobody("import", archive, "--models", root).returncode == 0


@needs.root("mounts a small disk")
def test_full_disk_is_told_before_the_first_byte(models: StoreBuilder, archive: Path, tmp_path: Path) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", mount], check=False).returncode:
        pytest.skip("this machine does not let root mount")
    try:
        there = StoreBuilder(mount / "models")
        there.model("there", [("model", b"must stay")])
        before = tree(mount)
        done = ferry("import", archive, "--models", there.root)
        assert_one_clear_error(done, 6)
        assert "are free" in done.stderr and "--model" in done.stderr
        assert tree(mount) == before
        assert ferry("import", archive, "--models", there.root, "--model", "hf.co/org/repo:Q4_K_M").returncode == 6
    finally:
        subprocess.run(["umount", mount], check=True)


@needs.root("mounts a small disk")
def test_disk_that_fills_up_on_the_way(models: StoreBuilder, tmp_path: Path) -> None:
    path = tmp_path / "plain.tar.gz"
    subprocess.run(["tar", "-C", models.root, "-czf", path, "."], check=True)
    mount = tmp_path / "small"
    mount.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m,nr_inodes=12", "none", mount], check=False).returncode:
        pytest.skip("this machine does not let root mount")
    try:
        there = StoreBuilder(mount / "models")
        there.model("there", [("model", b"must stay")])
        before = tree(mount)
        with path.open("rb") as stream:
            done = piped(stream, there.root)
        assert_one_clear_error(done, 6)
        assert before.items() <= tree(mount).items()
        assert not faults_of(there.root)
        subprocess.run(["mount", "-o", "remount,nr_inodes=200", mount], check=True)
        assert ferry("import", path, "--models", there.root).returncode == 0
        assert not (there.root / ".ollama-ferry").exists()
        assert tree(there.root).items() >= tree(models.root).items()
    finally:
        subprocess.run(["umount", mount], check=True)


@needs.signals
def test_file_size_limit(models: StoreBuilder, archive: Path, target: Path) -> None:
    def limit() -> None:
        import resource
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    done = subprocess.run(
        [*COMMAND, "import", archive, "--models", target], capture_output=True, text=True, preexec_fn=limit
    )
    assert_one_clear_error(done, 6)
    assert not faults_of(target)
    assert not list(target.glob("blobs/*")) or not list(target.glob("manifests/*/*/*/qwen3"))
    assert ferry("import", archive, "--models", target).returncode == 0
    assert tree(target) == tree(models.root)


def test_linked_store_and_linked_blobs(models: StoreBuilder, archive: Path, tmp_path: Path) -> None:
    root, disk = tmp_path / "store", tmp_path / "disk"
    root.mkdir()
    disk.mkdir()
    (root / "blobs").symlink_to(disk)
    (tmp_path / "link").symlink_to(root)
    assert ferry("import", archive, "--models", tmp_path / "link").returncode == 0
    assert (root / "blobs").is_symlink() and (tmp_path / "link").is_symlink()
    assert tree(root) == tree(models.root)
    assert not list(disk.glob(".*"))


def test_staging_that_somebody_made_a_link_is_not_followed(archive: Path, tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "store", tmp_path / "elsewhere"
    (root / "blobs").mkdir(parents=True)
    elsewhere.mkdir()
    (root / ".ollama-ferry").symlink_to(elsewhere)
    assert_one_clear_error(ferry("import", archive, "--models", root), 1)
    assert not list(elsewhere.iterdir())


def test_store_of_a_fresh_ollama_is_found(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Path(os.environ["HOME"])
    done = ferry("import", archive)
    assert done.returncode in (0, 3)
    if done.returncode == 3:
        assert "becomes a store" in done.stderr
        (home / ".ollama").mkdir()
        done = ferry("import", archive, "-v")
        assert done.returncode == 0, done.stderr
    assert (home / ".ollama/models/manifests").is_dir() or "into   /" in done.stdout


def test_python_interface(models: StoreBuilder, archive: Path, tmp_path: Path) -> None:
    done = ollama_ferry.import_archive(archive, store=tmp_path / "one", models="qwen3:8b", rename="mine")
    assert [model.name for model in done.models] == [ModelName.parse("mine")]
    with archive.open("rb") as stream:
        ollama_ferry.import_archive(stream, store=tmp_path / "two")
    assert tree(tmp_path / "two") == tree(models.root)
    report = ollama_ferry.verify(store=tmp_path / "two")
    assert report.good and report.blobs == 5
    assert ollama_ferry.verify(archive=archive).good
    cancel = ollama_ferry.Cancel()
    cancel.set()
    with pytest.raises(ollama_ferry.FerryError, match="cancelled"):
        ollama_ferry.import_archive(archive, store=tmp_path / "three", cancel=cancel)
    assert not faults_of(tmp_path / "three")


def test_terminal_shows_a_bar_and_the_result(archive: Path, target: Path) -> None:
    require_tool("script", "util-linux")
    # With the models named, no checklist asks for them.
    line = shlex.join([*COMMAND, "import", str(archive), "*/*/*:*", "--models", str(target)])
    command = ["script", "-qec", line, "/dev/null"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True, timeout=300)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", done.stdout)
    assert "importing" in plain and "imported qwen3:8b" in plain


def test_digest_of_what_is_imported_is_that_of_the_source(models: StoreBuilder, archive: Path, target: Path) -> None:
    done = ferry("import", archive, "--models", target, "-q")
    expected = hashlib.sha256(models.manifest_path("qwen3:8b").read_bytes()).hexdigest()[:12]
    assert f"{expected}  qwen3:8b" in done.stdout.splitlines()
    assert shutil.disk_usage(target).free > 0
