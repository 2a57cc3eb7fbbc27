"""An import that is killed, or whose disk fails, at any moment: nothing wrong is published, the next one finishes."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import ollama_ferry
from ollama_ferry.errors import FerryError, NoSpace
from ollama_ferry.jobs.import_ import import_file
from ollama_ferry.jobs.import_choices import ImportOptions
from ollama_ferry.jobs.repair import repair
from ollama_ferry.jobs.verify import verify_place
from ollama_ferry.places.store.store import Store
from support.dying_imports import DYING, ended, fork_import, numbers, target_with_a_neighbour
from support.faulty_disk import CALLS, FaultyDisk, HastyDisk, LinklessDisk
from support.faulty_disk import KINDS as KINDS_OF_CALLS
from support.stores import StoreBuilder, faults_of, tree, weights

# The last is made by tar: a stream, and no place that can be searched.
KINDS = [".tar", ".tar.gz", ".plain.tar.gz"]
NOT_NEEDED = ("set_mode", "touch", "link")
# The number of a write in the middle of a large blob of the .tar, before the first manifest.
IN_A_LARGE_BLOB = 6


@pytest.fixture(autouse=True)
def narrow_umask() -> Iterator[None]:
    """Make files that nobody else may read, so that a store's modes have to be set."""
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.fixture
def models(source: StoreBuilder) -> StoreBuilder:
    shared = weights(2_500_000)
    source.model("a:1", [("model", shared), ("template", b"one")])
    source.model("a:2", [("model", shared), ("template", b"two"), ("license", b"")])
    source.model("hf.co/org/b:Q4", [("model", weights(700_000, 5)), ("params", b"{}")])
    return source


def archive_of(models: StoreBuilder, folder: Path, kind: str) -> Path:
    path = folder / f"a{kind}"
    if kind.startswith(".plain"):
        subprocess.run(["tar", "-C", models.root, "-czf", path, "blobs", "manifests"], check=True)
        return path
    ollama_ferry.export("*/*/*:*", path, store=models.root)
    return path


def litter(root: Path) -> list[str]:
    staging = root / ".ollama-ferry"
    found = [str(path) for path in staging.rglob("*")] if staging.exists() else []
    return found + [str(path) for path in (root / "manifests").glob(".*")]


def failures() -> Iterator[object]:
    """Give calls, what becomes of them, and kinds: all in the long form, else what differs in more than a name."""
    for call in CALLS:
        for how in (errno.EIO, errno.ENOSPC, errno.EACCES):
            for kind in KINDS:
                told_apart = (how, call) == (errno.ENOSPC, "write") or (how == errno.EACCES and call in NOT_NEEDED)
                usual = how == errno.EIO and (kind != ".tar.gz" or call == "link")
                marks = () if usual or (told_apart and kind == ".tar") else pytest.mark.long
                # The last two are calls of who writes an archive.
                if call not in ("truncate", "write_many", "copy"):
                    yield pytest.param(call, how, kind, marks=marks, id=f"{call}-{errno.errorcode[how]}-{kind}")


@pytest.mark.parametrize(("call", "how", "kind"), list(failures()))
def test_every_failing_call_leaves_a_whole_store(
    models: StoreBuilder, tmp_path: Path, call: str, how: int, kind: str, long: bool
) -> None:
    archive = archive_of(models, tmp_path, kind)
    failed = 0
    for number in numbers(long):
        root = tmp_path / f"target-{number}"
        neighbour = tree(target_with_a_neighbour(root).root)
        disk = FaultyDisk(number, call, how=how)
        try:
            import_file(archive, Store(root), ImportOptions(), disk=disk)
        except FerryError as error:
            failed += 1
            assert disk.failed in KINDS_OF_CALLS.get(call, (call,))
            if how == errno.ENOSPC and call == "write":
                assert isinstance(error, NoSpace)
        assert not faults_of(root), number
        assert neighbour.items() <= tree(root).items()
        import_file(archive, Store(root), ImportOptions(), disk=HastyDisk())
        assert not litter(root), number
        assert tree(root) == tree(models.root) | neighbour
        if not disk.failed:
            break
    # Cleaning up may fail without a word: what is left goes with the next import. And what a file system does not
    # offer, and nothing depends on, is done without.
    assert failed or call in ("remove", "remove_folder") or (how == errno.EACCES and call in NOT_NEEDED)
    assert number > 0


@pytest.mark.parametrize("kind", KINDS)
def test_death_at_every_call_leaves_a_whole_store(models: StoreBuilder, tmp_path: Path, kind: str, long: bool) -> None:
    archive = archive_of(models, tmp_path, kind)
    done = subprocess.run([*DYING, "every-call", archive, tmp_path / "work", "all" if long else "some"], check=True,
                          timeout=600, capture_output=True, text=True)  # fmt: skip
    assert int(done.stdout.split()[0]) > 50


@pytest.mark.parametrize("kind", KINDS)
def test_sigkill_at_random_moments_leaves_a_whole_store(
    models: StoreBuilder, tmp_path: Path, kind: str, seed: int, long: bool
) -> None:
    archive = archive_of(models, tmp_path, kind)
    rounds = "100" if long else "12"
    done = subprocess.run([*DYING, "sigkill", archive, tmp_path / "work", rounds, str(seed)], check=True,
                          timeout=600, capture_output=True, text=True)  # fmt: skip
    killed, finished = map(int, done.stdout.split())
    # Most moments lie within the import; were they all after its end, this would show nothing.
    assert killed > finished


def test_two_imports_and_a_verify_at_once_survive_sigkill(
    models: StoreBuilder, tmp_path: Path, seed: int, long: bool
) -> None:
    archive = archive_of(models, tmp_path, ".tar.gz")
    rounds = "100" if long else "8"
    done = subprocess.run([*DYING, "crowd", archive, tmp_path / "work", rounds, str(seed)], check=True,
                          timeout=600, capture_output=True, text=True)  # fmt: skip
    assert int(done.stdout.split()[0]) > 0


def test_file_system_without_links_is_written_too(models: StoreBuilder, tmp_path: Path) -> None:
    archive = archive_of(models, tmp_path, ".tar.gz")
    root = tmp_path / "target"
    import_file(archive, Store(root), ImportOptions(), disk=LinklessDisk())
    assert tree(root) == tree(models.root)
    assert not litter(root)
    for blob in (root / "blobs").iterdir():
        blob.write_bytes(b"wrong")
    import_file(archive, Store(root), ImportOptions(), disk=LinklessDisk())
    assert tree(root) == tree(models.root)
    assert not litter(root)


def test_unfinished_blob_is_gone_on_from(models: StoreBuilder, tmp_path: Path) -> None:
    archive = archive_of(models, tmp_path, ".tar")
    root = tmp_path / "target"
    with pytest.raises(NoSpace):
        import_file(archive, Store(root), ImportOptions(), disk=FaultyDisk(IN_A_LARGE_BLOB, "write", how=errno.ENOSPC))
    (partial,) = (root / ".ollama-ferry").glob("*.partial")
    begun = partial.stat().st_size
    assert begun > 0
    written = WrittenBytes()
    done = import_file(archive, Store(root), ImportOptions(), disk=written)
    assert tree(root) == tree(models.root)
    assert written.amount == done.size - begun + sum(len(m.manifest.raw) for m in done.models)


def test_unfinished_blob_in_place_of_a_damaged_one_is_kept(models: StoreBuilder, tmp_path: Path) -> None:
    archive = archive_of(models, tmp_path, ".tar")
    root = tmp_path / "target"
    import_file(archive, Store(root), ImportOptions())
    big = max((root / "blobs").iterdir(), key=lambda path: path.stat().st_size)
    big.write_bytes(b"short")
    with pytest.raises(NoSpace):
        import_file(archive, Store(root), ImportOptions(), disk=FaultyDisk(2, "write", how=errno.ENOSPC))
    (partial,) = (root / ".ollama-ferry").glob("*.partial")
    assert partial.name.startswith(big.name) and partial.stat().st_size > 0
    import_file(archive, Store(root), ImportOptions())
    assert tree(root) == tree(models.root)


def test_repair_that_fails_at_any_call_is_finished_by_the_next(
    models: StoreBuilder, tmp_path: Path, long: bool
) -> None:
    archive = archive_of(models, tmp_path, ".tar.gz")
    whole = tree(models.root)
    for number in numbers(long):
        store = Store(tmp_path / f"target-{number}")
        import_file(archive, store, ImportOptions(), disk=HastyDisk())
        for blob in (store.root / "blobs").iterdir():
            blob.write_bytes(bytes(blob.stat().st_size))
        disk = FaultyDisk(number)
        try:
            repair(store, verify_place(store, store.names()), archive, disk=disk)
        except FerryError:
            assert disk.failed
        for blob in (store.root / "blobs").iterdir():
            content = blob.read_bytes()
            assert not any(content) or whole[f"blobs/{blob.name}"] == content
        repair(store, verify_place(store, store.names()), archive, disk=HastyDisk())
        assert tree(store.root) == whole, number
        if not disk.failed:
            break
    assert number > 10


def test_of_two_imports_at_once_one_replaces_nothing(tmp_path: Path) -> None:
    archives = []
    for number in (1, 2):
        made = StoreBuilder(tmp_path / f"made-{number}")
        made.model("a:1", [("model", weights(400_000, number))])
        archives.append(tmp_path / f"{number}.tar")
        ollama_ferry.export("a:1", archives[-1], store=made.root)
    for number in range(12):
        root = tmp_path / f"target-{number}"
        children = [fork_import(archive, root) for archive in archives]
        # One of them brings its model; the other one finds it, and says so.
        assert sorted(map(ended, children)) == [0, 1]
        assert not faults_of(root)


def test_unfinished_blob_of_other_bytes_is_begun_anew(models: StoreBuilder, tmp_path: Path) -> None:
    archive = archive_of(models, tmp_path, ".tar")
    root = tmp_path / "target"
    with pytest.raises(NoSpace):
        import_file(archive, Store(root), ImportOptions(), disk=FaultyDisk(IN_A_LARGE_BLOB, "write", how=errno.ENOSPC))
    (partial,) = (root / ".ollama-ferry").glob("*.partial")
    # As a power cut leaves it: the length is there, the bytes are not.
    partial.write_bytes(bytes(partial.stat().st_size))
    import_file(archive, Store(root), ImportOptions())
    assert tree(root) == tree(models.root)


def test_leftovers_of_another_import_go_when_they_are_old(models: StoreBuilder, tmp_path: Path) -> None:
    archive = archive_of(models, tmp_path, ".tar")
    root = tmp_path / "target"
    staging = root / ".ollama-ferry"
    staging.mkdir(parents=True)
    old, young = (staging / f"sha256-{letter * 64}.partial" for letter in "ab")
    for path in (old, young):
        path.write_bytes(b"begun")
    os.utime(old, (1_000_000_000, 1_000_000_000))
    import_file(archive, Store(root), ImportOptions())
    assert not old.exists() and young.exists()
    assert not (tree(models.root).items() - tree(root).items())


class WrittenBytes(FaultyDisk):
    """Counts what is written."""

    amount = 0

    def write(self, fd: int, data: bytes | memoryview) -> int:
        count = os.write(fd, data)
        self.amount += count
        return count

    def copy(self, source: int, offset: int, fd: int, count: int) -> int:
        count = super().copy(source, offset, fd, count)
        self.amount += count
        return count
