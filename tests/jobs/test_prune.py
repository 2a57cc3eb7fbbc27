"""Prune: only what nobody needs goes, all of it comes back, and nothing is lost whatever happens meanwhile."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ollama_ferry.errors import AlreadyExists, Damaged, FerryError, NotFound
from ollama_ferry.files.disk import Disk
from ollama_ferry.files.folder import Folder
from ollama_ferry.jobs.prune import Pruned, empty, find, prune, undo
from ollama_ferry.places.store.sink import StoreSink
from ollama_ferry.places.store.store import Store
from support import needs
from support.command_line import ferry
from support.faulty_disk import DeadlyDisk, FaultyDisk, HastyDisk
from support.odd_stores import ODDITIES, OddStore, every_oddity, everything, whole_models
from support.stores import StoreBuilder, tree

LATER = time.time() + 2 * 3600
ORPHAN = f"sha256-{'1' * 64}"


def littered(folder: Path) -> OddStore:
    odd = OddStore(folder)
    for name in ("orphan", "old names", "partial", "partial's parts", "tensor", "stray"):
        ODDITIES[name](odd)
    (odd.root / ".ollama-ferry").mkdir()
    (odd.root / f".ollama-ferry/sha256-{'7' * 64}.partial").write_bytes(b"begun")
    (odd.root / ".ollama-ferry-ssh/batch-1").mkdir(parents=True)
    (odd.root / f".ollama-ferry-ssh/batch-1/sha256-{'8' * 64}").write_bytes(b"begun")
    return odd


def contents(root: Path) -> dict[str, bytes]:
    return {path: content for path, content in tree(root).items() if not path.endswith("/lock")}


def names_of(found: Pruned) -> set[str]:
    return {os.path.basename(file.path) for file in found.files}


def test_what_no_model_names_goes_and_all_of_it_comes_back(tmp_path: Path) -> None:
    odd = littered(tmp_path)
    before, models = contents(odd.root), whole_models(odd.root)
    found = find(Store(odd.root), now=LATER)
    assert names_of(found) == {
        f"sha256:{'1' * 64}", f"sha256-{'2' * 64}-partial", f"sha256-{'2' * 64}-partial-0", f"sha256-{'3' * 64}.tmp",
        f"sha256-{'7' * 64}.partial", ".ollama-ferry-ssh",
    }  # fmt: skip
    assert all(file.why for file in found.files) and not found.kept
    assert contents(odd.root) == before
    done = prune(Store(odd.root), disk=HastyDisk(), now=LATER)
    assert len(done.moved) == 6 and whole_models(odd.root) == models
    assert not find(Store(odd.root), now=LATER).files
    assert sorted(contents(odd.root).values()) == sorted(before.values())
    back = undo(Store(odd.root), disk=HastyDisk())
    assert len(back.back) == 6 and not back.stay
    assert contents(odd.root) == before
    with pytest.raises(NotFound):
        undo(Store(odd.root))


def test_emptied_trash_frees_the_space(tmp_path: Path) -> None:
    odd = littered(tmp_path)
    prune(Store(odd.root), disk=HastyDisk(), now=LATER)
    assert empty(Store(odd.root), disk=HastyDisk()).emptied > 0
    assert not list(odd.root.glob(".ollama-ferry*"))
    assert not find(Store(odd.root), now=LATER).files


def test_undo_does_not_replace_what_has_the_name_by_now(tmp_path: Path) -> None:
    odd = littered(tmp_path)
    prune(Store(odd.root), disk=HastyDisk(), now=LATER)
    (odd.blobs / f"sha256:{'1' * 64}").write_bytes(b"another")
    done = undo(Store(odd.root), disk=HastyDisk())
    assert len(done.stay) == 1 and (odd.blobs / f"sha256:{'1' * 64}").read_bytes() == b"another"
    assert Path(done.stay[0]).read_bytes() == b"orphan"


def _downloading(odd: OddStore) -> None:
    path = odd.blobs / f"sha256-{'9' * 64}-partial"
    path.write_bytes(b"more")
    os.utime(path, (LATER, LATER))


@pytest.mark.parametrize(
    "change",
    [
        ODDITIES["byte order mark"],
        ODDITIES["empty manifest"],
        lambda odd: (odd.library / "gone").symlink_to("nowhere") or (odd.library / "gone2").mkdir()
        or (odd.library / "gone2/latest").symlink_to("nowhere"),
        lambda odd: (odd.blobs / "sha256-" ).with_name(f"sha256-{'5' * 64}").symlink_to(ORPHAN),
        _downloading,
        ODDITIES["blobs to another disk"],
    ],
    ids=["unread", "empty", "dangling", "linked", "downloading", "behind a link"],
)  # fmt: skip
def test_orphan_stays_that_somebody_may_need(tmp_path: Path, change: Callable[[OddStore], object]) -> None:
    odd = OddStore(tmp_path)
    change(odd)
    ODDITIES["orphan"](odd)
    before = everything(odd.root)
    done = prune(Store(odd.root), disk=HastyDisk(), now=LATER)
    assert ORPHAN not in names_of(done) and not done.moved
    assert next(file.keep for file in done.kept if file.name == ORPHAN)
    assert everything(odd.root).keys() == before.keys()


def test_young_files_stay(tmp_path: Path) -> None:
    odd = littered(tmp_path)
    assert not find(Store(odd.root)).files and len(find(Store(odd.root)).kept) == 6


def test_what_odd_manifests_name_stays(tmp_path: Path) -> None:
    """Under refused names, in lists, in the newer layout, with dashes; the empty manifest would keep everything."""
    odd = every_oddity(tmp_path)
    for name in ("empty/latest", "good/my notes"):
        (odd.library / name).unlink()
    models = whole_models(odd.root)
    done = prune(Store(odd.root), disk=HastyDisk(), now=LATER)
    assert ORPHAN in names_of(done)
    assert whole_models(odd.root) == models
    for name in ("listed", "new", "two:1"):
        assert ferry("verify", name, "--models", odd.root).returncode == 0


def test_two_at_once(tmp_path: Path) -> None:
    odd = littered(tmp_path)
    with StoreSink(Store(odd.root), disk=HastyDisk()), pytest.raises(AlreadyExists):
        prune(Store(odd.root), disk=HastyDisk(), now=LATER)

    class Twice(HastyDisk):
        def replace(self, folder: Folder, name: str, to: Folder, new: str) -> None:
            with pytest.raises(AlreadyExists):
                prune(Store(odd.root), disk=HastyDisk(), now=LATER)
            super().replace(folder, name, to, new)

    assert len(prune(Store(odd.root), disk=Twice(), now=LATER).moved) == 6


def test_blob_that_gets_a_model_meanwhile_is_given_back(tmp_path: Path) -> None:
    """As when a server creates a model from a blob that is there already."""
    odd = littered(tmp_path)
    blob = odd.store.blob(b"waits for its model")

    class Naming(HastyDisk):
        def replace(self, folder: Folder, name: str, to: Folder, new: str) -> None:
            layer = {"digest": str(blob), "size": 19}
            odd.store.manifest("late", json.dumps({"config": layer, "layers": [layer]}).encode())
            super().replace(folder, name, to, new)

    done = prune(Store(odd.root), disk=Naming(), now=LATER)
    assert odd.store.blob_path(blob).read_bytes() == b"waits for its model"
    assert len(done.moved) == 6

    class Breaking(HastyDisk):
        def replace(self, folder: Folder, name: str, to: Folder, new: str) -> None:
            odd.store.manifest_path("late").write_bytes(b"{")
            super().replace(folder, name, to, new)

    undo(Store(odd.root), disk=HastyDisk())
    with pytest.raises(Damaged):
        prune(Store(odd.root), disk=Breaking(), now=LATER)
    assert (odd.blobs / f"sha256:{'1' * 64}").exists()


def test_file_that_is_exchanged_meanwhile_stays(tmp_path: Path) -> None:
    odd = OddStore(tmp_path)
    ODDITIES["orphan"](odd)
    secret = odd.outside / "etc/passwd"

    class Exchanging(HastyDisk):
        def status(self, folder: Folder, name: str) -> os.stat_result | None:
            if name == ORPHAN and not (odd.blobs / ORPHAN).is_symlink():
                (odd.blobs / ORPHAN).unlink()
                (odd.blobs / ORPHAN).symlink_to(secret)
            return super().status(folder, name)

    assert not prune(Store(odd.root), disk=Exchanging(), now=LATER).moved
    assert secret.read_text() == "etc/passwd" and (odd.blobs / ORPHAN).is_symlink()


def test_planted_trash_leads_nowhere(tmp_path: Path) -> None:
    odd = OddStore(tmp_path)
    ODDITIES["orphan"](odd)
    (odd.root / ".ollama-ferry-trash").symlink_to(odd.outside / "home")
    before = everything(odd.outside)
    with pytest.raises(FerryError):
        prune(Store(odd.root), disk=HastyDisk(), now=LATER)
    for what in (undo, empty):
        with pytest.raises(FerryError):
            what(Store(odd.root), disk=HastyDisk())
    (odd.root / ".ollama-ferry-trash").unlink()
    (odd.root / ".ollama-ferry-trash").mkdir()
    (odd.root / ".ollama-ferry-trash/blobs").symlink_to(odd.outside / "home")
    with pytest.raises((FerryError, OSError)):
        prune(Store(odd.root), disk=HastyDisk(), now=LATER)
    assert everything(odd.outside) == before


@needs.root("needs root, to give files away")
def test_root_works_as_the_owner(tmp_path: Path) -> None:
    odd = littered(tmp_path)
    for path in (odd.root, *odd.root.rglob("*")):
        os.chown(path, 4242, 4242, follow_symlinks=False)
    seen: set[int] = set()

    class Seeing(HastyDisk):
        def replace(self, folder: Folder, name: str, to: Folder, new: str) -> None:
            seen.add(os.geteuid())
            super().replace(folder, name, to, new)

    for folder in (tmp_path, *tmp_path.parents):
        if folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    prune(Store(odd.root), disk=Seeing(), now=LATER)
    assert seen == {4242} and needs.IS_ROOT
    assert (odd.root / ".ollama-ferry-trash").stat().st_uid == 4242


LONG = pytest.mark.long


@pytest.mark.parametrize("job", ["prune", pytest.param("undo", marks=LONG), pytest.param("empty", marks=LONG)])
@pytest.mark.parametrize("how", ["fails", "dies"])
def test_a_fault_at_each_call_loses_nothing(tmp_path: Path, job: str, how: str) -> None:
    for number in range(200):
        folder = tmp_path / str(number)
        folder.mkdir()
        odd = littered(folder)
        before, models = contents(odd.root), whole_models(odd.root)
        if job != "prune":
            prune(Store(odd.root), disk=HastyDisk(), now=LATER)

        def run(disk: Disk, odd: OddStore = odd) -> None:
            store = Store(odd.root)
            prune(store, disk=disk, now=LATER) if job == "prune" else {"undo": undo, "empty": empty}[job](
                store, disk=disk
            )

        ended = _fault(run, number, how)
        assert whole_models(odd.root) == models, number
        if job == "empty":
            assert set(contents(odd.root).values()) <= set(before.values())
        else:
            assert sorted(contents(odd.root).values()) == sorted(before.values()), number
            if (odd.root / ".ollama-ferry-trash").exists():
                undo(Store(odd.root), disk=HastyDisk())
            assert contents(odd.root) == before, number
        if ended:
            break
    assert number > 8


def _fault(run: Callable[[Disk], None], number: int, how: str) -> bool:
    """Run something with a fault at its call of this number; tell whether it has no such call."""
    if how == "fails":
        disk = FaultyDisk(number, how=errno.EIO)
        try:
            run(disk)
        except FerryError:
            pass
        return not disk.failed
    child = os.fork()
    if not child:
        try:
            run(DeadlyDisk(number))
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@needs.change_times
def test_command(tmp_path: Path) -> None:
    store = StoreBuilder(tmp_path)
    store.model("good")
    (tmp_path / "blobs" / ORPHAN).write_bytes(b"orphan")
    done = ferry("prune", "--models", tmp_path)
    assert done.returncode == 0 and "stays: " in done.stderr and "less than an hour old" in done.stderr
    os.utime(tmp_path / "blobs" / ORPHAN, (1, 1))
    document = json.loads(ferry("prune", "--models", tmp_path, "--json").stdout)
    # The time of change is that of now, whatever time a tar has given it.
    assert not document["files"] and document["kept"][0]["size"] == 6
    assert ferry("prune", "--models", tmp_path, "--undo").returncode == 3
    assert ferry("prune", "--models", tmp_path, "--undo", "--yes").returncode == 2
