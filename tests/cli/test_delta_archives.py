"""Archives that leave out what their target has: ``inventory``, ``export --have``, and the import of what comes."""

from __future__ import annotations

import io
import json
import subprocess
from pathlib import Path

import pytest

import ollama_ferry
from ollama_ferry.archives import tar
from ollama_ferry.archives.index import read_index
from ollama_ferry.archives.left_out import left_out_headers, left_out_of
from ollama_ferry.archives.tar_reading import TarReader
from ollama_ferry.archives.unpacking import unpacked
from ollama_ferry.errors import LeftOut
from ollama_ferry.model.manifests import Manifest
from support.command_line import COMMAND, assert_one_clear_error, ferry
from support.stores import StoreBuilder, faults_of, tree, weights
from support.tars import TOOLS, names_in, untar

KINDS = [".tar", ".tar.gz", ".tar.zst"]


@pytest.fixture
def stores(source: StoreBuilder, tmp_path: Path) -> tuple[StoreBuilder, StoreBuilder]:
    """A store with an old and a new model that share their weights, and a target that has the old one."""
    shared = weights(2_500_000)
    target = StoreBuilder(tmp_path / "target")
    for store in (source, target):
        store.model("qwen3:8b", [("model", shared), ("template", b"old")])
    source.model("qwen3:8b-new", [("model", shared), ("template", b"new")])
    source.model("other:1", [("model", weights(300_000, 5))], config={"model_format": "gguf", "other": 1})
    return source, target


def inventory_of(store: StoreBuilder, path: Path) -> Path:
    done = ferry("inventory", "--models", store.root)
    assert done.returncode == 0, done.stderr
    path.write_text(done.stdout)
    return path


def export(store: StoreBuilder, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return ferry("export", "--models", store.root, *arguments)


def shared_blob(store: StoreBuilder) -> str:
    manifest = Manifest.parse(store.manifest_path("qwen3:8b").read_bytes())
    return manifest.layers[0].digest.file_name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("streamed", [False, True])
def test_only_what_the_target_lacks_travels(
    stores: tuple[StoreBuilder, StoreBuilder], tmp_path: Path, kind: str, streamed: bool
) -> None:
    source, target = stores
    have = inventory_of(target, tmp_path / "have.txt")
    archive = tmp_path / f"new{kind}"
    done = export(source, "qwen3:8b-new", archive, "--have", have)
    assert done.returncode == 0, done.stderr
    assert "left out 2 blobs (2.5 MB) that the target has" in done.stdout
    assert archive.stat().st_size < 100_000
    if streamed:
        command = [*COMMAND, "import", "-", "--models", str(target.root)]
        done = subprocess.run(command, input=archive.read_bytes(), capture_output=True, check=False)  # type: ignore[assignment]
    else:
        done = ferry("import", archive, "--models", target.root)
    assert done.returncode == 0, done.stderr
    assert not faults_of(target.root)
    assert target.manifest_path("qwen3:8b-new").read_bytes() == source.manifest_path("qwen3:8b-new").read_bytes()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("streamed", [False, True])
def test_a_target_that_lacks_what_was_left_out_is_told_before_anything_is_written(
    stores: tuple[StoreBuilder, StoreBuilder], tmp_path: Path, kind: str, streamed: bool
) -> None:
    source, target = stores
    archive = tmp_path / f"new{kind}"
    have = inventory_of(target, tmp_path / "have.txt")
    assert export(source, "qwen3:8b-new", "other:1", archive, "--have", have).returncode == 0
    empty = tmp_path / "empty"
    given = archive.open("rb") if streamed else None
    done = subprocess.run(
        [*COMMAND, "import", "-" if streamed else str(archive), "--models", str(empty)],
        stdin=given,
        capture_output=True,
        text=True,
        check=False,
    )
    if given:
        given.close()
    assert_one_clear_error(done, 4)
    assert "leaves out 2 blobs (2.5 MB) that this one lacks" in done.stderr
    assert "ollama-ferry inventory > have.txt" in done.stderr
    assert not [path for path in tree(empty) if path.startswith("manifests")] if empty.exists() else True
    assert not list((empty / "blobs").glob("sha256-*"))
    # What does not count on anything can be taken all the same.
    done = ferry("import", archive, "--model", "other:1", "--models", empty)
    assert done.returncode == 0, done.stderr
    assert not faults_of(empty)


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_from_which_a_part_is_taken_asks_at_its_end(
    stores: tuple[StoreBuilder, StoreBuilder], tmp_path: Path, kind: str
) -> None:
    source, target = stores
    archive = tmp_path / f"new{kind}"
    have = inventory_of(target, tmp_path / "have.txt")
    assert export(source, "qwen3:8b-new", "other:1", archive, "--have", have).returncode == 0
    for model, code in (("other:1", 0), ("qwen3:8b-new", 4)):
        done = subprocess.run(
            [*COMMAND, "import", "-", "--model", model, "--models", str(tmp_path / "elsewhere")],
            input=archive.read_bytes(),
            capture_output=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
    assert b"leaves out 1 blob " in done.stderr


def test_an_archive_tells_what_its_target_has(stores: tuple[StoreBuilder, StoreBuilder], tmp_path: Path) -> None:
    source, _ = stores
    first, second, third = (tmp_path / f"{n}.tar.gz" for n in (1, 2, 3))
    assert export(source, "qwen3:8b", first).returncode == 0
    assert export(source, "qwen3:8b-new", second, "--have", first).returncode == 0
    assert f"blobs/{shared_blob(source)}" not in names_in(second)
    # What the second leaves out was there as well.
    assert export(source, "--all", third, "--have", second, "--force").returncode == 0
    assert f"blobs/{shared_blob(source)}" not in names_in(third)
    restored = tmp_path / "restored"
    for archive in (first, second, third):
        done = ferry("import", archive, "--models", restored)
        assert done.returncode == 0, done.stderr
    assert tree(restored) == tree(source.root)


@pytest.mark.parametrize("kind", [".tar", ".tar.gz"])
@pytest.mark.parametrize("tool", TOOLS)
def test_plain_tools_restore_it_over_what_is_there(
    stores: tuple[StoreBuilder, StoreBuilder], tmp_path: Path, tool: str, kind: str
) -> None:
    source, target = stores
    archive = tmp_path / f"new{kind}"
    have = inventory_of(target, tmp_path / "have.txt")
    assert export(source, "qwen3:8b-new", archive, "--have", have).returncode == 0
    assert untar(tool, archive, target.root) == 0
    assert not faults_of(target.root)
    extra = {path for path in tree(target.root) if not path.startswith(("blobs/", "manifests/"))}
    # p7zip unpacks the comment as a file beside the folders, where it does no harm.
    assert extra <= ({"pax_global_header"} if tool == "7z" else set())


def test_list_show_and_verify_say_what_is_left_out(stores: tuple[StoreBuilder, StoreBuilder], tmp_path: Path) -> None:
    source, target = stores
    have = inventory_of(target, tmp_path / "have.txt")
    for kind in KINDS:
        archive = tmp_path / f"new{kind}"
        assert export(source, "qwen3:8b-new", archive, "--have", have).returncode == 0
        assert "counts on 2.5 MB at its target" in ferry("list", archive).stdout
        assert "left out: its target has it" in ferry("show", "qwen3:8b-new", archive).stdout
        done = ferry("verify", archive)
        assert done.returncode == 0, done.stderr
        assert "but for 2 blobs that it counts on at its target" in done.stdout
        document = json.loads(ferry("verify", archive, "--json").stdout)
        assert document["models"][0]["left_out"] == 2
    streamed = subprocess.run([*COMMAND, "verify", "-"], input=archive.read_bytes(), capture_output=True, check=False)
    assert b"but for 2 blobs" in streamed.stdout


def test_an_inventory_has_whole_blobs_of_models_only(stores: tuple[StoreBuilder, StoreBuilder], tmp_path: Path) -> None:
    _, target = stores
    target.blob(b"named by nobody")
    shared = target.root / "blobs" / shared_blob(target)
    shared.write_bytes(shared.read_bytes()[:-1])
    lines = [line for line in ollama_ferry.inventory(target.root).splitlines() if not line.startswith("#")]
    assert len(lines) == 2
    assert not any(shared.name.partition("-")[2] in line for line in lines)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_an_inventory_by_powershell_is_read(
    stores: tuple[StoreBuilder, StoreBuilder], tmp_path: Path, encoding: str
) -> None:
    source, target = stores
    have = tmp_path / "have.txt"
    have.write_text(ollama_ferry.inventory(target.root).replace("\n", "\r\n"), encoding=encoding)
    done = ollama_ferry.export("qwen3:8b-new", tmp_path / "new.tar.gz", store=source.root, have=have)
    assert len(done.left_out) == 2
    with pytest.raises(LeftOut):
        ollama_ferry.import_archive(tmp_path / "new.tar.gz", store=tmp_path / "empty")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", 4),
        ("hello\n" * 300, 4),
        ("# ollama-ferry inventory 2\n", 2),
        ("# ollama-ferry inventory 1\nsha256:12 5\n", 4),
        (f"# ollama-ferry inventory 1\nsha256:{'A' * 64} 5\n", 4),
        (f"# ollama-ferry inventory 1\nsha256:{'a' * 64} -5\n", 4),
    ],
)
def test_what_is_no_inventory_is_refused(
    stores: tuple[StoreBuilder, StoreBuilder], tmp_path: Path, text: str, code: int
) -> None:
    have = tmp_path / "have.txt"
    have.write_text(text)
    assert_one_clear_error(export(stores[0], "qwen3:8b", tmp_path / "x.tar.gz", "--have", have), code)
    assert not (tmp_path / "x.tar.gz").exists()


def test_another_size_is_another_blob(stores: tuple[StoreBuilder, StoreBuilder], tmp_path: Path) -> None:
    source, target = stores
    text = ollama_ferry.inventory(target.root).replace(" 2500000\n", " 2500001\n")
    have = tmp_path / "have.txt"
    have.write_text(text)
    done = ollama_ferry.export("qwen3:8b-new", tmp_path / "new.tar", store=source.root, have=have)
    assert [blob.size for blob in done.left_out] == [len(b'{"model_format": "gguf"}')]


def test_thousands_of_blobs_can_be_left_out() -> None:
    blobs = [(f"{number:064x}", number) for number in range(12_345)]
    raw = left_out_headers(blobs)
    reader = TarReader(unpacked(io.BytesIO(raw + tar.folder_header("manifests", 0) + bytes(1024)), ""))
    assert [member.name for member in reader] == ["manifests/"]
    assert [pair for comment in reader.comments for pair in left_out_of(comment)] == blobs


def test_the_index_names_them_too_and_verify_compares(
    stores: tuple[StoreBuilder, StoreBuilder], tmp_path: Path
) -> None:
    source, target = stores
    archive = tmp_path / "new.tar.gz"
    have = inventory_of(target, tmp_path / "have.txt")
    assert export(source, "qwen3:8b-new", archive, "--have", have).returncode == 0
    with archive.open("rb") as file:
        index = read_index(file, "gzip")
    assert index is not None
    assert [size for _, size in index.left_out if size > 1000] == [2_500_000]
    # The same frames behind an index that says nothing of it: list believes the index, verify does not.
    from dataclasses import replace

    from ollama_ferry.archives.index import index_bytes
    from ollama_ferry.archives.kinds import Kind

    lying = tmp_path / "lying.tar.gz"
    frames = archive.read_bytes()[: index.frames.packed_size]
    lying.write_bytes(frames + index_bytes(replace(index, left_out=()), Kind.TAR_GZ, "somebody/1"))
    assert_one_clear_error(ferry("verify", lying), 4)


def test_the_same_archive_byte_for_byte(stores: tuple[StoreBuilder, StoreBuilder], tmp_path: Path) -> None:
    source, target = stores
    have = inventory_of(target, tmp_path / "have.txt")
    for number, threads in enumerate((1, 4)):
        ollama_ferry.export(
            "qwen3:8b-new", tmp_path / f"{number}.tar.gz", store=source.root, have=have, threads=threads
        )
    assert (tmp_path / "0.tar.gz").read_bytes() == (tmp_path / "1.tar.gz").read_bytes()
