"""Write an archive in volumes, straight to the medium that carries them; go on where an earlier run was broken off.

An archive's bytes are the same in every run, so what an earlier run has left is compared with what would be written:
whole volumes stay, and in an unfinished one writing begins where they first differ. Where media are changed, those
that are not in can't be compared: their sums are kept beside the volumes, in ``x.sha256.partial``, and compared
instead. That file is locked as long as somebody writes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ollama_ferry.archives.volumes.medium import Medium, Volume, require_regular
from ollama_ferry.archives.volumes.reading import MOST_VOLUMES, Ask, Volumes, require_plain_name
from ollama_ferry.archives.volumes.targets import Elsewhere, Growing, VolumeTarget, Whole, of_another
from ollama_ferry.engine.hashing import BackgroundHash
from ollama_ferry.errors import AlreadyExists, Remedy, UsageError
from ollama_ferry.files.disk import Disk, free_space
from ollama_ferry.files.pending import PARTIAL, folder_missing
from ollama_ferry.wording import human_size


class PendingVolumes:
    """Volumes being written; :meth:`publish` ends the last one and writes their sums.

    Args:
        volumes: their names.
        size: of each but the last, in bytes.
        expected: of all together in bytes, as far as that is known; the last one needs less room.
        replace: whether an archive of that name may be replaced; nothing of an earlier run is kept then.
        ask: asks for the next medium where the one that is there has no room; None where it stays.
        room: tells the free bytes of a folder.
        disk: the calls to write with.
        summed: find out the SHA-256 of all together too.

    Attributes:
        size: the bytes of all volumes so far.
        done: the volumes that are whole.

    Raises:
        AlreadyExists: an archive of that name is there, or is being written by another process.
        UsageError: the folder is not there, or the name is one that no file of sums can hold.
    """

    def __init__(
        self,
        volumes: Volumes,
        size: int,
        *,
        expected: int | None = None,
        replace: bool = False,
        ask: Ask | None = None,
        room: Callable[[Path], int | None] = free_space,
        disk: Disk | None = None,
        summed: bool = False,
    ) -> None:
        self.size = 0
        self.done: list[Volume] = []
        self._volumes = volumes
        self._volume_size = size
        self._expected = expected
        self._replace = replace
        self._ask = ask
        self._room = room
        self._disk = disk or Disk()
        self._current: VolumeTarget | None = None
        require_plain_name(volumes.name(1))
        folder = volumes.whole.parent
        if not folder.is_dir():
            raise folder_missing(volumes.path(1))
        self._mounted = _mount_point_of(folder)
        self._medium: Medium | None = self._enter_medium()
        # Where media are changed, volumes before those that are here are on others.
        self._elsewhere = min(self._medium.numbers(), default=1) - 1 if ask is not None else 0
        # Beside the thread that writes, which is the busiest one where little is packed.
        self._hash = BackgroundHash() if summed else None

    def __enter__(self) -> PendingVolumes:
        return self

    def __exit__(self, *_: object) -> None:
        if self._current is not None:
            self._current.close()
            self._current = None
        if self._medium is not None:
            self._medium.close(keep=bool(self.done or self._medium.numbers()))
            self._medium = None
        if self._hash is not None:
            self._hash.close()

    @property
    def sha256(self) -> str:
        """The SHA-256 of all that was written, in hexadecimal; empty where nobody wants it. Nothing is written then."""
        return self._hash.hexdigest() if self._hash is not None else ""

    def write(self, *data: bytes | memoryview) -> None:
        """Add bytes, which must not change any more.

        Raises:
            AlreadyExists: a volume is there that has other bytes.
            NoSpace, FerryError: the medium did not take them.
        """
        # In one piece: what is there already is compared with it.
        view = memoryview(data[0] if len(data) == 1 else b"".join(data))
        if self._hash is not None:
            self._hash.update(view)
        while view:
            if self._current is None:
                self._current = self._begin()
            part = view[: self._volume_size - self._current.size]
            self._current.write(part)
            self.size += len(part)
            view = view[len(part) :]
            if self._current.size == self._volume_size:
                self._end()

    def publish(self) -> None:
        """End the last volume, and write the sums of all of them.

        Raises:
            AlreadyExists, NoSpace, FerryError: that failed; volumes that are whole stay.
        """
        if self._current is not None:
            self._end()
        medium = self._current_medium()
        for number in medium.numbers():
            if number > len(self.done):
                if medium.has(self._volumes.name(number)):
                    raise of_another(self._volumes.path(number))
                medium.remove(self._volumes.name(number) + PARTIAL)
        if self._replace:
            # What it was in one piece would be taken for it.
            medium.remove(self._volumes.whole.name)
        medium.publish_sums()

    def _begin(self) -> VolumeTarget:
        number = len(self.done) + 1
        if number > MOST_VOLUMES:
            raise UsageError(
                f"the archive takes more than {MOST_VOLUMES} volumes of {human_size(self._volume_size)}",
                remedies=[Remedy("split")],
            )
        path = self._volumes.path(number)
        if number <= self._elsewhere:
            known = self._current_medium().known.get(path.name)
            if known is None:
                raise AlreadyExists(
                    f"{path} is not here, volumes behind it are, and nothing here tells of which archive they are",
                    hint=f"Begin with the medium that {path.name} is on, or replace all of it.",
                    remedies=[Remedy("replace")],
                )
            return Elsewhere(path, known)
        if self._ask is not None:
            self._find_room(path, self._ask)
        medium = self._current_medium()
        medium.write_sums(self.done)
        if medium.has(path.name):
            require_regular(path)
            # Whoever was killed while it got its name has left both.
            medium.remove(path.name + PARTIAL)
            return Whole(self._disk, medium.folder, path, self._volume_size)
        return Growing(self._disk, medium.folder, path)

    def _find_room(self, path: Path, ask: Ask) -> None:
        """Have media changed until there is one with room for a volume, or that has the beginning of it."""
        needed = self._volume_size
        if self._expected is not None:
            # A little more than is left of what was foretold.
            needed = min(needed, max(self._expected - self.size, 0) + self._expected // 50 + 64 * 1024)
        while True:
            wanted = self._why_not(path, needed)
            if not wanted:
                return
            # Nothing of it may be open when it is taken out.
            self._current_medium().close(keep=True)
            self._medium = None
            ask(wanted)
            while wanted := self._change_medium(path):
                ask(wanted)

    def _why_not(self, path: Path, needed: int) -> str:
        """Say why the medium that is in can't take a volume; an empty text where it can."""
        medium = self._current_medium()
        if medium.has(path.name) or medium.has(path.name + PARTIAL):
            return ""
        free = self._room(path.parent)
        if free is None or free >= needed:
            return ""
        return f"{path.parent} has {human_size(free)} free, and {path.name} takes {human_size(needed)}"

    def _change_medium(self, path: Path) -> str:
        """Take what is in now as the medium; say why not where that can't be."""
        if not path.parent.is_dir():
            return f"there is no folder {path.parent}, where {path.name} is to go"
        if self._mounted is not None and _mount_point_of(path.parent) != self._mounted:
            return f"nothing is mounted at {self._mounted}, where {path.name} is to go"
        try:
            self._medium = self._enter_medium()
        except AlreadyExists as error:
            return error.message
        self._medium.write_sums(self.done)
        return ""

    def _current_medium(self) -> Medium:
        assert self._medium is not None  # noqa: S101 -- it is out only while somebody is asked for another one
        return self._medium

    def _enter_medium(self) -> Medium:
        return Medium(self._volumes, self._disk, replace=self._replace, written=len(self.done))

    def _end(self) -> None:
        assert self._current is not None  # noqa: S101 -- whoever calls has begun one
        current, self._current = self._current, None
        current.end()
        self.done.append(Volume(current.path, current.size, current.sha256))
        if not isinstance(current, Elsewhere):
            self._current_medium().write_sums(self.done)


def _mount_point_of(folder: Path) -> Path | None:
    """Return where the medium of a folder is mounted; None where it is on the system's own."""
    folder = Path(os.path.abspath(folder))
    for above in (folder, *folder.parents):
        if os.path.ismount(above):
            return above if above.parent != above else None
    return None
