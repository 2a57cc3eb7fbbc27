"""Is each volume whole? Every one that is here is hashed by itself, and compared with the sums written beside them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ollama_ferry.archives.volumes.reading import open_regular, read_sums
from ollama_ferry.engine.events import Started
from ollama_ferry.engine.hashing import sha256_of
from ollama_ferry.engine.run import Run
from ollama_ferry.errors import FerryError


@dataclass(frozen=True)
class VolumeVerdict:
    """What was found of one volume.

    Attributes:
        name: its file's name.
        result: ``good``, ``damaged`` or ``not here``.
    """

    name: str
    result: str


def verify_volumes(sums: Path, *, run: Run | None = None) -> tuple[VolumeVerdict, ...]:
    """Hash volumes one by one, by the file of sums that was written with them.

    Args:
        sums: in the format of ``sha256sum``; the volumes that are here lie beside it.
        run: notified of the bytes that were hashed; stops it at the next chunk.

    Raises:
        NotFound, Damaged: the file of sums is not there, or is none.
        FerryError: a volume can't be read.
    """
    run = run or Run()
    expected = read_sums(sums)
    present = {name: sums.with_name(name) for name in expected if sums.with_name(name).is_file()}
    run.notify(Started(0, 0, sum(path.stat().st_size for path in present.values())))

    def result(name: str) -> str:
        if name not in present:
            return "not here"
        try:
            with open_regular(present[name]) as file:
                return "good" if sha256_of(_CountedReader(file, run), run.cancel) == expected[name] else "damaged"
        except OSError as error:
            raise FerryError(f"can't read {present[name]}: {error.strerror or error}") from error

    return tuple(VolumeVerdict(name, result(name)) for name in expected)


class _CountedReader:
    """Bytes that are told of as they are read."""

    def __init__(self, data: BinaryIO, run: Run) -> None:
        self._data = data
        self._run = run

    def read(self, size: int, /) -> bytes:
        chunk = self._data.read(size)
        self._run.advanced(len(chunk))
        return chunk
