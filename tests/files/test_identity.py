"""As whom root writes: as the owner of the store, and nowhere else, whatever the owner does to paths meanwhile."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import ollama_ferry
from ollama_ferry.errors import FerryError, NotPermitted
from ollama_ferry.files.disk import Disk
from ollama_ferry.files.identity import acting_as, as_started
from ollama_ferry.jobs.import_ import import_file
from ollama_ferry.jobs.import_choices import ImportOptions
from ollama_ferry.places.store.sink import StoreSink
from ollama_ferry.places.store.store import Store
from support import needs
from support.faulty_disk import HastyDisk
from support.stores import StoreBuilder, faults_of, tree, weights
from support.tools import require_tool

pytestmark = needs.root("needs root, to act as somebody else")

OWNER, GROUP = 4242, 4343


@pytest.fixture
def open_folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that every user can reach."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    yield tmp_path


@pytest.fixture
def archive(source: StoreBuilder, open_folder: Path) -> Path:
    """An archive that root alone may read."""
    source.model("a:1", [("model", weights(900_000)), ("template", b"one")])
    source.model("b:1", [("model", weights(300_000, 2)), ("template", b"two")])
    private = open_folder / "private"
    private.mkdir(mode=0o700)
    ollama_ferry.export("*:*", private / "a.tar", store=source.root)
    return private / "a.tar"


def give_away(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        os.chown(path, OWNER, GROUP, follow_symlinks=False)


def owned_store(folder: Path) -> Path:
    root = folder / "service/models"
    root.mkdir(parents=True)
    give_away(root.parent)
    return root


def test_ids_are_given_up_and_taken_back() -> None:
    before = os.geteuid(), os.getegid(), os.getgroups()
    with acting_as(OWNER, GROUP):
        assert (os.geteuid(), os.getegid(), os.getgroups()) == (OWNER, GROUP, [GROUP])
        with acting_as(OWNER, GROUP):
            with as_started():
                assert (os.geteuid(), os.getegid(), os.getgroups()) == before
            assert os.geteuid() == OWNER
        assert os.geteuid() == OWNER
        with pytest.raises(FerryError, match="while something"), acting_as(OWNER + 1, GROUP):
            pass
        with pytest.raises(FerryError), acting_as(0, 0):
            pass
    assert (os.geteuid(), os.getegid(), os.getgroups()) == before


def test_group_of_a_folder_whose_owner_is_no_member_is_not_acted_with() -> None:
    import grp
    import pwd

    nobody = pwd.getpwnam("nobody")
    for gid in (0, grp.getgrnam("daemon").gr_gid, nobody.pw_gid):
        with acting_as(nobody.pw_uid, gid):
            assert (os.getegid(), os.getgroups()) == (nobody.pw_gid, [nobody.pw_gid])
    for gid in (0, grp.getgrnam("daemon").gr_gid):
        with acting_as(OWNER, gid):
            assert (os.getegid(), os.getgroups()) == (65534, [65534])


def test_what_is_made_with_another_group_is_not_open_to_it(archive: Path, open_folder: Path) -> None:
    root = owned_store(open_folder)
    os.chown(root, OWNER, 0)
    root.chmod(0o775)
    import_file(archive, Store(root), ImportOptions())
    for path in root.rglob("*"):
        assert (path.stat().st_uid, path.stat().st_gid) == (OWNER, 65534), path
        assert not path.stat().st_mode & 0o020, path


def test_every_thread_gives_them_up() -> None:
    seen: list[int] = []
    go, done = threading.Event(), threading.Event()

    def look() -> None:
        go.wait()
        try:
            Path("/root/.ferry-test").touch()
            seen.append(0)
        except PermissionError:
            seen.append(os.geteuid())
        done.set()

    thread = threading.Thread(target=look)
    thread.start()
    with acting_as(OWNER, GROUP):
        go.set()
        done.wait()
    thread.join()
    assert seen == [OWNER]


def test_modules_that_only_root_may_read_are_imported(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private = open_folder / "private"
    private.mkdir(mode=0o700)
    (private / "late_one.py").write_text("import os\nimport late_other\nUID = os.geteuid()\n")
    (private / "late_other.py").write_text("")
    monkeypatch.syspath_prepend(str(private))
    with acting_as(OWNER, GROUP):
        import late_one  # type: ignore[import-not-found]
    # Read as root, run as the other.
    assert late_one.UID == OWNER
    assert type(late_one.__loader__).__name__ == "SourceFileLoader"
    assert not any(type(finder).__name__ == "LateImports" for finder in sys.meta_path)


def test_what_is_made_is_the_owners(archive: Path, source: StoreBuilder, open_folder: Path) -> None:
    root = owned_store(open_folder)
    import_file(archive, Store(root), ImportOptions())
    assert tree(root) == tree(source.root)
    for path in (root, *root.rglob("*")):
        assert (path.stat().st_uid, path.stat().st_gid) == (OWNER, GROUP), path
        assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644), path


@pytest.mark.parametrize("size", ["100K", "400K"])
def test_volumes_that_only_root_may_read_are_read(
    source: StoreBuilder, archive: Path, open_folder: Path, size: str
) -> None:
    ollama_ferry.export("*:*", archive.with_name("v.tar.gz"), store=source.root, split=size)
    root = owned_store(open_folder)
    ollama_ferry.import_archive(archive.with_name("v.tar.gz.001"), store=root)
    assert tree(root) == tree(source.root)


def test_a_store_that_only_root_may_read_is_sent_from(source: StoreBuilder, archive: Path, open_folder: Path) -> None:
    from ollama_ferry.jobs.send import SendOptions, send
    from ollama_ferry.jobs.send_targets import FolderTarget

    source.root.chmod(0o700)
    root = owned_store(open_folder)
    store = Store(source.root)
    (sent,) = send(store, store.names(), [FolderTarget(root)], SendOptions())
    assert sent.error is None
    assert tree(root) == tree(source.root)
    assert root.joinpath("manifests").stat().st_uid == OWNER


def test_two_stores_of_two_owners_are_not_written_at_once(source: StoreBuilder, open_folder: Path) -> None:
    from ollama_ferry.jobs.send import SendOptions, send
    from ollama_ferry.jobs.send_targets import FolderTarget

    source.model("a:1")
    root, other = owned_store(open_folder), open_folder / "root's"
    other.mkdir()
    store = Store(source.root)
    sent = send(store, store.names(), [FolderTarget(root), FolderTarget(other)], SendOptions())
    assert [one.error is None for one in sent] == [True, False]
    assert "while something" in str(sent[1].error)
    assert needs.IS_ROOT


@pytest.mark.parametrize("place", ["manifests", "manifests/registry.ollama.ai", ".ollama-ferry", "blobs"])
def test_a_planted_link_leads_root_nowhere(archive: Path, open_folder: Path, place: str) -> None:
    root = owned_store(open_folder)
    outside = open_folder / "outside"
    outside.mkdir(mode=0o755)
    (outside / "marker").write_bytes(b"must stay")
    link = root / place
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(outside)
    give_away(root)
    with pytest.raises(FerryError):
        import_file(archive, Store(root), ImportOptions())
    assert tree(outside) == {"marker": b"must stay"}
    assert [path.name for path in outside.iterdir()] == ["marker"]
    assert outside.stat().st_uid == 0


@pytest.mark.parametrize("place", ["manifests", "blobs"])
def test_link_of_the_owner_leads_to_nothing_of_root_that_they_may_write(
    archive: Path, open_folder: Path, place: str
) -> None:
    root = owned_store(open_folder)
    outside = open_folder / "outside"
    outside.mkdir()
    outside.chmod(0o777)
    (root / place).symlink_to(outside)
    os.lchown(root / place, OWNER, GROUP)
    with pytest.raises(NotPermitted, match=f"a link of user {OWNER}"):
        import_file(archive, Store(root), ImportOptions())
    assert not list(outside.iterdir())


@pytest.mark.parametrize("of_whom", ["owner", "root"])
def test_a_link_to_the_store_is_followed_where_it_may_be(
    archive: Path, source: StoreBuilder, open_folder: Path, of_whom: str
) -> None:
    root = owned_store(open_folder)
    target = open_folder / "roots"
    target.mkdir()
    link = root.parent / "link"
    link.symlink_to(target if of_whom == "owner" else root)
    os.chown(link, OWNER if of_whom == "owner" else 0, GROUP, follow_symlinks=False)
    if of_whom == "owner":
        with pytest.raises(NotPermitted, match="a link of user"):
            import_file(archive, Store(link), ImportOptions())
        assert not list(target.iterdir())
    else:
        import_file(archive, Store(link), ImportOptions())
        assert tree(root) == tree(source.root)


class SwappingDisk(HastyDisk):
    """At each call somebody who owns the store puts a link in place of one of its folders, and puts it back later."""

    def __init__(self, root: Path, outside: Path, seed: int) -> None:
        import random

        self.root = root
        self.outside = outside
        self.swaps = 0
        self._random = random.Random(seed)
        self._away: tuple[Path, Path] | None = None

    def __getattribute__(self, name: str) -> object:
        if name in ("open_folder", "create", "open", "make_folder", "link", "replace", "remove", "touch", "status"):
            self.swap()
        return super().__getattribute__(name)

    def put_back(self) -> bool:
        """Put the folder back that is away; tell whether one was."""
        if self._away is None:
            return False
        link, real = self._away
        link.unlink()
        real.rename(link)
        self._away = None
        return True

    def swap(self) -> None:
        if self.put_back():
            return
        places = [self.root / name for name in (".ollama-ferry", "blobs", "manifests")]
        place = self._random.choice([p for p in (*places, *self.root.glob("manifests/*")) if p.is_dir()] or [self.root])
        if place == self.root or self._random.random() < 0.5:
            return
        real = place.with_name(place.name + "-away")
        place.rename(real)
        place.symlink_to(self.outside)
        self._away = place, real
        self.swaps += 1


def race(archive: Path, folder: Path, swaps: int) -> None:
    outside = folder / "outside"
    outside.mkdir()
    (outside / "marker").write_bytes(b"must stay")
    before = outside.stat()
    done = number = 0
    while done < swaps:
        root = folder / f"{number}/models"
        root.mkdir(parents=True)
        for name in ("blobs", "manifests"):
            (root / name).mkdir()
        give_away(root.parent)
        disk = SwappingDisk(root, outside, number)
        try:
            import_file(archive, Store(root), ImportOptions(), disk=disk)
        except FerryError:
            pass
        else:
            # The last call may have been one at which a folder was taken away: behind all that was done.
            disk.put_back()
            assert not faults_of(root)
        done += disk.swaps
        number += 1
        assert needs.IS_ROOT
        assert tree(outside) == {"marker": b"must stay"}
        found = outside.stat()
        assert (found.st_mtime_ns, found.st_uid, found.st_mode) == (before.st_mtime_ns, before.st_uid, before.st_mode)


def test_swaps_by_a_hostile_owner_change_nothing_outside(archive: Path, open_folder: Path) -> None:
    race(archive, open_folder, 50)


@pytest.mark.long
def test_a_thousand_swaps_change_nothing_outside(archive: Path, open_folder: Path) -> None:
    race(archive, open_folder, 1000)


# With a question mark, what not every machine has.
_TRACED = (
    "?mkdir,mkdirat,?open,openat,?unlink,unlinkat,?rmdir,?link,linkat,?rename,renameat,renameat2,?chmod,fchmod,fchmodat,"
    "?chown,?lchown,fchown,fchownat,write,pwrite64,setresuid"
)


def test_root_changes_nothing_in_the_store_of_another(archive: Path, open_folder: Path) -> None:
    require_tool("strace")
    root = owned_store(open_folder)
    log = open_folder / "trace"
    call = [sys.executable, "-m", "ollama_ferry", "import", str(archive), "--models", str(root)]
    strace = ["strace", "-f", "-y", "-o", str(log), "-e", f"trace={_TRACED}"]
    done = subprocess.run([*strace, *call], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (root / "blobs").is_dir()
    uid = 0
    changes = written = 0
    for line in log.read_text(errors="replace").splitlines():
        _, _, text = line.partition(" ")
        text = text.strip()
        if found := re.match(r"setresuid\(-1, (\d+), -1\)\s+= 0", text):
            uid = int(found[1])
        elif str(root) in text and not text.startswith(("set", "<...")):
            if text.startswith("openat") and "O_CREAT" not in text:
                continue
            assert uid == OWNER, line
            assert "chown" not in text.partition("(")[0]
            changes += 1
            written += text.startswith("write")
    assert changes > 20 and written


def test_root_keeps_its_ids_where_the_store_is_its_own(archive: Path, open_folder: Path) -> None:
    with StoreSink(Store(open_folder / "own"), disk=Disk()):
        assert needs.IS_ROOT
    assert needs.IS_ROOT
