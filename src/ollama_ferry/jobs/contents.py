"""What an archive holds, as a place to look into."""

from __future__ import annotations

from pathlib import Path

from ollama_ferry.engine.events import Started
from ollama_ferry.engine.run import Run
from ollama_ferry.places.archive.file import ArchiveFile, read_contents
from ollama_ferry.places.archive.source import ArchiveSource


def open_contents(path: Path, run: Run) -> ArchiveSource:
    """Find out what an archive holds; one that has to be read to its end for that says so.

    Raises:
        FerryError: it can't be read.
    """
    with ArchiveFile(path) as file:
        searchable, size = file.searchable, file.size
        if file.note:
            run.note(file.note)
    if searchable:
        return read_contents(path)
    run.explain(f"{path} has no index: reading it to its end")
    run.notify(Started(0, 0, size, f"looking through {path.name}"))
    return read_contents(path, on_read=run.advanced)
