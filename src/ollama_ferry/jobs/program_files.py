"""The program itself, as files that run on another machine.

A release has one file for any Python (a zip application, as :mod:`zipapp` of the standard library describes it) and one
for each system that needs no Python. What lies beside the running one is at hand; without a release, the zip
application is made of the packages that are installed here.
"""

from __future__ import annotations

import io
import os
import re
import sys
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ollama_ferry.errors import FerryError, NotFound

PYZ = "ollama-ferry.pyz"
EXECUTABLES = {
    "ollama-ferry-linux-x86_64": "Linux x86-64",
    "ollama-ferry-linux-aarch64": "Linux aarch64",
    "ollama-ferry-windows-x86_64.exe": "Windows x86-64",
}
"""The files of a release that run without Python, and for which system each is."""

# The same bytes from the same sources, whenever it is made; a zip's clock starts here.
_DATE = (1980, 1, 1, 0, 0, 0)
_ENTRY = """\
import sys

if sys.version_info < (3, 10):
    sys.exit("ollama-ferry needs Python 3.10 or newer, and this is %s" % sys.version.split()[0])
{compiled}from ollama_ferry.__main__ import main

main()
"""
_COMPILED = """\
# Compiled for some versions, so that it starts faster there.
sys.path.insert(0, "%s/compiled-%d.%d" % ((sys.path[0],) + sys.version_info[:2]))
"""


@dataclass(frozen=True)
class ProgramFile:
    """A file that runs the program.

    Attributes:
        name: as it is called in a release.
        content: its bytes.
    """

    name: str
    content: bytes


def program_files(folder: Path | None = None) -> list[ProgramFile]:
    """Collect what is at hand.

    Args:
        folder: where a release's files lie; None looks beside the running program.

    Returns:
        The file for any Python first, then those for systems.

    Raises:
        NotFound: the folder that was named has none of them, or the installed packages' files can't be found.
        FerryError: one of them can't be read.
    """
    running = _running_file()
    beside = folder if folder is not None else running.parent if running is not None else None
    found = []
    for name in (PYZ, *EXECUTABLES):
        path = beside / name if beside is not None else None
        if path is not None and path.is_file():
            found.append(ProgramFile(name, _read(path)))
        elif name == PYZ and running is not None and zipfile.is_zipfile(running) and not _frozen():
            # One that was given another name.
            found.append(ProgramFile(name, _read(running)))
    if folder is not None and not found:
        names = ", ".join((PYZ, *EXECUTABLES))
        raise NotFound(f"{folder} holds none of a release's files", hint=f"They are called {names}.")
    if not any(file.name == PYZ for file in found):
        carried = Path(__file__).with_name(PYZ)
        # An executable carries the zip application; its own modules have no source to make one of.
        content = _read(carried) if carried.is_file() else made_pyz(installed_sources())
        found.insert(0, ProgramFile(PYZ, content))
    return found


def made_pyz(sources: Iterable[tuple[str, bytes]], compiled: Iterable[tuple[str, bytes]] = ()) -> bytes:
    """Make the zip application.

    Args:
        sources: path and content of each file in it.
        compiled: modules compiled for one version of Python, under ``compiled-3.X/``.

    Returns:
        Its bytes, the same for the same files.
    """
    ready = dict(compiled)
    files = dict(sources) | ready | {"__main__.py": _ENTRY.format(compiled=_COMPILED if ready else "").encode()}
    buffer = io.BytesIO()
    buffer.write(b"#!/usr/bin/env python3\n")
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(files):
            entry = zipfile.ZipInfo(path, _DATE)
            entry.external_attr = 0o644 << 16
            entry.create_system = 3
            archive.writestr(entry, files[path], zipfile.ZIP_DEFLATED, 9)
    return buffer.getvalue()


def installed_sources() -> Iterator[tuple[str, bytes]]:
    """Yield the files of this package and of what it needs, with their licences, as far as they are pure Python.

    Raises:
        NotFound: a package does not tell its files, as those of some distributions do not.
    """
    own = Path(__file__).parents[1]
    for file in sorted(own.rglob("*")):
        if file.is_file() and file.suffix in {".py", ".typed"}:
            yield f"{own.name}/{file.relative_to(own).as_posix()}", _read(file)
    for name in ("ollama-ferry", *needed_packages()):
        yield from _files_of(name)


def needed_packages() -> list[str]:
    """Name the packages that this one needs and that are installed, themselves and what they need; sorted."""
    from importlib.metadata import PackageNotFoundError, requires

    found: set[str] = set()
    waiting = ["ollama-ferry"]
    while waiting:
        try:
            wanted = requires(waiting.pop()) or []
        except PackageNotFoundError:
            continue
        for line in wanted:
            name = re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0].lower().replace("_", "-")
            if "extra ==" not in line and name not in found:
                found.add(name)
                waiting.append(name)
    return sorted(name for name in found if _is_pure(name))


def _is_pure(name: str) -> bool:
    """Tell whether a package is installed and has no part that is made for one system."""
    from importlib.metadata import PackageNotFoundError, files

    try:
        return not any(file.suffix in {".so", ".pyd", ".dylib"} for file in files(name) or ())
    except PackageNotFoundError:
        return False


def _files_of(name: str) -> Iterator[tuple[str, bytes]]:
    from importlib.metadata import files

    listed = files(name)
    if not listed:
        raise NotFound(
            f"can't make {PYZ}: the files of the package {name} are not known here",
            hint="Install ollama-ferry with pipx, uv or pip, or name the folder of a release.",
        )
    for file in listed:
        path = file.as_posix()
        in_metadata = ".dist-info/" in path
        wanted = ("license" in path.lower() or path.endswith("/METADATA")) if in_metadata else file.suffix == ".py"
        # Nothing that lies outside the folder of packages: a command's script.
        if wanted and not path.startswith(".."):
            yield path, _read(Path(str(file.locate())))


def _frozen() -> bool:
    return bool(getattr(sys, "frozen", False))


def _running_file() -> Path | None:
    """Return the one file that this program runs from; None where it is installed as a package."""
    if _frozen():
        return Path(sys.executable)
    archive = getattr(globals().get("__loader__"), "archive", None)
    return Path(os.path.abspath(archive)) if archive else None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FerryError(f"can't read the program's file {path}: {error.strerror or error}") from error
