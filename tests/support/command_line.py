"""Run the command line as a user does, in a process of its own or in this one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import ollama_ferry
from ollama_ferry.cli import run
from ollama_ferry.errors import EXIT_CODES

# What no text for a terminal may hold; lines may end.
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")
COMMAND = [sys.executable, "-m", "ollama_ferry"]


def ferry(*arguments: str | Path, stdin: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    """Run ollama-ferry in this process, which takes a tenth of the time of a new one, and return what it said.

    Standard streams are files of their own, down to the descriptors: what a thread, the operating system or a child
    writes is caught too.

    Args:
        arguments: without the program's name.
        stdin: what it can read.
        environ: variables that are set meanwhile.
    """
    words = [*map(str, arguments)]
    with ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(3)]
        files[0].write(stdin.encode())
        files[0].seek(0)
        for number, file in enumerate(files):
            stack.callback(os.close, kept := os.dup(number))
            stack.callback(os.dup2, kept, number)
            os.dup2(file.fileno(), number)
        stack.enter_context(_variables(environ))
        stdin_text, stdout, stderr = (
            stack.enter_context(open(0, encoding="utf-8", closefd=False)),
            stack.enter_context(open(1, "w", encoding="utf-8", closefd=False)),
            stack.enter_context(open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)),
        )
        argv = [str(Path(ollama_ferry.__path__[0]) / "__main__.py"), *words]
        stack.enter_context(_attributes(sys, stdin=stdin_text, stdout=stdout, stderr=stderr, argv=argv))
        try:
            code = run(words)
        except SystemExit as stop:
            # So ends what click does for the shell.
            code = int(stop.code or 0)
        stdout.flush()
        stderr.flush()
        said = [_whole(file) for file in files[1:]]
    return subprocess.CompletedProcess(words, code, *said)


def ferry_process(*arguments: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run ollama-ferry in a process of its own: for what is about the process."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **environ},
        # Ends what hangs; on a busy machine what is at work takes minutes.
        timeout=900,
        check=False,
    )


@contextmanager
def _attributes(owner: Any, **values: Any) -> Iterator[None]:
    before = {name: getattr(owner, name) for name in values}
    for name, value in values.items():
        setattr(owner, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(owner, name, value)


@contextmanager
def _variables(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _whole(file: IO[bytes]) -> str:
    file.seek(0)
    # On Windows, lines end in two characters.
    return file.read().decode().replace(os.linesep, "\n")


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
        # Nobody may write down which lines ran.
        env={**{name: os.environ[name] for name in os.environ if not name.startswith("COVERAGE_")}, **environ},
        # Ends what hangs; on a busy machine what is at work takes minutes.
        timeout=900,
        check=False,
    )


def assert_one_clear_error(done: subprocess.CompletedProcess[str], code: int) -> None:
    """Check that a command failed with this exit code and one line for people."""
    assert done.returncode == code, done.stderr
    assert code in EXIT_CODES
    assert "Traceback" not in done.stderr
    assert done.stderr.count("error: ") == 1
    assert not CONTROL.search(done.stderr)
