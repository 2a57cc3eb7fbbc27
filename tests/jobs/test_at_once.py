"""Two and three of every job that writes, at one target at once, one of them killed: what is finished stays so.

Nothing wrong has a final name at any moment, exit code 0 is true, who may not replace what is there says so, and the
next run takes over what was left.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import needs
from support.jobs_at_once import AT_ONCE
from support.served import serve_process
from support.writing_jobs import JOBS, Material


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Material]:
    folder = tmp_path_factory.mktemp("material")
    made = Material.make(folder)
    with serve_process(folder, "--all", "--models", made.source) as server:
        yield Material(folder, f"127.0.0.1:{server.port}")


@pytest.mark.parametrize("name", [*JOBS, "rivals"])
@needs.not_windows("fork")
def test_at_once_and_one_of_them_killed(material: Material, tmp_path: Path, name: str, long: bool, seed: int) -> None:
    rounds = 100 if long else 5
    words = [*AT_ONCE, name, material.folder, material.registry, tmp_path / "work", rounds, seed]
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=1200, check=False)
    assert not done.returncode, done.stderr
    # Were all killed after their end, this would show nothing.
    assert int(done.stdout) >= max(1, rounds // 10)
