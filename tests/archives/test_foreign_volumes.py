"""Parts that other programs split an archive into: joined in order, whichever is named."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ollama_ferry.archives.volumes.foreign import foreign_volumes
from support.command_line import assert_one_clear_error, ferry
from support.stores import StoreBuilder, faults_of, weights
from support.tools import require_tool

SPLITS = {
    "split": (["-b", "5000"], "x.tar.gz.part_", "x.tar.gz.part_aa"),
    "split, long": (["-b", "700", "-a", "3"], "x.tgz-", "x.tgz-aab"),
    "split -d": (["-b", "5000", "-d"], "x.tar.gz.", "x.tar.gz.00"),
    "split without a name": (["-b", "5000"], "x", "xab"),
    "7-Zip, without the archive's ending": (["-b", "5000", "-d", "-a", "3", "--numeric-suffixes=1"], "b.", "b.001"),
    "7-Zip": (["-b", "5000", "-d", "-a", "3", "--numeric-suffixes=1"], "b.tar.gz.", "b.tar.gz.001"),
}


@pytest.fixture
def packed(source: StoreBuilder, tmp_path: Path) -> Path:
    source.model("qwen3:8b", [("model", weights(20_000))])
    path = tmp_path / "packed"
    subprocess.run([require_tool("tar"), "-czf", path, "-C", source.root, "blobs", "manifests"], check=True)
    return path


@pytest.mark.parametrize("how", SPLITS)
def test_parts_are_joined(packed: Path, tmp_path: Path, how: str) -> None:
    options, stem, named = SPLITS[how]
    (folder := tmp_path / "parts").mkdir()
    subprocess.run([require_tool("split"), *options, str(packed), str(folder / stem)], check=True)
    assert len(list(folder.iterdir())) > 2
    # Whoever lets the shell name all of them means one archive.
    every = sorted(folder.iterdir())
    for number, words in enumerate(([folder / named], every)):
        done = ferry("import", *words, "--models", tmp_path / f"t{number}", "-q")
        assert done.returncode == 0 and "qwen3:8b" in done.stdout, done.stderr
        assert not faults_of(tmp_path / f"t{number}")
    assert ferry("verify", folder / named).returncode == 0


def test_a_part_that_is_missing_is_told(packed: Path, tmp_path: Path) -> None:
    subprocess.run([require_tool("split"), "-b", "5000", str(packed), str(tmp_path / "x.tar.gz.part_")], check=True)
    for missing in ("ab", "ac"):
        (tmp_path / f"x.tar.gz.part_{missing}").unlink()
        done = ferry("import", tmp_path / "x.tar.gz.part_aa", "--models", tmp_path / "t")
        assert_one_clear_error(done, 4)
        assert "first of several parts" in done.stderr


def test_files_of_like_names_are_no_parts(tmp_path: Path) -> None:
    """Sizes tell: all parts but the last have one, and the last has no more."""
    for names, sizes in [
        (("qwen-01", "qwen-02"), (10, 20)),
        (("x.aa", "x.ab", "x.ac"), (10, 9, 10)),
        (("x.ab", "x.ac"), (10, 10)),
        (("x.00", "x.02"), (10, 10)),
        (("x.aa", "x.ab"), (10, 0)),
    ]:
        (folder := tmp_path / "-".join(names)).mkdir()
        for name, size in zip(names, sizes, strict=True):
            (folder / name).write_bytes(bytes(size))
        assert foreign_volumes(folder / names[0]) == []
