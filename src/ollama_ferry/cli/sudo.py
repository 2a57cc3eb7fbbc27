"""The line that runs the same command as root."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from ollama_ferry.errors import FerryError


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
    models = environ.get("OLLAMA_MODELS", "").strip().strip("\"'")
    if models and not any(a == "--models" or a.startswith("--models=") for a in arguments):
        arguments = [*arguments, "--models", models]
    arguments = [*arguments, *_set_elsewhere(arguments, environ)]
    signers = environ.get("OLLAMA_FERRY_SIGNERS", "")
    if signers and _takes_models(arguments) and not any(a.partition("=")[0] == "--signers" for a in arguments):
        arguments = [*arguments, "--signers", os.path.abspath(signers)]
    line = shlex.join([*command, *arguments])
    # What was piped in has to be piped in again.
    return f"... | {line}" if "-" in arguments and "import" in arguments else line


def _takes_models(arguments: list[str]) -> bool:
    """Return whether a command takes models from somewhere, which have to be signed where that is asked for."""
    command = next((word for word in arguments if not word.startswith("-")), "")
    return command in ("import", "fetch", "pull") or (command == "verify" and "--repair" in arguments)


def _set_elsewhere(arguments: list[str], environ: Mapping[str, str]) -> list[str]:
    """Return the options that variables and this user's file set: root has neither."""
    import click

    from ollama_ferry.cli.commands import COMMANDS, ferry
    from ollama_ferry.cli.configuration import prepare, read_configuration, set_elsewhere

    name = next((word for word in arguments if not word.startswith("-")), "")
    command = ferry.get_command(click.Context(ferry), name)
    if command is None:
        return []
    try:
        values = prepare(command, name, read_configuration(COMMANDS, environ))
    except FerryError:
        # That the file can't be read, or means nothing, is the error that is being told.
        return []
    words = set_elsewhere(command, values, environ)
    given = {word.partition("=")[0] for word in arguments}
    return words if not given & {word for word in words if word.startswith("--")} else []
