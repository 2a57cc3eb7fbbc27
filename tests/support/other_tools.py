"""Programs of others that pack models, from PyPI, in the one environment that CI makes for them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run_other_tool(package: str, code: str, *words: str | Path, models: Path) -> None:
    """Run a piece of Python with a program of others, which finds its models in a folder; skip the test without it.

    Args:
        package: the module of the program.
        code: what is run; ``sys.argv`` has the words.
        words: its arguments.
        models: the store.
    """
    folder = Path(os.environ.get("FERRY_OTHER_TOOLS", ROOT / ".venv-others"))
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    line = [str(python), "-c", code, *map(str, words)]
    if not python.exists() or subprocess.run([python, "-c", f"import {package}"], capture_output=True).returncode:
        pytest.skip(f"{package} is not in {folder}, where .ci/run installs it")
    environment = {**os.environ, "OLLAMA_MODELS": str(models)}
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
