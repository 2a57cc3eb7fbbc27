"""What a target has, in a small file, so that an export on another machine can leave it out.

The file is text: the line ``# ollama-ferry inventory 1``, further lines that begin with ``#`` for people, and
``sha256:<hex> <size in bytes>`` for each blob. An archive tells the same of whoever has imported it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ollama_ferry.errors import Damaged, UsageError
from ollama_ferry.model.manifests import Descriptor, Digest
from ollama_ferry.places.archive.file import ArchiveFile, read_contents
from ollama_ferry.places.store.store import Store
from ollama_ferry.wording import counted, human_size

_TITLE = "# ollama-ferry inventory "
_VERSION = "1"
_LINE = re.compile(r"(sha256:[0-9a-f]{64}) ([0-9]{1,19})")
# 90 bytes a blob: a million of them.
_LIMIT = 90_000_000


@dataclass(frozen=True)
class Inventory:
    """Blobs that a target has.

    Attributes:
        blobs: their sizes in bytes.
        place: the store's folder, where it is one of this machine.
        models: how many models the store has.
    """

    blobs: Mapping[Digest, int]
    place: str = ""
    models: int = 0

    @property
    def text(self) -> str:
        """The file's text."""
        size = human_size(sum(self.blobs.values()))
        what = f"{counted(len(self.blobs), 'blob')} ({size}) of {counted(self.models, 'model')}"
        lines = [
            f"{_TITLE}{_VERSION}",
            f"# {what} in {ascii(self.place)[1:-1]}",
            *(f"{digest} {size}" for digest, size in self.blobs.items()),
        ]
        return "".join(f"{line}\n" for line in lines)

    def has(self, blob: Descriptor) -> bool:
        """Return whether the target has a blob, with its size."""
        return self.blobs.get(blob.digest) == blob.size


def take_inventory(store: Store) -> Inventory:
    """Return what a store has: the blobs that its models name and that are there with their size, sorted by digest.

    Models that lack a blob count with those that they have. No blob is read: `ollama-ferry verify` does that.

    Raises:
        NotPermitted: the store can't be read.
    """
    found: dict[Digest, int] = {}
    models = 0
    for name in store.names():
        try:
            blobs = store.manifest(name).blobs
        except Damaged:
            continue
        models += 1
        found.update((blob.digest, blob.size) for blob in blobs if store.has(blob))
    return Inventory(dict(sorted(found.items())), str(store.root), models)


def read_inventories(paths: Iterable[Path]) -> Inventory:
    """Read what a target has out of files: inventories, and archives that it has imported.

    Raises:
        NotFound, NotPermitted: a file is not there, or can't be read.
        Damaged: it is neither an inventory nor an archive, or is damaged.
        UsageError: the inventory is of a newer version.
    """
    found: dict[Digest, int] = {}
    for path in paths:
        found.update(_read(path))
    return Inventory(found)


def _read(path: Path) -> dict[Digest, int]:
    with ArchiveFile(path) as file:
        if not file.size:
            raise Damaged(
                f"{path} is empty, and no inventory",
                hint="Did `ollama-ferry inventory` fail on the target? Make it anew.",
            )
        is_text = _decoded(file.peek(2 * len(_TITLE) + 2)).startswith(_TITLE)
        raw = file.peek(_LIMIT + 1) if is_text else b""
    if is_text:
        return _parse(path, raw)
    contents = read_contents(path).contents
    # Whoever imported it has what its models name, also what it left out itself: that was there.
    named = {blob.digest for manifest in contents.models.values() for blob in manifest.blobs}
    known = {**contents.left_out, **{digest: size for digest, (size, _) in contents.blobs.items()}}
    return {digest: size for digest, size in known.items() if digest in named}


def _decoded(raw: bytes) -> str:
    """Read text as it is, or as PowerShell's ``>`` writes it: UTF-16 or UTF-8 behind a byte order mark."""
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    return raw.decode(encoding, "replace")


def _parse(path: Path, raw: bytes) -> dict[Digest, int]:
    if len(raw) > _LIMIT:
        raise Damaged(f"{path} has over {_LIMIT} bytes, and is no inventory")
    title, *lines = _decoded(raw).splitlines()
    if title != _TITLE + _VERSION:
        raise UsageError(f"{path} is an inventory of a version that is not known here: {title[:80]!r}")
    found: dict[Digest, int] = {}
    for number, line in enumerate(lines, 2):
        if line.startswith("#") or not line.strip():
            continue
        parsed = _LINE.fullmatch(line.strip())
        if not parsed:
            raise Damaged(
                f"line {number} of the inventory {path} is damaged: {line[:80]!r}",
                hint="Make it anew on the target: `ollama-ferry inventory > have.txt`.",
            )
        found[Digest.parse(parsed[1])] = int(parsed[2])
    return found
