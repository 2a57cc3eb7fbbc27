"""Every job that writes, beside somebody who replaces, removes, links or gives away what is in work.

Nothing wrong gets a final name, nothing elsewhere is touched, and a job that ends well has done all of it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ollama_ferry.errors import AlreadyExists, FerryError, NoSpace
from support import needs
from support.faulty_disk import FaultyDisk, HastyDisk, WatchedDisk
from support.served import serve_process
from support.writing_jobs import JOBS, Material, WritingJob

SECRET = b"must stay as it is" * 1000
IN_WORK = (".partial", ".new", ".ollama-ferry-manifest")


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Material]:
    folder = tmp_path_factory.mktemp("material")
    made = Material.make(folder)
    with serve_process(folder, "--all", "--models", made.source) as server:
        yield Material(folder, f"127.0.0.1:{server.port}")


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A folder with a file that nobody may touch."""
    folder = tmp_path / "outside"
    folder.mkdir()
    secret = folder / "secret"
    secret.write_bytes(SECRET)
    secret.chmod(0o600)
    before = folder.stat(), secret.stat()
    yield folder
    after = folder.stat(), secret.stat()
    assert os.listdir(folder) == ["secret"]
    assert secret.read_bytes() == SECRET
    for one, other in zip(before, after, strict=True):
        assert (one.st_mode, one.st_uid, one.st_gid) == (other.st_mode, other.st_uid, other.st_gid)


def replaced(path: Path, outside: Path) -> None:
    size = path.stat().st_size
    path.unlink()
    path.write_bytes(b"x" * size)


def removed(path: Path, outside: Path) -> None:
    path.unlink()


def linked(path: Path, outside: Path) -> None:
    path.unlink()
    path.symlink_to(outside / "secret")


def hard_linked(path: Path, outside: Path) -> None:
    path.unlink()
    os.link(outside / "secret", path)


def given_away(path: Path, outside: Path) -> None:
    os.chown(path, 4242, 4242)
    path.chmod(0o666)


def cut(path: Path, outside: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


Change = Callable[[Path, Path], None]
CHANGES: list[Change] = [replaced, removed, linked, hard_linked]
if needs.IS_ROOT:
    CHANGES.append(given_away)


# Who may write to the file itself can change it after any look at it: what is found of that is what lay there before.
CHANGES_BEFORE = [*CHANGES, cut]


def in_work(job: WritingJob) -> list[Path]:
    """Return the files of a job that have no final name."""
    staging = job.target / ".ollama-ferry"
    found = [path for path in job.target.rglob("*") if path.name.endswith(IN_WORK)]
    found += [path for path in staging.glob("sha256-*") if path not in found]
    return [path for path in found if path.is_file() and not path.is_symlink()]


class EnemyDisk(WatchedDisk):
    """Changes all that is in work before a chosen call."""

    def __init__(self, job: WritingJob, change: Change, outside: Path, at: int) -> None:
        self.job = job
        self.change = change
        self.outside = outside
        self.at = at
        self.count = 0
        self.changed = 0

    def before(self, call: str, arguments: tuple[Any, ...]) -> None:
        number, self.count = self.count, self.count + 1
        if number == self.at:
            for path in in_work(self.job):
                with contextlib.suppress(FileNotFoundError):
                    self.change(path, self.outside)
                    self.changed += 1

    def sync(self, fd: int) -> None:
        pass


def refused_links(job: WritingJob, change: Change) -> bool:
    """Return whether links lie in the place of volumes, which is said, and nothing is touched."""
    return change is linked and any(path.is_symlink() for path in job.target.glob("all.*"))


def sweep(material: Material, folder: Path, name: str, change: Change, outside: Path, first: int, step: int) -> int:
    at, changed = first, 0
    while True:
        job = JOBS[name](material, folder / str(at))
        job.prepare()
        disk = EnemyDisk(job, change, outside, at)
        try:
            job.run(disk)
        except FerryError:
            pass
        else:
            assert job.is_complete(), (at, sorted(os.listdir(job.target)))
        assert not job.faults(), (at, job.faults())
        if disk.count <= at:
            return changed
        changed += disk.changed
        if not refused_links(job, change):
            with contextlib.suppress(AlreadyExists):
                job.run(HastyDisk())
            assert job.is_complete() and not job.faults(), (at, sorted(os.listdir(job.target)))
        at += step


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("name", ["export", "split", "import"])
@needs.descriptors
def test_nothing_wrong_is_published_when_paths_change(
    material: Material, tmp_path: Path, outside: Path, name: str, change: Change
) -> None:
    # Every eleventh call, each change beginning elsewhere; all of them in the long form.
    assert sweep(material, tmp_path, name, change, outside, CHANGES.index(change) * 2, 11)


@pytest.mark.long
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("name", JOBS)
def test_nothing_wrong_is_published_whenever_paths_change(
    material: Material, tmp_path: Path, outside: Path, name: str, change: Change
) -> None:
    assert sweep(material, tmp_path, name, change, outside, 0, 1) > 5


@pytest.mark.parametrize("change", CHANGES_BEFORE, ids=lambda change: change.__name__)
@pytest.mark.parametrize("name", JOBS)
def test_what_an_earlier_run_left_may_be_anything(
    material: Material, tmp_path: Path, outside: Path, name: str, change: Change
) -> None:
    changed = 0
    for number in range(1, 8, 2):
        job = JOBS[name](material, tmp_path / str(number))
        job.prepare()
        with pytest.raises(NoSpace):
            job.run(FaultyDisk(number, "write", how=28))
        for path in in_work(job):
            change(path, outside)
            changed += 1
        if refused_links(job, change):
            with pytest.raises(AlreadyExists, match="no regular file"):
                job.run(HastyDisk())
            continue
        job.run(HastyDisk())
        assert job.is_done() or (change is given_away and job.is_complete()), (number, job.leftovers(), job.faults())
    assert changed or name.startswith("export")
