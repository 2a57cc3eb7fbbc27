"""An archive in volumes: ``x.tar.gz.001``, ``x.tar.gz.002`` and so on, which one after the other are ``x.tar.gz``.

``cat x.tar.gz.* | tar -xz`` restores it. Beside the volumes lies ``x.sha256``, with their sums in the format of
``sha256sum``; its name is one that the pattern does not match. All volumes but the last have the same size.
"""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from ollama_ferry.archives.index import ends_with_index
from ollama_ferry.archives.kinds import READABLE
from ollama_ferry.errors import Damaged, NotFound, NotPermitted, ReadDifferently, Remedy, UsageError
from ollama_ferry.files.identity import as_started
from ollama_ferry.wording import exact_size, read_size

MOST_VOLUMES = 999
"""With a fourth digit, ``*`` of a shell would sort the volumes wrongly."""

SMALLEST_VOLUME = 64 * 1024

FAT32_VOLUME = 4 * 1024**3 - 1024**2
"""FAT32 ends a file at 4 GiB less a byte."""

_VOLUME = re.compile(r"(?P<name>.+)\.(?P<number>[0-9]{3})", re.DOTALL)
SUMS_ENDING = ".sha256"
"""What the name of a file of sums ends in."""
_NAME = re.compile(r"[^/\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{1,255}")
_SUM = re.compile(rf"([0-9a-fA-F]{{64}}) [ *]({_NAME.pattern})")
_SUMS_LIMIT = 1024 * 1024


def volume_size(text: str | int) -> int:
    """Read the size of volumes: bytes, ``4G``, ``700M``, ``1.5T`` (powers of 1024) or ``fat32``; return bytes.

    Raises:
        UsageError: it is no size, or a volume would be too small.
    """
    text = str(text)
    if text.strip().lower() == "fat32":
        return FAT32_VOLUME
    size = read_size(text, 1024)
    if size is None:
        raise UsageError(f"{text!r} is no size of volumes", hint="For example 4G, 700M, or fat32.")
    if size < SMALLEST_VOLUME:
        raise UsageError(f"volumes of {text} are too small: at least {SMALLEST_VOLUME // 1024}K are needed")
    return size


@dataclass(frozen=True)
class Volumes:
    """The names of an archive's volumes.

    Attributes:
        whole: the path that the archive would have in one piece.
    """

    whole: Path

    @classmethod
    def named(cls, path: Path) -> Volumes | None:
        """Return the volumes that a path means: one of them, or the archive where only its volumes are there."""
        found = _VOLUME.fullmatch(path.name)
        if found and found["name"].lower().endswith(READABLE):
            return cls(path.with_name(found["name"]))
        if path.name.lower().endswith(READABLE) and not os.path.lexists(path):
            volumes = cls(path)
            return volumes if volumes.path(1).is_file() else None
        return None

    @property
    def sums_path(self) -> Path:
        """Where their sums are."""
        name = self.whole.name
        extension = max((end for end in READABLE if name.lower().endswith(end)), key=len, default="")
        return self.whole.with_name(name[: len(name) - len(extension)] + SUMS_ENDING)

    def path(self, number: int) -> Path:
        """Return the path of a volume; they are counted from 1."""
        return self.whole.with_name(self.name(number))

    def name(self, number: int) -> str:
        return f"{self.whole.name}.{number:03d}"

    def numbers(self, *, also_ending: str = "") -> list[int]:
        """Return which volumes are in the folder, sorted.

        Args:
            also_ending: count files with this behind their names too.
        """
        try:
            entries = os.listdir(self.whole.parent)
        except PermissionError as error:
            raise NotPermitted(f"not permitted to read {self.whole.parent}: {error.strerror}") from error
        except OSError:
            return []
        names = {entry.removesuffix(also_ending) for entry in entries}
        found = (_VOLUME.fullmatch(name) for name in names)
        return sorted(int(v["number"]) for v in found if v and v["name"] == self.whole.name and int(v["number"]))

    def expected(self) -> dict[str, str]:
        """Return the sums of all volumes by name; nothing where their file is not there, or is of no use.

        The volumes may be whole all the same: this is no place to refuse them.
        """
        try:
            sums = read_sums(self.sums_path)
        except (NotFound, NotPermitted, Damaged):
            return {}
        volumes = ((_VOLUME.fullmatch(name), name) for name in sums)
        return {name: sums[name] for found, name in volumes if found and found["name"] == self.whole.name}

    def require_all(self) -> list[Path]:
        """Return the paths of all volumes in order.

        Raises:
            NotFound: some are missing, as far as that shows: a gap, or one that the file of sums names.
            Damaged: one has another size than those before it.
            ReadDifferently: a file beside them would be joined to them by a shell.
        """
        numbers = self.numbers()
        wanted = {self.name(number) for number in range(1, (numbers or [1])[-1] + 1)} | self.expected().keys()
        missing = sorted(name for name in wanted if not self.whole.with_name(name).is_file())
        if missing:
            raise NotFound(
                f"{self.whole}: {len(missing)} of {len(wanted)} volumes are not in {self.whole.parent}: "
                f"{', '.join(missing[:8])}{' ...' if len(missing) > 8 else ''}",
                hint="Copy them into that folder.",
                remedies=[Remedy("ask")],
            )
        self._require_no_others(wanted)
        paths = [self.path(number) for number in numbers]
        sizes = [path.stat().st_size for path in paths]
        for path, size in zip(paths[1:], sizes[1:], strict=True):
            if (size != sizes[0] and path != paths[-1]) or size > sizes[0] or not size:
                raise Damaged(
                    f"the volume {path} has {exact_size(size)}, and the first {sizes[0]:,}: it was cut, or is of "
                    "another set",
                    hint=f"Copy it again; `sha256sum -c {self.sums_path.name}` tells which are whole.",
                )
        return paths

    def _require_no_others(self, wanted: Collection[str]) -> None:
        """Refuse files that ``cat NAME.[0-9]*`` takes for volumes and we do not, such as ``NAME.000``."""
        begin = f"{self.whole.name}."
        with as_started():
            others = [name for name in os.listdir(self.whole.parent) if name.startswith(begin) and name not in wanted]
        for name in sorted(others):
            if name[len(begin) : len(begin) + 1].isdigit():
                raise ReadDifferently(
                    f"{self.whole.with_name(name)} is none of the volumes, and a shell that joins them takes it",
                    hint="Move it away.",
                )


def require_plain_name(name: str) -> None:
    """Refuse the name of a file that no file of sums can hold.

    Raises:
        UsageError: it has control characters, a backslash, or bytes that are no UTF-8.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} can't be the name of a file with a sum: a file of sums could not hold it")


def read_sums(path: Path) -> dict[str, str]:
    """Read a file in the format of ``sha256sum``: SHA-256 in hexadecimal by file name, in the order of the file.

    Raises:
        NotFound, NotPermitted: it is not there, or can't be read.
        Damaged: it has another format, or names a file of another folder.
    """
    with open_regular(path) as file:
        return parse_sums(file.read(_SUMS_LIMIT + 1), str(path))


def parse_sums(raw: bytes, label: str) -> dict[str, str]:
    """Read what a file of sums holds; see :func:`read_sums`."""
    sums: dict[str, str] = {}
    *lines, last = raw.decode("utf-8", "replace").split("\n")
    if last or len(raw) > _SUMS_LIMIT:
        raise Damaged(f"{label} is cut, or is no file of sums")
    for line in lines:
        found = _SUM.fullmatch(line.removesuffix("\r"))
        if not found:
            raise Damaged(f"{label} is no file of sums: {line[:80]!r}")
        sums[found[2]] = found[1].lower()
    if not sums:
        raise Damaged(f"{label} is empty")
    return sums


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read.

    Raises:
        NotFound, NotPermitted: it is not there, can't be read, or is no regular file.
    """
    try:
        # Not blocking: a FIFO that nobody writes to is refused instead of waited for.
        with as_started():
            fd = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
    except PermissionError as error:
        raise NotPermitted(f"not permitted to read {path}: {error.strerror}") from error
    except OSError as error:
        raise NotFound(f"can't read {path}: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise NotFound(f"{path} is no regular file")
    return cast(BinaryIO, open(fd, "rb", buffering=0))


class JoinedVolumes(io.RawIOBase):
    """Volumes as one file to read, from any byte on; one of them is open at a time.

    Args:
        paths: all of them, in order.
    """

    def __init__(self, paths: list[Path]) -> None:
        self._paths = paths
        self._starts = [0]
        for path in paths:
            self._starts.append(self._starts[-1] + path.stat().st_size)
        self._at = 0
        self._number = -1
        self._file: BinaryIO | None = None

    @property
    def last_is_full(self) -> bool:
        """Whether the last volume is as large as the others, so that another one may be missing."""
        return self._starts[-1] - self._starts[-2] == self._starts[1]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._starts[-1]}[whence]
        return self._at

    def read(self, size: int = -1, /) -> bytes:
        """Give ``size`` bytes, or what is left: as of a file on a disk, no less."""
        left = max(0, self._starts[-1] - self._at)
        size = left if size < 0 else min(size, left)
        chunk = self._read_some(size) if size else b""
        if len(chunk) == size:
            return chunk
        parts = [chunk]
        while (size := size - len(parts[-1])) > 0:
            parts.append(self._read_some(size))
        return b"".join(parts)

    def _read_some(self, size: int) -> bytes:
        number = self._number
        if not (number >= 0 and self._starts[number] <= self._at < self._starts[number + 1]):
            number = next(n for n in range(len(self._paths)) if self._at < self._starts[n + 1])
            self._close()
            self._file, self._number = open_regular(self._paths[number]), number
        assert self._file is not None  # noqa: S101 -- it was opened with the number
        self._file.seek(self._at - self._starts[number])
        chunk = self._file.read(min(size, self._starts[number + 1] - self._at))
        if not chunk:
            raise Damaged(f"the volume {self._paths[number].name} has become shorter while it was read")
        self._at += len(chunk)
        return chunk

    def close(self) -> None:
        self._close()
        super().close()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file, self._number = None, -1


Ask = Callable[[str], None]
"""Asks somebody to change the medium, told what is wanted; returns when somebody says that it was done, or raises."""


class VolumeStream:
    """Volumes that are read one after the other, from media that are changed in between.

    Args:
        volumes: their names; the folder is the same for all media.
        ask: asks for the next medium where a volume is not there.
    """

    def __init__(self, volumes: Volumes, ask: Ask) -> None:
        self._volumes = volumes
        self._ask = ask
        self._number = 0
        self._first_size = 0
        self._file: BinaryIO | None = None
        self._is_last = False
        self._expected = len(volumes.expected())

    def read(self, size: int, /) -> bytes:
        """Give at most ``size`` bytes, and none only at the end of the last volume.

        Raises:
            Cancelled: nobody wants to go on.
            FerryError: a volume can't be read.
        """
        while True:
            if self._file is None:
                if self._is_last:
                    return b""
                self._open_next()
            assert self._file is not None  # noqa: S101 -- _open_next() has opened it
            chunk = self._file.read(size)
            if chunk:
                return chunk
            self.close()

    def close(self) -> None:
        """Let go of the medium."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open_next(self) -> None:
        self._number += 1
        path = self._volumes.path(self._number)
        while not _is_file(path):
            self._ask(f"{path.name} is not in {path.parent}")
        file = open_regular(path)
        self._expected = self._expected or len(self._volumes.expected())
        length = file.seek(0, io.SEEK_END)
        self._first_size = self._first_size or length
        self._is_last = length < self._first_size or _ends_an_archive(file, length)
        if self._number == self._expected and not _is_file(self._volumes.path(self._number + 1)):
            self._is_last = True
        file.seek(0)
        self._file = file


def _is_file(path: Path) -> bool:
    with as_started():
        return os.path.lexists(path)


def _ends_an_archive(file: BinaryIO, length: int) -> bool:
    """Return whether a volume that may be the last one is it: an index or the end of a tar stands there."""
    file.seek(max(0, length - 10240))
    end = file.read(10240)
    return ends_with_index(end) or not any(end[-1024:])
