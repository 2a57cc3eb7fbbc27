"""What an error leaves to choose is said by the options of the command that failed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ollama_ferry.cli.remedies import hint_of
from ollama_ferry.errors import AlreadyExists, FerryError, ModelNotFound, Remedy
from ollama_ferry.shell_lines import quoted
from support.command_line import ferry
from support.stores import StoreBuilder, weights

PACKAGE = Path(__file__).parents[2] / "src/ollama_ferry"


@pytest.mark.parametrize(
    ("remedy", "command", "words"),
    [
        (Remedy("rename"), "import", "--as"),
        (Remedy("rename", "x:1"), "pull", "--as x:1"),
        (Remedy("rename"), "export", "--as"),
        (Remedy("rename"), "verify", ""),
        (Remedy("models"), "import", "--model."),
        (Remedy("models"), "send", "Name the models to take."),
        (Remedy("insecure", "False"), "push", "leave out --insecure"),
        (Remedy("insecure"), "push", "--insecure"),
        (Remedy("lenient"), "import", "made it: --lenient"),
        (Remedy("lenient"), "verify", "ollama-ferry import --lenient"),
        (Remedy("split"), "export", "larger --split"),
        (Remedy("split", "fat32"), "export", "--split fat32"),
        (Remedy("store", "/a b"), "list", f"--models {quoted('/a b')}"),
        (Remedy("replace"), "fetch", "--force"),
        (Remedy("replace"), "list", ""),
        (Remedy("something else"), "import", ""),
    ],
)
def test_a_remedy_is_said_by_the_command_that_failed(remedy: Remedy, command: str, words: str) -> None:
    said = hint_of(FerryError("failed", remedies=[remedy]), command)
    assert words in said and bool(said) is bool(words)


def test_hints_and_remedies_stand_on_lines_of_their_own_likeliest_first() -> None:
    error = AlreadyExists("it is there", hint="Look at it.", remedies=[Remedy("replace"), Remedy("rename")])
    first, *others = hint_of(error, "import").splitlines()
    assert first == "Look at it." and [re.findall("--[a-z]+", line) for line in others] == [["--force"], ["--as"]]


def test_the_place_that_lacks_a_model_can_be_listed(tmp_path: Path) -> None:
    said = hint_of(ModelNotFound("no such model", place=str(tmp_path)), "export")
    assert said == f"`ollama-ferry list --models {tmp_path}` shows what is there."


def test_every_remedy_of_the_package_has_words() -> None:
    named = set()
    for path in PACKAGE.rglob("*.py"):
        named |= set(re.findall(r'Remedy\("(\w+)"', path.read_text(encoding="utf-8")))
    assert len(named) > 10
    for parameter in named:
        assert hint_of(FerryError("failed", remedies=[Remedy(parameter, "value")])), parameter


def test_a_command_says_them(source: StoreBuilder, tmp_path: Path) -> None:
    source.model("a:1", [("model", weights(1000))])
    archive = tmp_path / "a.tar"
    assert ferry("export", "--models", source.root, "a:1", archive).returncode == 0
    again = ferry("export", "--models", source.root, "a:1", archive)
    assert again.returncode == 7 and "--force" in again.stderr
    source.model("b:1", [("model", weights(1000, 2))])
    other = ferry("import", archive, "--models", source.root, "--as", "b:1")
    assert other.returncode == 7 and "--force" in other.stderr and "--as" in other.stderr
