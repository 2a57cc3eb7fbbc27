"""Run the command line as a user does, in a process of its own or in this one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from ollama_ferry.errors import EXIT_CODES

# What no text for a terminal may hold; lines may end.
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")
COMMAND = [sys.executable, "-m", "ollama_ferry"]


def ferry(*arguments: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run ollama-ferry in a process and return what it said; further variables are added to the environment."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **environ},
        timeout=120,
        check=False,
    )


# The interpreter may lie where only root can read, so everything is imported before root is given up.
_AS_NOBODY = """
import importlib, os, pkgutil, sys
import difflib, encodings.idna, grp, http.client, pwd, shlex, shutil, ssl
import ollama_ferry
for module in pkgutil.walk_packages(ollama_ferry.__path__, "ollama_ferry."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
os.setgroups([]); os.setgid(65534); os.setuid(65534)
sys.argv[0] = "/usr/local/bin/ollama-ferry"
sys.exit(ollama_ferry.cli.run(sys.argv[1:]))
"""


def ferry_as_nobody(*arguments: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run ollama-ferry as a user without rights; the caller must be root."""
    return subprocess.run(
        [sys.executable, "-c", _AS_NOBODY, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **environ},
        timeout=120,
        check=False,
    )


def assert_one_clear_error(done: subprocess.CompletedProcess[str], code: int) -> None:
    """Check that a command failed with this exit code and one line for people."""
    assert done.returncode == code, done.stderr
    assert code in EXIT_CODES
    assert "Traceback" not in done.stderr
    assert done.stderr.count("error: ") == 1
    assert not CONTROL.search(done.stderr)
