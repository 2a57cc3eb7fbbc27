"""A folder in Ollama's layout as a place: ``manifests/<host>/<namespace>/<model>/<tag>`` and ``blobs/``.

Source: ``manifest/paths.go`` and ``manifest/manifest.go`` of Ollama.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import BinaryIO

from ollama_ferry.engine.inspect import not_found
from ollama_ferry.engine.ports import whose
from ollama_ferry.errors import (
    Damaged,
    FerryError,
    InvalidName,
    MissingBlob,
    NotPermitted,
    Unfinished,
)
from ollama_ferry.files.folder import open_file
from ollama_ferry.files.identity import as_started
from ollama_ferry.model.manifests import CONFIG_LIMIT, MANIFEST_LIMIT, Descriptor, Digest, Manifest, reencoding
from ollama_ferry.model.names import ModelName
from ollama_ferry.wording import exact_size, quoted

# One for each model at most, and some above them; links can make it endless.
_FOLDERS_LIMIT = 60_000


class Store:
    """A models folder, as ``OLLAMA_MODELS`` names it. Reading changes nothing in it.

    Args:
        root: the folder; it need not exist yet.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.label = str(root)
        # As text: thousands of blobs are looked at in a list, and joining a Path takes longer than the look.
        self._blobs = str(root / "blobs")

    @property
    def manifests_folder(self) -> Path:
        return self.root / "manifests"

    @property
    def blobs_folder(self) -> Path:
        return self.root / "blobs"

    def manifest_path(self, name: ModelName) -> Path:
        """Return the path of a manifest's file."""
        return self.manifests_folder.joinpath(*name.parts)

    def has_manifest(self, name: ModelName) -> bool:
        """Return whether there is a manifest of exactly this name."""
        with as_started():
            return self.manifest_path(name).is_file()

    def names(self) -> Iterator[ModelName]:
        """Give the models that are here, sorted; files whose path is no name are passed over, as upstream.

        Raises:
            NotPermitted: the folders can't be read.
        """
        with as_started():
            found = sorted(_names_below(str(self.manifests_folder), (), count()))
        yield from found

    def manifest(self, name: ModelName) -> Manifest:
        """Return the manifest of a model, spelt as it is here, with the time of its file."""
        path = self.manifest_path(name)
        try:
            with as_started(), open_file(path) as file:
                modified = os.fstat(file.fileno()).st_mtime
                raw = file.read(MANIFEST_LIMIT + 1)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise not_found(self, name) from error
        except PermissionError as error:
            raise not_readable(path, error) from error
        except OSError as error:
            raise FerryError(f"can't read the manifest of {name} ({path}): {error.strerror}") from error
        try:
            return Manifest.parse(raw, modified=modified)
        except Damaged as error:
            raise Damaged(
                f"the manifest of {name} ({path}) is damaged: {error}",
                hint=reencoding(raw, quoted(path))
                or f"Run `ollama pull {name}` where the registry can be reached, or restore an archive.",
            ) from error

    def manifest_or_none(self, name: ModelName) -> Manifest | None:
        """Return what stands under a name; None for nothing, and for what is damaged: nothing of value is replaced."""
        if not self.has_manifest(name):
            return None
        try:
            return self.manifest(name)
        except Damaged:
            return None

    @contextmanager
    def open(self, blob: Descriptor, offset: int = 0) -> Iterator[BinaryIO]:
        """Open a blob's file."""
        path = self.blob_path(blob.digest)
        try:
            with as_started():
                file = open_file(path)
        except FileNotFoundError as error:
            raise self.not_whole(blob, None, None) from error
        except PermissionError as error:
            raise not_readable(path, error) from error
        except OSError as error:
            raise FerryError(f"can't read the blob {path}: {error.strerror}") from error
        with file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise Damaged(f"the blob {path} is not a regular file")
            file.seek(offset)
            yield file

    def blob_path(self, digest: Digest) -> Path:
        """Return the path of a blob's file.

        Very old stores have ``sha256:<hex>``, which a server renames at its start (``server/fixblobs.go``); such
        a file is taken where the other is not there.
        """
        path = self.blobs_folder / digest.file_name
        if os.name != "nt" and not os.path.lexists(path):
            old = self.blobs_folder / str(digest)
            if os.path.lexists(old):
                return old
        return path

    def where(self, digest: Digest) -> str:
        """Return the path of a blob's file, as text."""
        return str(self.blob_path(digest))

    def has(self, blob: Descriptor) -> bool:
        """Return whether a blob is here with its size; its bytes are not read."""
        return self.blob_size(blob.digest) == blob.size

    def blob_size(self, digest: Digest) -> int | None:
        """Return a blob's size in bytes, or None where it is not here.

        Raises:
            NotPermitted: the folder can't be read.
        """
        path = os.path.join(self._blobs, digest.file_name)
        try:
            found = os.stat(path)
        except FileNotFoundError:
            try:
                found = self.blob_path(digest).stat()
            except OSError:
                return None
        except PermissionError as error:
            raise not_readable(Path(path), error) from error
        except OSError:
            return None
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def read_config(self, config: Descriptor) -> bytes | None:
        """Return the bytes of a config that is here."""
        with self.open(config) as file:
            return file.read(CONFIG_LIMIT)

    def not_whole(self, blob: Descriptor, name: ModelName | None, size: int | None) -> Damaged:
        """Return the error for a blob that is not here as it should be."""
        model = str(name) if name else "MODEL"
        if size is not None:
            return Damaged(
                f"{whose(blob, name)} has {exact_size(size)}, and the manifest says {exact_size(blob.size)}",
                hint=mending(name, self.blob_path(blob.digest)) if name else "",
            )
        if self.unfinished_downloads(blob.digest):
            return Unfinished(
                f"{whose(blob, name)} is an unfinished download in {self.blobs_folder}",
                hint=f"Finish it with `ollama pull {model}`, then run this again.",
            )
        return MissingBlob(
            f"{whose(blob, name)} of {exact_size(blob.size)} is not in {self.blobs_folder}",
            hint=f"Run `ollama pull {model}` where the registry can be reached, or restore an archive.",
        )

    def unfinished_downloads(self, digest: Digest | None = None) -> list[str]:
        """Return the names of unfinished downloads: all of them, or those of one blob."""
        wanted = f"{digest.file_name}-partial" if digest else "-partial"
        try:
            return sorted(name for name in os.listdir(self.blobs_folder) if wanted in name)
        except OSError:
            return []


def mending(name: ModelName, blob: Path) -> str:
    """Say how a damaged blob is got rid of: ``ollama pull`` takes one that is there as good."""
    return f"Ollama keeps a damaged blob until it is deleted:\n  rm {quoted(blob)}\n  ollama pull {name}"


def not_readable(path: Path, error: OSError) -> NotPermitted:
    """Return the error for a path that this user may not read."""
    return NotPermitted(f"not permitted to read {path}: {error.strerror}")


def _names_below(folder: str, above: tuple[str, ...], folders: Iterator[int]) -> Iterator[ModelName]:
    """Find the files four levels below ``manifests/`` whose path is a name; ``folders`` counts those looked into."""
    if next(folders) > _FOLDERS_LIMIT:
        raise Damaged(
            f"there are more than {_FOLDERS_LIMIT} folders below manifests/; the last one looked into is {folder}",
            hint="Do links lead round in a circle there? find -L says so.",
        )
    try:
        with os.scandir(folder) as found:
            entries = list(found)
    except (FileNotFoundError, NotADirectoryError):
        return
    except PermissionError as error:
        raise not_readable(Path(folder), error) from error
    for entry in entries:
        parts = (*above, entry.name)
        if len(parts) < 4:
            if entry.is_dir():
                yield from _names_below(entry.path, parts, folders)
        elif entry.is_file():
            with suppress(InvalidName):
                yield ModelName.from_path(parts)
