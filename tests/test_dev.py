"""The ``dev`` script on machines that lack something; what stands in for Python are shell scripts."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

DEV = Path(__file__).parent.parent / "dev"
# Makes a .venv whose Python takes whatever is asked of it, with a command that tells that it ran.
MAKES_A_VENV = """
    mkdir -p .venv/bin
    printf '#!/bin/sh\\nexit 0\\n' > .venv/bin/python
    printf '#!/bin/sh\\necho ran "$@"\\n' > .venv/bin/ollama-ferry
    chmod +x .venv/bin/*
"""


def python(path: Path, *, version: str = "3.12.1", venv: str = MAKES_A_VENV) -> Path:
    """Write what answers as a Python would."""
    new = "exit 0" if version >= "3.10" else "exit 1"
    path.write_text(
        f"#!/bin/sh\ncase $* in *version_info*) {new} ;; *platform*) echo Python {version} ;; *venv*) {venv} ;; esac\n"
    )
    path.chmod(0o755)
    return path


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    shutil.copy(DEV, folder / "dev")
    (folder / "pyproject.toml").touch()
    return folder


def dev(project: Path, python: Path) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHON": str(python)}
    return subprocess.run(
        ["./dev", "run", "list"], cwd=project, env=environ, capture_output=True, text=True, timeout=60, check=False
    )


def test_sets_up_once_and_runs(project: Path, tmp_path: Path) -> None:
    first = dev(project, python(tmp_path / "python"))
    assert (first.returncode, first.stdout) == (0, "ran list\n") and "setting up" in first.stderr
    second = dev(project, python(tmp_path / "python"))
    assert (second.returncode, second.stdout, second.stderr) == (0, "ran list\n", "")


@pytest.mark.parametrize("there", [True, False])
def test_old_python_is_refused_at_once(project: Path, tmp_path: Path, there: bool) -> None:
    old = python(tmp_path / "python", version="3.09.2") if there else tmp_path / "nothing"
    done = dev(project, old)
    assert done.returncode == 1 and not (project / ".venv").exists()
    assert done.stderr.count("\n") == 1 and "3.10 or newer is needed" in done.stderr and "PYTHON=" in done.stderr
    assert ("Python 3.09.2" if there else "no Python") in done.stderr


def test_half_made_environment_is_removed_and_made_anew(project: Path, tmp_path: Path) -> None:
    broken = "mkdir -p .venv/bin; cp $0 .venv/bin/python; echo ensurepip is not available; exit 1"
    done = dev(project, python(tmp_path / "python", venv=broken))
    assert done.returncode == 1 and "apt-get install python3-venv" in done.stderr and not done.stdout
    assert not (project / ".venv").exists()
    # As an interrupt leaves it, or a Python that has gone: nothing there runs.
    (project / ".venv/bin").mkdir(parents=True)
    (project / ".venv/.installed-fast").touch()
    (project / ".venv/bin/python").symlink_to("/nowhere")
    done = dev(project, python(tmp_path / "python"))
    assert (done.returncode, done.stdout) == (0, "ran list\n"), done.stderr
