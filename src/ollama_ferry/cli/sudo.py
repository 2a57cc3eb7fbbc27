"""The line that runs the same command as root."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from ollama_ferry.cli.configuration import (
    Configuration,
    of_the_environment,
    prepare,
    read_configuration,
    set_elsewhere,
)
from ollama_ferry.errors import FerryError
from ollama_ferry.shell_lines import quoted


def sudo_line(argv: list[str], environ: Mapping[str, str]) -> str:
    """Return the command to copy.

    sudo has a PATH of its own and drops variables, so the program is given by its full path, and by options the store
    and whose signature is asked for.

    Args:
        argv: as this process was started, the program first.
        environ: the variables of this process.
    """
    program, *arguments = argv
    if Path(program).name == "__main__.py":
        # Isolated: root is to load nothing out of the folder that the user stands in.
        command = ["sudo", sys.executable, "-I", "-m", "ollama_ferry"]
    else:
        command = ["sudo", shutil.which(program) or str(Path(program).resolve())]
    configuration = _configuration(environ)
    given = {word.partition("=")[0] for word in arguments}
    models = of_the_environment("models", configuration, environ).strip().strip("\"'")
    if models and "--models" not in given:
        arguments = [*arguments, "--models", models]
    arguments = [*arguments, *_set_elsewhere(arguments, given, configuration, environ)]
    signers = of_the_environment("signers", configuration, environ)
    if signers and _takes_models(arguments) and "--signers" not in given:
        arguments = [*arguments, "--signers", os.path.abspath(signers)]
    line = " ".join(map(quoted, [*command, *arguments]))
    # What was piped in has to be piped in again.
    return f"... | {line}" if "-" in arguments and "import" in arguments else line


def _takes_models(arguments: list[str]) -> bool:
    """Return whether a command takes models from somewhere, which have to be signed where that is asked for."""
    command = next((word for word in arguments if not word.startswith("-")), "")
    return command in ("import", "fetch", "pull") or (command == "verify" and "--repair" in arguments)


def _configuration(environ: Mapping[str, str]) -> Configuration:
    from ollama_ferry.cli.commands import COMMANDS

    try:
        return read_configuration(COMMANDS, environ)
    except (FerryError, OSError):
        # The command was ended for that, or went on without.
        return Configuration(Path())


def _set_elsewhere(
    arguments: list[str], given: set[str], configuration: Configuration, environ: Mapping[str, str]
) -> list[str]:
    """Return the options that variables and this user's file set: root has neither."""
    import click

    from ollama_ferry.cli.commands import ferry

    name = next((word for word in arguments if not word.startswith("-")), "")
    command = ferry.get_command(click.Context(ferry), name)
    if command is None:
        return []
    return set_elsewhere(command, prepare(command, name, configuration), environ, given)
