"""What a path on this machine holds, as a place to read models from: an archive of whatever tool, or a folder.

A folder may be a store, have one somewhere below it (a volume's backup, a stick), or have a model's files side by side
as scripts download them. What it is shows by its shape.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ollama_ferry.archives.kinds import has_archive_ending
from ollama_ferry.engine.completed import Completed
from ollama_ferry.engine.events import Started
from ollama_ferry.engine.ports import Inspectable
from ollama_ferry.engine.run import Run
from ollama_ferry.errors import ModelNotFound, NotFound, NotPermitted, UsageError
from ollama_ferry.files.identity import as_started
from ollama_ferry.model.layout import MANIFEST_FOLDERS
from ollama_ferry.places.archive.contents import Contents
from ollama_ferry.places.archive.file import ArchiveFile, read_contents
from ollama_ferry.places.archive.folder import read_folder
from ollama_ferry.places.archive.source import ArchiveSource
from ollama_ferry.places.store.store import Store
from ollama_ferry.shell_lines import quoted
from ollama_ferry.wording import counted

# A backup of a home has some ten thousand; a store lies some five below its start.
_FOLDERS_LOOKED_INTO = 50_000
_DEPTH = 10


def open_contents(path: Path, run: Run) -> Inspectable:
    """Find out what an archive or a folder holds; an archive that has to be read to its end for that says so.

    Returns:
        A place that tells names, manifests and sizes; of an archive no blob can be opened.

    Raises:
        FerryError: it can't be read.
    """
    if path.is_dir():
        return place_in_folder(path)
    with ArchiveFile(path) as file:
        searchable, size = file.searchable, file.size
        if file.note:
            run.note(file.note)
    if searchable:
        return read_contents(path)
    run.explain(f"{path} has no index: reading it to its end")
    run.notify(Started(0, 0, size, f"looking through {path.name}"))
    return read_contents(path, on_read=run.advanced)


@contextmanager
def open_searchable(path: Path, run: Run, *, what_for: str, shared: bool = False) -> Iterator[Inspectable]:
    """Open an archive or a folder whose blobs can be read in any order.

    Args:
        path: what is opened.
        run: told what there is to say of it.
        what_for: what can't be done with others, for the message: ``serve``, ``push``.
        shared: many will read at once, from anywhere in a blob.

    Raises:
        UsageError: it is packed and has no index: nothing in it can be found; or to find it costs too much for many.
        FerryError: it can't be read.
    """
    if path == Path("-"):
        raise UsageError(
            f"can't {what_for} out of a stream: it passes by once", hint="Save it as a file, and name that."
        )
    if path.is_dir():
        yield whole_folder(path)
        return
    with ArchiveFile(path, shared=shared) as file:
        if file.note:
            run.note(file.note)
        source = file.source()
        if source is None:
            if file.may_lack_volumes:
                raise NotFound(
                    f"{path}: the last volume in that folder is a full one without an index: others seem to be missing",
                    hint="Copy all of them into one folder.",
                )
            why = file.note or f"{path} is packed by {file.packing} and has no index: nothing in it can be found alone"
            raise UsageError(
                f"can't {what_for} out of this archive: {why}",
                hint=f"Import it and {what_for} from the store, or let ollama-ferry export it anew:\n"
                f"  ollama-ferry import {quoted(path)}",
            )
        if shared and not source.contents.searchable:
            # Whoever asks for a few bytes of it would have us unpack gigabytes, each time.
            raise UsageError(
                f"can't {what_for} out of this archive: {path} has large blobs packed as a whole, which are unpacked "
                "from their start whatever part of them is asked for",
                hint=f"Import it and {what_for} from the store, or let ollama-ferry export it anew:\n"
                f"  ollama-ferry import {quoted(path)}",
            )
        yield source


def place_in_folder(path: Path) -> Store | ArchiveSource:
    """Return a folder as a place: the one store that it is or has below it, else the files in it by their names.

    Raises:
        NotPermitted: it can't be read.
        UsageError: there are several stores.
    """
    with as_started():
        # A link may lead to one that is below as well.
        stores = list({os.path.realpath(store): store for store in _stores_below(path)}.values())
    if len(stores) > 1:
        raise UsageError(
            f"there are {len(stores)} stores in {path}: {', '.join(map(str, stores[:5]))}", hint="Name one of them."
        )
    return Store(stores[0]) if stores else read_folder(path)


def whole_folder(path: Path) -> Inspectable:
    """Return a folder to take models from: what a store in it lacks may lie in its files under other names."""
    place = place_in_folder(path)
    return Completed(place, lambda: [read_folder(place.root)]) if isinstance(place, Store) else place


def first_of(place: Inspectable) -> Inspectable:
    """Return the place that has the models, without those that complete it."""
    while isinstance(place, Completed):
        place = place.place
    return place


def contents_of(place: Inspectable) -> Contents:
    """Return what an archive holds; other places have nothing that is none of Ollama's, and no signature."""
    first = first_of(place)
    return first.contents if isinstance(first, ArchiveSource) else Contents()


def no_model_in(label: str, contents: Contents) -> ModelNotFound:
    """Return the error for an archive without a model, with what is in it instead."""
    hint = "A model is a file manifests/<host>/<namespace>/<model>/<tag> and the blobs that it names."
    archives = [name for name in contents.ignored_names if has_archive_ending(name)]
    if archives:
        hint = f"There are archives in it: {', '.join(map(repr, archives))}. Unpack it, and import these."
    elif any(name.lower().endswith((".gguf", ".safetensors")) for name in contents.ignored_names):
        hint = (
            "There are weights in it, and no manifest: `ollama create NAME -f Modelfile` makes a model (FROM ./FILE)."
        )
    elif contents.blobs:
        hint += f" It has {counted(len(contents.blobs), 'blob')}, and no manifest that names them."
    elif contents.ignored:
        hint += f" There are other files in it: {', '.join(map(repr, contents.ignored_names))}"
    return ModelNotFound(f"{label} holds no model", hint=hint)


def _stores_below(top: Path) -> Iterator[Path]:
    """Find folders that have manifests, in either layout, with folders within; what lies below one is its own."""

    def refuse(error: OSError) -> None:
        if isinstance(error, PermissionError) and error.filename == str(top):
            raise NotPermitted(f"not permitted to read {top}: {error.strerror}") from error

    for looked_into, (folder, folders, _) in enumerate(os.walk(top, onerror=refuse)):
        if looked_into > _FOLDERS_LOOKED_INTO:
            raise UsageError(f"there are more than {_FOLDERS_LOOKED_INTO} folders in {top}", hint="Name the store.")
        if _is_store(folder):
            yield Path(folder)
            folders.clear()
            continue
        # A link to a store on a bigger disk is not gone into, and counts: ~/.ollama, or its models.
        for link in (os.path.join(folder, name) for name in folders):
            beyond = (link, os.path.join(link, "models")) if os.path.islink(link) else ()
            yield from (Path(path) for path in beyond if _is_store(path))
        if len(Path(folder).parts) - len(top.parts) >= _DEPTH:
            folders.clear()


def _is_store(folder: str) -> bool:
    for layout in MANIFEST_FOLDERS:
        with suppress(OSError), os.scandir(os.path.join(folder, layout)) as entries:
            if any(entry.is_dir() for entry in entries):
                return True
    return False
