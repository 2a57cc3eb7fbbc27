"""The floors, the public names, the import time's causes, and the documents."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

import ollama_ferry
from ollama_ferry import errors
from ollama_ferry.cli.commands import ferry as ferry_group
from support import floors
from support.command_line import ferry

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src/ollama_ferry"


# What is still to be mended. An entry goes with its fault: the tests fail where one is no longer needed.
STILL_CLIMBING: set[str] = set()
STILL_IN_CIRCLES: set[tuple[str, ...]] = set()
STILL_SPEAKING: set[str] = set()
STILL_TOO_LONG: set[str] = set()
# The page of a kit is made of commands, for people who have nothing else.
WRITES_COMMANDS = {"jobs/kit_page.py"}


@pytest.fixture(scope="module")
def modules() -> dict[str, floors.Module]:
    found = floors.read_package()
    # Seen with -s, as ./dev floors shows it.
    print(floors.drawing(found))  # noqa: T201
    return found


def test_imports_lead_down(modules: dict[str, floors.Module]) -> None:
    assert not floors.homeless(modules)
    assert set(floors.climbing(modules)) == STILL_CLIMBING


def test_nobody_imports_what_is_anothers_own(modules: dict[str, floors.Module]) -> None:
    assert not floors.trespassing(modules)


def test_no_public_name_stands_in_two_rooms(modules: dict[str, floors.Module]) -> None:
    assert not floors.namesakes(modules)


def test_no_modules_import_each_other_in_a_circle(modules: dict[str, floors.Module]) -> None:
    assert set(map(tuple, floors.circles(modules))) == STILL_IN_CIRCLES


def test_nothing_is_too_long(modules: dict[str, floors.Module]) -> None:
    assert set(floors.oversized(modules)) == STILL_TOO_LONG, floors.oversized(modules)
    assert len(floors.at_the_top()) <= floors.MODULES_AT_THE_TOP


def test_nothing_is_in_the_tree_that_was_made() -> None:
    """``git add`` of everything takes what a run left: environments, archives, figures of coverage."""
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, text=True, capture_output=True, check=False).stdout.split(
        "\n"
    )
    endings = {Path(file).suffix or Path(file).name for file in files if file}
    written = {
        ".py",
        ".md",
        ".toml",
        ".yml",
        ".json",
        ".txt",
        ".typed",
        ".sh",
        ".svg",
        ".gitignore",
        ".dockerignore",
        "Containerfile",
        "LICENSE",
        "dev",
        "run",
    }
    # Made once by another program, for a fault that ours can't make.
    kept = {"tests/archives/too-many-codes.tar.bz2"}
    assert endings <= {*written, *(Path(file).suffix for file in kept)}
    assert {file for file in files if file.endswith((".gz", ".zst", ".bz2", ".zip", ".tar"))} <= kept


def test_no_file_of_tests_needs_long_scrolling() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in (ROOT / "tests").rglob("*.py")}
    assert not {str(path): count for path, count in lengths.items() if count > 600}


@pytest.mark.parametrize(
    ("module", "line", "found"),
    [
        ("model/names.py", "import ollama_ferry.jobs.export", "model.names -> jobs.export"),
        ("engine/hashing.py", "from ollama_ferry.files import disk", "engine.hashing -> files.disk"),
        ("places/store/store.py", "import ollama_ferry.places.ssh.place", "places.store.store -> places.ssh.place"),
        ("archives/tar.py", "def f():\n    from ollama_ferry import __version__", "archives.tar -> __init__"),
    ],
)
def test_an_import_upward_is_found(tmp_path: Path, module: str, line: str, found: str) -> None:
    copy = Path(shutil.copytree(PACKAGE, tmp_path / "package"))
    with (copy / module).open("a", encoding="utf-8") as opened:
        opened.write(f"\n\n{line}\n")
    assert set(floors.climbing(floors.read_package(copy))) == {*STILL_CLIMBING, found}


def test_circles_trespassers_namesakes_and_long_parts_are_found(tmp_path: Path) -> None:
    """For types only, a circle is one all the same."""
    before = floors.read_package()
    copy = Path(shutil.copytree(PACKAGE, tmp_path / "package"))
    (copy / "model/first.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ollama_ferry.model.second import _own\n"
    )
    (copy / "model/second.py").write_text(
        "def _own():\n    from ollama_ferry.model.first import x\n" + "    x()\n" * 60
    )
    (copy / "archives/third.py").write_text("from ollama_ferry.model.names import ModelName\n" + "\n" * 450)
    (copy / "files/fourth.py").write_text("class Manifest:\n" + "    x = 1\n" * 300)
    after = floors.read_package(copy)
    assert [circle for circle in floors.circles(after) if circle not in floors.circles(before)] == [
        ["model.first", "model.second"]
    ]
    assert set(floors.trespassing(after)) == {
        "archives.third -> model.names.ModelName",
        "model.first -> model.second._own",
    }
    assert floors.namesakes(after) == ["Manifest: files.fourth, model.manifests"]
    assert floors.oversized(after).keys() - floors.oversized(before).keys() == {
        "archives.third",
        "files.fourth:Manifest",
        "model.second:_own",
    }


def test_a_command_knows_the_python_interface_and_nothing_below(modules: dict[str, floors.Module]) -> None:
    """What it needs of a job it asks ``api`` for; so a program in Python has the same power."""
    below = {
        f"{module.name} -> {target}"
        for module in modules.values()
        for target in module.imports
        if module.room == "cli" and not target.startswith(("cli", "api."))
        and target not in ("api", "errors", "wording", "shell_lines", "engine.events", "_version")
    }  # fmt: skip
    assert not below


def options_of_commands() -> set[str]:
    context = click.Context(ferry_group)
    commands = [ferry_group.get_command(context, name) for name in ferry_group.list_commands(context)]
    return {
        option
        for command in commands
        if command is not None
        for parameter in command.params
        for option in parameter.opts
        if option.startswith("--")
    }


def speaking(package: Path) -> set[str]:
    """Return the modules below the command line that name an option of ours in a text."""
    named = re.compile(rf"(?<![\w-])({'|'.join(sorted(options_of_commands()))})(?![\w-])")
    found = set()
    for path in package.rglob("*.py"):
        name = path.relative_to(package).as_posix()
        # doctor prints lines to copy; the page shows Ollama's own option.
        if name.startswith(("cli/", "doctor/")) or name == "serving/page.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and named.search(node.value):
                found.add(name)
    return found


def test_no_library_module_speaks_of_options(tmp_path: Path) -> None:
    assert {"--as", "--force", "--models", "--split", "--oci"} <= options_of_commands()
    assert speaking(PACKAGE) == STILL_SPEAKING | WRITES_COMMANDS
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs/planted.py").write_text('raise ValueError(f"{1}: try --force")\n')
    assert speaking(tmp_path) == {"jobs/planted.py"}


def test_only_the_command_line_knows_how_it_is_made() -> None:
    for path in PACKAGE.rglob("*.py"):
        found = re.search(r"^\s*(import|from) (click|prompt_toolkit)\b", path.read_text(encoding="utf-8"), re.MULTILINE)
        assert not found or path.parent.name == "cli", path


def test_public_names_are_there_and_documented() -> None:
    for name in ollama_ferry.__all__:
        assert getattr(ollama_ferry, name) is not None
        assert name == "__version__" or getattr(ollama_ferry, name).__doc__
    with pytest.raises(AttributeError):
        _ = ollama_ferry.nothing


def test_importing_the_package_loads_nothing_heavy() -> None:
    line = "import sys, ollama_ferry.api; print(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", line], text=True).split()
    heavy = {"prompt_toolkit", "isal", "backports.zstd", "http.client", "urllib3", "concurrent.futures"}
    assert not {"click", *heavy} & set(loaded)
    line = "import sys; from ollama_ferry.cli import run; run(['--help']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", line], text=True, capture_output=True, check=True)
    assert not heavy & set(done.stderr.split())


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


DOCUMENTS = [ROOT / "README.md", ROOT / "README.zh-CN.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_documented_commands_and_options_exist(document: Path) -> None:
    for words in commands(document):
        usage = ferry(words[0], "--help")
        assert usage.returncode == 0, words
        for word in words[1:]:
            if word.startswith("-") and word != "-":
                assert word.partition("=")[0] in usage.stdout, words


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text(encoding="utf-8")):
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize("readme", ["README.md", "README.zh-CN.md"])
def test_readme_shows_the_real_output_of_the_demo(readme: str) -> None:
    shown = re.search(r"\$ ./dev demo\n(.*?)```", (ROOT / readme).read_text(encoding="utf-8"), re.DOTALL)
    assert shown
    # The archive's own digest and size depend on which accelerators are installed.
    vary = re.compile(r"\d\.\d MB, 4 blobs|SHA-256 [0-9a-f]{12}")
    assert vary.sub("~", ferry("demo").stdout) == vary.sub("~", shown[1])


def test_commands_print_through_one_place() -> None:
    for path in sorted((PACKAGE / "cli").glob("*.py")):
        if path.name != "terminal.py":
            said = re.search(
                r"\bclick\.s?echo\b|\bprint\(|sys\.std(out|err)\.write|echo_via_pager", path.read_text("utf-8")
            )
            assert said is None, (path.name, said)
