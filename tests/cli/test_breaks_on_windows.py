"""Ctrl-C and Ctrl-Break at a command on Windows: it ends with 130 and one line, and the next run resumes.

What is tried is what the system's own handler does: it raises the signal in the process. Wine sends no event of a
console to a program that has none.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import ollama_ferry
from support.command_line import ferry
from support.stores import StoreBuilder, faults_of, weights

_IMPORT = """
import signal, sys
from ollama_ferry import cli
from ollama_ferry.files.disk import Disk

made, create = [], Disk.create

def interrupted(self, folder, name, mode=0o644):
    made.append(name)
    if len(made) == 4:
        signal.raise_signal(getattr(signal, sys.argv[1]))
    return create(self, folder, name, mode)

Disk.create = interrupted
sys.exit(cli.run(["import", sys.argv[2], "--models", sys.argv[3]]))
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGBREAK"])
def test_an_import_ends_and_the_next_one_resumes(source: StoreBuilder, tmp_path: Path, name: str) -> None:
    for number in range(3):
        source.model(f"qwen3:{number}", [("model", weights(300_000, number)), ("license", b"free")])
    ollama_ferry.export("qwen3:*", tmp_path / "x.tar", store=source.root)
    target = tmp_path / "models"
    (script := tmp_path / "import.py").write_text(_IMPORT)
    words = [sys.executable, script, name, tmp_path / "x.tar", target]
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 130, (done.returncode, done.stderr)
    assert "interrupted" in done.stderr and "Traceback" not in done.stderr
    assert faults_of(target) == [] and any(target.rglob("sha256-*"))
    again = ferry("import", tmp_path / "x.tar", "--models", target)
    assert again.returncode == 0, again.stderr
    assert faults_of(target) == []
