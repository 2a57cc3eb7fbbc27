"""``kit`` and ``--with-ferry``: the program travels with the models, and runs where it arrives."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ollama_ferry import api
from ollama_ferry.jobs import program_files
from support.command_line import assert_one_clear_error, ferry
from support.stores import StoreBuilder, weights


@pytest.fixture
def models(source: StoreBuilder) -> StoreBuilder:
    source.model("qwen3:8b", [("model", weights(50_000, 1))])
    source.model("gemma3:4b", [("model", weights(1_500_000, 2))])
    return source


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    folder = tmp_path / "stick"
    folder.mkdir()
    return folder


def alone(stick: Path, line: str) -> subprocess.CompletedProcess[str]:
    """Run a line of the page as on a machine that has this Python and nothing else."""
    words = line.split()
    assert words[:2] == ["python3", "ollama-ferry.pyz"]
    environment = {
        "PATH": os.defpath,
        "HOME": str(stick.parent / "home"),
        "OLLAMA_MODELS": str(stick.parent / "target"),
    }
    # -I: neither this folder's packages nor what PYTHONPATH names; without site there are no installed ones either.
    return subprocess.run(
        [sys.executable, "-I", "-S", *words[1:]],
        cwd=stick,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def lines_of(stick: Path, beginning: str) -> list[str]:
    page = (stick / "README.txt").read_text(encoding="utf-8")
    return [line.strip() for line in page.splitlines() if line.strip().startswith(beginning)]


def test_the_lines_of_the_page_restore_and_check_the_models_where_nothing_is_installed(
    models: StoreBuilder, stick: Path, tmp_path: Path
) -> None:
    done = ferry("export", "--all", stick / "all.tar.gz", "--with-ferry", "--models", models.root)
    assert done.returncode == 0, done.stderr
    (tmp_path / "target").mkdir()
    english, chinese = lines_of(stick, "python3 ollama-ferry.pyz import")
    assert english == chinese
    restored = alone(stick, english)
    assert restored.returncode == 0, restored.stderr
    checked = alone(stick, lines_of(stick, "python3 ollama-ferry.pyz verify")[0])
    assert checked.returncode == 0, checked.stderr
    summed = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=stick, capture_output=True, text=True, check=False)
    assert summed.returncode == 0, summed.stdout
    listed = {str(m.name): m for m in api.list_models(store=tmp_path / "target").models}
    page = (stick / "README.txt").read_text(encoding="utf-8")
    for name in ("qwen3:8b", "gemma3:4b"):
        manifest = listed[name].manifest
        assert manifest is not None
        assert f"{name}  {manifest.digest.short}" in page


def test_tars_line_of_the_page_is_the_one_that_restores(models: StoreBuilder, stick: Path, tmp_path: Path) -> None:
    ferry("export", "qwen3:8b", stick / "q 1.tar.gz", "--models", models.root)
    ferry("export", "gemma3:4b", stick / "g.tar", "--split", "1M", "--models", models.root)
    assert ferry("kit", stick).returncode == 0
    target = tmp_path / "plain"
    target.mkdir()
    for line in [*lines_of(stick, "tar -x")[:1], *lines_of(stick, "cat ")[:1]]:
        here = line.replace("/usr/share/ollama/.ollama/models", str(target))
        subprocess.run(["sh", "-c", here], cwd=stick, check=True)
    assert [str(m.name) for m in api.list_models(store=target).models] == ["gemma3:4b", "qwen3:8b"]


def test_a_kit_of_a_store_that_send_made(models: StoreBuilder, stick: Path, tmp_path: Path) -> None:
    done = ferry("send", "qwen3:8b", stick, "--with-ferry", "--models", models.root)
    assert done.returncode == 0, done.stderr
    assert "qwen3:8b" in (stick / "README.txt").read_text(encoding="utf-8")
    assert ferry("verify", "--models", stick).returncode == 0


def test_what_no_kit_has_written_stays(models: StoreBuilder, stick: Path) -> None:
    sums = "0" * 64 + "  thesis.pdf\n" + "1" * 64 + "  README.txt\n"
    for name, mine in {"README.txt": "mine\n", "SHA256SUMS": sums, "ollama-ferry.pyz": "mine\n"}.items():
        (stick / name).write_text(mine)
        done = ferry("export", "--all", stick / "x.tar", "--with-ferry", "--models", models.root)
        assert_one_clear_error(done, 7)
        assert not (stick / "x.tar").exists(), "told only after the export"
        assert (stick / name).read_text() == mine
        assert ferry("kit", stick, "--force").returncode == 0
        assert (stick / name).read_bytes() != mine.encode()
        assert ferry("kit", stick).returncode == 0, "its own is replaced"
        for file in stick.iterdir():
            file.unlink()


def test_one_archive_that_can_not_be_read_does_not_spoil_the_rest(models: StoreBuilder, stick: Path) -> None:
    ferry("export", "qwen3:8b", stick / "a.tar", "--models", models.root)
    (stick / "b.tar").write_bytes(b"no tar" * 500)
    done = ferry("kit", stick)
    assert done.returncode == 0
    assert "b.tar" in done.stderr
    page = (stick / "README.txt").read_text(encoding="utf-8")
    assert "qwen3:8b" in page
    assert "b.tar" not in page


def test_a_releases_files_go_along(stick: Path, tmp_path: Path) -> None:
    release = tmp_path / "release"
    release.mkdir()
    (release / "ollama-ferry-linux-x86_64").write_bytes(b"\x7fELF")
    done = ferry("kit", stick, "--from", release, "--json")
    programs = [Path(path).name for path in json.loads(done.stdout)["programs"]]
    assert programs == ["ollama-ferry.pyz", "ollama-ferry-linux-x86_64"]
    assert os.access(stick / "ollama-ferry-linux-x86_64", os.X_OK)
    assert "./ollama-ferry-linux-x86_64 import" not in (stick / "README.txt").read_text(encoding="utf-8"), "no load"
    (release / "ollama-ferry-linux-x86_64").unlink()
    assert_one_clear_error(ferry("kit", stick, "--from", release), 3)


def test_a_pyz_hands_on_itself(stick: Path, tmp_path: Path) -> None:
    assert ferry("kit", stick).returncode == 0
    other = tmp_path / "other"
    other.mkdir()
    done = alone(stick, f"python3 ollama-ferry.pyz kit {other}")
    assert done.returncode == 0, done.stderr
    assert (other / "ollama-ferry.pyz").read_bytes() == (stick / "ollama-ferry.pyz").read_bytes()


def test_the_pyz_is_the_same_every_time_and_holds_what_is_needed_with_its_licences(tmp_path: Path) -> None:
    from packaging.requirements import Requirement

    first = program_files.made_pyz(program_files.installed_sources())
    assert first == program_files.made_pyz(program_files.installed_sources())
    assert len(first) < 5_000_000
    (tmp_path / "x.pyz").write_bytes(first)
    names = zipfile.ZipFile(tmp_path / "x.pyz").namelist()
    for name in program_files.needed_packages():
        folder = name.replace("-py", "").replace("-", "_")
        assert any(path.startswith(folder + "/") for path in names), name
        assert any(path.startswith(name.replace("-", "_")) and "licen" in path.lower() for path in names), name
    direct = {
        Requirement(line).name.replace("_", "-")
        for line in __import__("importlib.metadata").metadata.requires("ollama-ferry") or []
    }
    assert {"click", "prompt-toolkit", "urllib3"} <= direct & set(program_files.needed_packages())
    assert not [path for path in names if path.endswith((".so", ".pyd", ".pyc"))]


def test_an_old_python_is_told_so(tmp_path: Path) -> None:
    code = program_files._ENTRY.format(compiled="")
    old = "import sys; sys.version_info = (3, 9, 2); " + f"exec({code!r})"
    done = subprocess.run([sys.executable, "-c", old], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "3.10 or newer" in done.stderr


@pytest.mark.parametrize("words", [("export", "qwen3:8b", "-"), ("send", "qwen3:8b", "user@host")])
def test_where_no_file_is_written_none_can_lie_beside(words: tuple[str, ...], models: StoreBuilder) -> None:
    done = ferry(*words, "--with-ferry", "--models", models.root)
    assert_one_clear_error(done, 2)


def test_sums_are_those_of_what_was_written(stick: Path) -> None:
    kit = api.write_kit(stick)
    sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}" for path in (*kit.programs, kit.page)]
    assert kit.sums.read_text().splitlines() == sums
