"""``export`` as a user meets it: what it writes, and what it says when something is wrong."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from random import Random

import pytest

from ollama_ferry.shell_lines import removal
from support import needs
from support.command_line import COMMAND, CONTROL, assert_one_clear_error, ferry, ferry_as_nobody
from support.stores import StoreBuilder, tree, weights, weights_of_four_bits
from support.tars import names_in


@pytest.fixture
def models(source: StoreBuilder) -> StoreBuilder:
    """Two models that share their weights, and one apart."""
    shared = weights(3_000_000)
    source.model("qwen3:8b", [("model", shared), ("template", b"{{ .Prompt }}")])
    source.model("qwen3:14b", [("model", shared), ("template", b"User: {{ .Prompt }}")])
    source.model("hf.co/org/repo:Q4_K_M", [("model", weights(100_000, 2))])
    return source


def export(store: StoreBuilder, *arguments: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return ferry("export", "--models", store.root, *arguments, **environ)


def test_archive_holds_the_model_and_nothing_else(models: StoreBuilder, tmp_path: Path) -> None:
    archive = tmp_path / "q.tar.gz"
    done = export(models, "qwen3:8b", archive)
    assert done.returncode == 0, done.stderr
    assert f"tar -xzf {'./q.tar.gz' if needs.ON_WINDOWS else archive} -C " in done.stdout
    assert not CONTROL.search(done.stdout + done.stderr)
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path / "restored", filter="data")
    manifest = models.manifest_path("qwen3:8b").read_bytes()
    document = json.loads(manifest)
    digests = [document["config"]["digest"], *(layer["digest"] for layer in document["layers"])]
    expected = {f"blobs/{d.replace(':', '-')}" for d in digests}
    expected.add("manifests/registry.ollama.ai/library/qwen3/8b")
    restored = tree(tmp_path / "restored")
    assert set(restored) == expected
    assert all(restored[path] == content for path, content in tree(models.root).items() if path in expected)


def test_default_name_has_no_colon(models: StoreBuilder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert export(models, "qwen3:8b").returncode == 0
    assert export(models, "hf.co/org/repo:Q4_K_M").returncode == 0
    assert (tmp_path / "qwen3-8b.tar.gz").is_file()
    assert (tmp_path / "hf.co-org-repo-Q4_K_M.tar.gz").is_file()


def test_several_models_share_their_blobs(models: StoreBuilder, tmp_path: Path) -> None:
    archive = tmp_path / "m.tar"
    assert export(models, "qwen3:*", archive).returncode == 0
    names = names_in(archive)
    assert len(names) == len(set(names)) == 6  # weights, config, two templates, two manifests
    assert export(models, "--all", tmp_path / "all.tar").returncode == 0
    assert len(names_in(tmp_path / "all.tar")) == 8


def test_stream_is_the_same_archive(models: StoreBuilder, tmp_path: Path) -> None:
    archive = tmp_path / "q.tar.gz"
    assert export(models, "qwen3:8b", archive).returncode == 0
    streamed = subprocess.run(
        [*COMMAND, "export", "--models", str(models.root), "qwen3:8b", "-"], capture_output=True, check=True
    )
    assert streamed.stdout == archive.read_bytes()
    summed = subprocess.run(
        [*COMMAND, "export", "--sha256", "--models", str(models.root), "qwen3:8b", "-"], capture_output=True, check=True
    )
    assert summed.stdout == streamed.stdout
    found = hashlib.sha256(streamed.stdout).hexdigest().encode()
    assert found in summed.stderr and found not in streamed.stderr


def test_dry_run_tells_the_files_and_writes_nothing(models: StoreBuilder, tmp_path: Path) -> None:
    before = tree(tmp_path)
    done = export(models, "--dry-run", "--json", "qwen3:8b", tmp_path / "q.tar.gz")
    assert done.returncode == 0
    assert tree(tmp_path) == before
    told = json.loads(done.stdout)
    archive = tmp_path / "q.tar.gz"
    assert export(models, "qwen3:8b", archive).returncode == 0
    assert [file["path"] for file in told["files"]] == names_in(archive)
    with tarfile.open(archive) as opened:
        assert [file["size"] for file in told["files"]] == [member.size for member in opened if member.isfile()]
    assert told["total"] == sum(file["size"] for file in told["files"])
    assert abs(told["expected_archive_size"] - archive.stat().st_size) < 0.02 * archive.stat().st_size
    shared = {file["path"]: file["shared_with"] for file in told["files"]}
    assert sorted(len(v) for v in shared.values()) == [0, 0, 1, 2]
    plain = export(models, "--dry-run", "qwen3:8b", archive)
    assert "qwen3:14b" in plain.stdout and "nothing was written" in plain.stdout


def test_json_is_one_document(models: StoreBuilder, tmp_path: Path) -> None:
    archive = tmp_path / "q.tar.zst"
    done = export(models, "--json", "qwen3:8b", archive)
    told = json.loads(done.stdout)
    assert told["size"] == archive.stat().st_size
    assert "sha256" not in told
    assert told["models"] == ["qwen3:8b"]


def test_quiet_prints_the_path(models: StoreBuilder, tmp_path: Path) -> None:
    archive = tmp_path / "q.tar"
    done = export(models, "-q", "qwen3:8b", archive)
    assert (done.stdout, done.stderr) == (f"{archive}\n", "")
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith("q.") and path != archive]


@pytest.mark.parametrize("extension", [".tar", ".tar.gz"])
def test_a_sum_is_written_beside_it_where_it_is_asked_for(models: StoreBuilder, tmp_path: Path, extension: str) -> None:
    archive, sums = tmp_path / f"q{extension}", tmp_path / f"q{extension}.sha256"
    assert export(models, "qwen3:8b", archive).returncode == 0
    assert not sums.exists()
    unsummed = archive.read_bytes()
    told = json.loads(export(models, "-f", "--sha256", "--json", "qwen3:8b", archive).stdout)
    assert archive.read_bytes() == unsummed
    assert sums.read_text() == f"{hashlib.sha256(unsummed).hexdigest()}  {archive.name}\n"
    assert told["sha256"] == hashlib.sha256(unsummed).hexdigest()
    assert subprocess.run(["sha256sum", "-c", sums], cwd=tmp_path, capture_output=True, check=False).returncode == 0
    assert ferry("verify", sums).returncode == 0
    # Of an archive that is replaced, no sum of the old one is left beside it; what is not ours stays.
    assert export(models, "-f", "qwen3:14b", archive).returncode == 0
    assert not sums.exists()
    sums.write_text("notes of somebody\n")
    assert export(models, "-f", "qwen3:14b", archive).returncode == 0
    assert sums.read_text() == "notes of somebody\n"


def test_a_name_that_no_file_of_sums_holds_is_refused_before_anything_is_written(
    models: StoreBuilder, tmp_path: Path
) -> None:
    assert_one_clear_error(export(models, "--sha256", "qwen3:8b", tmp_path / "a\\b.tar"), 2)
    assert not list(tmp_path.glob("a*"))


def test_an_export_says_what_it_chose_and_what_fast_would_save(source: StoreBuilder, tmp_path: Path) -> None:
    source.model("hardly:1", [("model", weights_of_four_bits(2_000_000))])
    source.model("much:1", [("model", bytes(Random(5).choices(range(64), k=2_000_000)))])
    archive = tmp_path / "x.tar.gz"
    said = export(source, "hardly:1", archive).stdout
    assert re.search(r"  packing  none of it pays: stored; --compress fast would save .* \(\d\.\d %\)", said), said
    stored = archive.stat().st_size
    assert "packing" not in export(source, "-f", "hardly:1", "--compress", "fast", archive).stdout
    assert 0.93 * stored < archive.stat().st_size < 0.97 * stored
    assert (
        "packing  all of it pays; --compress fast would save next to nothing more"
        in export(source, "-f", "much:1", archive).stdout
    )


def test_verbose_says_which_store_and_why(models: StoreBuilder, tmp_path: Path) -> None:
    done = export(models, "-v", "qwen3:8b", tmp_path / "q.tar")
    assert f"store: {models.root} (it was named)" in done.stderr


def test_existing_file_is_replaced_only_by_force(models: StoreBuilder, tmp_path: Path) -> None:
    archive = tmp_path / "q.tar"
    archive.write_bytes(b"precious")
    done = export(models, "qwen3:8b", archive)
    assert_one_clear_error(done, 7)
    assert "--force" in done.stderr
    assert archive.read_bytes() == b"precious"
    assert export(models, "--force", "qwen3:8b", archive).returncode == 0
    assert len(names_in(archive)) == 4
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_leftover_of_a_killed_export_is_taken_over(models: StoreBuilder, tmp_path: Path) -> None:
    (tmp_path / "q.tar.partial").write_bytes(b"x" * 10_000_000)
    assert export(models, "qwen3:8b", tmp_path / "q.tar").returncode == 0
    assert len(names_in(tmp_path / "q.tar")) == 4
    assert not (tmp_path / "q.tar.partial").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "no model was named"),
        (["x.tar.gz"], "no model was named"),
        (["a b", "x.tar"], "is not a model name"),
        (["../../etc/passwd", "x.tar"], "is not a model name"),
        (["qwen3:8b", "x.zip"], "no archive that export writes"),
        (["qwen3:8b", "qwen3:14b"], "need the archive's name"),
        (["--all", "qwen3:8b", "x.tar"], "--all exports every model"),
        (["--compress", "gzip", "qwen3:8b"], "'gzip' is not one of"),
        (["--format", "tar", "qwen3:8b", "x.tar"], "--format is for a stream"),
        (["qwen3:8b", "no/such/folder/x.tar"], "its folder is not there"),
        (["--nonsense"], "No such option"),
    ],
)
def test_wrong_usage(
    models: StoreBuilder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    before = tree(tmp_path)
    done = export(models, *words)
    assert_one_clear_error(done, 2)
    assert said in done.stderr
    assert tree(tmp_path) == before


def test_unknown_model_names_the_nearest(models: StoreBuilder, tmp_path: Path) -> None:
    done = export(models, "qwen3:7b", tmp_path / "q.tar")
    assert_one_clear_error(done, 3)
    assert "Did you mean" in done.stderr and "qwen3:8b" in done.stderr
    assert_one_clear_error(export(models, "llama*", tmp_path / "q.tar"), 3)


def test_letter_case_does_not_count(models: StoreBuilder, tmp_path: Path) -> None:
    assert export(models, "HF.co/Org/REPO:q4_k_m", tmp_path / "q.tar").returncode == 0
    assert "manifests/hf.co/org/repo/Q4_K_M" in names_in(tmp_path / "q.tar")


def test_no_store_says_where_it_looked(tmp_path: Path) -> None:
    done = ferry("export", "x", tmp_path / "x.tar", "--models", tmp_path / "none")
    assert_one_clear_error(done, 3)
    done = ferry("export", "x", tmp_path / "x.tar", OLLAMA_MODELS=str(tmp_path / "none"))
    assert_one_clear_error(done, 3)
    assert "OLLAMA_MODELS" in done.stderr


def test_damaged_blob_stops_the_export(models: StoreBuilder, tmp_path: Path) -> None:
    manifest = models.model("broken", [("model", weights(2_500_000, 7)), ("system", b"be kind")])
    victim = models.blob_path(manifest.layers[0].digest)
    content = bytearray(victim.read_bytes())
    content[2_000_000] ^= 1
    victim.write_bytes(content)
    for archive in ("b.tar", "b.tar.gz", "b.tar.zst"):
        done = export(models, "broken", tmp_path / archive)
        assert_one_clear_error(done, 4)
        assert victim.name.replace("-", ":") in done.stderr and "broken:latest" in done.stderr
        assert removal([victim]) in done.stderr and "ollama pull broken" in done.stderr
        assert not list(tmp_path.glob("b.tar*"))


@pytest.mark.parametrize("which", ["config", "layer"])
@pytest.mark.parametrize("how", ["missing", "unfinished", "short", "long", "folder"])
def test_incomplete_model_is_refused_before_anything_is_written(
    models: StoreBuilder, tmp_path: Path, which: str, how: str
) -> None:
    manifest = models.model("broken", [("model", b"some weights")])
    assert manifest.config is not None
    blob = models.blob_path((manifest.config if which == "config" else manifest.layers[0]).digest)
    content = blob.read_bytes()
    if how == "short":
        blob.write_bytes(content[:-1])
    elif how == "long":
        blob.write_bytes(content + b"x")
    else:
        blob.unlink()
    if how == "folder":
        blob.mkdir()
    if how == "unfinished":
        blob.with_name(blob.name + "-partial").write_bytes(content[:3])
        blob.with_name(blob.name + "-partial-0").write_bytes(b"{}")
    for more in ([], ["--dry-run"]):
        done = export(models, *more, "broken", tmp_path / "b.tar")
        assert_one_clear_error(done, 4)
        assert blob.name.replace("-", ":") in done.stderr
    assert ("unfinished download" in done.stderr) == (how == "unfinished")
    assert not list(tmp_path.glob("b.tar*"))


@pytest.mark.parametrize("raw", [b"", b"not json", b"[" * 100_000, b" " * (17 * 1024 * 1024)], ids=len)
def test_damaged_manifest(models: StoreBuilder, tmp_path: Path, raw: bytes) -> None:
    path = models.manifest_path("broken")
    path.parent.mkdir(parents=True)
    path.write_bytes(raw)
    os.utime(path, (1, 1))
    done = export(models, "broken", tmp_path / "b.tar")
    assert_one_clear_error(done, 4)
    assert str(path) in done.stderr


def test_cloud_stub_has_nothing_to_carry(models: StoreBuilder, tmp_path: Path) -> None:
    models.model("gpt:cloud", [], config={"remote_host": "https://ollama.com:443", "remote_model": "gpt"})
    done = export(models, "gpt:cloud", tmp_path / "g.tar")
    assert_one_clear_error(done, 3)
    assert "https://ollama.com:443" in done.stderr


@pytest.mark.parametrize("folder", ["", "blobs", "manifests", "blobs/below"])
def test_output_inside_the_store_is_refused(models: StoreBuilder, tmp_path: Path, folder: str) -> None:
    elsewhere = tmp_path / "big-disk"
    shutil.move(models.root / "blobs", elsewhere)
    (models.root / "blobs").symlink_to(elsewhere)
    (elsewhere / "below").mkdir()
    before = tree(models.root)
    assert_one_clear_error(export(models, "qwen3:8b", models.root / folder / "x.tar"), 2)
    assert_one_clear_error(export(models, "qwen3:8b", elsewhere / "x.tar"), 2)
    assert tree(models.root) == before


@pytest.fixture
def service_home(tmp_path_factory: pytest.TempPathFactory) -> StoreBuilder:
    """A store as Ollama's Linux service has it: below a home of mode 0750."""
    base = tmp_path_factory.mktemp("service")
    for folder in [base, *base.parents]:
        if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    home = base / "ollama"
    home.mkdir()
    builder = StoreBuilder(home / ".ollama/models")
    builder.model("qwen3:8b")
    home.chmod(0o750)
    return builder


@pytest.mark.parametrize("by", ["option", "variable"])
def test_unreadable_store_gives_the_sudo_line(service_home: StoreBuilder, tmp_path: Path, by: str) -> None:
    if not needs.IS_ROOT:
        pytest.skip("needs root, to become another user")
    words: list[str | Path] = ["export", "qwen3:8b", tmp_path / "q.tar"]
    if by == "option":
        done = ferry_as_nobody(*words, "--models", service_home.root)
    else:
        done = ferry_as_nobody(*words, OLLAMA_MODELS=str(service_home.root))
    assert_one_clear_error(done, 5)
    lines = done.stderr.splitlines()
    assert lines[-1].strip().startswith("sudo /usr/local/bin/ollama-ferry export qwen3:8b")
    assert f"--models {service_home.root}" in lines[-1]


def test_unwritable_folder(service_home: StoreBuilder, models: StoreBuilder, tmp_path: Path) -> None:
    if not needs.IS_ROOT:
        pytest.skip("needs root, to become another user")
    service_home.root.parent.parent.chmod(0o755)
    done = ferry_as_nobody("export", "qwen3:8b", "/q.tar", "--models", service_home.root)
    assert_one_clear_error(done, 5)
    assert "can't write /q.tar" in done.stderr


def test_interrupt_leaves_nothing(source: StoreBuilder, tmp_path: Path) -> None:
    # Slow enough to be caught in the middle: the best compression of 60 MB takes many seconds.
    source.model("slow", [("model", weights(60_000_000))])
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 130)):
        process = subprocess.Popen(
            [
                *COMMAND,
                "export",
                "--compress",
                "best",
                "--models",
                str(source.root),
                "slow",
                str(tmp_path / "s.tar.gz"),
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        deadline = time.monotonic() + 60
        while not (tmp_path / "s.tar.gz.partial").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.5)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
        assert process.returncode == code, said
        assert "interrupted" in said and "Traceback" not in said
        assert not list(tmp_path.glob("s.tar.gz*"))


def test_reader_that_goes_away(source: StoreBuilder) -> None:
    source.model("big", [("model", weights(20_000_000))])
    process = subprocess.Popen(
        [*COMMAND, "export", "--models", str(source.root), "big", "-"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.read(1000)
    process.stdout.close()
    said = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(60) == 1
    assert "went away" in said and "Traceback" not in said


@needs.signals
def test_file_size_limit_is_a_clear_error(source: StoreBuilder, tmp_path: Path) -> None:
    source.model("big", [("model", weights(5_000_000))])
    line = f"ulimit -f 2000; exec {sys.executable} -m ollama_ferry export big {tmp_path}/b.tar --models {source.root}"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False)
    assert_one_clear_error(done, 6)
    assert not list(tmp_path.glob("b.tar*"))


def test_sparse_store_too_large_for_the_disk_is_refused_ahead(source: StoreBuilder, tmp_path: Path) -> None:
    size = shutil.disk_usage(tmp_path).free + 10**9
    digest = "ab" * 32
    with (source.root / "blobs" / f"sha256-{digest}").open("wb") as file:
        file.truncate(size)
    source.manifest("huge", json.dumps({"layers": [{"digest": f"sha256:{digest}", "size": size}]}).encode())
    started = time.monotonic()
    done = export(source, "huge", tmp_path / "h.tar")
    assert time.monotonic() - started < 90
    assert_one_clear_error(done, 6)
    assert not list(tmp_path.glob("h.tar*"))


def test_python_dash_m_and_version() -> None:
    done = ferry("--version")
    assert done.returncode == 0
    assert re.fullmatch(r"ollama-ferry [0-9.]+\n", done.stdout)
