"""What the shells complete: scripts for bash, zsh, fish and PowerShell, and the models, places and files that fit.

A model's name has a colon, which bash takes for the end of a word; its script puts that right. All scripts ask this
program, which the variable ``_OLLAMA_FERRY_COMPLETE`` tells to answer (click's protocol).
"""

from __future__ import annotations

import os
import re
from typing import Any

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
    split_arg_string,
)

VARIABLE = "_OLLAMA_FERRY_COMPLETE"
SHELLS = ("bash", "zsh", "fish", "powershell")

# bash 3.2, which macOS has, knows neither nosort nor compopt.
_BASH = r"""
%(complete_func)s() {
    local line kind value response word colon="" plain=""
    response=$(COMP_LINE="$COMP_LINE" COMP_POINT="$COMP_POINT" %(complete_var)s=bash_complete "$1" 2>/dev/null)
    word="${COMP_LINE:0:$COMP_POINT}"
    word="${word##*[[:space:]]}"
    # What stands before a colon is no part of what readline puts in, unless COMP_WORDBREAKS has none.
    if [[ $word == *:* && $COMP_WORDBREAKS == *:* ]]; then
        colon="${word%%:*}:"
    fi
    COMPREPLY=()
    while IFS= read -r line; do
        kind="${line%%%%,*}"
        value="${line#*,}"
        case $kind in
        plain)
            plain=1
            COMPREPLY+=("${value#"$colon"}")
            ;;
        file | dir)
            while IFS= read -r value; do
                [ -z "$value" ] || COMPREPLY+=("${value#"$colon"}")
            done <<<"$(compgen -${kind:0:1} -- "$word")"
            ;;
        esac
    done <<<"$response"
    [ -n "$plain" ] || compopt -o filenames 2>/dev/null
}

complete -o nosort -F %(complete_func)s %(prog_name)s 2>/dev/null || complete -F %(complete_func)s %(prog_name)s
"""

_POWERSHELL = r"""
Register-ArgumentCompleter -Native -CommandName %(prog_name)s -ScriptBlock {
    param($word, $ast, $position)
    $line = $ast.ToString()
    if ($position -gt $line.Length) { $line += ' ' } else { $line = $line.Substring(0, $position) }
    $env:COMP_LINE = $line
    $env:%(complete_var)s = 'powershell_complete'
    try {
        %(prog_name)s | ForEach-Object {
            $kind, $value = $_ -split ',', 2
            if ($kind -eq 'plain') {
                [System.Management.Automation.CompletionResult]::new($value, $value, 'ParameterValue', $value)
            } else {
                [System.Management.Automation.CompletionCompleters]::CompleteFilename($word)
            }
        }
    } finally {
        Remove-Item Env:COMP_LINE, Env:%(complete_var)s
    }
}
"""


class _Bash(BashComplete):
    source_template = _BASH

    def source(self) -> str:
        # click would run bash, and warn of an old one, which this script serves too.
        return ShellComplete.source(self)

    def get_completion_args(self) -> tuple[list[str], str]:
        line = os.environ["COMP_LINE"][: int(os.environ.get("COMP_POINT") or len(os.environ["COMP_LINE"]))]
        return _cut(split_arg_string(line), line)


class _Zsh(ZshComplete):
    def source(self) -> str:
        # Without compinit there is no compdef, and a line in .zshrc may stand before it.
        guard = "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }"
        return super().source().replace("    compdef ", f"    {guard}\n    compdef ")


class _PowerShell(ShellComplete):
    name = "powershell"
    source_template = _POWERSHELL

    def get_completion_args(self) -> tuple[list[str], str]:
        line = os.environ["COMP_LINE"]
        # A backslash is no escape there.
        words = re.findall(r"(?:\"[^\"]*\"?|'[^']*'?|[^\s\"'])+", line)
        return _cut([word.replace('"', "").replace("'", "") for word in words], line)

    def format_completion(self, item: CompletionItem[str]) -> str:
        return f"{item.type},{item.value}"


def _cut(words: list[str], line: str) -> tuple[list[str], str]:
    incomplete = words.pop() if words and not line[-1:].isspace() else ""
    return words[1:], incomplete


_CLASSES: dict[str, type[ShellComplete]] = {
    "bash": _Bash,
    "zsh": _Zsh,
    "fish": FishComplete,
    "powershell": _PowerShell,
}


def script(shell: str, command: click.Command) -> str:
    """Return a shell's script.

    Args:
        shell: one of ``SHELLS``.
        command: the group of commands.
    """
    return _CLASSES[shell](command, {}, "ollama-ferry", VARIABLE).source().strip("\n")


def register() -> None:
    """Let click answer by these classes, as this process is asked to complete a line."""
    for name, kind in _CLASSES.items():
        add_completion_class(kind, name)


def models_of_archive(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete a model's name from the archives that the line names, where they can be searched at once."""
    from ollama_ferry import api

    # Behind an option that still lacks its value, click has not told words apart.
    given = [word for name in ("archives", "words", "archive") for word in _flat(ctx.params.get(name))]
    names: list[str] = []
    for word in [*given, *ctx.args]:
        names += api.names_at_once(word)
    return _beginning(names, incomplete)


def models(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
    """Complete a model's name from the store, the name of a place, or a file; what goes wrong completes nothing."""
    from ollama_ferry import api
    from ollama_ferry.cli.configuration import Configuration
    from ollama_ferry.errors import FerryError

    try:
        names = [str(name) for name in api.open_store(ctx.params.get("store")).names()]
    except (FerryError, OSError):
        names = []
    configuration = ctx.find_root().obj
    if isinstance(configuration, Configuration):
        names += sorted(configuration.places)
    found: list[Any] = _beginning(names, incomplete)
    if incomplete[:1] in (".", "/", "~") or not found:
        found.append(CompletionItem(incomplete, type="file"))
    return found


def _beginning(names: list[str], incomplete: str) -> list[str]:
    return [name for name in names if name.lower().startswith(incomplete.lower())]


def _flat(value: object) -> list[str]:
    if value is None:
        return []
    return [str(one) for one in value] if isinstance(value, tuple) else [str(value)]
