"""A folder in Ollama's layout as a place: ``manifests/<host>/<namespace>/<model>/<tag>`` and ``blobs/``.

Source: ``manifest/paths.go`` and ``manifest/manifest.go`` of Ollama.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ollama_ferry.engine.inspect import not_found, with_listed
from ollama_ferry.engine.ports import whose
from ollama_ferry.errors import (
    Damaged,
    FerryError,
    MissingBlob,
    NotPermitted,
    Unfinished,
)
from ollama_ferry.files.folder import open_file, read_at_most
from ollama_ferry.files.identity import as_started
from ollama_ferry.model.layout import MANIFESTS, NEWER_MANIFESTS, older_parts, path_parts, refused_by_windows
from ollama_ferry.model.manifests import CONFIG_LIMIT, MANIFEST_LIMIT, Descriptor, Digest, Manifest, reencoding
from ollama_ferry.model.names import ModelName, printed_forms
from ollama_ferry.places.store.layouts import ManifestFiles, find_manifests, linked_digest
from ollama_ferry.shell_lines import quoted, removal
from ollama_ferry.wording import exact_size


class Store:
    """A models folder, as ``OLLAMA_MODELS`` names it. Reading changes nothing in it.

    Args:
        root: the folder; it need not exist yet.
    """

    def __init__(self, root: Path, platform: str = sys.platform) -> None:
        self.root = root
        self._platform = platform
        self.label = str(root)
        # As text: thousands of blobs are looked at in a list, and joining a Path takes longer than the look.
        self._blobs = str(root / "blobs")

    @property
    def manifests_folder(self) -> Path:
        return self.root / MANIFESTS

    @property
    def blobs_folder(self) -> Path:
        return self.root / "blobs"

    @property
    def newer_manifests_folder(self) -> Path:
        return self.root / NEWER_MANIFESTS

    @property
    def has_newer_layout(self) -> bool:
        """Whether its server keeps manifests in the newer layout; see :mod:`ollama_ferry.places.store.layouts`."""
        return os.path.isdir(self.newer_manifests_folder)

    def manifest_path(self, name: ModelName) -> Path:
        """Return the path of a manifest's file, or where it would be."""
        if not self.has_newer_layout:
            return self.manifests_folder.joinpath(*name.parts)
        newer = self.newer_manifests_folder.joinpath(*path_parts(name, newer=True))
        older = [self.manifests_folder.joinpath(*parts) for parts in older_parts(name)]
        return next((path for path in (newer, *older) if os.path.lexists(path)), newer)

    def refuses(self, name: ModelName) -> str:
        """Return why this system can't store a model of a name, or nothing where it can."""
        if self._platform != "win32" or not (why := refused_by_windows(name, newer=self.has_newer_layout)):
            return ""
        return f"{name} can't be stored on Windows: {why}"

    def has_manifest(self, name: ModelName) -> bool:
        """Return whether there is a manifest of exactly this name."""
        with as_started():
            return self.manifest_path(name).is_file()

    def names(self) -> Iterator[ModelName]:
        """Give the models that are here, sorted; for what else is there see :meth:`passed_over`.

        Raises:
            NotPermitted: the folders can't be read.
        """
        yield from sorted(self._manifests().paths)

    def passed_over(self) -> Iterator[tuple[str, FerryError]]:
        """Give what is where manifests are and is none that can be named."""
        yield from self._manifests().others

    def refused_manifest(self, text: str) -> Manifest | None:
        """Return the manifest of a model under a name that Ollama does not take; None where there is none.

        Args:
            text: the name as a path, ``registry.ollama.ai/library/x/latest``, or as ``ollama list`` prints names.
        """
        for parts, path in self._manifests().refused:
            if text in printed_forms("/".join(parts)):
                return self._read_manifest(text, Path(path))
        return None

    def _manifests(self) -> ManifestFiles:
        with as_started():
            return find_manifests(str(self.root))

    def manifest(self, name: ModelName) -> Manifest:
        """Return the manifest of a model, spelt as it is here, with the time of its file."""
        try:
            return self._read_manifest(str(name), self.manifest_path(name))
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise not_found(self, name) from error

    def _read_manifest(self, name: str, path: Path) -> Manifest:
        try:
            with as_started(), open_file(path) as file:
                modified = os.fstat(file.fileno()).st_mtime
                raw = read_at_most(file, MANIFEST_LIMIT + 1)
                linked = linked_digest(str(path)) if path.is_relative_to(self.newer_manifests_folder) else None
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise
        except PermissionError as error:
            raise not_readable(path, error) from error
        except OSError as error:
            raise FerryError(f"can't read the manifest of {name} ({path}): {error.strerror}") from error
        try:
            if linked is not None and linked != Digest.of(raw).hex:
                raise Damaged("it is not the blob that its link names")
            return with_listed(Manifest.parse(raw, modified=modified), self.blob_size, self)
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
            # What blob_path() would find; without it, for a plan asks for thousands that are not here.
            if os.name == "nt" or os.path.lexists(path):
                return None
            try:
                found = os.stat(os.path.join(self._blobs, str(digest)))
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
            return read_at_most(file, CONFIG_LIMIT)

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
    return f"Ollama keeps a damaged blob until it is deleted:\n  {removal([blob])}\n  ollama pull {name}"


def not_readable(path: Path, error: OSError) -> NotPermitted:
    """Return the error for a path that this user may not read."""
    return NotPermitted(f"not permitted to read {path}: {error.strerror}")
