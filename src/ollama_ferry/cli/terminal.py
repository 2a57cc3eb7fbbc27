"""What reaches a terminal, or a file as text: the one place through which every command says something.

Names of tensors, media types, paths and words of servers come from outside. A terminal obeys control characters, and
shows text behind a bidirectional override in another order; a line break makes a line of its own that looks like ours.
"""

from __future__ import annotations

import os
import sys
from typing import IO, Any

import click


def escaped(text: str) -> str:
    """Return a text in which nothing steers a terminal: what does not print stands as ``\\x1b`` or ``\\u202e``.

    What prints is what Unicode calls so (``str.isprintable``): no control, no line break, no override, no surrogate.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def say(text: str = "", *, err: bool = False, nl: bool = True, only: str = "", **style: Any) -> None:
    """Print one line on stdout or stderr, escaped.

    Args:
        text: the line; a line break in it is escaped, too.
        err: on stderr.
        nl: end the line.
        only: what the line begins with, and what alone has the style; the whole line where it is empty.
        style: colours and such, as for ``click.style``; left out where there is no terminal.
    """
    line = escaped(text)
    click.echo(
        styled(line[: len(only)], **style) + line[len(only) :] if only else styled(line, **style), err=err, nl=nl
    )


def styled(text: str, **style: Any) -> str:
    """Return an escaped text in colours, which are left out where no terminal shows them.

    Colours repeat what words say; whoever sets NO_COLOR (no-color.org) gets the words alone.
    """
    return click.style(text, **style) if style and not os.environ.get("NO_COLOR") else text


def is_terminal(stream: IO[Any] | None) -> bool:
    """Return whether somebody sits at a stream; False for one that is closed."""
    if stream is None or stream.closed or not stream.isatty():
        return False
    if sys.platform != "win32":
        return True
    # There NUL says that it is one, too; it has no console.
    import ctypes
    import msvcrt

    mode = ctypes.c_uint32()
    handle = ctypes.c_void_p(msvcrt.get_osfhandle(stream.fileno()))
    return bool(ctypes.windll.kernel32.GetConsoleMode(handle, ctypes.byref(mode)))


def columns_of(stream: IO[Any] | None, otherwise: int = 80) -> int:
    """Return how many columns a terminal has: COLUMNS where that is set, else as the terminal says."""
    text = os.environ.get("COLUMNS", "")
    if text.isascii() and text.isdigit() and 0 < len(text) < 5 and int(text):
        return int(text)
    try:
        return os.get_terminal_size(stream.fileno()).columns or otherwise if stream is not None else otherwise
    except (OSError, ValueError):
        return otherwise


def paint(sequence: str) -> None:
    """Write on stderr, where that is a terminal, what steers it: a text of ours, in which others' words are escaped."""
    click.echo(sequence, err=True, nl=False)


def say_lines(text: str, *, err: bool = False, indent: str = "") -> None:
    """Print a text of several lines whose breaks are ours."""
    for line in text.split("\n"):
        say(indent + line, err=err)


def say_json_line(value: object) -> None:
    """Print a JSON document in one line on stderr, for programs that read line by line."""
    import json

    click.echo("".join(c if c.isprintable() else _in_json(c) for c in json.dumps(value, ensure_ascii=False)), err=True)


def say_json(value: object) -> None:
    """Print a JSON document on stdout, in which what does not print is escaped as JSON does it."""
    import json

    def line_of(text: str) -> str:
        return text if text.isprintable() else "".join(c if c.isprintable() else _in_json(c) for c in text)

    # The breaks between lines are the writer's: those within a text are escaped by it.
    click.echo("\n".join(map(line_of, json.dumps(value, indent=2, ensure_ascii=False).split("\n"))))


def _in_json(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
