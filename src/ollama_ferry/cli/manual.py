"""Manual pages, made from the commands themselves: one for the program, one for each command.

They are written when a wheel is built (``hatch_build.py``), beside the shells' completions. The form is that of man(7).
"""

from __future__ import annotations

import inspect
from pathlib import Path

import click

from ollama_ferry._version import __version__
from ollama_ferry.cli.commands import COMMANDS, ferry
from ollama_ferry.cli.completions import script
from ollama_ferry.cli.configuration import option_of, variable_of
from ollama_ferry.errors import EXIT_CODES

_PROGRAM = "ollama-ferry"


def pages() -> dict[str, str]:
    """Return the manual: the text of each page by the name of its file."""
    found = {f"{_PROGRAM}.1": _of_program()}
    context = click.Context(ferry, info_name=_PROGRAM)
    for name in COMMANDS:
        command = ferry.get_command(context, name)
        assert command is not None  # noqa: S101
        found[f"{_PROGRAM}-{name}.1"] = _of_command(command, name, context)
    return found


def write_shared_files(folder: Path) -> dict[str, str]:
    """Write the manual and the completions below a folder.

    Returns:
        For each file where an installation puts it, below its prefix.
    """
    placed = {f"share/man/man1/{name}": text for name, text in pages().items()}
    placed |= {
        f"share/bash-completion/completions/{_PROGRAM}": script("bash", ferry) + "\n",
        f"share/zsh/site-functions/_{_PROGRAM}": script("zsh", ferry) + "\n",
        f"share/fish/vendor_completions.d/{_PROGRAM}.fish": script("fish", ferry) + "\n",
    }
    files = {}
    for number, (place, text) in enumerate(sorted(placed.items())):
        file = folder / f"{number}-{Path(place).name}"
        file.write_text(text, encoding="utf-8")
        files[str(file)] = place
    return files


def _of_program() -> str:
    lines = [*_head(_PROGRAM, "move chosen Ollama models between machines"), ".SH SYNOPSIS"]
    lines += [f".B {_escaped(_PROGRAM)}", ".I COMMAND", "[OPTIONS] [ARGS]...", ".SH DESCRIPTION", *_prose(ferry.help)]
    lines.append(".SH COMMANDS")
    for name, summary in COMMANDS.items():
        lines += [".TP", f".BR {_escaped(f'{_PROGRAM}-{name}')} (1)", _escaped(summary)]
    lines += [
        ".SH ENVIRONMENT",
        "Every option has a variable, OLLAMA_FERRY_ and its name; OLLAMA_MODELS names the store, as for Ollama.",
        ".SH FILES",
        ".TP",
        ".I ~/.config/ollama\\-ferry/config.toml",
        _escaped(
            "Options and names for places; `ollama-ferry config` shows what is set. OLLAMA_FERRY_CONFIG is another."
        ),
        *_exit_status(),
    ]
    return "\n".join(lines) + "\n"


def _of_command(command: click.Command, name: str, above: click.Context) -> str:
    context = click.Context(command, info_name=name, parent=above)
    usage = " ".join(command.collect_usage_pieces(context))
    lines = [*_head(f"{_PROGRAM}-{name}", COMMANDS[name].rstrip(".")), ".SH SYNOPSIS"]
    lines += [f".B {_escaped(f'{_PROGRAM} {name}')}", _escaped(usage), ".SH DESCRIPTION", *_prose(command.help)]
    lines.append(".SH OPTIONS")
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            record = parameter.get_help_record(context)
            assert record is not None  # noqa: S101
            variable = variable_of(option_of(parameter))
            lines += [".TP", f".B {_escaped(record[0])}", _escaped(f"{record[1]}  ({variable})")]
    return "\n".join([*lines, *_exit_status(), ".SH SEE ALSO", f".BR {_escaped(_PROGRAM)} (1)"]) + "\n"


def _head(title: str, summary: str) -> list[str]:
    return [
        f'.TH "{_escaped(title.upper())}" 1 "" "{_PROGRAM} {__version__}" "{_PROGRAM}"',
        # Words are not broken: many of them are to be typed.
        ".nh",
        ".SH NAME",
        f"{_escaped(title)} \\- {_escaped(summary)}",
    ]


def _prose(text: str | None) -> list[str]:
    """Return a help text as paragraphs; what click leaves as it is, behind its mark, is left so here."""
    lines = []
    for number, part in enumerate(inspect.cleandoc(text or "").split("\n\n")):
        as_it_is, block = part.startswith("\b"), part.removeprefix("\b").strip("\n")
        lines.append(".PP" if number else "")
        if as_it_is:
            lines += [".nf", *map(_escaped, block.split("\n")), ".fi"]
        else:
            lines += [_escaped(" ".join(block.split()))]
    return [line for line in lines if line]


def _exit_status() -> list[str]:
    lines = [".SH EXIT STATUS"]
    for code, meaning in EXIT_CODES.items():
        lines += [".TP", f".B {code}", _escaped(meaning)]
    return lines


def _escaped(text: str) -> str:
    """Return a text in which roff sees no command, and whose hyphens can be typed."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text[:1] in (".", "'") else text
