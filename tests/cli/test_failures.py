"""How a command ends that failed, and what is no failure."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ollama_ferry.cli.failures import failure_of
from support import needs
from support.command_line import assert_one_clear_error, ferry, ferry_as_nobody
from support.stores import StoreBuilder


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (errno.EACCES, 5),
        (errno.EPERM, 5),
        (errno.EROFS, 5),
        (errno.ENOSPC, 6),
        (errno.EDQUOT, 6),
        (errno.ENOENT, 3),
        (errno.ECONNREFUSED, 8),
        (errno.EIO, 1),
    ],
)
def test_what_the_system_refuses_has_the_code_of_its_kind(number: int, code: int) -> None:
    failure = failure_of(OSError(number, os.strerror(number), "/some/file"), ["export"])
    assert failure is not None and failure.code == code
    assert failure.message == f"/some/file: {os.strerror(number)}"


@needs.root("only root can become nobody")
def test_a_folder_that_may_not_be_looked_into_is_not_permitted(source: StoreBuilder, tmp_path: Path) -> None:
    source.model("a:1")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o005)
    for words in (("export", "a:1", closed / "x.tar.gz"), ("import", closed / "x.tar.gz")):
        done = ferry_as_nobody(*words, "--models", source.root)
        assert_one_clear_error(done, 5)
        assert str(closed) in done.stderr and "sudo " in done.stderr


@pytest.mark.parametrize("words", [(), ("--help",), ("help",)])
def test_bare_calls_show_the_help(words: tuple[str, ...]) -> None:
    done = ferry(*words)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: ollama-ferry") and "export" in done.stdout


def test_help_and_version_are_words_too() -> None:
    assert ferry("help", "export").stdout == ferry("export", "--help").stdout
    assert ferry("version").stdout == ferry("-V").stdout == ferry("--version").stdout != ""


@needs.signals
def test_interrupt_while_the_command_is_loaded_prints_nothing() -> None:
    loading = """
import os, signal, sys
class AtClick:
    def find_spec(self, name, path=None, target=None):
        if name == "click":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, AtClick())
from ollama_ferry.__main__ import main
main()
"""
    done = subprocess.run([sys.executable, "-c", loading], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")
