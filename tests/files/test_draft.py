"""A file in work: only what nobody else can change is resumed, and what gets a name is what was written."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ollama_ferry.engine.events import Cancel
from ollama_ferry.errors import AlreadyExists, FerryError, NotPermitted
from ollama_ferry.files.disk import Disk
from ollama_ferry.files.draft import Draft
from ollama_ferry.files.folder import Folder, open_folder
from ollama_ferry.files.lock import FileLock
from ollama_ferry.files.pending import PendingFile
from support import needs
from support.faulty_disk import FaultyDisk, LinklessDisk, WatchedDisk

as_root = needs.root("needs root, to give files to somebody else")


def names(folder: Path) -> list[str]:
    """Return what is in a folder, but for the home that every test has."""
    return sorted(set(os.listdir(folder)) - {"home"})


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    with open_folder(str(tmp_path)) as opened:
        yield opened


@needs.open_files_go
def test_what_is_resumed_is_one_file_from_the_first_byte_to_the_name(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "x.partial").write_bytes(b"begin")
    draft = Draft.resume(Disk(), folder, "x.partial")
    assert draft is not None and draft.read(3) == b"beg" and draft.read(9) == b"in"
    # Somebody takes it away: what is written goes to the same file, and is not published for another.
    (tmp_path / "x.partial").unlink()
    (tmp_path / "x.partial").write_bytes(b"other bytes")
    draft.write(b"ning")
    with pytest.raises(FerryError, match="somebody else"):
        draft.publish(folder, "x")
    draft.close()
    assert not (tmp_path / "x").exists()
    assert (tmp_path / "x.partial").read_bytes() == b"other bytes"


def test_a_snapshot_of_hard_links_is_not_written_through(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "x.partial").write_bytes(b"begin")
    os.link(tmp_path / "x.partial", tmp_path / "snapshot")
    assert Draft.resume(Disk(), folder, "x.partial") is None
    draft = Draft.create(Disk(), folder, "x.partial")
    draft.write(b"new")
    draft.publish(folder, "x")
    draft.close()
    assert (tmp_path / "x").read_bytes() == b"new"
    assert (tmp_path / "snapshot").read_bytes() == b"begin"


@as_root
def test_what_another_user_left_is_not_resumed(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "x.partial").write_bytes(b"begin")
    os.chown(tmp_path / "x.partial", 4242, 4242)
    assert Draft.resume(Disk(), folder, "x.partial") is None
    assert names(tmp_path) == ["x.partial"]


@pytest.mark.parametrize("kind", ["fifo", "link", "folder"])
def test_what_is_no_file_is_not_resumed(folder: Folder, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.partial"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to("/etc/passwd")
    else:
        path.mkdir()
    assert Draft.resume(Disk(), folder, "x.partial") is None


def test_what_was_cut_meanwhile_gets_no_name(folder: Folder, tmp_path: Path) -> None:
    draft = Draft.create(Disk(), folder, "x.partial")
    draft.write(b"x" * 100)
    os.truncate(tmp_path / "x.partial", 10)
    with pytest.raises(FerryError, match="somebody else"):
        draft.publish(folder, "x")
    draft.close()
    assert not (tmp_path / "x").exists()


def test_the_whole_is_read_back_through_the_same_descriptor(folder: Folder, tmp_path: Path) -> None:
    import hashlib

    draft = Draft.create(Disk(), folder, "x.partial")
    draft.write(b"what is there")
    (tmp_path / "x.partial").rename(tmp_path / "y")
    (tmp_path / "x.partial").write_bytes(b"what is not..")
    assert draft.sha256(Cancel()) == hashlib.sha256(b"what is there").hexdigest()
    draft.close()


def test_what_could_not_be_made_safe_is_not_there_any_more(folder: Folder, tmp_path: Path) -> None:
    draft = Draft.create(FaultyDisk(0, "sync"), folder, "x.partial")
    draft.write(b"in memory only")
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        draft.sync()
    assert not names(tmp_path)


@pytest.mark.parametrize("disk", [Disk(), *(LinklessDisk(e) for e in (errno.EPERM, errno.EACCES, errno.ENOSYS))])
def test_a_name_that_is_taken_meanwhile_is_not_replaced(tmp_path: Path, disk: Disk) -> None:
    path = tmp_path / "x.tar"
    with PendingFile(path, disk=disk) as file:
        file.write(b"ours")
        path.write_bytes(b"theirs")
        with pytest.raises(AlreadyExists):
            file.publish()
    assert path.read_bytes() == b"theirs"
    assert names(tmp_path) == ["x.tar"]
    with PendingFile(path, replace=True, disk=disk) as file:
        file.write(b"ours")
        file.publish()
    assert path.read_bytes() == b"ours"


class Meanwhile(WatchedDisk):
    """Does something once, between the look at a file and its opening."""

    def __init__(self, what: str, path: Path) -> None:
        self.what = what
        self.path = path
        self.done = False

    def before(self, call: str, arguments: tuple[object, ...]) -> None:
        if call == "open" and not self.done:
            self.done = True
            if self.what == "published":
                # As another export that comes to its end just now.
                self.path.rename(self.path.with_suffix(""))
            else:
                self.path.unlink()


@pytest.mark.parametrize("what", ["published", "removed"])
def test_an_archive_that_another_export_ends_just_now_is_not_emptied(tmp_path: Path, what: str) -> None:
    partial = tmp_path / "x.tar.partial"
    partial.write_bytes(b"the other one's, whole")
    with PendingFile(tmp_path / "x.tar", disk=Meanwhile(what, partial)) as file:
        file.write(b"ours")
        if what == "published":
            with pytest.raises(AlreadyExists):
                file.publish()
        else:
            file.publish()
    assert (tmp_path / "x.tar").read_bytes() == (b"ours" if what == "removed" else b"the other one's, whole")
    assert names(tmp_path) == ["x.tar"]


class PublishedAfterTheLook(WatchedDisk):
    """Publishes what the other process has locked, right before it is locked here: its name is another file's then."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.looks = 0

    def before(self, call: str, arguments: tuple[object, ...]) -> None:
        if call == "status" and arguments[1] == "x.tar.partial":
            self.looks += 1
            if self.looks == 2:
                (self.folder / "x.tar.partial").rename(self.folder / "x.tar")


def test_the_file_that_was_locked_is_the_one_that_has_the_name(tmp_path: Path) -> None:
    (tmp_path / "x.tar.partial").write_bytes(b"the other one's, whole")
    disk = PublishedAfterTheLook(tmp_path)
    with PendingFile(tmp_path / "x.tar", disk=disk) as file, pytest.raises(AlreadyExists):
        file.write(b"ours")
        file.publish()
    assert disk.looks > 2
    assert (tmp_path / "x.tar").read_bytes() == b"the other one's, whole"


def test_two_at_once_do_not_write_one_archive(tmp_path: Path) -> None:
    with PendingFile(tmp_path / "x.tar") as file:
        file.write(b"first")
        with pytest.raises(AlreadyExists, match="by another process"):
            PendingFile(tmp_path / "x.tar")
        file.publish()
    assert (tmp_path / "x.tar").read_bytes() == b"first"


@as_root
def test_a_planted_file_gets_none_of_the_archive(tmp_path: Path) -> None:
    planted = tmp_path / "x.tar.partial"
    planted.write_bytes(b"mine")
    os.chown(planted, 4242, 4242)
    planted.chmod(0o666)
    with planted.open("rb") as theirs:
        with PendingFile(tmp_path / "x.tar") as file:
            file.write(b"secret")
            file.publish()
        assert theirs.read() == b"mine"
    found = (tmp_path / "x.tar").stat()
    assert (found.st_uid, found.st_mode & 0o022) == (os.geteuid(), 0)


def test_a_lock_whose_folder_has_gone_is_no_lock(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    with open_folder(str(tmp_path / "f")) as folder:
        (tmp_path / "f").rmdir()
        with pytest.raises(FileNotFoundError):
            FileLock.take(Disk(), folder, "lock")


def test_a_folder_that_may_not_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotPermitted):
        PendingFile(tmp_path / "x.tar", disk=FaultyDisk(0, "create", how=errno.EACCES))
