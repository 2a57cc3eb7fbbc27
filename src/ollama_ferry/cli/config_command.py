"""``ollama-ferry config``."""

from __future__ import annotations

import os
from typing import Any

import click

from ollama_ferry.cli.configuration import (
    PREFIX,
    Configuration,
    option_of,
    read_configuration,
    variable_of,
)
from ollama_ferry.cli.options import output_options
from ollama_ferry.cli.output import Output
from ollama_ferry.cli.tables import print_table
from ollama_ferry.cli.terminal import say, say_lines
from ollama_ferry.errors import UsageError

_EXAMPLE = """\
It could say, for example:
  compress = "fast"                   # an option, for every command that has it
  [export]
  split = "fat32"                     # for export alone
  [places]
  lab = "ollama@lab:/srv/models"      # then: ollama-ferry send qwen3:8b lab
  rack = ["gpu1:", "gpu2:"]           # several at once"""


@click.command("config")
@output_options
@click.pass_context
def command(ctx: click.Context, output: Output) -> None:
    """Show what is set by variables and by the file, and check that it means something.

    Every option has a variable: OLLAMA_FERRY_ and its name, as OLLAMA_FERRY_COMPRESS. The file is OLLAMA_FERRY_CONFIG,
    else config.toml where this system keeps such files. The command line counts first, then variables, then the file.
    """
    group = ctx.find_root().command
    assert isinstance(group, click.Group)  # noqa: S101
    names = group.list_commands(ctx)
    configuration = read_configuration(names)
    having: dict[str, list[str]] = {}
    for name in names:
        found = group.get_command(ctx, name)
        for parameter in found.params if found is not None else []:
            if isinstance(parameter, click.Option):
                having.setdefault(option_of(parameter), []).append(name)
    _check(configuration, having)
    rows = _rows(configuration, having)
    if output.as_json:
        output.document(
            {
                "file": str(configuration.path),
                "options": [dict(zip(("option", "value", "for", "from"), row, strict=True)) for row in rows],
                "places": {name: list(words) for name, words in configuration.places.items()},
            }
        )
        return
    there = os.path.exists(configuration.path)
    say(f"the file is {configuration.path}" + ("" if there else ", and is not there"))
    if rows:
        say()
        print_table(("OPTION", "VALUE", "FOR", "FROM"), rows, below=(2,), spare=(3,))
    if configuration.places:
        say()
        places = [(name, " ".join(words)) for name, words in sorted(configuration.places.items())]
        print_table(("PLACE", "MEANS"), places)
    if not there and not output.quiet:
        say_lines(_EXAMPLE)


def _check(configuration: Configuration, having: dict[str, list[str]]) -> None:
    from difflib import get_close_matches

    variables = [
        (name, name.removeprefix(PREFIX).lower().replace("_", "-"))
        for name in os.environ
        if name.startswith(PREFIX) and name not in (PREFIX + "CONFIG", PREFIX + "DEBUG")
    ]
    for where, option in [*((f"{configuration.path}: {one}", one) for one in configuration.options), *variables]:
        if option not in having:
            close = get_close_matches(option, having, n=1)
            hint = f"Did you mean {close[0]}?" if close else "`ollama-ferry help COMMAND` shows the options of each."
            raise UsageError(f"{where} is no option of any command", hint=hint)


def _rows(configuration: Configuration, having: dict[str, list[str]]) -> list[tuple[str, str, str, str]]:
    """Return each option that is set, its value, the commands that it is for, and where it is set."""
    rows = []
    for option, names in sorted(having.items()):
        variable = variable_of(option)
        everywhere = "every command" if len(names) > 12 else ", ".join(names)
        if os.environ.get(variable):
            value = "(set)" if option == "token" else os.environ[variable]
            rows.append((option, value, everywhere, variable))
            continue
        if option in configuration.options:
            rows.append((option, _said(configuration.options[option]), everywhere, "the file"))
        for name, table in configuration.commands.items():
            if option in table:
                rows.append((option, _said(table[option]), name, f"the file, [{name}]"))
    return rows


def _said(value: Any) -> str:
    return (
        ", ".join(map(str, value)) if isinstance(value, list) else str(value).lower() if value is True else str(value)
    )
