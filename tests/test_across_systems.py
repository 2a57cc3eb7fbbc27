"""What Windows and Linux make of each other's archives: run here, with the Windows Python that ``./dev`` has made."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import pytest

from support import windows_python
from support.command_line import COMMAND, ferry
from support.stores import StoreBuilder, faults_of, published, tree, weights

pytestmark = pytest.mark.windows

KINDS = (".tar", ".tar.gz", ".tar.zst")


@pytest.fixture
def models(source: StoreBuilder) -> StoreBuilder:
    licence = ("license", b"MIT" * 900)
    source.model("qwen3:8b", [("model", weights(3_000_000)), ("template", b"{{ .Prompt }}" * 40), licence])
    source.model("hf.co/org/repo:Q4", [("model", weights(900_000, 7)), licence])
    source.model("zeros:1", [("model", bytes(2_000_000))])
    return source


def windows(*words: str | Path) -> str:
    """Run ollama-ferry on Windows, to its good end; return what it said."""
    said = io.BytesIO()
    line: list[str | Path] = [windows_python.made(), "-m", "ollama_ferry", *(_path(word) for word in words)]
    code = windows_python.run(line, said, OLLAMA_HOST="127.0.0.1:9")
    text = said.getvalue().decode()
    assert code == 0, text
    return text


def _path(word: str | Path) -> str:
    return f"Z:{word}".replace("/", "\\") if isinstance(word, Path) else word


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("compress", ["none", "auto", "fast", "best"])
def test_an_archive_has_the_same_bytes(models: StoreBuilder, tmp_path: Path, kind: str, compress: str) -> None:
    if kind == ".tar" and compress != "none":
        compress = "none"
    here, there = tmp_path / f"here{kind}", tmp_path / f"there{kind}"
    words: list[str | Path] = ["--compress", compress, "--models", models.root]
    assert ferry("export", "--all", here, *words).returncode == 0
    windows("export", "--all", there, *words)
    assert here.read_bytes() == there.read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_each_restores_the_others(models: StoreBuilder, tmp_path: Path, kind: str) -> None:
    here, there = tmp_path / f"here{kind}", tmp_path / f"there{kind}"
    assert ferry("export", "--all", here, "--models", models.root).returncode == 0
    windows("export", "--all", there, "--models", models.root)
    windows("import", here, "--models", tmp_path / "restored there")
    assert ferry("import", there, "--models", tmp_path / "restored here").returncode == 0
    for root in (tmp_path / "restored there", tmp_path / "restored here"):
        assert published(root) == tree(models.root) and not faults_of(root)
    assert "good" in windows("verify", here)
    assert "hf.co/org/repo:Q4" in windows("list", here)


def test_volumes_and_deltas_travel(models: StoreBuilder, tmp_path: Path) -> None:
    windows("export", "--all", tmp_path / "v.tar.gz", "--split", "1M", "--models", models.root)
    assert ferry("import", tmp_path / "v.tar.gz.001", "--models", tmp_path / "target").returncode == 0
    assert published(tmp_path / "target") == tree(models.root)
    (tmp_path / "have.txt").write_text(windows("inventory", "-q", "--models", tmp_path / "target"))
    models.model("qwen3:new", [("model", weights(3_000_000)), ("system", b"be kind")])
    assert (
        ferry(
            "export", "qwen3:new", tmp_path / "d.tar", "--have", tmp_path / "have.txt", "--models", models.root
        ).returncode
        == 0
    )
    assert (tmp_path / "d.tar").stat().st_size < 100_000
    windows("import", tmp_path / "d.tar", "--models", tmp_path / "target")
    assert published(tmp_path / "target") == tree(models.root)


def test_an_import_that_linux_began_is_resumed_on_windows(models: StoreBuilder, tmp_path: Path) -> None:
    archive, target = tmp_path / "a.tar", tmp_path / "target"
    assert ferry("export", "--all", archive, "--models", models.root).returncode == 0
    content = archive.read_bytes()
    cut = subprocess.run([*COMMAND, "import", "-", "--models", target], input=content[: len(content) // 2], check=False)
    assert cut.returncode != 0 and not list(target.glob("manifests/*/*/*/*"))
    windows("import", archive, "--models", target)
    assert published(target) == tree(models.root) and not faults_of(target)
