"""What real shells complete, and what PowerShell is answered."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.command_line import ferry
from support.screen import terminal
from support.stores import StoreBuilder, weights
from support.tools import require_tool


@pytest.fixture
def home(source: StoreBuilder, tmp_path: Path) -> Path:
    """A home with the program on its PATH, a store, an archive, and a place that has a name."""
    for name in ("gemma3:4b", "gemma3:27b", "qwen3:8b"):
        source.model(name, [("model", weights(100))])
    home = tmp_path / "home"
    (home / "bin").mkdir()
    program = home / "bin/ollama-ferry"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m ollama_ferry "$@"\n')
    program.chmod(0o755)
    (home / "models.toml").write_text(f"models = '{source.root}'\n[places]\ngem = 'me@lab'\n")
    assert ferry("export", "gemma3:*", home / "two.tar", "--models", source.root).returncode == 0
    (home / "folder").mkdir()
    return home


def variables(home: Path) -> dict[str, str]:
    return {
        "PATH": f"{home}/bin:{os.environ['PATH']}",
        "HOME": str(home),
        "OLLAMA_FERRY_CONFIG": str(home / "models.toml"),
        "TERM": "dumb",
        "LC_ALL": "C.UTF-8",
    }


def run(home: Path, *words: str) -> list[str]:
    done = subprocess.run(words, env=variables(home), cwd=home, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == "", done.stderr
    return done.stdout.split()


LINES = [
    ("ollama-ferry exp", ["export"], "export"),
    ("ollama-ferry export gemma3:", ["gemma3:4b", "gemma3:27b"], "4b 27b"),
    ("ollama-ferry export gemma3:2", ["gemma3:27b"], "27b"),
    ("ollama-ferry send qwen3:8b ge", ["gem", "gemma3:4b", "gemma3:27b"], "gem gemma3:4b gemma3:27b"),
    ("ollama-ferry import ./two.tar --model ge", ["gemma3:4b", "gemma3:27b"], "gemma3:4b gemma3:27b"),
    ("ollama-ferry export qwen3:8b --compr", ["--compress"], "--compress"),
    ("ollama-ferry export qwen3:8b --compress b", ["best"], "best"),
    ("ollama-ferry export qwen3:8b ./tw", ["./two.tar"], "./two.tar"),
]


@pytest.mark.parametrize("breaks", ["with", "without"])
def test_bash_completes_behind_a_colon(home: Path, breaks: str) -> None:
    bash = require_tool("bash")
    asked = "\n".join(
        f"COMP_LINE='{line}'; COMP_POINT={len(line)}; _ollama_ferry_completion ollama-ferry; "
        'echo "${COMPREPLY[@]}" "|"'
        for line, *_ in LINES
    )
    before = "" if breaks == "with" else "COMP_WORDBREAKS=${COMP_WORDBREAKS//:/}; "
    said = " ".join(run(home, bash, "-c", f'{before}eval "$(ollama-ferry completion bash)"; {asked}')).split("|")
    for (line, whole, behind), found in zip(LINES, said, strict=False):
        assert sorted(found.split()) == sorted(behind.split() if breaks == "with" else whole), line


def test_fish_completes(home: Path) -> None:
    fish = require_tool("fish")
    for line, whole, _ in (LINES[1], LINES[3], LINES[6]):
        said = run(home, fish, "--no-config", "-c", f"ollama-ferry completion fish | source; complete -C '{line}'")
        assert sorted(said) == sorted(whole), line


@pytest.mark.parametrize("compinit", ["", "autoload -Uz compinit && compinit -u; "])
def test_zsh_completes_with_and_without_compinit(home: Path, compinit: str) -> None:
    zsh = require_tool("zsh")
    environ: dict[str, Any] = {**variables(home), "ZDOTDIR": str(home), "PS1": "", "TERM": "xterm"}
    (home / ".zshrc").write_text(f"{compinit}eval \"$(ollama-ferry completion zsh)\"\nprint 'rea''dy'\n")
    with terminal(command=[zsh, "-d", "-i"], **environ) as opened:
        opened.wait_for(lambda: "ready" in opened.text)
        assert "command not found" not in opened.text
        opened.type("ollama-ferry export qw\t")
        opened.wait_for(lambda: "export qwen3:8b" in opened.text)
        opened.type("gemma3:2\t")
        opened.wait_for(lambda: "qwen3:8b gemma3:27b" in opened.text)


@pytest.mark.parametrize(("line", "whole"), [(line, whole) for line, whole, _ in LINES[:7]])
def test_powershell_is_answered(home: Path, line: str, whole: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    done = ferry(
        COMP_LINE=line, _OLLAMA_FERRY_COMPLETE="powershell_complete", OLLAMA_FERRY_CONFIG=str(home / "models.toml")
    )
    assert sorted(done.stdout.splitlines()) == sorted(f"plain,{word}" for word in whole)
    script = ferry("completion", "powershell").stdout
    assert "Register-ArgumentCompleter -Native -CommandName ollama-ferry" in script and "powershell_complete" in script


def test_paths_with_backslashes_are_words() -> None:
    done = ferry(
        COMP_LINE=r"ollama-ferry export C:\Users\me --compress be", _OLLAMA_FERRY_COMPLETE="powershell_complete"
    )
    assert done.stdout == "plain,best\n"


def test_a_store_that_can_not_be_read_completes_nothing(tmp_path: Path) -> None:
    done = ferry(COMP_LINE="ollama-ferry export q", _OLLAMA_FERRY_COMPLETE="bash_complete", OLLAMA_MODELS="/nowhere")
    assert (done.returncode, done.stdout, done.stderr) == (0, "file,q\n", "")
