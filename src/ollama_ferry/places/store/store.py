"""A folder in Ollama's layout as a place: ``manifests/<host>/<namespace>/<model>/<tag>`` and ``blobs/``.

Source: ``manifest/paths.go`` and ``manifest/manifest.go`` of Ollama.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ollama_ferry.errors import (
    CloudStub,
    Damaged,
    FerryError,
    InvalidName,
    MissingBlob,
    ModelNotFound,
    NotPermitted,
    Unfinished,
)
from ollama_ferry.model.manifests import MANIFEST_LIMIT, Descriptor, Digest, Manifest, remote_host
from ollama_ferry.model.names import ModelName, nearest

# A config is some hundred bytes; one over this is not read, and is then no cloud stub.
_CONFIG_LIMIT = 1024 * 1024


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

    def names(self) -> Iterator[ModelName]:
        """Give the models that are here, sorted; files whose path is no name are passed over, as upstream.

        Raises:
            NotPermitted: the folders can't be read.
        """
        yield from sorted(_names_below(str(self.manifests_folder), ()))

    def resolve(self, name: ModelName) -> ModelName:
        """Return the name as it is spelt here: an exact match first, else one that differs in case only.

        Raises:
            ModelNotFound: there is no such model; the hint has the nearest names.
        """
        here = list(self.names())
        if name in here:
            return name
        for other in here:
            if other.key == name.key:
                return other
        raise self._not_found(name)

    def manifest(self, name: ModelName) -> Manifest:
        """Return the manifest of a model, spelt as it is here, with the time of its file."""
        path = self.manifest_path(name)
        try:
            with path.open("rb") as file:
                modified = os.fstat(file.fileno()).st_mtime
                raw = file.read(MANIFEST_LIMIT + 1)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
            raise self._not_found(name) from error
        except PermissionError as error:
            raise not_readable(path, error) from error
        except OSError as error:
            raise FerryError(f"can't read the manifest of {name} ({path}): {error.strerror}") from error
        try:
            return Manifest.parse(raw, modified=modified)
        except Damaged as error:
            raise Damaged(
                f"the manifest of {name} ({path}) is damaged: {error}",
                hint=f"Run `ollama pull {name}` where the registry can be reached, or restore an archive.",
            ) from error

    @contextmanager
    def open(self, blob: Descriptor, offset: int = 0) -> Iterator[BinaryIO]:
        """Open a blob's file."""
        path = self.blob_path(blob.digest)
        try:
            file = path.open("rb", buffering=0)
        except FileNotFoundError as error:
            raise self._missing(blob.digest) from error
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
        """Tell whether a blob is here with its size; its bytes are not read."""
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

    def require_blob(self, blob: Descriptor, name: ModelName | None = None) -> None:
        """Check that a blob is here with its size, for a model that needs it.

        Raises:
            MissingBlob, Unfinished, Damaged: it is not there, not all there, or of another size.
        """
        size = self.blob_size(blob.digest)
        if size is None:
            raise self._missing(blob.digest, blob.kind, name)
        if size != blob.size:
            whose = f"{name}: its {blob.kind} blob" if name else "the blob"
            raise Damaged(
                f"{whose} {blob.digest} has {size} bytes, and the manifest says {blob.size}",
                hint=mending(name, self.blob_path(blob.digest)) if name else "",
            )

    def require_whole(self, name: ModelName, manifest: Manifest) -> None:
        """Check that a model has weights here and that each of its blobs is there with its size.

        The bytes are not read: whoever reads them hashes them.

        Raises:
            CloudStub: the model runs elsewhere.
            MissingBlob, Unfinished, Damaged: a blob is not there, not all there, or of another size.
        """
        for blob in manifest.blobs:
            self.require_blob(blob, name)
        host = self.remote_host(manifest)
        if host:
            raise CloudStub(
                f"{name} is a cloud model: it runs at {host} and has no weights here to carry",
                hint="Every machine that can reach that host has it by `ollama pull` or `ollama run`.",
            )

    def remote_host(self, manifest: Manifest) -> str | None:
        """Return the host that a cloud stub names in its config; None for a model with weights."""
        config = manifest.config
        if config is None or config.size > _CONFIG_LIMIT:
            return None
        with self.open(config) as file:
            raw = file.read(_CONFIG_LIMIT)
        return remote_host(raw)

    def partial_files(self, digest: Digest | None = None) -> list[str]:
        """Return the names of unfinished downloads: all of them, or those of one blob."""
        wanted = f"{digest.file_name}-partial" if digest else "-partial"
        try:
            return sorted(name for name in os.listdir(self.blobs_folder) if wanted in name)
        except OSError:
            return []

    def _not_found(self, name: ModelName) -> ModelNotFound:
        close = nearest(str(name), self.names())
        lines = [f"Did you mean {', '.join(map(str, close))}?"] if close else []
        lines.append(f"`ollama-ferry list --models {self.root}` shows what is there.")
        if self.partial_files():
            lines.append(f"There is an unfinished download; if it is this model, run `ollama pull {name}`.")
        return ModelNotFound(f"there is no model {name} in {self.root}", hint="\n".join(lines), name=str(name))

    def _missing(self, digest: Digest, kind: str = "", name: ModelName | None = None) -> Damaged:
        whose = f"{name}: its {kind} blob {digest}" if name else f"the blob {digest}"
        model = str(name) if name else "MODEL"
        if self.partial_files(digest):
            return Unfinished(
                f"{whose} is an unfinished download in {self.blobs_folder}",
                hint=f"Finish it with `ollama pull {model}`, then run this again.",
            )
        return MissingBlob(
            f"{whose} is not in {self.blobs_folder}",
            hint=f"Run `ollama pull {model}` where the registry can be reached, or restore an archive.",
        )


def mending(name: ModelName, blob: Path) -> str:
    """Say how a damaged blob is got rid of: ``ollama pull`` takes one that is there as good."""
    return f"Ollama keeps a damaged blob until it is deleted:\n  rm {blob}\n  ollama pull {name}"


def not_readable(path: Path, error: OSError) -> NotPermitted:
    """Return the error for a path that this user may not read."""
    return NotPermitted(f"not permitted to read {path}: {error.strerror}")


def _names_below(folder: str, above: tuple[str, ...]) -> Iterator[ModelName]:
    """Find the files four levels below ``manifests/`` whose path is a name."""
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
                yield from _names_below(entry.path, parts)
        elif entry.is_file():
            with suppress(InvalidName):
                yield ModelName.from_path(parts)
