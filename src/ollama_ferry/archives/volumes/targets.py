"""Where the bytes of one volume go: into a file that grows, along one that is whole, or nowhere."""

from __future__ import annotations

from pathlib import Path

from ollama_ferry.engine.events import Cancel
from ollama_ferry.engine.hashing import BackgroundHash
from ollama_ferry.errors import AlreadyExists, FerryError, Remedy
from ollama_ferry.files.disk import Disk, write_error
from ollama_ferry.files.draft import Draft
from ollama_ferry.files.folder import Folder
from ollama_ferry.files.pending import PARTIAL

LEFT = "What is whole stays: run the same command again, and it resumes."
"""What becomes of volumes when something fails."""

_CHANGED = "Or the models, or the options, are not those of the run that wrote it. "


class VolumeTarget:
    """Where the bytes of one volume go."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._hash = BackgroundHash()

    @property
    def sha256(self) -> str:
        """The SHA-256 of the whole volume."""
        return self._hash.hexdigest()

    def write(self, data: memoryview) -> None:
        self._hash.update(data)
        self._take(data)
        self.size += len(data)

    def _take(self, data: memoryview) -> None:
        raise NotImplementedError

    def end(self) -> None:
        """Make the volume whole, under its name."""

    def close(self) -> None:
        """Let go of it, as it is."""
        self._hash.close()
        self.leave()

    def leave(self) -> None:
        """Close its file."""


class Elsewhere(VolumeTarget):
    """A volume that is on another medium, of which the sum is known."""

    def __init__(self, path: Path, sha256: str) -> None:
        super().__init__(path)
        self._known = sha256

    def _take(self, data: memoryview) -> None:
        pass

    def end(self) -> None:
        if self.sha256 != self._known:
            raise of_another(self.path)


class Whole(VolumeTarget):
    """A volume that an earlier run has made whole; its bytes are compared."""

    def __init__(self, disk: Disk, folder: Folder, path: Path, size: int) -> None:
        super().__init__(path)
        try:
            self._file = Draft(disk, folder, path.name, disk.open(folder, path.name, write=False))
        except OSError as error:
            self._hash.close()
            raise FerryError(f"can't read {path}: {error.strerror or error}") from error
        self._length = self._file.length
        if self._length > size:
            self.close()
            raise of_another(path)

    def _take(self, data: memoryview) -> None:
        if not _goes_on_with(self._file, data):
            raise of_another(self.path)

    def end(self) -> None:
        self._file.close()
        if self._length != self.size:
            raise of_another(self.path)

    def leave(self) -> None:
        self._file.close()


class Growing(VolumeTarget):
    """A volume that is being written under a temporary name; what is there already is compared first."""

    def __init__(self, disk: Disk, folder: Folder, path: Path) -> None:
        super().__init__(path)
        self._folder = folder
        name = path.name + PARTIAL
        try:
            resumed = Draft.resume(disk, folder, name)
            self._draft = resumed or Draft.create(disk, folder, name, 0o666)
        except OSError as error:
            self._hash.close()
            raise write_error(error, path, left=LEFT) from error
        self._resumed = self._comparing = resumed is not None

    def _take(self, data: memoryview) -> None:
        if self._comparing and _goes_on_with(self._draft, data):
            return
        try:
            if self._comparing:
                self._comparing = False
                self._draft.cut(self.size)
            self._draft.write(data)
        except OSError as error:
            raise write_error(error, self.path, left=LEFT) from error

    def end(self) -> None:
        try:
            self._draft.cut(self.size)
            self._draft.sync()
            if self._resumed and self._draft.sha256(Cancel()) != self.sha256:
                self._draft.discard()
                raise FerryError(
                    f"{self.path} was changed by somebody else while it was being written: it is not kept", hint=LEFT
                )
            self._draft.publish(self._folder, self.path.name, replace=False, sha256=self.sha256)
        except FileExistsError:
            raise of_another(self.path) from None
        except OSError as error:
            raise write_error(error, self.path, left=LEFT) from error
        finally:
            self._draft.close()

    def leave(self) -> None:
        self._draft.close()


def of_another(path: Path) -> AlreadyExists:
    return AlreadyExists(
        f"{path} is there already, and is a volume of another archive",
        hint=f"{_CHANGED}Name another file, or replace all of its volumes.",
        remedies=[Remedy("replace")],
    )


def _goes_on_with(file: Draft, data: memoryview) -> bool:
    """Return whether a file goes on with these bytes; it is read so far."""
    view = data
    while view:
        try:
            known = file.read(len(view))
        except OSError as error:
            raise FerryError(f"can't read {file.folder.named(file.name)}: {error.strerror or error}") from error
        if not known or view[: len(known)] != known:
            return False
        view = view[len(known) :]
    return True
