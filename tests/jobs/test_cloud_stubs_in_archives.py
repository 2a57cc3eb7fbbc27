"""Cloud stubs in archives of other tools: left out and named, whether the archive is searched or passes by."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ollama_ferry.places.store.store import Store
from support.command_line import COMMAND, assert_one_clear_error, ferry
from support.stores import StoreBuilder, faults_of

ELSEWHERE = {"remote_host": "https://ollama.com:443", "remote_model": "x"}


@pytest.fixture(params=["-cf", "-czf"])
def archive(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    store = StoreBuilder(tmp_path / "store")
    store.model("good:1", [("model", b"weights")])
    store.model("stub", [], config=ELSEWHERE)
    # It has weights all the same.
    store.model("both:1", [("model", b"others")], config=ELSEWHERE)
    path = tmp_path / ("x.tar" if request.param == "-cf" else "x.tar.gz")
    subprocess.run(["tar", request.param, path, "-C", store.root, "."], check=True)
    return path


@pytest.mark.parametrize("piped", [False, True], ids=["file", "pipe"])
def test_is_left_out_and_named(archive: Path, tmp_path: Path, *, piped: bool) -> None:
    with archive.open("rb") as file:
        words: list[str | Path] = [*COMMAND, "import", "-" if piped else archive, "--models", tmp_path / "got"]
        done = subprocess.run(words, stdin=file, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "left out: stub:latest is a cloud model" in done.stderr
    assert sorted(map(str, Store(tmp_path / "got").names())) == ["both:1", "good:1"]
    assert not faults_of(tmp_path / "got")


def test_named_itself_is_an_error(archive: Path, tmp_path: Path) -> None:
    done = ferry("import", archive, "stub", "--models", tmp_path / "got")
    assert_one_clear_error(done, 3)
    assert "https://ollama.com:443" in done.stderr
