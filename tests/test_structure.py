"""The layers, the public names, the import time's causes, and the documents."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import ollama_ferry
from ollama_ferry import errors
from support.command_line import ferry

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src/ollama_ferry"


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_layers(path: Path) -> None:
    used = imports(path)
    part = path.relative_to(PACKAGE).parts[0]
    if part != "cli" and path.name != "__main__.py":
        assert not {name for name in used if re.match(r"(click|rich)\b|ollama_ferry\.cli", name)}
    if part == "archives":
        assert not {name for name in used if re.match(r"ollama_ferry\.(places|names|manifests|copying)", name)}
    if part == "places" and path.name != "base.py":
        # A place may be two modules, of which the second begins with the first's name: store and store_sink.
        own = path.stem.partition("_")[0]
        others = {p.stem for p in path.parent.glob("*.py") if p.stem.partition("_")[0] not in (own, "base")}
        assert not used & {f"ollama_ferry.places.{other}" for other in others}


def test_public_names_are_there_and_documented() -> None:
    for name in ollama_ferry.__all__:
        assert getattr(ollama_ferry, name) is not None
        assert name == "__version__" or getattr(ollama_ferry, name).__doc__
    with pytest.raises(AttributeError):
        _ = ollama_ferry.nothing


def test_importing_the_package_loads_nothing_heavy() -> None:
    line = "import sys, ollama_ferry; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", line], text=True).split()
    assert not {"click", "rich", "isal", "backports.zstd", "http.client", "urllib3", "concurrent.futures"} & set(loaded)
    line = "import sys; from ollama_ferry.cli import run; run(['--help']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", line], text=True, capture_output=True, check=True)
    assert not {"rich", "isal", "backports.zstd", "http.client", "urllib3", "concurrent.futures"} & set(
        done.stderr.split()
    )


def test_exit_codes_are_documented() -> None:
    codes = {
        error.exit_code
        for error in vars(errors).values()
        if isinstance(error, type) and issubclass(error, errors.FerryError)
    }
    assert codes | {0} == set(errors.EXIT_CODES)
    table = (ROOT / "docs/exit-codes.md").read_text(encoding="utf-8")
    for code, meaning in errors.EXIT_CODES.items():
        assert f"| {code} | {meaning} |" in table


def commands(document: Path) -> list[list[str]]:
    """Return the ollama-ferry calls of a document's shell blocks."""
    found = []
    for block in re.findall(r"```sh\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL):
        for line in block.splitlines():
            for call in re.findall(r"(?:^|\| |sudo )ollama-ferry ([^|#]+)", line):
                found.append(shlex.split(call))
    return found


DOCUMENTS = [ROOT / "README.md", ROOT / "README.zh-CN.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_documented_commands_and_options_exist(document: Path) -> None:
    for words in commands(document):
        usage = ferry(words[0], "--help")
        assert usage.returncode == 0, words
        for word in words[1:]:
            if word.startswith("-") and word != "-":
                assert word.partition("=")[0] in usage.stdout, words


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text(encoding="utf-8")):
        assert (document.parent / target).exists(), target


def test_python_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ollama_ferry.jobs.sample import write_sample_store

    write_sample_store(tmp_path / "models")
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/python.md").read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), {})  # noqa: S102
    assert (tmp_path / "sample.tar.gz").is_file()


@pytest.mark.parametrize("readme", ["README.md", "README.zh-CN.md"])
def test_readme_shows_the_real_output_of_the_demo(readme: str) -> None:
    shown = re.search(r"\$ ./dev demo\n(.*?)```", (ROOT / readme).read_text(encoding="utf-8"), re.DOTALL)
    assert shown
    # The archive's own digest and size depend on which accelerators are installed.
    vary = re.compile(r"\d\.\d MB, 4 blobs|SHA-256 [0-9a-f]{12}")
    assert vary.sub("~", ferry("demo").stdout) == vary.sub("~", shown[1])
