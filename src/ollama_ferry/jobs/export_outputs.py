"""What an export writes besides files: a stream, and the sum beside an archive."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from ollama_ferry.archives.volumes.reading import SUMS_ENDING, read_sums
from ollama_ferry.errors import BrokenStream, FerryError
from ollama_ferry.files.disk import Disk
from ollama_ferry.files.pending import PendingFile


class ByteStream(Protocol):
    """What a stream must offer to be written to; every binary file does."""

    def write(self, data: bytes | memoryview, /) -> object: ...

    def flush(self) -> object: ...


class StreamOutput:
    """A stream that an archive goes to."""

    def __init__(self, stream: ByteStream, *, summed: bool) -> None:
        self.size = 0
        self._stream = stream
        self._hash = hashlib.sha256() if summed else None

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest() if self._hash is not None else ""

    def write(self, *data: bytes | memoryview) -> None:
        # In one piece: what is small goes through a pipe no cheaper than what is large.
        whole = data[0] if len(data) == 1 else b"".join(data)
        try:
            self._stream.write(whole)
        except BrokenPipeError as error:
            raise BrokenStream(f"the reader of the archive went away after {self.size} bytes") from error
        except OSError as error:
            raise FerryError(f"writing the archive to the stream failed: {error.strerror or error}") from error
        if self._hash is not None:
            self._hash.update(whole)
        self.size += len(whole)


def sum_beside(path: Path) -> Path:
    """Return where the sum of an archive lies, if there is one."""
    return path.with_name(path.name + SUMS_ENDING)


def publish_sum(path: Path, sha256: str, disk: Disk | None) -> None:
    """Write an archive's sum beside it; or remove that of an archive which was there before."""
    beside = sum_beside(path)
    if sha256:
        with PendingFile(beside, replace=True, disk=disk) as file:
            file.write(f"{sha256}  {path.name}\n".encode())
            file.publish()
    elif os.path.lexists(beside):
        with suppress(FerryError, OSError):
            if read_sums(beside).keys() == {path.name}:
                beside.unlink()
