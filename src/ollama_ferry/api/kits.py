"""A kit: the program beside the models, for a machine without a network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ollama_ferry.api.arguments import PathLike
from ollama_ferry.engine.events import Cancel, Observer, ignore
from ollama_ferry.engine.run import Run
from ollama_ferry.files.folder import without_tilde

if TYPE_CHECKING:
    from ollama_ferry.jobs.kit import Kit
    from ollama_ferry.jobs.program_files import ProgramFile


def write_kit(
    folder: PathLike,
    *,
    programs: PathLike | None = None,
    replace: bool = False,
    observer: Observer = ignore,
    cancel: Cancel | None = None,
) -> Kit:
    """Write the program beside the archives, or the store, of a folder, with sums and a page that says what to do.

    Args:
        folder: where the archives lie, or a models folder.
        programs: a folder with a release's files; None takes those beside the running program, and makes the one for
            any Python where there are none.
        replace: whether a ``README.txt`` or ``SHA256SUMS`` may be replaced that no kit has written.
        observer: called with the events of :mod:`ollama_ferry.engine.events`.
        cancel: stops it from another thread.

    Returns:
        The files that it consists of, and what they are for.

    Raises:
        AlreadyExists: one of those two files is there.
        NotFound: ``programs`` has none of a release's files.
        FerryError: a file can't be read or written.
    """
    from ollama_ferry.jobs.kit import write_kit as write

    return write(without_tilde(folder), _files(programs), replace=replace, run=Run(observer, cancel))


def plan_kit(folder: PathLike, *, programs: PathLike | None = None, replace: bool = False) -> int:
    """Return how many bytes the program would take; arguments and refusals are those of :func:`write_kit`."""
    from ollama_ferry.jobs.kit import require_place

    files = _files(programs)
    require_place(without_tilde(folder), files, replace=replace)
    return sum(len(file.content) for file in files)


def _files(programs: PathLike | None) -> list[ProgramFile]:
    from ollama_ferry.jobs.program_files import program_files

    return program_files(without_tilde(programs) if programs is not None else None)
