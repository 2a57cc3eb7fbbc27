"""Where a store keeps its manifests: in ``manifests/``, and with newer servers in ``manifests-v2/``.

In the newer layout what has a model's name is a link to the manifest, which is a blob like others, or a copy of it. A
server looks there first. Only a server that knows it makes it, so a store that has it gets its models there. The paths:
:mod:`ollama_ferry.model.layout`.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from ollama_ferry.errors import Damaged, FerryError, InvalidName, NotAModel, NotPermitted, Remedy
from ollama_ferry.files.folder import open_file, read_at_most
from ollama_ferry.model.layout import MANIFESTS, NEWER_MANIFESTS, name_of
from ollama_ferry.model.manifests import MANIFEST_LIMIT, Manifest
from ollama_ferry.model.names import ModelName
from ollama_ferry.model.strays import is_systems_own, may_be_stray
from ollama_ferry.wording import human_size, shown

BEING_WRITTEN = 60.0
"""How many seconds an empty manifest counts as one that somebody writes just now."""
_LINKED = re.compile(r"sha256-([0-9a-f]{64})")
# One for each model at most, and some above them; links can make it endless.
_FOLDERS_LIMIT = 60_000


@dataclass
class ManifestFiles:
    """The manifests of a store.

    Attributes:
        paths: the file of each model.
        refused: manifests under names that Ollama does not take, each with the parts of its path.
        others: what is there and is no manifest, each with the reason; not what systems put everywhere.
    """

    paths: dict[ModelName, str] = field(default_factory=dict)
    refused: list[tuple[tuple[str, ...], str]] = field(default_factory=list)
    others: list[tuple[str, FerryError]] = field(default_factory=list)


def find_manifests(root: str) -> ManifestFiles:
    """Find the manifests of a store, in both layouts; of one model in both, the newer counts, as for a server.

    Raises:
        NotPermitted: the folders can't be read.
        Damaged: they have no end.
    """
    found = ManifestFiles()
    newer = os.path.join(root, NEWER_MANIFESTS)
    has_newer = os.path.isdir(newer)
    if has_newer:
        _collect(found, newer, newer_layout=True, normal=True)
    _collect(found, os.path.join(root, MANIFESTS), newer_layout=False, normal=has_newer)
    return found


def linked_digest(path: str) -> str | None:
    """Return the digest, in hexadecimal, of the blob that a manifest's link names; None where it is no such link."""
    if not os.path.islink(path):
        return None
    blob = _LINKED.fullmatch(os.path.basename(os.path.realpath(path)))
    return blob[1] if blob else None


def _collect(found: ManifestFiles, folder: str, *, newer_layout: bool, normal: bool) -> None:
    for parts, path, beside in files_below(folder, (), count()):
        if is_systems_own(parts[-1]):
            continue
        told = shown("/".join(parts))
        try:
            name = name_of(parts, newer=newer_layout, normal=normal)
        except InvalidName as error:
            size = _size_of_model(path)
            if size is None:
                found.others.append((told, NotAModel(f"{told} in {shown(folder)} is no manifest")))
            else:
                found.refused.append((parts, path))
                found.others.append((told, _refused(told, size, error)))
            continue
        if _is_being_written(path):
            found.others.append((told, NotAModel(f"{told} is empty and seconds old: it is being written")))
        elif may_be_stray(parts[-1], beside) and _size_of_model(path) is None:
            found.others.append((told, NotAModel(f"{told} in {shown(folder)} is no manifest")))
        else:
            found.paths.setdefault(name, path)


def _is_being_written(path: str) -> bool:
    """Return whether a manifest has no bytes yet, and may get some."""
    try:
        status = os.stat(path)
    except OSError:
        return False
    return not status.st_size and time.time() - status.st_mtime < BEING_WRITTEN


def _refused(told: str, size: int, error: InvalidName) -> InvalidName:
    return InvalidName(
        f"{told} is a model of {human_size(size)} under a name that Ollama does not take (any more): "
        f"{error.message.partition(': ')[2]}",
        remedies=[Remedy("rename")],
    )


def _size_of_model(path: str) -> int | None:
    """Return the size of the model of a manifest; None where the file is none."""
    try:
        with open_file(Path(path)) as file:
            return Manifest.parse(read_at_most(file, MANIFEST_LIMIT + 1)).size
    except (FerryError, OSError):
        return None


def files_below(
    folder: str, above: tuple[str, ...], folders: Iterator[int], *, everything: bool = False
) -> Iterator[tuple[tuple[str, ...], str, frozenset[str]]]:
    """Find the files four levels down, each with the names beside it.

    Args:
        folder, above: where to look, and the parts of its path that count.
        folders: counts the folders that were looked into.
        everything: give what is no file as well, and what lies above or below that level.
    """
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
        raise NotPermitted(f"not permitted to read {folder}: {error.strerror}") from error
    beside = frozenset(entry.name for entry in entries) if len(above) >= 3 else frozenset()
    for entry in entries:
        parts = (*above, entry.name)
        if (len(parts) < 4 or everything) and entry.is_dir():
            yield from files_below(entry.path, parts, folders, everything=everything)
        elif everything or (len(parts) == 4 and entry.is_file()):
            yield parts, entry.path, beside
