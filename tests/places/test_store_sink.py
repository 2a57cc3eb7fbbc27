"""A store as a place to write to, where the file system offers little, others have left things, and blobs are many."""

from __future__ import annotations

import errno
import os
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from ollama_ferry.engine.copy import copy, plan
from ollama_ferry.engine.events import Event, Explained
from ollama_ferry.engine.run import Run
from ollama_ferry.errors import Damaged, FerryError
from ollama_ferry.model.manifests import Digest
from ollama_ferry.model.names import ModelName
from ollama_ferry.places.store.sink import StoreSink
from ollama_ferry.places.store.store import Store
from support import needs
from support.faulty_disk import CALLS, LOOKS, HastyDisk, WatchedDisk
from support.memory_place import MemoryPlace
from support.stores import StoreBuilder, faults_of, tree, weights


class RefusingDisk(WatchedDisk):
    """A file system that does not offer some calls."""

    def __init__(self, calls: tuple[str, ...], how: int) -> None:
        self.calls = calls
        self.how = how

    def before(self, call: str, arguments: tuple[Any, ...]) -> None:
        if call in self.calls:
            raise OSError(self.how, os.strerror(self.how))


@pytest.mark.parametrize("how", [errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EXDEV, errno.EOPNOTSUPP])
@pytest.mark.parametrize("calls", [("touch",), ("set_mode",), ("link",), ("touch", "set_mode", "link")])
def test_what_a_file_system_does_not_offer_is_done_without(
    source: StoreBuilder, tmp_path: Path, calls: tuple[str, ...], how: int
) -> None:
    for number in range(3):
        source.model(f"a:{number}", [("model", weights(3000, number))])
    store, target, notes = Store(source.root), Store(tmp_path / "target"), []

    def listen(event: Event) -> None:
        if isinstance(event, Explained):
            notes.append(event.text)

    before = os.umask(0o077)
    try:
        with StoreSink(target, disk=RefusingDisk(calls, how), run=Run(listen)) as sink:
            copy(plan(store, sink, store.names()), store, sink)
    finally:
        os.umask(before)
    assert tree(target.root) == tree(source.root)
    assert not (target.root / ".ollama-ferry").exists()
    # Each is told once.
    assert len(notes) == len(set(notes)) == len({"touch", "set_mode"} & set(calls))


@needs.root("gives files to somebody else")
@pytest.mark.parametrize("right", [True, False])
def test_blob_that_another_user_staged_counts_as_not_there(source: StoreBuilder, tmp_path: Path, right: bool) -> None:
    content = weights(3000)
    source.model("a:1", [("model", content)])
    store, target = Store(source.root), Store(tmp_path / "target")
    staging = target.root / ".ollama-ferry"
    staging.mkdir(parents=True)
    theirs = staging / Digest.of(content).file_name
    theirs.write_bytes(content if right else bytes(3000))
    os.chown(theirs, 4242, 4242)
    with StoreSink(target) as sink:
        copy(plan(store, sink, store.names()), store, sink)
    assert tree(target.root) == tree(source.root)
    assert (target.root / "blobs" / theirs.name).stat().st_uid == os.geteuid()


def test_what_an_earlier_run_staged_is_hashed_before_it_is_published(source: StoreBuilder, tmp_path: Path) -> None:
    content = weights(3000)
    source.model("a:1", [("model", content)])
    store, target = Store(source.root), Store(tmp_path / "target")
    staging = target.root / ".ollama-ferry"
    staging.mkdir(parents=True)
    (staging / Digest.of(content).file_name).write_bytes(bytes(3000))
    with StoreSink(target) as sink:
        copy(plan(store, sink, store.names()), store, sink)
    assert not faults_of(target.root)
    assert tree(target.root) == tree(source.root)


class SwapsStaged(HastyDisk):
    """Puts another file in the place of a staged blob right before it gets its name."""

    def link(self, folder: Any, name: str, to: Any, new: str) -> None:
        path = Path(folder.path, name)
        size = path.stat().st_size
        path.unlink()
        path.write_bytes(bytes(size))
        super().link(folder, name, to, new)


@pytest.mark.parametrize("held", [100, 0])
@needs.open_files_go
def test_what_is_published_is_what_was_hashed(
    source: StoreBuilder, tmp_path: Path, held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ollama_ferry.places.store.staged._HELD_OPEN", held)
    source.model("a:1", [("model", weights(3000))])
    store, target = Store(source.root), Store(tmp_path / "target")
    with pytest.raises(FerryError, match="somebody else"), StoreSink(target, disk=SwapsStaged()) as sink:
        copy(plan(store, sink, store.names()), store, sink)
    assert not faults_of(target.root)


@pytest.mark.parametrize("part", ["", "blobs"])
@needs.descriptors
def test_a_store_that_is_moved_away_meanwhile_gets_no_model(source: StoreBuilder, tmp_path: Path, part: str) -> None:
    source.model("a:1", [("model", weights(3000))])
    store, target = Store(source.root), Store(tmp_path / "target")
    with pytest.raises(FerryError, match="was replaced"), StoreSink(target) as sink:
        planned = plan(store, sink, store.names())
        (target.root / part).rename(tmp_path / "away")
        (target.root / part).mkdir()
        copy(planned, store, sink)
    assert not faults_of(target.root)


@pytest.mark.parametrize("place", ["manifests/registry.ollama.ai", "manifests/registry.ollama.ai/library"])
def test_a_link_below_manifests_is_named_and_not_followed(source: StoreBuilder, tmp_path: Path, place: str) -> None:
    source.model("a:1")
    store, target, outside = Store(source.root), Store(tmp_path / "target"), tmp_path / "outside"
    outside.mkdir()
    link = target.root / place
    link.parent.mkdir(parents=True)
    link.symlink_to(outside)
    said = f"{place} should be a folder of its own, and is a link"
    with pytest.raises(FerryError, match=said) as caught, StoreSink(target) as sink:
        copy(plan(store, sink, store.names()), store, sink)
    assert caught.value.hint
    assert not list(outside.iterdir())


class HidingDisk(HastyDisk):
    """A file system in user space, which keeps a file that is removed while it is open as a hidden one until then."""

    def __init__(self) -> None:
        self._hidden: list[Path] = []

    def remove(self, folder: Any, name: str) -> None:
        self._let_go()
        path = Path(folder.path, name)
        if path.exists() and self._is_open(path):
            self._hidden.append(path.with_name(f".fuse_hidden{len(self._hidden):04}"))
            path.rename(self._hidden[-1])
        else:
            super().remove(folder, name)

    def remove_folder(self, folder: Any, name: str) -> None:
        self._let_go()
        super().remove_folder(folder, name)

    def _let_go(self) -> None:
        for path in self._hidden:
            if path.exists() and not self._is_open(path):
                path.unlink()

    def _is_open(self, path: Path) -> bool:
        found = path.stat()
        for fd in os.listdir("/proc/self/fd"):
            try:
                other = os.fstat(int(fd))
            except OSError:
                continue
            if (other.st_dev, other.st_ino) == (found.st_dev, found.st_ino):
                return True
        return False


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="looks at what is open, in /proc")
def test_the_staging_folder_goes_where_an_open_file_stays_when_it_is_removed(
    source: StoreBuilder, tmp_path: Path
) -> None:
    source.model("a:1", [("model", weights(3000))])
    store, target = Store(source.root), Store(tmp_path / "target")
    with StoreSink(target, disk=HidingDisk()) as sink:
        copy(plan(store, sink, store.names()), store, sink)
    assert tree(target.root) == tree(source.root)
    assert not (target.root / ".ollama-ferry").exists()


class CountingDisk(WatchedDisk):
    """Counts the calls, and what listing a folder gave."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def before(self, call: str, arguments: tuple[Any, ...]) -> None:
        self.counts[call] += 1

    def names(self, folder: Any) -> list[str]:
        found = super().names(folder)
        self.counts["names listed"] += len(found)
        return found

    def sync(self, fd: int) -> None:
        pass


def calls_for(blobs: int, folder: Path) -> Counter[str]:
    models = MemoryPlace()
    layers = []
    for number in range(blobs):
        content = number.to_bytes(4, "little")
        digest = Digest.of(content)
        models.blobs[digest] = content
        layers.append(f'{{"mediaType": "x.tensor", "digest": "{digest}", "size": 4}}')
    raw = f'{{"schemaVersion": 2, "layers": [{", ".join(layers)}]}}'.encode()
    models.models[ModelName.parse("a:1")] = raw
    disk = CountingDisk()
    with StoreSink(Store(folder), disk=disk) as sink:
        copy(plan(models, sink, models.names()), models, sink)
    return disk.counts


def test_work_grows_in_proportion_to_the_number_of_blobs(tmp_path: Path) -> None:
    blobs = 800
    counts = calls_for(blobs, tmp_path / "many")
    assert set(counts) <= {*CALLS, *LOOKS, "names listed"}
    assert counts["link"] == blobs
    for call, count in counts.items():
        # Looks are repeated for two seconds where some server has just been started on this machine. A look at each
        # blob for each blob would be 320,000.
        assert count <= (100 if call == "status" else 4) * blobs, (call, count)


def test_folders_that_lead_round_in_a_circle_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ollama_ferry.places.store.layouts._FOLDERS_LIMIT", 1_000)
    manifests = tmp_path / "store/manifests"
    manifests.mkdir(parents=True)
    for number in range(40):
        (manifests / f"a{number}").symlink_to(".")
    with pytest.raises(Damaged, match="more than 1000 folders"):
        list(Store(tmp_path / "store").names())


class _NothingReplaced(HastyDisk):
    """Renames over no blob, as Windows where somebody has it open."""

    def replace(self, folder: Any, name: str, to: Any, new: str) -> None:
        if os.path.basename(to.path) == "blobs":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        super().replace(folder, name, to, new)


def test_what_a_killed_run_has_left_with_both_names_is_published_already(source: StoreBuilder, tmp_path: Path) -> None:
    manifest = source.model("a:1", [("model", weights(3000))])
    store, target = Store(source.root), Store(tmp_path / "target")
    staging, blobs = target.root / ".ollama-ferry", target.root / "blobs"
    for folder in (staging, blobs):
        folder.mkdir(parents=True)
    for blob in manifest.blobs:
        (staging / blob.digest.file_name).write_bytes(source.blob_path(blob.digest).read_bytes())
        os.link(staging / blob.digest.file_name, blobs / blob.digest.file_name)
    with StoreSink(target, disk=_NothingReplaced()) as sink:
        planned = plan(store, sink, store.names())
        copy(planned, store, sink)
        sink.publish_model(ModelName.parse("a:1"), manifest)
    assert not faults_of(target.root) and tree(target.root) == tree(source.root)


class InterruptedDisk(WatchedDisk):
    """A disk at which somebody types Ctrl-C while what was made is put away."""

    def before(self, call: str, arguments: tuple[Any, ...]) -> None:
        if call == "remove_folder":
            raise KeyboardInterrupt


@needs.root("works as somebody else")
def test_ctrl_c_at_the_very_end_gives_the_first_user_back() -> None:
    with TemporaryDirectory(dir="/tmp") as folder:
        os.chown(folder, 65534, 65534)
        with pytest.raises(KeyboardInterrupt), StoreSink(Store(Path(folder)), disk=InterruptedDisk()):
            assert os.geteuid() == 65534
        assert os.geteuid() == 0
        # And another user's turn is not kept by that block.
        with StoreSink(Store(Path(folder) / "again")):
            pass
