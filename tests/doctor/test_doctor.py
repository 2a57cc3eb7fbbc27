"""The command ``doctor``: what it prints, and that nothing is changed."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

import ollama_ferry
from ollama_ferry.doctor.findings import LISTED_AT_MOST, Severity
from ollama_ferry.shell_lines import quoted
from ollama_ferry.wording import shown
from support import needs
from support.checking import LIBRARY, checked, codes, one, run
from support.command_line import ferry
from support.stores import StoreBuilder

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")


@pytest.fixture
def models(source: StoreBuilder) -> StoreBuilder:
    """A store with nothing wrong."""
    source.model("qwen3:8b", [("model", b"w" * 5000), ("template", b"t")])
    return source


@pytest.fixture
def broken(models: StoreBuilder) -> StoreBuilder:
    """A store with much wrong, and names that would colour a terminal."""
    models.blob_path(models.blob(b"t")).unlink()
    models.blob(b"orphan")
    folder = models.root / LIBRARY
    (folder / "qwen3/\x1b[31m\nred").write_bytes(b"x")
    (folder / "bad").mkdir()
    (folder / "bad/latest").write_bytes(b'{"layers": [{"digest": "\\u001b[31m"}]}')
    (models.root / "blobs/\x9b31m; rm -rf ~").write_bytes(b"x")
    (models.root / "blobs/.ollama-ferry").mkdir()
    return models


@needs.any_names
def test_nothing_is_changed(broken: StoreBuilder) -> None:
    def states() -> dict[str, tuple[int, int, int]]:
        found = {}
        for folder, folders, files in os.walk(broken.root):
            for name in ("", *folders, *files):
                status = os.lstat(os.path.join(folder, name))
                found[os.path.join(folder, name)] = (status.st_mtime_ns, status.st_ctime_ns, status.st_size)
        return found

    before = states()
    assert ferry("doctor", "--models", broken.root).returncode == 4
    assert ferry("doctor", "--models", broken.root, "--json").returncode == 4
    assert states() == before


@needs.any_names
def test_output_is_plain_and_complete(broken: StoreBuilder) -> None:
    done = ferry("doctor", "--models", broken.root)
    assert done.returncode == 4
    assert not CONTROL.search(done.stdout + done.stderr) and "\x9b" not in done.stdout
    for code in ("missing-blob", "damaged-manifest", "not-a-manifest", "orphans", "stray-file", "leftovers"):
        assert f": {code}\n" in done.stdout
    assert done.stdout.index("PROBLEM") < done.stdout.index("WARNING") < done.stdout.index("NOTE")
    assert done.stderr.startswith("error: 2 problems found")
    quiet = ferry("doctor", "--models", broken.root, "-q")
    assert "PROBLEM" in quiet.stdout and "NOTE" not in quiet.stdout and "STORE" not in quiet.stdout


@needs.any_names
def test_json(broken: StoreBuilder) -> None:
    done = ferry("doctor", "--models", broken.root, "--json")
    assert done.returncode == 4
    told = json.loads(done.stdout)
    assert told["problems"] == 2
    assert told["stores"][0]["path"] == str(broken.root) and told["stores"][0]["chosen"]
    assert told["server"]["folder"] is None
    assert {"severity", "code", "text", "what_if", "store", "concerns", "mend"} == set(told["findings"][0])


def test_warnings_alone_exit_with_0(models: StoreBuilder) -> None:
    models.blob(b"orphan")
    done = ferry("doctor", "--models", models.root)
    assert done.returncode == 0 and "WARNING: orphans" in done.stdout


def test_findings_are_bounded(source: StoreBuilder, tmp_path: Path) -> None:
    for number in range(40):
        source.manifest(f"m:{number}", json.dumps({"layers": [{"digest": f"sha256:{number:064x}"}]}).encode())
    for number in range(2_000):
        (source.root / "blobs" / f"stray {number}").touch()
    report = checked(source, tmp_path)
    assert codes(report).count("missing-blob") == LISTED_AT_MOST
    assert [(more.code, more.count) for more in report.omitted] == [("missing-blob", 40 - LISTED_AT_MOST)]
    assert report.count(Severity.PROBLEM) == 40
    stray = one(report, "stray-file")
    assert stray.text.startswith("2000 files") and len(stray.concerns) == LISTED_AT_MOST
    done = ferry("doctor", "--models", source.root)
    assert f"... and {40 - LISTED_AT_MOST} more like this" in done.stdout
    assert len(done.stdout) < 30_000


@pytest.mark.parametrize("name", ["a b", "it's", "$(x)", "\x1b[31m", "\udcff\\", "\n", "日本"])
@needs.shell
def test_quoted_words_mean_the_same_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.touch()
    assert quoted(path).isprintable() and shown(path).isprintable()
    run(f"rm {quoted(path)}")
    assert not path.exists()


@needs.any_names
def test_lines_are_commands(broken: StoreBuilder, tmp_path: Path) -> None:
    lines = [line for finding in checked(broken, tmp_path).findings for line in finding.mend]
    assert {line.split()[0] for line in lines} == {"ollama", "rm", "mv", "ollama-ferry", "#"}


def test_every_kind_of_finding_is_documented() -> None:
    folder = Path(ollama_ferry.__file__).parent / "doctor"
    source = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*.py"))
    kinds = set(re.findall(r'Severity\.[^"]*?,\s*"([a-z-]+)"', source)) | {"missing-blob", "wrong-owner"}
    table = (Path(__file__).parents[2] / "docs/doctor.md").read_text(encoding="utf-8")
    documented = {
        word for line in table.splitlines() if line.startswith("| `") for word in re.findall(r"`([a-z-]+)`", line)
    }
    assert {"orphans", "closed", "link"} < kinds
    assert kinds - documented == set()
