"""A kit: the program beside the models, for a machine that has neither a network nor, maybe, Python.

It lies in the folder of the archives, or of the store, that it is for: the program's files, their sums, and a page that
says how just these models get into Ollama.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ollama_ferry.archives.kinds import kind_of
from ollama_ferry.engine.run import Run
from ollama_ferry.errors import AlreadyExists, FerryError, Remedy
from ollama_ferry.files.pending import PendingFile, folder_missing
from ollama_ferry.jobs.kit_page import FIRST_LINE, Load, kit_page
from ollama_ferry.jobs.list_ import survey
from ollama_ferry.jobs.program_files import EXECUTABLES, PYZ, ProgramFile
from ollama_ferry.jobs.sources import open_contents
from ollama_ferry.jobs.trust import SIGNATURE_ENDING
from ollama_ferry.model.layout import MANIFEST_FOLDERS
from ollama_ferry.places.store.store import Store

SUMS = "SHA256SUMS"
PAGE = "README.txt"
_FIRST_VOLUME = ".001"


@dataclass(frozen=True)
class Kit:
    """What a kit consists of.

    Attributes:
        folder: where it is.
        programs: the files of the program.
        loads: the archives, or the store, in that folder.
        sums: the file of sums, as sha256sum(1) reads it.
        page: the page that says what to do with it.
    """

    folder: Path
    programs: tuple[Path, ...]
    loads: tuple[Load, ...]
    sums: Path
    page: Path


def write_kit(folder: Path, programs: Sequence[ProgramFile], *, replace: bool = False, run: Run) -> Kit:
    """Write a kit for what lies in a folder.

    Args:
        folder: where archives, or a store, lie.
        programs: the files of the program.
        replace: whether files may be replaced that no kit has written.
        run: who is told, and who may stop it.

    Raises:
        AlreadyExists: ``README.txt`` or ``SHA256SUMS`` is there, and no kit has written it.
        UsageError: the folder is not there.
        NoSpace, NotPermitted: it can't be written.
    """
    require_place(folder, programs, replace=replace)
    sums, page = folder / SUMS, folder / PAGE
    loads = loads_in(folder, run)
    text = kit_page(loads, [file.name for file in programs]).encode()
    for file in programs:
        _publish(folder / file.name, file.content, executable=True)
    _publish(page, text)
    contents = [*((file.name, file.content) for file in programs), (PAGE, text)]
    _publish(sums, "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in contents).encode())
    return Kit(folder, tuple(folder / file.name for file in programs), tuple(loads), sums, page)


def require_place(folder: Path, programs: Iterable[ProgramFile], *, replace: bool = False) -> None:
    """Refuse a folder that :func:`write_kit` would refuse.

    Raises:
        AlreadyExists, UsageError: as there.
    """
    if not folder.is_dir():
        raise folder_missing(folder / PAGE)
    if replace:
        return
    listed = {line.partition("  ")[2] for line in _beginning(folder / SUMS).splitlines()}
    ours = listed if PAGE in listed <= {PAGE, PYZ, *EXECUTABLES} else set()
    _refuse_foreign(folder / PAGE, _beginning(folder / PAGE).startswith(FIRST_LINE))
    _refuse_foreign(folder / SUMS, bool(ours))
    for file in programs:
        path = folder / file.name
        # One from a release may lie there before its kit is made.
        _refuse_foreign(path, file.name in ours or _is_same(path, file.content))


def loads_in(folder: Path, run: Run) -> list[Load]:
    """Find what a folder has for Ollama: a store, or archives; what can't be read as one is told, and passed over."""
    if any((folder / layout).is_dir() for layout in MANIFEST_FOLDERS):
        return [Load(".", None, tuple(survey(Store(folder))), signed=False)]
    loads = []
    for path in sorted(folder.iterdir()):
        name = path.name.removesuffix(_FIRST_VOLUME)
        kind = kind_of(name)
        if kind is None or not path.is_file():
            continue
        try:
            models = tuple(survey(open_contents(path, run)))
        except FerryError as error:
            run.note(f"{path.name} is left out of {PAGE}: {error.message}")
            continue
        signed = (folder / (name + SIGNATURE_ENDING)).is_file()
        loads.append(Load(path.name, kind, models, signed=signed))
    return loads


def _refuse_foreign(path: Path, ours: bool) -> None:
    if path.exists() and not ours:
        raise AlreadyExists(
            f"{path} is there already, and no kit has written it",
            hint="Name another folder, or move it away.",
            remedies=[Remedy("replace")],
        )


def _is_same(path: Path, content: bytes) -> bool:
    try:
        return path.stat().st_size == len(content) and path.read_bytes() == content
    except OSError:
        return False


def _beginning(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(4096).decode(errors="replace")
    except OSError:
        return ""


def _publish(path: Path, content: bytes, *, executable: bool = False) -> None:
    with PendingFile(path, replace=True, executable=executable) as file:
        file.write(content)
        file.publish()
