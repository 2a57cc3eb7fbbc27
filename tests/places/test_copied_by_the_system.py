"""Bytes that the system copies from file to file: what is hashed is what lies in the file that was written."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path

import pytest

from ollama_ferry.archives.kinds import Compression, Kind
from ollama_ferry.archives.packing import stored_gzip, stored_zstd
from ollama_ferry.archives.stored_frames import stored_extents
from ollama_ferry.engine.copy import copy, plan
from ollama_ferry.engine.ports import Extent
from ollama_ferry.errors import Damaged, FerryError, NoSpace
from ollama_ferry.jobs.export import ExportOptions, export_to_file, plan_export
from ollama_ferry.jobs.import_ import import_file
from ollama_ferry.jobs.import_choices import ImportOptions
from ollama_ferry.places.store.sink import StoreSink
from ollama_ferry.places.store.store import Store
from support import needs
from support.faulty_disk import HastyDisk
from support.stores import StoreBuilder, tree, weights

# Several steps, an odd end, and above what is hashed on the spot.
SIZE = 5_000_001
_STORED = ExportOptions(Compression.NONE, threads=2)


class CopyingDisk(HastyDisk):
    """Counts the bytes that the system has copied, and those that went through here."""

    copied = written = 0

    def copy(self, source: int, offset: int, fd: int, count: int) -> int:
        count = super().copy(source, offset, fd, count)
        self.copied += count
        return count

    def write(self, fd: int, data: bytes | memoryview) -> int:
        self.written += len(data)
        return super().write(fd, data)


class LyingDisk(HastyDisk):
    """A file system that says it has copied, and wrote something else, as some network disks did."""

    def copy(self, source: int, offset: int, fd: int, count: int) -> int:
        return os.write(fd, bytes(min(count, 100_000)))


class NoCopies(HastyDisk):
    """A disk that copies so many times, and then says why not."""

    def __init__(self, times: int, why: int) -> None:
        self.times, self.why = times, why

    def copy(self, source: int, offset: int, fd: int, count: int) -> int:
        self.times -= 1
        if self.times < 0:
            raise OSError(self.why, os.strerror(self.why))
        return super().copy(source, offset, fd, min(count, 70_000))


@pytest.fixture
def store(source: StoreBuilder) -> Store:
    source.model("big:1", [("model", weights(SIZE)), ("template", b"{{ .Prompt }}")])
    return Store(source.root)


def exported(store: Store, path: Path, disk: HastyDisk | None = None) -> Path:
    export_to_file(store, plan_export(store, store.names()), path, _STORED, disk=disk or HastyDisk())
    return path


def restored(path: Path, target: Path, disk: HastyDisk | None = None) -> dict[str, bytes]:
    import_file(path, Store(target), ImportOptions(), disk=disk or HastyDisk())
    return tree(target)


@pytest.mark.parametrize("kind", [Kind.TAR, Kind.TAR_GZ, Kind.TAR_ZST])
@needs.not_windows("pread, sendfile")
def test_weights_reach_a_store_without_passing_through_here(store: Store, tmp_path: Path, kind: Kind) -> None:
    archive, disk = exported(store, tmp_path / f"x{kind.value}"), CopyingDisk()
    assert restored(archive, tmp_path / "t", disk) == tree(store.root)
    assert disk.copied >= SIZE and disk.written < 10_000


@needs.not_windows("pread, sendfile")
def test_weights_reach_a_plain_archive_without_passing_through_here(store: Store, tmp_path: Path) -> None:
    disk = CopyingDisk()
    exported(store, tmp_path / "x.tar", disk)
    assert disk.copied == SIZE and disk.written < 30_000


@pytest.mark.parametrize("kind", [Kind.TAR, Kind.TAR_GZ, Kind.TAR_ZST])
@needs.not_windows("pread, sendfile")
def test_what_the_system_copied_wrongly_is_not_published(store: Store, tmp_path: Path, kind: Kind) -> None:
    archive = exported(store, tmp_path / f"x{kind.value}")
    with pytest.raises(Damaged, match="has the SHA-256"):
        restored(archive, tmp_path / "t", LyingDisk())
    assert not [path for path in tree(tmp_path / "t") if path.startswith(("blobs/sha256-", "manifests/"))]
    with pytest.raises(Damaged, match="has the SHA-256"):
        exported(store, tmp_path / "y.tar", LyingDisk())
    assert not list(tmp_path.glob("y*"))
    with StoreSink(Store(tmp_path / "u"), disk=LyingDisk()) as sink, pytest.raises(Damaged, match="has the SHA-256"):
        copy(plan(store, sink, store.names()), store, sink)


@pytest.mark.parametrize("times", [0, 3])
@pytest.mark.parametrize("why", [errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EIO])
@needs.not_windows("pread, sendfile")
def test_where_the_system_can_not_copy_it_is_read_and_written(
    store: Store, tmp_path: Path, times: int, why: int
) -> None:
    whole = exported(store, tmp_path / "x.tar").read_bytes()
    assert exported(store, tmp_path / "y.tar", NoCopies(times, why)).read_bytes() == whole
    stored = exported(store, tmp_path / "x.tar.gz")
    for archive in (tmp_path / "x.tar", stored):
        target = tmp_path / f"t{archive.suffix}"
        assert restored(archive, target, NoCopies(times, why)) == tree(store.root)


@needs.not_windows("pread, sendfile")
def test_a_full_disk_is_told_as_such(store: Store, tmp_path: Path) -> None:
    with pytest.raises(NoSpace):
        exported(store, tmp_path / "y.tar", NoCopies(2, errno.ENOSPC))
    assert not list(tmp_path.glob("y*"))
    with pytest.raises(NoSpace):
        restored(exported(store, tmp_path / "x.tar"), tmp_path / "t", NoCopies(2, errno.EDQUOT))


@needs.not_windows("pread, sendfile")
def test_a_file_that_is_cut_while_it_is_written_is_not_published(store: Store, tmp_path: Path) -> None:
    class Cutting(HastyDisk):
        def copy(self, source: int, offset: int, fd: int, count: int) -> int:
            copied = super().copy(source, offset, fd, min(count, 1_000_000))
            os.truncate(fd, 10_000)
            return copied

    with pytest.raises(FerryError, match="replaced or changed by somebody else"):
        exported(store, tmp_path / "y.tar", Cutting())
    assert not list(tmp_path.glob("y*"))


@pytest.mark.parametrize("change", [-1, 1])
@needs.not_windows("pread, sendfile")
def test_a_blob_of_another_length_is_found_while_it_is_copied(store: Store, tmp_path: Path, change: int) -> None:
    planned = plan_export(store, store.names())
    big = max(planned.blobs, key=lambda blob: blob.size)
    with store.blob_path(big.digest).open("r+b") as file:
        file.truncate(SIZE + change)
    says = "ends after 5000000 of" if change < 0 else "holds more than the"
    with pytest.raises(Damaged, match=says):
        export_to_file(store, planned, tmp_path / "x.tar", ExportOptions(), disk=HastyDisk())


@pytest.mark.parametrize(("packing", "store_frame"), [("gzip", stored_gzip), ("zstd", stored_zstd)])
@pytest.mark.parametrize("size", [1, 65_535, 65_536, 131_072, 131_073, 1_048_576])
@needs.not_windows("pread, sendfile")
def test_the_content_of_a_stored_frame_is_found(tmp_path: Path, packing: str, store_frame: object, size: int) -> None:
    content = weights(size)
    frame = b"".join(store_frame(content))  # type: ignore[operator]
    path = tmp_path / "frame"

    def found(frame: bytes, size: int = size) -> bytes:
        path.write_bytes(b"before" + frame + b"behind")
        with io.FileIO(path) as file:
            return b"".join(e.read(e.size) for e in stored_extents(Extent(file, 6, len(frame)), packing, size))

    assert found(frame) == content
    assert found(frame[:-1]) == found(frame, size + 1) == b""
    # Whatever is not as we write it is left to a decoder.
    for at in (0, 3, 4, 8, 10, len(frame) - 1 if packing == "gzip" else 9):
        assert found(frame[:at] + bytes([frame[at] ^ 1]) + frame[at + 1 :]) == b"", at
