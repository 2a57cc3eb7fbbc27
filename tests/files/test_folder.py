"""Folders held open: a link is followed for root only as whose it is, and not as whose it was."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ollama_ferry.errors import FerryError, NotPermitted
from ollama_ferry.files.folder import open_file, open_nearest
from ollama_ferry.files.pending import PendingFile
from support import needs

RENAME_EXCHANGE = 2
STRANGER = 65534

pytestmark = needs.root_on_linux("needs root on Linux")


@pytest.fixture
def exchanged(tmp_path: Path) -> Iterator[Path]:
    """A folder of a stranger, who exchanges root's link in it for one of their own all the time."""
    tmp_path.chmod(0o755)
    top = tmp_path / "of a stranger"
    top.mkdir()
    for name in ("home", "big", "victim"):
        (top / name).mkdir()
        (top / name / "file").write_text(name)
    for name in ("home", "big", "big/file"):
        os.chown(top / name, STRANGER, STRANGER)
    home = top / "home"
    os.symlink(top / "big", home / "models")
    os.symlink(top / "victim", home / "own")
    os.lchown(home / "own", STRANGER, STRANGER)
    stop = home / "stop"
    child = os.fork()
    if not child:
        try:
            libc = ctypes.CDLL(None)
            one, other = os.fsencode(home / "models"), os.fsencode(home / "own")
            while not stop.exists():
                for _ in range(1000):
                    libc.renameat2(-100, one, -100, other, RENAME_EXCHANGE)
        finally:
            os._exit(0)
    yield home
    stop.touch()
    os.waitpid(child, 0)


def test_a_link_is_read_as_whose_it_is(exchanged: Path, long: bool) -> None:
    victim = exchanged.parent / "victim"
    for _ in range(100_000 if long else 3_000):
        try:
            folder, _ = open_nearest(exchanged / "models")
        except (FerryError, OSError):
            continue
        with folder:
            assert folder.path != str(victim)


def test_a_file_behind_a_link_is_read_as_whose_the_link_is(exchanged: Path, long: bool) -> None:
    for _ in range(50_000 if long else 1_500):
        try:
            with open_file(exchanged / "models" / "file") as file:
                assert file.read(10) != b"victim"
        except (FerryError, OSError):
            continue


@pytest.mark.parametrize(("mode", "group", "read"), [(0o600, 0, False), (0o644, 0, True), (0o640, STRANGER, True)])
def test_root_reads_nothing_for_the_owner_of_a_folder_that_they_may_not(
    tmp_path: Path, mode: int, group: int, read: bool
) -> None:
    """They may move a file of root's into a store, and name it in a manifest."""
    tmp_path.chmod(0o755)
    folder = tmp_path / "blobs"
    folder.mkdir()
    (folder / "file").write_bytes(b"of root")
    os.chown(folder / "file", 0, group)
    (folder / "file").chmod(mode)
    os.chown(folder, STRANGER, STRANGER)
    if read:
        with open_file(folder / "file") as file:
            assert file.read(10) == b"of root"
    else:
        with pytest.raises(NotPermitted, match="may not read"):
            open_file(folder / "file")


def test_root_writes_nothing_where_somebody_elses_link_leads(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "of root").mkdir(mode=0o700)
    (tmp_path / "theirs").mkdir()
    os.symlink(tmp_path / "of root", tmp_path / "theirs/d")
    for path in (tmp_path / "theirs/d", tmp_path / "theirs"):
        os.chown(path, STRANGER, STRANGER, follow_symlinks=False)
    for name in ("x.tar", "d/x.tar"):
        try:
            with PendingFile(tmp_path / "theirs" / name) as file:
                file.write(b"an archive")
                file.publish()
        except NotPermitted:
            assert name == "d/x.tar"
    assert not any((tmp_path / "of root").iterdir())
    assert (tmp_path / "theirs/x.tar").exists()
