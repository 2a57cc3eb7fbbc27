"""The line that runs a command as root: nothing is loaded from where the user stands, and no demand is lost."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from ollama_ferry.cli.sudo import sudo_line

MAIN = "/x/ollama_ferry/__main__.py"


def test_python_is_isolated() -> None:
    words = shlex.split(sudo_line([MAIN, "list"], {}))
    assert words == ["sudo", sys.executable, "-I", "-m", "ollama_ferry", "list"]


@pytest.mark.parametrize(
    "words", [["import", "a.tar"], ["fetch", "h:", "m"], ["pull", "m"], ["-q", "verify", "--repair", "a"]]
)
def test_a_demand_for_signatures_is_not_lost(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    line = shlex.split(sudo_line([MAIN, *words], {"OLLAMA_FERRY_SIGNERS": "my signers"}))
    assert line[-2:] == ["--signers", str(tmp_path / "my signers")]
    assert "--signers" not in sudo_line([MAIN, "list"], {"OLLAMA_FERRY_SIGNERS": "x"})
    own = sudo_line([MAIN, *words, "--signers=other"], {"OLLAMA_FERRY_SIGNERS": "x"})
    assert own.count("--signers") == 1
