"""What variables and the file set, how they rank, and what is said of what means nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click
import pytest

from ollama_ferry.cli.commands import COMMANDS
from ollama_ferry.cli.commands import ferry as group
from ollama_ferry.cli.configuration import option_of, prepare, read_configuration, variable_of
from ollama_ferry.cli.sudo import sudo_line
from support import needs
from support.command_line import assert_one_clear_error, ferry, ferry_as_nobody
from support.stores import StoreBuilder


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "c.toml"
    monkeypatch.setenv("OLLAMA_FERRY_CONFIG", str(path))
    return path


def test_every_option_has_a_variable() -> None:
    context = click.Context(group)
    configuration = read_configuration(COMMANDS, {"OLLAMA_FERRY_CONFIG": "/nowhere"})
    for name in COMMANDS:
        command = group.get_command(context, name)
        assert command is not None
        prepare(command, name, configuration)
        for parameter in command.params:
            if isinstance(parameter, click.Option) and option_of(parameter) not in ("models", "signers"):
                assert parameter.envvar == variable_of(option_of(parameter)), (name, parameter.name)


def test_the_command_line_counts_before_variables_and_these_before_the_file(
    source: StoreBuilder, tmp_path: Path, file: Path
) -> None:
    source.model("a:1")
    file.write_text(f'models = {json.dumps(str(source.root))}\nquiet = false\n[export]\ncompress = "nonsense"\n')
    assert_one_clear_error(ferry("export", "a:1", tmp_path / "a.tar"), 2)
    assert ferry("export", "a:1", tmp_path / "a.tar", OLLAMA_FERRY_COMPRESS="none").returncode == 0
    words = ("export", "a:1", tmp_path / "b.tar", "--compress", "none")
    assert ferry(*words, OLLAMA_FERRY_COMPRESS="nonsense").returncode == 0
    # Ollama's own variable counts before the file, and ours before both.
    assert ferry("list", "-q").stdout == "a:1\n"
    assert ferry("list", OLLAMA_MODELS="/nowhere").returncode == 3
    assert ferry("list", "-q", OLLAMA_MODELS="/nowhere", OLLAMA_FERRY_MODELS=str(source.root)).stdout == "a:1\n"


def test_a_place_goes_by_its_name(source: StoreBuilder, tmp_path: Path, file: Path) -> None:
    source.model("a:1")
    file.write_text(f"[places]\nstick = '{tmp_path}/stick'\nall = ['{tmp_path}/one', '{tmp_path}/two']\n")
    assert ferry("send", "a:1", "stick", "--models", source.root).returncode == 0
    assert ferry("send", "a:1", "all", "--models", source.root).returncode == 0
    for name in ("stick", "one", "two"):
        assert ferry("list", "-q", "--models", tmp_path / name).stdout == "a:1\n"
    assert ferry("fetch", "stick", "a:1", "--models", tmp_path / "back").returncode == 0
    done = ferry("fetch", "all", "a:1", "--models", tmp_path / "back")
    assert_one_clear_error(done, 2)
    assert "all stands for 2 places" in done.stderr
    # A value of an option is none.
    assert ferry("fetch", "stick", "a:1", "--as", "all", "--models", tmp_path / "back").returncode == 0
    assert "all:latest" in ferry("list", "-q", "--models", tmp_path / "back").stdout


def test_config_shows_what_is_set_and_where(file: Path) -> None:
    assert "is not there" in ferry("config").stdout
    file.write_text('threads = 2\n[send]\nsudo = true\n[places]\nlab = "me@lab"\n')
    shown = json.loads(ferry("config", "--json", OLLAMA_FERRY_TOKEN="secret", OLLAMA_FERRY_FORCE="1").stdout)
    assert shown["places"] == {"lab": ["me@lab"]}
    found = {option["option"]: (option["value"], option["from"]) for option in shown["options"]}
    assert found == {
        "threads": ("2", "the file"),
        "sudo": ("true", "the file, [send]"),
        "token": ("(set)", "OLLAMA_FERRY_TOKEN"),
        "force": ("1", "OLLAMA_FERRY_FORCE"),
    }
    assert "lab    me@lab" in ferry("config").stdout


@pytest.mark.parametrize(
    ("text", "words", "said"),
    [
        ("compress = [", ("list",), "is no TOML"),
        ("[exprot]\nx = 1", ("list",), "no command 'exprot'"),
        ("[export]\nsplti = 1", ("export", "a:1"), "no option 'splti'"),
        ("[places]\nlab = 1", ("list",), "the place 'lab' is a text"),
        ("places = 1", ("list",), "places is a table"),
        ("compres = 1", ("config",), "compres is no option of any command"),
    ],
)
def test_what_means_nothing_is_said(file: Path, text: str, words: tuple[str, ...], said: str) -> None:
    file.write_text(text)
    done = ferry(*words)
    assert_one_clear_error(done, 2)
    assert said in done.stderr and str(file) in done.stderr


def test_a_variable_that_means_nothing_is_said_by_config() -> None:
    done = ferry("config", OLLAMA_FERRY_COMPRES="best")
    assert_one_clear_error(done, 2)
    assert "OLLAMA_FERRY_COMPRES" in done.stderr and "Did you mean compress?" in done.stderr


@needs.not_windows("sudo")
def test_root_is_given_what_is_set_elsewhere(file: Path) -> None:
    file.write_text('[export]\ncompress = "none"\nhave = ["a", "b"]\n')
    environ = {"OLLAMA_FERRY_CONFIG": str(file), "OLLAMA_FERRY_VERBOSE": "1", "OLLAMA_FERRY_QUIET": "0"}
    line = sudo_line(["/usr/bin/true", "export", "a:1"], environ)
    assert line == "sudo /usr/bin/true export a:1 --compress none --have a --have b --verbose"


@needs.root("only root can become nobody")
def test_the_file_of_a_home_that_is_anothers_is_left_alone(source: StoreBuilder, tmp_path: Path) -> None:
    source.model("a:1")
    home = tmp_path / "closed"
    (home / ".config/ollama-ferry").mkdir(parents=True)
    (home / ".config/ollama-ferry/config.toml").write_text("[nonsense")
    home.chmod(0o700)
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o005)
    done = ferry_as_nobody("list", "-q", "--models", source.root, HOME=str(home))
    assert (done.returncode, done.stdout) == (0, "a:1\n"), done.stderr
    named = ferry_as_nobody("list", OLLAMA_FERRY_CONFIG=str(home / "c.toml"))
    assert_one_clear_error(named, 5)


def test_the_file_of_the_documentation_is_one(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/configuration.md").read_text(encoding="utf-8")
    found = re.search(r"```toml\n(.*?)```", page, re.DOTALL)
    assert found
    (tmp_path / "config.toml").write_text(found[1], encoding="utf-8")
    done = ferry("config", "--json", OLLAMA_FERRY_CONFIG=str(tmp_path / "config.toml"))
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert {row["option"] for row in said["options"]} == {"compress", "bwlimit", "split"}
    assert set(said["places"]) == {"lab", "rack", "stick"}
