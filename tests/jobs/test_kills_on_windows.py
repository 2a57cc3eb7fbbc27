"""Imports that TerminateProcess ends: no model that is listed lacks a blob, and the next run brings the rest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from support.faulty_disk import FaultyDisk
from support.stores import faults_of
from support.writing_jobs import JOBS, Material

# Beside each other.
PARTS = 3
# What ends it is the call that the task manager makes, and that closing the console leads to.
_IMPORT = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from support.faulty_disk import FaultyDisk
from support.writing_jobs import JOBS, Material

class Terminated(FaultyDisk):
    def _fail(self, call):
        os.kill(os.getpid(), signal.SIGTERM)

JOBS["import"](Material(Path(sys.argv[2])), Path(sys.argv[3])).run(Terminated(int(sys.argv[4])))
"""


@pytest.mark.parametrize("part", range(PARTS))
def test_no_listed_model_lacks_a_blob(tmp_path: Path, seed: int, long: bool, part: int) -> None:
    material = Material.make(tmp_path / "material")
    job = JOBS["import"](material, tmp_path / "counted")
    job.prepare()
    job.run(counted := FaultyDisk())
    assert counted.count > 30 and job.is_done()
    moments = range(part, counted.count, PARTS) if long else sorted(Random(seed + part).sample(range(counted.count), 8))
    (script := tmp_path / "import.py").write_text(_IMPORT)
    killed = resumed = 0
    for number, moment in enumerate(moments):
        job = JOBS["import"](material, tmp_path / str(number))
        job.prepare()
        # Where another run has left something, the same moment is another one; the last run is let to its end.
        for at in (moment, moment // 2, -1):
            line = [sys.executable, script, Path(__file__).parents[1], material.folder, job.target, str(at)]
            done = subprocess.run([*map(str, line)], capture_output=True, text=True, check=False)
            assert "Traceback" not in done.stderr, done.stderr
            assert not faults_of(job.target) and not job.faults(), (moment, at)
            killed += done.returncode != 0
        assert job.is_done(), moment
        resumed += 1
    assert resumed == len(moments) and killed > len(moments)
