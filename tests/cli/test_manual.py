"""The manual pages say what the commands say, and man can read them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import click
import pytest

from ollama_ferry.cli.commands import COMMANDS, ferry
from ollama_ferry.cli.manual import pages, write_shared_files
from ollama_ferry.errors import EXIT_CODES


def test_every_command_and_option_is_in_the_manual() -> None:
    manual = pages()
    assert set(manual) == {"ollama-ferry.1", *(f"ollama-ferry-{name}.1" for name in COMMANDS)}
    for name in COMMANDS:
        text = manual[f"ollama-ferry-{name}.1"].replace("\\-", "-")
        command = ferry.get_command(click.Context(ferry), name)
        assert command is not None and COMMANDS[name].rstrip(".") in text
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert all(option in text for option in parameter.opts) and str(parameter.help) in text
        assert all(meaning in text for meaning in EXIT_CODES.values())


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed, and need not be")
def test_man_reads_them_without_a_word() -> None:
    for name, text in pages().items():
        words = ["groff", "-man", "-Tutf8", "-ww", "-rF0", "-P-cbou"]
        done = subprocess.run(words, input=text, capture_output=True, text=True, check=True)
        assert done.stderr == "", (name, done.stderr)
    # Of the last one, the examples stand line by line, and what is typed has hyphens of ASCII.
    shown = subprocess.run(words, input=pages()["ollama-ferry-export.1"], capture_output=True, text=True, check=True)
    assert "  ollama-ferry export deepseek-r1:8b\n" in shown.stdout


def test_an_installation_has_them_where_programs_look(tmp_path: Path) -> None:
    places = write_shared_files(tmp_path)
    assert {Path(file).read_text() != "" for file in places} == {True}
    assert {"share/man/man1/ollama-ferry.1", "share/zsh/site-functions/_ollama-ferry"} <= set(places.values())
    zsh = next(file for file, place in places.items() if "zsh" in place)
    assert Path(zsh).read_text().startswith("#compdef ollama-ferry\n")
