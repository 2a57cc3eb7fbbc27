"""What a release is made of, and when none is made."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
import yaml

from ollama_ferry.jobs.program_files import EXECUTABLES, needed_packages

ROOT = Path(__file__).parents[1]


def names_in(file: str) -> set[str]:
    lines = (ROOT / "release" / file).read_text(encoding="utf-8").splitlines()
    pinned = [line for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][0-9.a-z]*(; python_version < '3.14')?", line) for line in pinned)
    return {line.partition("==")[0].lower().replace("_", "-") for line in pinned}


def test_versions_are_fixed_of_all_that_goes_into_a_release() -> None:
    natively = {re.split(r"[^A-Za-z0-9._-]", line)[0].replace("_", "-") for line in requires("ollama-ferry") or []}
    assert set(needed_packages()) <= names_in("requirements.txt")
    assert natively & {"isal", "deflate", "backports.zstd"} <= names_in("requirements.txt")


def test_executables_are_those_that_a_kit_takes() -> None:
    from release.executables import SYSTEMS

    assert {system.file for system in SYSTEMS} == set(EXECUTABLES)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    (folder / "src/ollama_ferry").mkdir(parents=True)
    (folder / "src/ollama_ferry/_version.py").write_text('__version__ = "1.2.3"\n')
    (folder / "CHANGELOG.md").write_text("# Changes\n\n## Unreleased\n")
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        git(folder, *words)
    return folder


def git(folder: Path, *words: str) -> None:
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)


def test_what_is_not_ready_is_no_release(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from release import build

    monkeypatch.setattr(build, "ROOT", checkout)
    with pytest.raises(SystemExit, match=r"no tag v1\.2\.3"):
        build.require_release("1.2.3")
    git(checkout, "tag", "v1.2.3")
    with pytest.raises(SystemExit, match=r"no section 1\.2\.3"):
        build.require_release("1.2.3")
    (checkout / "CHANGELOG.md").write_text("# Changes\n\n## 1.2.3 - 2026-11-26\n")
    with pytest.raises(SystemExit, match="not committed"):
        build.require_release("1.2.3")
    git(checkout, "commit", "-qam", "second")
    git(checkout, "tag", "-f", "v1.2.3")
    build.require_release("1.2.3")


@pytest.mark.long
def test_two_builds_are_equal_and_say_what_is_inside(tmp_path: Path) -> None:
    for name in ("one", "two"):
        words = ["-m", "release.build", "--snapshot", "--no-executables", str(tmp_path / name)]
        subprocess.run([sys.executable, *words], cwd=ROOT, check=True, capture_output=True)
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two
    subprocess.run(["sha256sum", "-c", "--strict", "SHA256SUMS"], cwd=tmp_path / "one", check=True, capture_output=True)
    inside = {part["name"].lower().replace("_", "-") for part in json.loads(one["ollama-ferry.cdx.json"])["components"]}
    assert {"ollama-ferry", *needed_packages()} <= inside | {"ollama-ferry"}
    licences = one["LICENSES.txt"].decode()
    assert all(f"\n{name}-" in licences.replace("_", "-") for name in needed_packages())


def test_manual_pages_and_completions_are_one_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from release.build import write_shared_files

    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    wheel = tmp_path / "x.whl"
    with zipfile.ZipFile(wheel, "w") as zipped:
        zipped.writestr("ollama_ferry/cli/manual.py", "no")
        for name in ("man/man1/ollama-ferry.1", "bash-completion/completions/ollama-ferry"):
            zipped.writestr(f"ollama_ferry-1.data/data/share/{name}", name)
    archives = [tmp_path / "one.tar.gz", tmp_path / "two.tar.gz"]
    for archive in archives:
        write_shared_files(wheel, archive)
    assert archives[0].read_bytes() == archives[1].read_bytes()
    with tarfile.open(archives[0]) as tar:
        assert tar.getnames() == [
            "share/bash-completion/completions/ollama-ferry", "share/man/man1/ollama-ferry.1",
        ]  # fmt: skip
        assert {member.mtime for member in tar} == {1_700_000_000}


# -- what runs where the project is published


def workflow(name: str) -> dict[str, Any]:
    # YAML 1.1 takes the key "on" for a truth value.
    text = (ROOT / ".github/workflows" / name).read_text(encoding="utf-8").replace("\non:", "\n'on':")
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def lines_of(job: dict[str, Any]) -> str:
    return "\n".join(step.get("run", "") for step in job["steps"])


def test_public_ci_runs_the_two_commands_of_the_readme_on_each_system() -> None:
    jobs = workflow("ci.yml")["jobs"]
    assert set(jobs) == {"linux", "macos", "windows"}
    for name, job in jobs.items():
        assert "./dev demo" in lines_of(job), name
        assert ".ci/run" in lines_of(job) or "./dev test" in lines_of(job), name
    assert jobs["linux"]["strategy"]["matrix"]["python"] == ["3.10", "3.11", "3.12", "3.13", "3.14"]


def test_only_the_job_that_publishes_may_and_a_person_does_the_rest() -> None:
    found = workflow("release.yml")
    assert found["on"] == {"push": {"tags": ["v*"]}} and found["permissions"] == {"contents": "read"}
    jobs = found["jobs"]
    rights = {name: job.get("permissions", {}) for name, job in jobs.items()}
    assert rights == {"build": {}, "pypi": {"id-token": "write"}, "page": {"contents": "write"}}
    # The archive of manual pages is no source distribution.
    assert "mv dist/ollama_ferry-*.whl dist/ollama_ferry-*.tar.gz pypi/" in lines_of(jobs["pypi"])
    assert "./dev release dist" in lines_of(jobs["build"]) and "--draft" in lines_of(jobs["page"])
    # No token and no password stands in it, or is asked for.
    assert not re.search(r"secrets\.|password|token:(?! write)", (ROOT / ".github/workflows/release.yml").read_text())


def test_image_is_made_of_what_is_here_and_runs_as_nobody_special() -> None:
    text = (ROOT / "Containerfile").read_text(encoding="utf-8")
    stages = re.findall(r"^FROM (.*)$", text, re.MULTILINE)
    assert stages == ["${BASE} AS wheels", "${BASE}"]
    assert "--no-index" in text and re.search(r"^USER 65532:65532$", text, re.MULTILINE)
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".git", ".venv*", "dist", "site"} <= set(ignored)
