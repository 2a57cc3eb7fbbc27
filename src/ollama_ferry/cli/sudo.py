"""The line that runs the same command as root."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path


def sudo_line(argv: list[str], environ: Mapping[str, str]) -> str:
    """Return the command to copy.

    sudo has a PATH of its own and drops ``OLLAMA_MODELS``, so the program is given by its full path and the store by
    an option.

    Args:
        argv: as this process was started, the program first.
        environ: the variables of this process.
    """
    program, *arguments = argv
    if Path(program).name == "__main__.py":
        command = ["sudo", sys.executable, "-m", "ollama_ferry"]
    else:
        command = ["sudo", shutil.which(program) or str(Path(program).resolve())]
    models = environ.get("OLLAMA_MODELS", "").strip().strip("\"'")
    if models and not any(a == "--models" or a.startswith("--models=") for a in arguments):
        arguments = [*arguments, "--models", models]
    line = shlex.join([*command, *arguments])
    # What was piped in has to be piped in again.
    return f"... | {line}" if "-" in arguments and "import" in arguments else line
