"""Every job that writes, with a disk that fails or kills at each of its calls: nothing wrong gets a final name."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ollama_ferry.errors import AlreadyExists, FerryError
from support import needs
from support.faulty_disk import FaultyDisk, HastyDisk, RenumberingDisk
from support.served import serve_process
from support.writing_jobs import DYING_JOB, JOBS, Material


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Material]:
    folder = tmp_path_factory.mktemp("material")
    made = Material.make(folder)
    with serve_process(folder, "--all", "--models", made.source) as server:
        yield Material(folder, f"127.0.0.1:{server.port}")


@pytest.mark.parametrize("job_name", JOBS)
def test_a_job_finishes_without_a_fault(material: Material, tmp_path: Path, job_name: str) -> None:
    job = JOBS[job_name](material, tmp_path / "t")
    job.prepare()
    assert not job.is_done()
    job.run(HastyDisk())
    assert job.is_done()


@pytest.mark.parametrize("job_name", JOBS)
def test_a_file_system_that_makes_another_file_of_a_renamed_one_will_do(
    material: Material, tmp_path: Path, job_name: str
) -> None:
    job = JOBS[job_name](material, tmp_path / "t")
    job.prepare()
    job.run(RenumberingDisk())
    assert job.is_done(), job.leftovers()


# What a job shares with another one, and what takes long.
LONG = pytest.mark.long
QUICK_JOBS = [name if name in ("export", "split", "import") else pytest.param(name, marks=LONG) for name in JOBS]


@pytest.mark.parametrize("how", [errno.EIO, pytest.param(errno.EACCES, marks=LONG)], ids=["EIO", "EACCES"])
@pytest.mark.parametrize("job_name", JOBS)
def test_a_call_that_fails_publishes_nothing_wrong(material: Material, tmp_path: Path, job_name: str, how: int) -> None:
    failures = number = 0
    while True:
        job = JOBS[job_name](material, tmp_path / str(number))
        job.prepare()
        disk = FaultyDisk(number, how=how)
        try:
            job.run(disk)
        except FerryError:
            failures += 1
            assert disk.failed
        else:
            assert job.is_done() or disk.failed in ("remove", "remove_folder"), (number, disk.failed)
        assert not job.faults(), (number, disk.failed, job.faults())
        if not disk.failed:
            break
        if not job.is_done():
            try:
                job.run(HastyDisk())
            except AlreadyExists:
                # It failed when all was done but the cleaning up.
                assert not job.faults(), (number, disk.failed)
            else:
                assert job.is_done(), (number, disk.failed)
        number += 1
    assert failures > 5 and number > 8


def test_a_volume_that_could_not_be_made_safe_is_written_anew(material: Material, tmp_path: Path) -> None:
    # What a failed sync leaves in memory looks whole: compared with it, the next run would write nothing.
    failed = 0
    for number in range(100):
        job = JOBS["split"](material, tmp_path / str(number))
        job.prepare()
        disk = FaultyDisk(number, "sync")
        try:
            job.run(disk)
        except FerryError:
            failed += 1
            assert not list(job.target.glob("all.tar.*.partial"))
        if not disk.failed:
            break
    assert failed > 3


@pytest.mark.parametrize("job_name", QUICK_JOBS)
@needs.not_windows("fork")
def test_death_at_a_call_publishes_nothing_wrong(material: Material, tmp_path: Path, job_name: str) -> None:
    done = subprocess.run(
        [*DYING_JOB, job_name, material.folder, material.registry, tmp_path],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 6
