"""Archives that ollamazip and ollama-tool-cli make themselves, and one in the form that ollama-dl writes."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from ollama_ferry.archives.zstd_library import load_zstd
from support.command_line import assert_one_clear_error, ferry
from support.other_tools import run_other_tool
from support.stores import StoreBuilder, faults_of, tree, weights

PACK = """
import sys
from pathlib import Path
from ollamazip.core import pack_model
pack_model(sys.argv[1], Path(sys.argv[2]), compress=sys.argv[3])
"""
BACKUP = """
import os, sys
from pathlib import Path
from ollamatools import backup_single_model
backup_single_model(Path(os.environ["OLLAMA_MODELS"]), Path(sys.argv[1]), sys.argv[2])
"""


@pytest.fixture
def models(source: StoreBuilder) -> StoreBuilder:
    source.model("qwen3:8b", [("model", weights(300_000)), ("template", b"{{ .Prompt }}")])
    source.model("hf.co/org/repo:Q4_K_M", [("model", weights(20_000, 2))])
    return source


@pytest.mark.parametrize("compress", ["zstd", "gzip", "none"])
@pytest.mark.parametrize("name", ["qwen3:8b", "hf.co/org/repo:Q4_K_M"])
def test_ollamazip(models: StoreBuilder, tmp_path: Path, compress: str, name: str) -> None:
    archive = tmp_path / "packed.ollamazip"
    run_other_tool("ollamazip", PACK, name, archive, compress, models=models.root)
    assert name in ferry("list", archive).stdout
    # What it is for, and no more: verify vouches for what plain tar restores.
    assert_one_clear_error(refused := ferry("verify", archive), 4)
    assert "no one store" in refused.stderr and "import" in refused.stderr
    done = ferry("import", archive, "--models", target := tmp_path / "t")
    assert done.returncode == 0 and f"imported {name}" in done.stdout, done.stderr
    assert not faults_of(target)
    made = StoreBuilder(target).manifest_path(name)
    assert made.read_bytes() == models.manifest_path(name).read_bytes()


def test_ollama_tool_cli_leaves_out_the_config(models: StoreBuilder, tmp_path: Path) -> None:
    run_other_tool("ollamatools", BACKUP, tmp_path, "qwen3:8b", models=models.root)
    archive = tmp_path / "qwen3-8b.zip"
    config = json.loads(models.manifest_path("qwen3:8b").read_bytes())["config"]
    refused = ferry("import", archive, "--models", tmp_path / "none")
    assert_one_clear_error(refused, 4)
    assert f"its config blob {config['digest']} of {config['size']} bytes" in refused.stderr
    # Another model of the same kind has the very config, and so may an archive of another tag.
    other = tmp_path / "other.tar.gz"
    assert ferry("export", "hf.co/*", other, "--models", models.root).returncode == 0
    done = ferry("import", archive, other, "--models", tmp_path / "t")
    assert done.returncode == 0, done.stderr
    assert not faults_of(tmp_path / "t") and len(list((tmp_path / "t").glob("manifests/*/*/*/*"))) == 2


def test_ollama_dl(models: StoreBuilder, tmp_path: Path) -> None:
    """``manifest.json``, then ``blobs/sha256-<hex>``, in a .tar.zst, as its ``pack.go`` writes them."""
    raw = models.manifest_path("qwen3:8b").read_bytes()
    document = json.loads(raw)
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        names = [f"blobs/{part['digest'].replace(':', '-')}" for part in (document["config"], *document["layers"])]
        for name, content in [("manifest.json", raw), *((name, tree(models.root)[name]) for name in names)]:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    archive = tmp_path / "library_qwen3_8b_20260102.tar.zst"
    archive.write_bytes(load_zstd("packing").compress(made.getvalue()))
    assert_one_clear_error(ferry("import", archive, "--models", tmp_path / "t"), 2)
    done = ferry("import", archive, "--models", tmp_path / "t", "--as", "qwen3:8b")
    assert done.returncode == 0, done.stderr
    assert not faults_of(tmp_path / "t")
