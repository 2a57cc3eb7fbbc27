"""Options that several commands share, and what the commands need of the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

import click

from ollama_ferry.cli.terminal import say, say_json
from ollama_ferry.errors import UsageError
from ollama_ferry.ollama.candidates import this_system
from ollama_ferry.ollama.locate import Located, locate, locate_target

if TYPE_CHECKING:
    from ollama_ferry.places.archive.source import ArchiveSource

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Output:
    """How much a command says, and in which form.

    Attributes:
        quiet: results and errors only.
        verbose: also say what was decided and why.
        as_json: one JSON document on stdout.
    """

    quiet: bool
    verbose: bool
    as_json: bool

    def note(self, text: str) -> None:
        """Say on stderr what is happening, unless told to be quiet."""
        if not self.quiet:
            say(text, err=True)

    def detail(self, text: str) -> None:
        """Say on stderr why something was decided, if asked to."""
        if self.verbose:
            say(text, err=True)

    def document(self, value: object) -> None:
        """Print the one JSON document."""
        say_json(value)


def output_options(command: F) -> F:
    """Add ``-q``, ``-v`` and ``--json``."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout."),
        click.option("-v", "--verbose", is_flag=True, help="Also say what was decided and why."),
        click.option("-q", "--quiet", is_flag=True, help="Say nothing but results and errors."),
    ):
        command = option(command)
    return command


class _Folder(click.Path):
    """A folder that was named; the shell makes an empty text of a variable that is not set."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("the name is empty: is a variable not set?", param, ctx)
        return super().convert(value, param, ctx)


ARCHIVE = click.Path(path_type=Path, readable=False)
"""An archive on the command line; that it can't be read is told by whoever opens it, with what to do."""


def open_stdin() -> BinaryIO:
    """Return standard input for an archive.

    Raises:
        UsageError: it is closed, or a terminal.
    """
    if sys.stdin is None or sys.stdin.closed:
        raise UsageError("standard input is closed", hint="Pipe or redirect an archive in.")
    if sys.stdin.isatty():
        raise UsageError("an archive does not come from a terminal", hint="Pipe or redirect one in.")
    return os.fdopen(os.dup(sys.stdin.fileno()), "rb", buffering=0)


models_option = click.option(
    "--models",
    # Whether it may be read is found out later, and told with the line that runs the command as root.
    type=_Folder(path_type=Path, readable=False),
    metavar="DIR",
    help="The store: the folder that holds manifests/ and blobs/.  [default: OLLAMA_MODELS, else what a running "
    "server says, else Ollama's default folders]",
)


def find_store(models: Path | None, output: Output) -> Located:
    """Find the store; with ``-v`` say which and why."""
    located = locate(this_system(), models)
    _tell(located, output)
    return located


def find_target(models: Path | None, output: Output) -> Located:
    """Find the store to write into, which need not be there yet; with ``-v`` say which and why."""
    located = locate_target(this_system(), models)
    _tell(located, output)
    return located


def _tell(located: Located, output: Output) -> None:
    for note in located.notes:
        output.note(note)
    output.detail(f"store: {located.root} ({located.why})")
    for other in located.others:
        output.detail(f"another store, not used: {other}")


def open_contents(archive: Path, output: Output) -> ArchiveSource:
    """Find out what an archive holds; one that has to be read to its end for that says so."""
    from ollama_ferry.cli.progress import progress
    from ollama_ferry.engine.events import Started
    from ollama_ferry.places.archive.file import ArchiveFile, read_contents

    if archive == Path("-"):
        raise UsageError("list and show need a file; a stream is read once, by `import -` or `verify -`")
    with ArchiveFile(archive) as file:
        searchable, size = file.searchable, file.size
        if file.note:
            output.note(file.note)
    if searchable:
        return read_contents(archive)
    output.detail(f"{archive} has no index: reading it to its end")
    with progress("reading", quiet=output.quiet or output.as_json) as run:
        run.tell(Started(0, 0, size))
        return read_contents(archive, tick=run.advanced)


def complete_models(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete a model's name from the store; whatever goes wrong completes nothing."""
    from ollama_ferry.errors import FerryError
    from ollama_ferry.places.store.store import Store

    try:
        located = locate(this_system(), ctx.params.get("models"))
        names = [str(name) for name in Store(located.root).names()]
    except (FerryError, OSError):
        return []
    return [name for name in names if name.startswith(incomplete)]


def stdout_is_terminal() -> bool:
    return sys.stdout.isatty()
