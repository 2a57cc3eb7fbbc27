"""An archive as a place to write models to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from ollama_ferry._version import __version__
from ollama_ferry.archives import tar
from ollama_ferry.archives.frames import FRAME_SIZE, FrameWriter, UnpackedWriter
from ollama_ferry.archives.index import Index, IndexedFile, index_bytes
from ollama_ferry.archives.kinds import Compression, Kind
from ollama_ferry.archives.left_out import LeftOutBlob, left_out_headers
from ollama_ferry.archives.packing import ChoosingPacker, packer
from ollama_ferry.engine.plan import Plan
from ollama_ferry.engine.ports import Readable, WrittenFile
from ollama_ferry.model.manifests import Descriptor, Digest, Manifest
from ollama_ferry.model.names import ModelName

# A blob below this has no frame of its own: around thousands of them that would be more than packing saves.
_SMALL = 64 * 1024
# Blobs from this on begin in a plain tar where a file system can share their blocks, as long as these are so few that
# what fills up before them, at most 4.6 kB, stays far below what readers take of comments.
_SHARED = 1024 * 1024
_SHARED_AT_MOST = 1000


class ArchiveOutput(Protocol):
    """Where an archive goes: a file, volumes, or a stream."""

    def write(self, *data: bytes | memoryview) -> None:
        """Take the next bytes, which must not change any more."""
        ...


@runtime_checkable
class ArchiveFileOutput(ArchiveOutput, WrittenFile, Protocol):
    """A file, which the system can copy into."""


class ArchiveSink:
    """Writes manifests and blobs as a tar archive that restores into a store with any tar.

    The content of a blob has frames of its own; headers, padding, manifests and small blobs go into frames between
    them. A large blob's bytes are thus those of its frames, no more and no less: it can be unpacked and hashed alone.

    Args:
        output: takes the archive's bytes in order.
        kind: the format.
        compression: how hard to pack.
        threads: how many threads pack.
        fixed_time: the time stamp of every entry in seconds since the epoch (``SOURCE_DATE_EPOCH``); None takes
            it from the manifests.
        signature: of whoever has signed the models, for the index.
    """

    def __init__(
        self,
        output: ArchiveOutput,
        kind: Kind,
        *,
        compression: Compression = Compression.AUTO,
        threads: int = 1,
        fixed_time: int | None = None,
        signature: str = "",
    ) -> None:
        pack = packer(kind, compression)
        self._frames: FrameWriter | UnpackedWriter
        if kind is Kind.TAR and isinstance(output, ArchiveFileOutput):
            self._frames = UnpackedWriter(output)
        else:
            self._frames = FrameWriter(output.write, pack, threads=threads)
        self._output = output
        self._choice = pack if isinstance(pack, ChoosingPacker) else None
        self._kind = kind
        self._files: list[IndexedFile] = []
        self._fixed_time = fixed_time
        self._times: dict[Digest, int] = {}
        self._written: set[Digest] = set()
        self._left_out: tuple[LeftOutBlob, ...] = ()
        self._signature = signature
        self._folders: set[str] = set()
        self._position = self._aligned = 0
        # Headers, padding and manifests wait here for the next frame.
        self._pending = bytearray()

    @staticmethod
    def framing(sizes: Sequence[int]) -> int:
        """Return how many bytes a plain tar has at most beside those of files of these sizes, in bytes."""
        aligned = min(sum(size >= _SHARED for size in sizes), _SHARED_AT_MOST)
        headers = sum(tar.BLOCK + len(tar.padding(size)) for size in sizes)
        return headers + aligned * (tar.ALIGNED + tar.BLOCK) + tar.RECORD

    def prepare(self, plan: Plan) -> None:
        """Learn the blobs' times, that of the newest manifest that needs it, and name those that are left out."""
        for digest, models in plan.needed_by.items():
            self._times[digest] = max(self._time_of(model.manifest) for model in models)
        self._left_out = tuple((blob.digest.hex, blob.size) for blob in plan.present)
        self._pend(left_out_headers(self._left_out))

    def has(self, blob: Descriptor) -> bool:
        """Return whether the archive being written holds the blob already."""
        return blob.digest in self._written

    def put(self, blob: Descriptor, data: Readable) -> None:
        """Write a blob; when ``data`` raises, the archive is of no use and must be abandoned."""
        name = f"blobs/{blob.digest.file_name}"
        header = tar.file_header(name, blob.size, self._times.get(blob.digest, self._fixed_time or 0))
        if self._kind is Kind.TAR and blob.size >= _SHARED and self._aligned < _SHARED_AT_MOST:
            self._aligned += 1
            self._pend(tar.alignment(self._position + len(self._pending) + len(header)))
        self._pend(header)
        if blob.size >= _SMALL:
            self._flush()
        self._files.append(IndexedFile(name, blob.size, self._position + len(self._pending), blob.digest.hex))
        if blob.size < _SMALL:
            while chunk := data.read(_SMALL):
                self._pend(chunk)
        else:
            self._frames.carry(data)
            self._position += blob.size
        self._pend(tar.padding(blob.size))
        self._flush_whole_frames()
        self._written.add(blob.digest)

    def publish_model(self, name: ModelName, manifest: Manifest) -> None:
        """Write a manifest, and before it the folders above it that the archive does not have yet."""
        time = self._time_of(manifest)
        folder = "manifests"
        for part in name.parts[:-1]:
            folder = f"{folder}/{part}"
            if folder not in self._folders:
                self._folders.add(folder)
                self._pend(tar.folder_header(folder, time))
        path = f"manifests/{name.path}"
        check = bytes.fromhex(manifest.digest.hex)
        self._pend(tar.file_header(path, len(manifest.raw), time, check))
        offset = self._position + len(self._pending)
        self._files.append(IndexedFile(path, len(manifest.raw), offset, manifest.digest.hex))
        self._pend(manifest.raw)
        self._pend(tar.padding(len(manifest.raw)))
        self._flush_whole_frames()

    def close(self) -> None:
        """Write the end of the archive and its index, and wait until all of it is written."""
        self._pend(tar.end(self._position + len(self._pending)))
        self._flush()
        self._frames.close()
        if self._kind is not Kind.TAR:
            # A plain tar's headers are index enough.
            index = Index(tuple(self._files), self._frames.frames, self._left_out, self._signature)
            self._output.write(index_bytes(index, self._kind, f"ollama-ferry/{__version__}"))

    def abandon(self) -> None:
        """Give the archive up; what was written is of no use."""
        self._frames.abandon()

    @property
    def stored(self) -> int:
        """How many bytes were stored, because packing them would not pay."""
        return self._choice.stored if self._choice is not None else 0

    @property
    def foregone(self) -> int:
        """How many bytes packing these would have saved, about."""
        return self._choice.foregone if self._choice is not None else 0

    def _time_of(self, manifest: Manifest) -> int:
        if self._fixed_time is not None:
            return self._fixed_time
        return max(0, int(manifest.modified or 0))

    def _pend(self, data: bytes) -> None:
        self._pending += data

    def _flush_whole_frames(self) -> None:
        if len(self._pending) >= FRAME_SIZE:
            self._flush()

    def _flush(self) -> None:
        pending = bytes(self._pending)
        self._pending.clear()
        for start in range(0, len(pending), FRAME_SIZE):
            self._frames.write(pending[start : start + FRAME_SIZE])
        self._position += len(pending)
